# The ledger on Citus, set up as docs/sharding.md prints it: a coordinator that has shards too, and
# two workers. Every function answers as it does on one server without Citus.
use strict;
use warnings;

use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Sharding;
use Snippets;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'Citus is not installed for this server'
  unless -e "$sharedir/extension/citus.control";

# ----------------------------------------------------------------------------
# Set-up

my $single = PostgreSQL::Test::Cluster->new('single');
$single->init;
$single->start;
$single->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');

my @nodes = Sharding::start_citus(3);
my ($coordinator) = @nodes;
$coordinator->safe_psql('postgres',
	Snippets::snippet('docs/sharding.md', 'Citus set-up') . Snippets::snippet('README.md', 'Grants'));

is($coordinator->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT colocationid) FROM pg_dist_partition
		 WHERE logicalrelid::text LIKE 'usage\_%'}),
	'7|1', 'the tables are distributed together');

# The roles' settings are the only ones that reach the nodes.
my @modes = qw(immediate adaptive deferred);
for my $server ($single, $coordinator)
{
	for my $mode (@modes)
	{
		$server->safe_psql('postgres', "CREATE ROLE $mode LOGIN SUPERUSER;
			ALTER ROLE $mode SET usage_ledger.settlement = '$mode'");
	}
}

# Account ids that nothing has used yet, by the node that has them.
my %accounts_of_node;
for my $line (split /\n/, $coordinator->safe_psql('postgres', q{
		SELECT n.groupid, a.id
		  FROM (SELECT md5('account ' || n)::uuid AS id FROM generate_series(1, 2000) AS n) AS a
		  JOIN pg_dist_placement AS p
		    ON p.shardid = get_shard_id_for_distribution_column('usage_accounts', a.id)
		  JOIN pg_dist_node AS n USING (groupid)}))
{
	my ($group, $id) = split /\|/, $line;
	push @{ $accounts_of_node{$group} }, "'$id'";
}
is(join(' ', sort keys %accounts_of_node), '0 1 2', 'every node has accounts');

sub new_account
{
	my ($group) = @_;
	return shift @{ $accounts_of_node{$group} };
}

# ----------------------------------------------------------------------------
# Every function

# Times in a period that both servers compute from this month, whenever they do.
my $month = $single->safe_psql('postgres',
	q{SELECT date_trunc('month', now() AT TIME ZONE 'UTC') || '+00'});

# Calls for an account $a, in turn, of which some are refused. $b and $c are accounts of other nodes.
sub calls
{
	my ($a, $b, $c) = @_;
	my $at = "'$month'";
	my $answer = 'outcome, tokens_used, period_start, period_end';
	my $period = 'account_id, period_start, period_end, tokens_used, reports_used, chats_used, closed_at IS NOT NULL, pruned_at';
	my $batch = 'item, outcome, tokens_used, period_start, period_end, detail, sqlstate';
	my $ids = "ARRAY[$a, $b, $a, $c, $b, $a, $a, $a]::uuid[]";
	my $keys = q{ARRAY['one', 'b1', 'a1', 'c1', 'b1', 'a1', '', NULL]};
	return (
		"SELECT $answer FROM increment_usage($a, 100, 'one', true, false, $at)",
		"SELECT $answer FROM increment_usage($a, 100, 'one', true, false)",
		"SELECT $answer FROM increment_usage($a, 101, 'one', true, false)",
		"SELECT $answer FROM increment_usage($a, 5, 'now')",
		"SELECT $answer FROM increment_usage($a, 5, '')",
		"SELECT $answer FROM increment_usage($a, 5, 'old', p_occurred_at => '2001-01-01')",
		"SELECT $answer FROM increment_usage(NULL, 5, 'null')",
		"SELECT $answer FROM increment_usage($a, -5, 'negative')",
		"SELECT $batch FROM increment_usage_batch($ids, ARRAY[100, 2, 3, 4, 2, 7, 8, 9], $keys, ARRAY[true, false, false, false, false, false, false, false], p_occurred_at => array_fill($at\::timestamptz, ARRAY[8]))",
		"SELECT $batch FROM increment_usage_batch($ids, ARRAY[1], $keys)",
		"SELECT $answer FROM record_usage($a, 'r1', 'm1', 'team/user', 10, 20, 30, 40, 50, 6000, p_occurred_at => $at)",
		"SELECT $answer FROM record_usage($a, 'r2', 'm1', 'team/user', 1, 2, 3, 4, 5, -600, p_occurred_at => $at)",
		"SELECT $answer FROM record_usage($a, 'r2', 'm2', 'team/user', 1, 2, 3, 4, 5, -600)",
		"SELECT $answer FROM record_usage($a, 'r3', '_other', 'team')",
		"SELECT $batch FROM record_usage_batch(ARRAY[$a, $b, $a, $c, $a]::uuid[], ARRAY['r1', 'r4', 'r5', 'r6', 'r7'],
			ARRAY['m1', 'm2', 'm1', 'm3', 'm4'], ARRAY['team/user', 'team', 'team/user', '', 'team'], ARRAY[10, 4, 5, 6, 7], p_occurred_at => array_fill($at\::timestamptz, ARRAY[5]))",
		"SELECT * FROM void_usage($a, 'r2', 'not wanted')",
		"SELECT * FROM void_usage($a, 'a1', 'not wanted')",
		"SELECT * FROM void_usage($a, 'a1', 'not wanted')",
		"SELECT * FROM void_usage($a, 'unknown', 'not wanted')",
		"SELECT count(*) FROM usage_pending WHERE account_id = $a",
		"SELECT settle_usage() >= 0",
		"SELECT count(*) FROM usage_pending",
		"SELECT tokens_used FROM current_usage($a)",
		"SELECT * FROM usage_breakdown_totals WHERE account_id = $a ORDER BY period_start, scope, model",
		"SELECT tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id = $a",
		"SELECT outcome, tokens_used FROM credit_usage($a, 30, 'credit', 'broken')",
		"SELECT outcome, tokens_used FROM credit_usage($a, 30, 'credit', 'broken')",
		"SELECT outcome, tokens_used FROM credit_usage($a, 1000000, 'too high', 'broken')",
		"SELECT account_id, period_anchor, period_length, time_zone FROM set_usage_cycle($a, '7 days', '2001-01-01 00:00+00', 'Europe/Berlin')",
		"SELECT set_usage_cycle($a, '0 days')",
		"SELECT $period FROM open_usage_period($a, '2001-01-01 00:00+00', '2001-02-01 00:00+00', 1000, 2, 3)",
		"SELECT $period FROM open_usage_period($a, '2001-01-01 00:00+00', '2001-02-01 00:00+00', 1000, 2, 3)",
		"SELECT $period FROM open_usage_period($a, '2001-01-15 00:00+00', '2001-02-15 00:00+00')",
		"SELECT open_usage_period($a, '2001-03-01 00:00+00', '2001-04-01 00:00+00')",
		"SELECT $period FROM close_usage_period($a, '2001-01-01 00:00+00')",
		"SELECT $period FROM close_usage_period($a, '2001-01-01 00:00+00')",
		"SELECT $period FROM close_usage_period($a, '1999-01-01 00:00+00')",
		"SELECT * FROM void_usage($a, 'opening:2001-01-01T00:00:00+00:00', 'invoiced')",
		"SELECT account_id, tokens_used, period_end < now() FROM end_usage_period($a)",
		"SELECT end_usage_period($a, 'infinity')",
		'SELECT pg_sleep(0.01)', # an end is up to a millisecond ahead
		"SELECT outcome, tokens_used FROM increment_usage($a, 6, 'after the end')",
		"SELECT prune_usage_events(now() + interval '1 hour', 1)",
		"SELECT prune_usage_events(now() + interval '1 hour')",
		"SELECT pruned_at < 'infinity' FROM usage_periods WHERE account_id = $a AND period_start = '2001-01-01 00:00+00'",
		"SELECT * FROM set_usage_limit($a, 500)",
		"SELECT * FROM set_usage_limit($a, -1)",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 100, 'work')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 150, 'work')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 1000, 'too long')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($b, 1000, 'no limit')",
		"SELECT outcome, tokens_used FROM increment_usage($a, 140, 'work')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 100, 'work')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 10, 'released')",
		"SELECT outcome, tokens_remaining FROM release_usage($a, 'released')",
		"SELECT outcome, tokens_remaining FROM release_usage($a, 'released')",
		"SELECT outcome, tokens_remaining FROM spend_usage($a, 20, 'spent')",
		"SELECT outcome, tokens_remaining FROM spend_usage($a, 2000, 'not spent')",
		"SELECT * FROM set_usage_limit($a, 60, 'team')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 20, 'in scope', p_scope => 'team/user')",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 50, 'over its scope', p_scope => 'team')",
		"SELECT outcome, tokens_used FROM record_usage($a, 'in scope', 'm1', 'team/user', 15)",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 45, 'up to its scope', p_scope => 'team')",
		"SELECT outcome, tokens_remaining FROM release_usage($a, 'up to its scope')",
		"SELECT account_id, tokens_used, scope FROM usage_scope_totals WHERE account_id = $a ORDER BY period_start, scope",
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 50, 'short', '1 ms')",
		'SELECT pg_sleep(0.01)',
		"SELECT outcome, tokens_remaining FROM reserve_usage($a, 300, 'what dead holds leave')",
		"SELECT account_id, idempotency_key, tokens FROM usage_holds ORDER BY account_id, idempotency_key",
		"SELECT token_limit, tokens_used, tokens_held, tokens_remaining FROM usage_balances WHERE account_id = $a ORDER BY scope",
		"SELECT account_id, scope, model, input_tokens, output_tokens, cost_nanos, events FROM usage_breakdown WHERE account_id IN ($a, $b, $c) ORDER BY account_id, scope, model",
		"SELECT * FROM verify_usage($a)",
		"SELECT * FROM verify_usage()",
		"SELECT erase_usage($c)",
		"SELECT count(*) FROM usage_events WHERE account_id = $c",
		"SELECT outcome, tokens_used FROM increment_usage($c, 1, 'again')",
		"SELECT settle_usage() >= 0",
		"SELECT account_id, tokens, reports, chats, voided_at IS NOT NULL, idempotency_key, void_reason FROM usage_events WHERE account_id IN ($a, $b, $c) ORDER BY account_id, idempotency_key",
		"SELECT account_id, period_start < '2002-01-01', tokens_used, reports_used, chats_used FROM usage_totals WHERE account_id IN ($a, $b, $c) ORDER BY account_id, period_start",
	);
}

# Each call in a transaction of its own, or after a call for another account in one.
sub script
{
	my ($begin, @calls) = @_;
	my $number = 0;
	return join("\n", '\set VERBOSITY default', '\set SHOW_CONTEXT never', '\set ON_ERROR_STOP 0',
		map { ($begin->($number++), "$_;", "\\echo :SQLSTATE", 'COMMIT;') } @calls);
}

# Runs a script on both servers as the role of a mode, and returns the two outputs, lines of errors
# included.
sub outputs
{
	my ($mode, $script) = @_;
	return map {
		my ($out, $err);
		IPC::Run::run([ 'psql', '-XAtq', '-d', $_->connstr('postgres'), '-U', $mode, '-f', '-' ],
			'<', \$script, '>', \$out, '2>&1');
		$out =~ s/^psql:<stdin>:\d+: //mg;
		$out =~ s/^.*there is no transaction in progress\n//mg;
		$out =~ s/server's clock is at \S+/server's clock is at .../g;
		$out
	} ($single, $coordinator);
}

# Compares all calls in all modes, for accounts on the coordinator and on another node.
sub compare_calls
{
	my ($how, $is_called) = @_;
	for my $mode (@modes)
	{
		for my $group (0, 1)
		{
			for my $is_in_transaction (0, 1)
			{
				my ($a, $b, $c, $d) = map { new_account($_) } $group, 2, 1 - $group, 2;
				my $begin = sub {
					return '' if !$is_in_transaction;
					my ($number) = @_;
					return "BEGIN; SELECT outcome FROM increment_usage($d, 1, '$number');";
				};
				# Citus refuses to read, in a transaction, what the ledger's owner has written in it.
				my @calls = grep {
					$is_called->($_) && !($is_in_transaction && /FROM usage_/)
				} calls($a, $b, $c);
				my ($expected, $actual) = outputs($mode, script($begin, @calls));
				is($actual, $expected,
					"$how, $mode, account of node $group" . ($is_in_transaction ? ', in a transaction' : ''));
			}
		}
	}
}

compare_calls('from the coordinator', sub { 1 });

# ----------------------------------------------------------------------------
# Two calls for an account in one transaction, while another session waits for the account

my $shared = new_account(1);
$coordinator->safe_psql('postgres', "SELECT increment_usage($shared, 1, 'first')");
my $holder = $coordinator->background_psql('postgres');
my $waiter = $coordinator->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT outcome FROM increment_usage_batch(ARRAY[$shared]::uuid[], ARRAY[1], ARRAY['held'])");
$waiter->query_until(qr/sent/, "\\echo sent\nSELECT outcome FROM increment_usage($shared, 1, 'waits');\n");
ok($nodes[1]->poll_query_until('postgres', 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted'), 'a call waits');
is($holder->query_safe("SELECT tokens_used FROM increment_usage($shared, 1, 'again'); COMMIT"),
	'3', 'a transaction that has the counter takes it again');
is($waiter->query_safe("SELECT tokens_used FROM increment_usage($shared, 1, 'last')"), "applied\n5", 'the call goes on');
$_->quit for $holder, $waiter;

# ----------------------------------------------------------------------------
# Delegation. Citus crashes where an account is NULL in a call that it delegates.

$coordinator->safe_psql('postgres', Snippets::snippet('docs/sharding.md', 'Delegation'));
my (undef, undef, $messages) = $coordinator->psql('postgres',
	'SET client_min_messages = debug1; SELECT outcome FROM increment_usage(' . new_account(1) . ", 1, 'one')");
like($messages, qr/pushing down the function call/, 'a call runs on the node of its account');
compare_calls('delegated', sub { $_[0] !~ /increment_usage\(NULL/ });

# ----------------------------------------------------------------------------
# What Citus refuses

# Runs SQL on the coordinator as its superuser. Returns the output, or the SQLSTATE of the error.
sub run_sql
{
	my ($sql) = @_;
	return Sharding::call($coordinator, $coordinator->safe_psql('postgres', 'SELECT current_user'), $sql);
}
my $account = new_account(1);
my $start = "'2001-01-01 00:00+00'";
run_sql("SELECT open_usage_period($account, $start, '2001-02-01 00:00+00')");

for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	is(run_sql("BEGIN ISOLATION LEVEL $level; SELECT increment_usage($account, 1, 'isolated')"),
		'0A000', "a call under $level");
}

# Calls a function by a message of the protocol, as PQfn does. Returns the SQLSTATE of an error.
sub call_by_message
{
	my ($node, $signature, $begin, @arguments) = @_;
	my $oid = $node->safe_psql('postgres', "SELECT '$signature'::regprocedure::oid");
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die $!;
	my $send = sub {
		my ($message, $type) = @_;
		print $socket ($type // '') . pack('N', 4 + length $message) . $message;
		my %answers;
		while (!defined $answers{Z})
		{
			read($socket, my $head, 5) == 5 or die 'the connection is lost';
			my ($answer, $length) = unpack 'a N', $head;
			read $socket, $answers{$answer}, $length - 4;
		}
		return \%answers;
	};
	$socket->autoflush;
	$send->(pack('N', 196608) . "user\0postgres\0database\0postgres\0\0");
	$send->("BEGIN\0", 'Q') if $begin;
	my $answers = $send->(
		pack('N n n', $oid, 0, scalar @arguments)
		  . join('', map { defined $_ ? pack('N/a*', $_) : pack('N', 0xffffffff) } @arguments)
		  . pack('n', 0),
		'F');
	$send->("COMMIT\0", 'Q') if $begin;
	return ($answers->{E} // "\0Cnone\0") =~ /\0C(\w+)\0/ ? $1 : die;
}

my $signature = 'increment_usage(uuid, bigint, text, boolean, boolean, timestamptz)';
for my $node (@nodes)
{
	my @call = (new_account(1) =~ /'(.*)'/, 1, 'by message', 'f', 'f', undef);
	is(call_by_message($node, $signature, 0, @call), '0A000', 'a call outside of a query, on ' . $node->name);
	is($coordinator->safe_psql('postgres', "SELECT count(*) FROM usage_events WHERE idempotency_key = 'by message'"),
		'0', 'and nothing is written');
	is(call_by_message($node, $signature, 1, @call), 'none', 'it works in a transaction block');
	is($coordinator->safe_psql('postgres', "SELECT outcome FROM void_usage('$call[0]', 'by message', 'tried')"),
		'voided', 'and is counted');
	$coordinator->safe_psql('postgres', "SELECT erase_usage('$call[0]')");
}
my $periods = "SELECT account_id, period_start FROM usage_periods WHERE account_id = $account AND period_start = $start";
# On the node of the account, and from another one.
for my $node (@nodes)
{
	my (undef, undef, $error) = $node->psql('postgres',
		"SELECT close_usage_period(account_id, period_start) FROM ($periods) AS p",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($error, qr/ERROR:  0A000: .*\n.*\nHINT:  Read the rows first/,
		'a call for the rows of a query that Citus sends to one node as a whole, on ' . $node->name);
}
is(run_sql("DO \$\$
		DECLARE p record;
		BEGIN
			FOR p IN $periods LOOP
				PERFORM close_usage_period(p.account_id, p.period_start);
			END LOOP;
		END \$\$;
		SELECT closed_at IS NOT NULL FROM usage_periods WHERE account_id = $account AND period_start = $start"),
	't', 'a call for the rows of a loop');
is(run_sql("BEGIN; SET LOCAL ROLE biller; SELECT count(*) FROM usage_totals;
		SELECT credit_usage($account, 1, 'none', 'broken')"),
	'22023', 'a reader before a call in its transaction');
is(run_sql("BEGIN; SET LOCAL ROLE worker; SELECT increment_usage($account, 1, 'own');
		SET LOCAL ROLE biller; SELECT count(*) FROM usage_totals"),
	'25001', 'a reader after a call in its transaction');

# ----------------------------------------------------------------------------
# Statistics are those of the node that runs a call

$_->safe_psql('postgres', 'SELECT usage_ledger_stats_reset()') for @nodes;
# Not delegated, because it is in a transaction.
$nodes[2]->safe_psql('postgres', 'BEGIN; SELECT increment_usage(' . new_account(1) . ", 1, 'one'); COMMIT");
is(join(' ', map { $_->safe_psql('postgres', 'SELECT applied FROM usage_ledger_stats') } @nodes),
	'0 0 1', 'a call is counted on the node of its caller');

# ----------------------------------------------------------------------------
# A foreign key of another table: what it refers to is left, on each node

my @kept = map { new_account($_) } 0, 1;
run_sql("CREATE TABLE work (account_id uuid, key text,
		FOREIGN KEY (account_id, key) REFERENCES usage_events (account_id, idempotency_key));
	SELECT create_distributed_table('work', 'account_id', colocate_with => 'usage_accounts')");
for my $account (@kept)
{
	run_sql("SELECT increment_usage($account, 1, 'kept'), increment_usage($account, 2, 'pruned')");
	run_sql("INSERT INTO work VALUES ($account, 'kept')");
	run_sql("SELECT end_usage_period($account)");
	run_sql("SELECT pg_sleep(0.01)");
	is(run_sql("SELECT format('SELECT tokens_used FROM close_usage_period(%L, %L)', account_id, period_start)
			FROM usage_periods WHERE account_id = $account \\gexec"), '3', 'a period with referenced events is closed');
}
my $left = 'SELECT idempotency_key FROM usage_events WHERE account_id IN (' . join(', ', @kept) . ')';
run_sql("SELECT prune_usage_events(now() + interval '1 hour')");
is(run_sql($left), "kept\nkept", 'events without a reference are pruned, and the others are left');
is(run_sql("SELECT erase_usage($kept[1])"), '23503', 'and their accounts are not erased');
run_sql('DROP TABLE work');
run_sql("SELECT prune_usage_events(now() + interval '1 hour')");
is(run_sql($left), '', 'they are pruned when nothing refers to them');

# ----------------------------------------------------------------------------
# The background worker: each node settles its accounts, the coordinator sweeps

my @owned = map { new_account($_) } 0, 1, 2;
run_sql("SET usage_ledger.settlement = deferred;
		SELECT count(*) FROM increment_usage_batch(ARRAY[" . join(', ', @owned) . "]::uuid[], ARRAY[1, 2, 3], ARRAY['w', 'w', 'w'])");
run_sql("SELECT set_usage_limit($_, 100), reserve_usage($_, 10, 'dead', '1 ms')") for @owned;
is(run_sql('SELECT count(*) FROM usage_pending'), '3', 'usage of every node is pending');
# The sweep of a node's holds fails after it has deleted them.
my $limits = run_sql("SELECT 'billing.usage_limits_' || get_shard_id_for_distribution_column('usage_limits', $owned[1])");
$nodes[1]->safe_psql('postgres', "ALTER TABLE $limits ADD CONSTRAINT always_held CHECK (tokens_held >= 10) NOT VALID");
for my $node (@nodes)
{
	$node->append_conf('postgresql.conf', "usage_ledger.settle_databases = 'postgres'");
	$node->reload;
}
ok($coordinator->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'), 'it is settled');
ok($coordinator->poll_query_until('postgres',
		"SELECT error LIKE '%always_held%' FROM usage_ledger_worker"), 'a sweep fails');
is(run_sql("SELECT count(*) FROM usage_holds WHERE idempotency_key = 'dead'"), '3', 'and has deleted no hold');
$nodes[1]->safe_psql('postgres', "ALTER TABLE $limits DROP CONSTRAINT always_held");
ok($coordinator->poll_query_until('postgres', "SELECT count(*) = 0 FROM usage_holds WHERE idempotency_key = 'dead'"),
	'dead holds are swept');
is(run_sql('SELECT count(*) FROM verify_usage()'), '0', 'the books are exact');

done_testing();
