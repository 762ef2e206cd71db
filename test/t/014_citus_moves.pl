# A ledger that has events is distributed over Citus. Under load, a node is added and drained and
# periods are closed. The ledger is dumped and restored without Citus.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Sharding;
use Snippets;
use UsageClients;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'Citus is not installed for this server'
  unless -e "$sharedir/extension/citus.control";

my $settings = q{
log_statement = none
max_worker_processes = 40
usage_ledger.settle_databases = 'postgres'
};
my @nodes = Sharding::start_citus(2, $settings);
my ($coordinator) = @nodes;

sub sql
{
	my ($sql) = @_;
	return $coordinator->safe_psql('postgres', $sql);
}

# Runs SQL until it is not the victim of a deadlock. Returns the output, or the SQLSTATE of the error.
my $superuser = sql('SELECT current_user');
my $deadlock_count = 0;
sub retried
{
	my ($sql) = @_;
	while (1)
	{
		my $answer = Sharding::call($coordinator, $superuser, $sql);
		return $answer if $answer ne '40P01';
		$deadlock_count++;
	}
}

# ----------------------------------------------------------------------------
# An existing ledger

sql('CREATE SCHEMA billing; CREATE EXTENSION usage_ledger SCHEMA billing');
my $arrays = q{ARRAY(SELECT md5('account ' || n % 20)::uuid FROM generate_series(1, 200) AS n)};
sql(qq{
SET usage_ledger.settlement = deferred;
SELECT count(*) FROM record_usage_batch($arrays, ARRAY(SELECT 'r' || n FROM generate_series(1, 200) AS n),
	ARRAY(SELECT 'm' || n % 3 FROM generate_series(1, 200) AS n), NULL, array_fill(7::bigint, ARRAY[200]));
SET usage_ledger.settlement = immediate;
SELECT count(*) FROM increment_usage_batch($arrays, array_fill(5::bigint, ARRAY[200]),
	ARRAY(SELECT 'k' || n FROM generate_series(1, 200) AS n));
SELECT set_usage_limit(md5('account 1')::uuid, 1000), reserve_usage(md5('account 1')::uuid, 10, 'held');});

# Sends calls and batches for some accounts, in all modes, each with rows of its caller. One that
# began before its period ended finds it closed.
sql('CREATE TABLE counted_calls (n integer)');
sub start_calls
{
	my ($accounts, $seconds) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir . "/$accounts.sql";
	PostgreSQL::Test::Utils::append_to_file($script, '
\set n random(1, 4)
\set mode random(1, 3)
DO $$
BEGIN
	PERFORM set_config(\'usage_ledger.settlement\', (ARRAY[\'immediate\', \'adaptive\', \'deferred\'])[:mode], true);
	IF :n = 1 THEN
		INSERT INTO counted_calls
			SELECT item FROM increment_usage_batch(' . "ARRAY(SELECT md5('$accounts ' || n)::uuid FROM generate_series(1, 4) AS n)" . ',
				ARRAY[1, 1, 1, 1], ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, 4)))
			 WHERE sqlstate IS NULL;
	ELSE
		PERFORM increment_usage(md5(' . "'$accounts :n'" . ')::uuid, 1, gen_random_uuid()::text);
		INSERT INTO counted_calls VALUES (:n);
	END IF;
EXCEPTION
	WHEN SQLSTATE \'UL003\' THEN NULL;
END $$;
');
	my $calls = { out => '' };
	$calls->{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '4', '--max-tries', '100', '-T', $seconds, '-f', $script, $coordinator->connstr('postgres') ],
		'>&', \$calls->{out});
	return $calls;
}

# Waits for the calls to end, and compares what they have told with the ledger.
sub check_calls
{
	my ($accounts, $calls) = @_;
	ok($calls->{run}->finish, "$accounts accounts: calls saw no error") or diag $calls->{out};
	ok($coordinator->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'), 'nothing stays pending');
	is(sql(qq{SELECT sum(tokens_used) FROM usage_totals
			WHERE account_id IN (SELECT md5('$accounts ' || n)::uuid FROM generate_series(1, 4) AS n)}),
		sql('SELECT count(*) FROM counted_calls'), "$accounts accounts: each call is counted once");
	is(sql('SELECT count(*) FROM verify_usage()'), '0', 'the books are exact');
	sql('TRUNCATE counted_calls');
	return;
}

my $calls = start_calls('distributed', 15);
sleep 1;
my $set_up = Snippets::snippet('docs/sharding.md', 'Citus set-up');
$set_up =~ s/^CREATE (SCHEMA|EXTENSION).*$//mg;
retried($set_up);
sql(Snippets::snippet('docs/sharding.md', 'An existing ledger'));
check_calls('distributed', $calls);
is(sql("SELECT count(*), sum(tokens_used) FROM usage_totals WHERE account_id = ANY ($arrays)"),
	'20|2400', 'the totals are those from before');
is(sql("SELECT count(*), sum(tokens) FROM ONLY usage_events WHERE account_id = ANY ($arrays)"),
	'400|2400', 'events are read from the shards');
is(sql(qq{
		SELECT outcome, count(*) FROM increment_usage_batch($arrays, array_fill(5::bigint, ARRAY[200]),
			ARRAY(SELECT 'k' || n FROM generate_series(1, 200) AS n)) GROUP BY outcome}),
	'replayed|200', 'keys from before replay');
is(sql(q{SELECT outcome, tokens_remaining FROM reserve_usage(md5('account 1')::uuid, 20, 'held')}),
	'reserved|860', 'a hold from before is replaced');
is(sql('SELECT count(*) FROM verify_usage()'), '0', 'the books are exact');

my ($status, undef, $error) = $coordinator->psql('postgres', q{SELECT undistribute_table('usage_events')});
like($error, qr/an extension depends on it/, 'Citus does not undistribute it');

# ----------------------------------------------------------------------------
# Shards move to a new node, and away from it, under load

my $clients = UsageClients->new([ '--work-ms', 60000, '--clients', 4, '--accounts', 40 ],
	PGHOST => $coordinator->host, PGPORT => $coordinator->port, PGDATABASE => 'postgres');
$clients->await('working');
my $added = Sharding::start_with_citus('citus_2', $settings);
my $place = Sharding::place($added);
my $placements = "SELECT count(*) FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE (nodename, nodeport) = ($place)
	AND shardid IN (SELECT shardid FROM pg_dist_shard WHERE logicalrelid = 'usage_accounts'::regclass)";
sql("SELECT citus_add_node($place)");
sql(q{SELECT rebalance_table_shards('usage_accounts')});
cmp_ok(sql($placements), '>', 0, 'a node that is added gets shards');
note sql($placements) . ' shards have moved';
is(sql('SELECT count(*) FROM verify_usage()'), '0', 'the books are exact while others count');
sql("SELECT citus_drain_node($place)");
is(sql($placements), '0', 'the node is drained');
my $errors = $clients->await_stop;
note 'errors: ' . join(' ', map { "$_=$errors->{$_}" } sort keys %$errors);
my @unexpected = grep { $_ ne '40P01' } sort keys %$errors;
is("@unexpected", '', 'clients saw no other error than deadlocks');
$clients->check('shards moved');
$clients->go_on;
$clients->finish_all;

# ----------------------------------------------------------------------------
# Periods are ended and closed under load

$calls = start_calls('closed', 15);

my (%invoices, %refusals);
while ($calls->{run}->pumpable)
{
	for my $n (1 .. 4)
	{
		my $invoice = retried(qq{
			SELECT format('SELECT account_id, period_start, tokens_used FROM close_usage_period(%L, %L)', account_id, period_start)
			  FROM end_usage_period(md5('closed $n')::uuid), pg_sleep(0.002) \\gexec});
		($invoice =~ /\|/ ? \%invoices : \%refusals)->{$invoice}++;
	}
	$calls->{run}->pump_nb;
}
note keys(%invoices) . " periods closed, $deadlock_count deadlocks, refused: " . join(' ', %refusals);
cmp_ok(scalar(keys %invoices), '>', 4, 'periods are closed while sessions count');
# UL002: an account that has not been called yet.
is(join(' ', grep { $_ ne 'UL002' } keys %refusals), '', 'no close is refused');
check_calls('closed', $calls);
my $invoiced = 'SELECT account_id, period_start, tokens_used FROM usage_periods WHERE closed_at IS NOT NULL';
is(join("\n", sort split /\n/, sql($invoiced)), join("\n", sort keys %invoices), 'a closed period stays as it was');
sql('DROP TABLE counted_calls');

# ----------------------------------------------------------------------------
# A dump, restored without Citus

my $totals = 'SELECT account_id, period_start, tokens_used, reports_used FROM usage_totals ORDER BY 1, 2';
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$coordinator->command_ok(
	[ 'pg_dump', '--extension=usage_ledger', '--no-owner', '-f', $dump, '-d', $coordinator->connstr('postgres') ],
	'it is dumped');
my $single = PostgreSQL::Test::Cluster->new('single');
$single->init;
$single->start;
$single->safe_psql('postgres', 'ALTER DATABASE postgres SET search_path = billing, public');
$single->safe_psql('postgres', "CREATE ROLE $_") for qw(worker biller dba monitor);
$single->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $single->connstr('postgres') ],
	'and restored without Citus');
is($single->safe_psql('postgres', $totals), sql($totals), 'the totals are the same');
is($single->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the books are exact');
is($single->safe_psql('postgres', q{SELECT outcome FROM increment_usage(md5('account 1')::uuid, 5, 'k1')}),
	'replayed', 'keys replay');

done_testing();
