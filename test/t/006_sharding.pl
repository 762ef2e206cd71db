# The proxy and the shards of docs/sharding.md, set up with the SQL that it prints. A shard
# crashes under load, and every event is counted once.
use strict;
use warnings;

use File::Spec;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Sharding;
use Snippets;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'PL/Proxy is not installed for this server'
  unless -e "$sharedir/extension/plproxy.control";

my $client_count = 6;
my $event_count = 500;
my $account_count = 40;

# Runs SQL as a role on the proxy.
my $proxy;

sub call
{
	my ($role, $sql) = @_;
	return Sharding::call($proxy, $role, $sql);
}

# Returns the output of a query on each shard.
my @shards;

sub on_shards
{
	my ($sql) = @_;
	return map { $_->safe_psql('postgres', $sql) } @shards;
}

sub rows_of
{
	return sort map { split /\n/ } @_;
}

# ----------------------------------------------------------------------------
# Set-up

# An absolute path, because the proxy's server has another working directory.
my $services = File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir . '/pg_service.conf');
for my $number (0, 1)
{
	my $shard = PostgreSQL::Test::Cluster->new("shard_$number");
	$shard->init(allows_streaming => 1);
	$shard->start;
	$shard->safe_psql('postgres',
		Snippets::snippet('docs/sharding.md', 'Shards') . Snippets::snippet('README.md', 'Grants')
		  . 'ALTER DATABASE postgres SET search_path = billing, public');
	append_to_file($services,
		"[usage_shard_$number]\nhost=" . $shard->host . "\nport=" . $shard->port . "\ndbname=postgres\n");
	push @shards, $shard;
}

$ENV{PGSERVICEFILE} = $services;
$proxy = PostgreSQL::Test::Cluster->new('proxy');
$proxy->init;
$proxy->start;
$proxy->safe_psql('postgres', Snippets::snippet('docs/sharding.md', 'Proxy'));
$proxy->safe_psql('postgres', $shards[0]->safe_psql('postgres', slurp_file('plproxy/functions.sql')));
$proxy->safe_psql('postgres', slurp_file("plproxy/$_.sql")) for 'batches', 'views';
$proxy->safe_psql('postgres', 'ALTER DATABASE postgres SET search_path = billing, public');

# ----------------------------------------------------------------------------
# Load: every client sends every event, so several clients send each event concurrently. A
# client repeats an event until it knows that the event is counted.

$proxy->safe_psql(
	'postgres', qq{
CREATE TABLE acknowledged (event integer, account_id uuid, tokens bigint, outcome text);
CREATE SEQUENCE failures;
GRANT SELECT, INSERT ON acknowledged TO worker;
GRANT USAGE ON failures TO worker;
ALTER ROLE worker SET client_min_messages = error;
CREATE FUNCTION report(event integer) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
    account uuid := md5('account ' || event % $account_count)::uuid;
    tokens bigint := 1 + event * 37 % 1000;
    answer text;
BEGIN
    FOR attempt IN 1 .. 1000 LOOP
        BEGIN
            SELECT call.outcome INTO answer FROM increment_usage(account, tokens, 'event ' || event) AS call;
            INSERT INTO acknowledged VALUES (event, account, tokens, answer);
            RETURN;
        EXCEPTION
            WHEN internal_error OR admin_shutdown OR crash_shutdown OR cannot_connect_now THEN
                RAISE LOG 'event % is sent again: %', event, SQLERRM;
                PERFORM nextval('failures'), pg_sleep(0.05);
        END;
    END LOOP;
    RAISE 'event % was never counted', event;
END
\$\$;});

my $script = PostgreSQL::Test::Utils::tempdir . '/report.sql';
append_to_file($script, "\\set event :event + 1\nSELECT report(:event);\n");
my ($load_out, $load_err) = ('', '');
my $load = IPC::Run::start(
	[
		'pgbench', '-n', '-c', $client_count, '-j', 2, '-t', $event_count, '-R', 400,
		'-D', 'event=0', '-f', $script, '-U', 'worker',
		'-h', $proxy->host, '-p', $proxy->port, 'postgres'
	],
	'>', \$load_out, '2>', \$load_err);

ok($proxy->poll_query_until('postgres', 'SELECT count(*) >= 300 FROM acknowledged'),
	'calls are answered through the proxy')
  or die 'there is no load';

# Calls commit, then wait for a standby that does not exist. Their replies are lost.
$shards[0]->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
$shards[0]->reload;
ok($shards[0]->poll_query_until('postgres',
		q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'}),
	'a call has committed but is not answered yet') or die 'no call waits';
$shards[0]->stop('immediate');
ok($proxy->poll_query_until('postgres', "SELECT is_called AND last_value >= $client_count FROM failures"),
	'a shard crashes, and calls fail') or die 'no call fails';

my $other_account = $shards[1]->safe_psql('postgres', 'SELECT account_id FROM usage_accounts LIMIT 1');
like(call('worker', "SELECT outcome FROM increment_usage('$other_account', 0, 'meanwhile')"),
	qr/^applied$/, 'calls for accounts of the other shard still succeed');

$shards[0]->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$shards[0]->start;
ok($load->finish, 'every call is answered in the end') or diag($load_err);

# ----------------------------------------------------------------------------
# The comparison of the shards with the acknowledged calls

is($proxy->safe_psql('postgres', 'SELECT count(*), count(DISTINCT event) FROM acknowledged'),
	$client_count * $event_count . "|$event_count", 'every event was acknowledged to every client');
my @applied = rows_of($proxy->safe_psql('postgres', q{SELECT event FROM acknowledged WHERE outcome = 'applied'}));
my %applied = map { $_ => 1 } @applied;
is(scalar @applied, scalar keys %applied, 'no event was applied for two clients');
cmp_ok(scalar @applied, '<', $event_count, 'events of lost replies are replays for every client: '
	  . ($event_count - @applied));

is_deeply([ rows_of(on_shards(q{SELECT idempotency_key FROM usage_events WHERE idempotency_key <> 'meanwhile'})) ],
	[ sort map { "event $_" } 1 .. $event_count ], 'every event is counted once, on all shards together');

is_deeply(
	[ rows_of(on_shards('SELECT account_id, sum(tokens_used) FROM usage_totals GROUP BY account_id')) ],
	[ rows_of($proxy->safe_psql('postgres', q{
			SELECT account_id, sum(tokens)
			  FROM (SELECT DISTINCT event, account_id, tokens FROM acknowledged) AS event
			 GROUP BY account_id})) ],
	'the totals equal the acknowledged events, and every account is on one shard');
is(call('biller', 'SELECT count(*), count(DISTINCT account_id), sum(tokens_used) FROM usage_totals'),
	"$account_count|$account_count|" . $proxy->safe_psql('postgres',
		'SELECT sum(tokens) FROM (SELECT DISTINCT event, tokens FROM acknowledged) AS event'),
	'the view on the proxy has the same totals');

my @account_counts = on_shards('SELECT count(*) FROM usage_accounts');
cmp_ok($account_counts[0] * $account_counts[1], '>', 0, "both shards have accounts: @account_counts");
is_deeply([ on_shards('SELECT count(*) FROM verify_usage()') ], [ 0, 0 ], 'every shard is sound');
is(call('biller', 'SELECT count(*) FROM verify_usage()'), '0', 'verify_usage on the proxy finds no violation');

for my $shard (@shards)
{
	my $account = $shard->safe_psql('postgres', q{
		UPDATE usage_periods SET tokens_used = tokens_used + 1
		 WHERE account_id = (SELECT min(account_id::text)::uuid FROM usage_periods) RETURNING account_id});
	my $name = $shard->name;
	is(call('biller', 'SELECT account_id, counter, recorded - expected FROM verify_usage()'),
		"$account|tokens|1", "the proxy lists a wrong counter on $name");
	is(call('biller', "SELECT recorded - expected FROM verify_usage('$account')"),
		'1', "the proxy lists the wrong counter of one account on $name");
	$shard->safe_psql('postgres',
		"UPDATE usage_periods SET tokens_used = tokens_used - 1 WHERE account_id = '$account'");
}

# ----------------------------------------------------------------------------
# The functions, one by one, for an account on each shard

my @accounts = map { "'$_'" } on_shards('SELECT account_id FROM usage_accounts LIMIT 1');
for my $account (@accounts)
{
	is(call('worker', qq{
			BEGIN;
			SELECT outcome FROM increment_usage($account, 5, 'rolled back');
			ROLLBACK;
			SELECT outcome FROM increment_usage($account, 5, 'rolled back');}),
		"applied\nreplayed", 'a call stays counted after a rollback on the proxy');
	is(call('worker', "SELECT increment_usage($account, 6, 'rolled back')"),
		'UL001', 'a conflict keeps its SQLSTATE');
	is(call('worker', qq{SELECT outcome FROM increment_usage(p_idempotency_key => 'by name',
			p_account_id => $account, p_tokens => 1, p_is_report => true)}),
		'applied', 'arguments can be passed by name');
	is(call('worker', qq{
			SELECT outcome FROM record_usage($account, 'broken down', 'm', 'team/user', 1, 2, 3, 4, 5, -6);
			SELECT outcome FROM record_usage($account, 'broken down', 'm', 'team/user', 1, 2, 3, 4, 5, -6);}),
		"applied\nreplayed", 'record_usage');
	is(call('worker', "SELECT record_usage($account, 'broken down', 'm', 'team/user', 1, 2, 3, 5, 4, -6)"),
		'UL001', 'another kind of token is a conflict');
	is(call('biller', qq{SELECT scope, model, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
			reasoning_tokens, cost_nanos, events FROM usage_breakdown_totals WHERE account_id = $account}),
		'team/user|m|1|2|3|4|5|-6|1', 'the view of the breakdown on the proxy');
	is(call('biller', qq{SELECT token_limit - tokens_used, tokens_held FROM current_usage($account) AS u,
			set_usage_limit($account, u.tokens_used::bigint + 100)}),
		'100|0', 'set_usage_limit');
	is(call('worker', qq{
			SELECT outcome, tokens_remaining FROM reserve_usage($account, 60, 'long');
			SELECT outcome, tokens_remaining FROM spend_usage($account, 60, 'short');
			SELECT outcome, tokens_remaining FROM release_usage($account, 'long');
			SELECT outcome, tokens_remaining FROM spend_usage($account, 60, 'short');}),
		"reserved|40\nlimit_reached|40\nreleased|100\napplied|40", 'reserve_usage, spend_usage and release_usage');
	is(call('biller', "SELECT token_limit, scope FROM set_usage_limit($account, 30, 'team')"), '30|team',
		'set_usage_limit for a scope');
	is(call('worker', "SELECT outcome, refused_by FROM reserve_usage($account, 35, 'scoped', p_scope => 'team/ann')"),
		'limit_reached|team', 'reserve_usage for a scope');
	is(call('worker', "SELECT outcome FROM spend_usage($account, 10, 'scoped', p_scope => 'team')"), 'applied',
		'spend_usage for a scope');
	is(call('biller', "SELECT account_id, reports_used FROM current_usage($account)"),
		substr($account, 1, 36) . '|1', 'current_usage');
	is(call('biller', "SELECT outcome FROM void_usage($account, 'by name', 'not wanted')"),
		'voided', 'void_usage');
	is(call('dba', qq{SELECT period_length, period_anchor = '2026-01-05Z', time_zone
			FROM set_usage_cycle($account, '1 week', '2026-01-05Z', 'Europe/Berlin')}),
		'7 days|t|Europe/Berlin', 'set_usage_cycle');
	is(call('dba', qq{SELECT tokens_used, reports_used, closed_at
			FROM open_usage_period($account, '2026-01-01Z', '2026-02-01Z', 700, 3)}),
		'700|3|', 'open_usage_period');
	is(call('biller', "SELECT tokens_used, closed_at IS NOT NULL FROM close_usage_period($account, '2026-01-01Z')"),
		'700|t', 'close_usage_period');
}
is(call('dba', "SELECT prune_usage_events(now() + interval '1 hour')"),
	"1\n1", 'prune_usage_events prunes on both shards');
is(call('dba', "SELECT erase_usage($_) > 0"), 't', 'erase_usage') for @accounts;
is(call('worker', "SELECT increment_usage(NULL, 1, 'no account')"),
	'22004', 'a NULL account is the same error as on a ledger');
is(call('biller', "SELECT account_id IS NULL FROM current_usage(gen_random_uuid())"),
	't', 'an unknown account has no usage');

# The settings are those of the roles on the shards.
$_->safe_psql('postgres', q{ALTER ROLE worker SET usage_ledger.settlement = 'deferred'}) for @shards;
is(call('worker', join ';', map { "SELECT outcome FROM increment_usage($_, 1, 'deferred')" } @accounts),
	"queued\nqueued", 'the setting of the role on the shard applies');
is(call('dba', 'SELECT settle_usage()'), "1\n1", 'settle_usage settles on both shards');
is(call('dba', 'SELECT sum(row_count) FROM settle_usage(10) AS row_count'), '0', 'settle_usage has left no pending rows');
$_->safe_psql('postgres', 'ALTER ROLE worker RESET usage_ledger.settlement') for @shards;

# ----------------------------------------------------------------------------
# Batches

my $batch = qq{ARRAY[$accounts[1], $accounts[0], $accounts[0], NULL, $accounts[1], $accounts[0], $accounts[1]]::uuid[],
	ARRAY[1, 2, 3, 4, 1, 5, -1], ARRAY['batch', 'batch', 'batch', 'batch', 'batch', 'another', 'third']};
is(call('worker', "SELECT item, outcome, detail IS NOT NULL FROM increment_usage_batch($batch)"),
	join("\n", '1|applied|f', '2|applied|f', '3|conflict|t', '4|invalid|t', '5|replayed|f', '6|applied|f', '7|invalid|t'),
	'a batch gets the same answers in the same order as from a single ledger');
is(call('worker', "SELECT string_agg(outcome, ' ') FROM increment_usage_batch($batch)"),
	'replayed replayed conflict invalid replayed replayed invalid', 'a batch that is sent again is replayed');
is(call('worker', qq{SELECT outcome FROM increment_usage_batch(ARRAY[$accounts[0], $accounts[1]]::uuid[], ARRAY[1, 1],
		ARRAY['with flags', 'with flags'], ARRAY[true, NULL], NULL, ARRAY[now() - interval '1 hour', NULL])}),
	"applied\napplied", 'a batch with flags and times is counted');
is_deeply([ on_shards(q{SELECT reports, occurred_at < recorded_at FROM usage_events WHERE idempotency_key = 'with flags'}) ],
	[ '1|t', '0|f' ], 'flags and times are recorded with their items');
is(call('worker', "SELECT count(*) FROM increment_usage_batch('{}', '{}', '{}')"), '0', 'an empty batch returns no rows');
is(call('worker', qq{SELECT item, outcome, sqlstate FROM record_usage_batch(
		ARRAY[$accounts[1], $accounts[0], $accounts[0], $accounts[1]]::uuid[], ARRAY['r', 'r', 'r', 's'],
		ARRAY['m', NULL, 'n', '_other'], p_output_tokens => ARRAY[7, 8, 8, 9])}),
	"1|applied|\n2|applied|\n3|conflict|UL001\n4|invalid|22023", 'a batch with breakdowns is counted');
is(call('biller', 'SELECT model, sum(output_tokens), sum(events) FROM usage_breakdown_totals GROUP BY model ORDER BY model'),
	"|8|1\nm|7|1", 'the breakdown on the proxy is that of both shards');
# Not 22023, as on a ledger: PL/Proxy refuses to split the arrays before it calls a shard, and
# the function around it is in SQL, which raises no errors of its own.
is(call('worker', "SELECT increment_usage_batch(ARRAY[$accounts[0]]::uuid[], ARRAY[1, 2], ARRAY['malformed'])"),
	'XX000', 'arrays of unequal length are an error');

# ----------------------------------------------------------------------------
# Rights on the proxy and on the shards

$proxy->safe_psql('postgres', 'CREATE ROLE stranger LOGIN');
my %callable;
for my $role (qw(worker biller dba stranger))
{
	$callable{$role} = $proxy->safe_psql('postgres', qq{
		SELECT string_agg(DISTINCT p.proname::text, ' ' ORDER BY p.proname::text) FROM pg_proc AS p
		  JOIN pg_language AS l ON l.oid = p.prolang
		 WHERE (l.lanname = 'plproxy' OR p.proname IN ('increment_usage_batch', 'record_usage_batch'))
		   AND has_function_privilege('$role', p.oid, 'EXECUTE')});
}
is_deeply(\%callable, {
		worker => 'increment_usage increment_usage_batch increment_usage_batch_of_shards record_usage'
		  . ' record_usage_batch record_usage_batch_of_shards release_usage reserve_usage spend_usage',
		biller => 'close_usage_period credit_usage current_usage set_usage_limit usage_breakdown_of_shards'
		  . ' usage_totals_of_shards verify_usage void_usage',
		dba => 'end_usage_period erase_usage open_usage_period prune_usage_events set_usage_cycle settle_usage verify_usage',
		stranger => '' },
	'each role may call the same functions as on a ledger');
$proxy->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION close_usage_period TO worker');
is(call('worker', "SELECT close_usage_period($accounts[0], '2026-01-01Z')"),
	'42501', 'a shard refuses a call that it has not granted');

is_deeply([ on_shards('SELECT count(*) FROM verify_usage()') ], [ 0, 0 ], 'every shard is sound at the end');

done_testing();
