# usage_ledger_stats counts each call and each item of a batch, by its outcome or its error.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use UsageClients;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'usage_ledger'
usage_ledger.max_event_age = 20000d
restart_after_crash = on
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');

# Shows what was counted since the last reset, such as "applied 1, refused 2".
my $counts_query = q{SELECT COALESCE(NULLIF(concat_ws(', ', }
  . join(', ', map { "'$_ ' || NULLIF($_, 0)" } qw(applied queued replayed conflicts refused))
  . q{), ''), 'nothing') FROM usage_ledger_stats};

# Runs a query. Its answer or SQLSTATE, and what it counts, must be as expected.
sub check
{
	my ($name, $settings, $query, $expected_answer, $expected_counts) = @_;
	my (undef, $out) = $node->psql('postgres',
		"SELECT usage_ledger_stats_reset();\n$settings $query;\n\\echo :SQLSTATE\n"
		  . "ROLLBACK; RESET ALL; $counts_query;\n",
		on_error_stop => 0);
	my (undef, @answer) = split /\n/, $out;
	my $counts = pop @answer;
	my $sqlstate = pop @answer;
	is($sqlstate eq '00000' ? "@answer" : $sqlstate, $expected_answer, "$name: $query");
	is($counts, $expected_counts, "$name: counts $expected_counts");
	return;
}

# Checks calls of a function: arguments, answer or SQLSTATE, counts (by default nothing).
sub check_calls
{
	my ($name, $settings, $select, @calls) = @_;
	check($name, $settings, "$select($_->[0])", $_->[1], $_->[2] // 'nothing') for @calls;
	return;
}

# ----------------------------------------------------------------------------
# Each outcome and SQLSTATE of each function that counts

my $key_too_long = "repeat('k', 256)";

for my $mode (qw(immediate deferred))
{
	# 'open' is an account with an event 'taken'. 'closed' has an event 'before' in a period
	# that is closed. 'full' has a counter that can take no more. 'broken' has no usable
	# cycle. 'unknown' is not registered.
	my %id = map { $_ => $node->safe_psql('postgres', 'SELECT gen_random_uuid()') }
	  qw(open closed full broken unknown);
	my %account = map { $_ => "'$id{$_}'" } keys %id;
	$node->safe_psql(
		'postgres', qq{
SELECT increment_usage($account{open}, 5, 'taken');
SELECT increment_usage($account{open}, 5, 'voided');
SELECT void_usage($account{open}, 'voided', NULL);
SELECT open_usage_period($account{closed}, '2024-01-01Z', '2024-02-01Z');
SELECT increment_usage($account{closed}, 5, 'before', p_occurred_at => '2024-01-10Z');
SELECT close_usage_period($account{closed}, '2024-01-01Z');
SELECT open_usage_period($account{full}, '2024-01-01Z', '2024-02-01Z', 9223372036854775807);
INSERT INTO usage_accounts (account_id, period_anchor, period_length) VALUES ($account{broken}, 'epoch', '0');
});
	my $settings = "SET usage_ledger.settlement = '$mode'; SET usage_ledger.unknown_account = 'reject';";
	my $counted = $mode eq 'deferred' ? 'queued' : 'applied';
	my $overflow = $mode eq 'deferred' ? 'queued' : 'invalid';

	my $january = "p_occurred_at => '2024-01-20Z'";
	check_calls(
		$mode, $settings, 'SELECT outcome FROM increment_usage',
		[ "$account{open}, 1, 'fresh'", $counted, "$counted 1" ],
		[ "$account{open}, 5, 'taken'", 'replayed', 'replayed 1' ],
		[ "$account{open}, 6, 'taken'", 'UL001', 'conflicts 1' ],
		[ "$account{unknown}, 1, 'k'", 'UL002', 'refused 1' ],
		[ "$account{broken}, 1, 'k'", 'UL002', 'refused 1' ],
		[ "$account{closed}, 1, 'k', $january", 'UL003', 'refused 1' ],
		$mode eq 'deferred'
		? [ "$account{full}, 1, 'k', $january", 'queued', 'queued 1' ]
		: [ "$account{full}, 1, 'k', $january", '22003', 'refused 1' ],
		[ "NULL, 1, 'k'", '22004', 'refused 1' ],
		[ "$account{open}, NULL, 'k'", '22004', 'refused 1' ],
		[ "$account{open}, 1, NULL", '22004', 'refused 1' ],
		[ "$account{open}, 1, ''", '22023', 'refused 1' ],
		[ "$account{open}, 1, $key_too_long", '22023', 'refused 1' ],
		[ "$account{open}, -1, 'k'", '22023', 'refused 1' ],
		[ "$account{open}, 1000000000001, 'k'", '22023', 'refused 1' ],
		[ "$account{open}, 1, 'k', p_occurred_at => 'infinity'", 'UL005', 'refused 1' ],
		[ "$account{open}, 1, 'k', p_occurred_at => '1960-01-01Z'", 'UL005', 'refused 1' ],
		[ "$account{open}, 1, 'k', p_occurred_at => '2999-01-01Z'", 'UL005', 'refused 1' ]);

	check_calls(
		$mode, $settings, 'SELECT outcome FROM record_usage',
		[ "$account{open}, 'broken down', 'model', 'team', 1", $counted, "$counted 1" ],
		[ "$account{open}, 'broken down', 'model', 'team', 1", 'replayed', 'replayed 1' ],
		[ "$account{open}, 'broken down', 'model', 'team', 2", 'UL001', 'conflicts 1' ],
		[ "$account{open}, 'taken', p_input_tokens => 5", 'UL001', 'conflicts 1' ],
		[ "$account{unknown}, 'k'", 'UL002', 'refused 1' ],
		[ "$account{closed}, 'k', $january", 'UL003', 'refused 1' ],
		$mode eq 'deferred'
		? [ "$account{full}, 'full', p_input_tokens => 1, $january", 'queued', 'queued 1' ]
		: [ "$account{full}, 'full', p_input_tokens => 1, $january", '22003', 'refused 1' ],
		[ "$account{open}, 'k', p_cost_nanos => NULL", '22004', 'refused 1' ],
		[ "$account{open}, 'k', '_other'", '22023', 'refused 1' ],
		[ "$account{open}, 'k', 'model', '/'", '22023', 'refused 1' ],
		[ "$account{open}, 'k', p_occurred_at => 'infinity'", 'UL005', 'refused 1' ]);
	my $opens = "ARRAY[$account{open}, $account{open}, $account{open}]::uuid[]";
	check_calls(
		$mode, $settings, "SELECT string_agg(outcome, ' ' ORDER BY item) FROM record_usage_batch",
		[ "$opens, '{of a record batch,broken down,broken down}', '{m,model,model}', '{s,team,/}', '{1,1,1}'",
			"$counted replayed invalid", "$counted 1, replayed 1, refused 1" ],
		[ "$opens, NULL", '22004', 'refused 1' ],
		[ "$opens, '{a,b,c}', '{m}'", '22023', 'refused 1' ]);

	check_calls(
		$mode, $settings, 'SELECT outcome FROM void_usage',
		[ "$account{open}, 'fresh', 'reason'", 'voided' ],
		[ "$account{open}, 'voided', 'reason'", 'replayed' ],
		[ "$account{closed}, 'before', 'reason'", 'UL003', 'refused 1' ],
		[ "$account{open}, 'never counted', 'reason'", 'UL004', 'refused 1' ],
		[ "NULL, 'taken', 'reason'", '22004', 'refused 1' ],
		[ "$account{open}, NULL, 'reason'", '22004', 'refused 1' ],
		[ "$account{open}, '', 'reason'", '22023', 'refused 1' ],
		[ "$account{open}, $key_too_long, 'reason'", '22023', 'refused 1' ],
		[ "$account{open}, 'taken', repeat('r', 1001)", '22023', 'refused 1' ]);

	check_calls(
		$mode, $settings, 'SELECT outcome FROM credit_usage',
		[ "$account{open}, 1, 'credit', 'reason'", 'applied', 'applied 1' ],
		[ "$account{open}, 1, 'credit', 'reason'", 'replayed', 'replayed 1' ],
		[ "$account{open}, 2, 'credit', 'reason'", 'UL001', 'conflicts 1' ],
		[ "$account{unknown}, 1, 'k', NULL", 'UL002', 'refused 1' ],
		[ "$account{open}, 1000000, 'k', NULL", '22023', 'refused 1' ],
		[ "$account{open}, 0, 'k', NULL", '22023', 'refused 1' ],
		[ "$account{open}, 1, NULL, NULL", '22004', 'refused 1' ]);

	# A batch counts each of its items. Here each outcome, and each reason to be invalid.
	my @items = (
		[ $account{open}, 1, "'of a batch'", 'NULL', $counted ],
		[ $account{open}, 5, "'taken'", 'NULL', 'replayed' ],
		[ $account{open}, 6, "'taken'", 'NULL', 'conflict' ],
		[ $account{unknown}, 1, "'k'", 'NULL', 'unknown_account' ],
		[ $account{unknown}, 1, "'k'", 'NULL', 'unknown_account' ],
		[ $account{broken}, 1, "'k'", 'NULL', 'unknown_account' ],
		[ $account{closed}, 1, "'k'", "'2024-01-20Z'", 'closed' ],
		[ $account{full}, 1, "'of a batch'", "'2024-01-20Z'", $overflow ],
		[ 'NULL', 1, "'k'", 'NULL', 'invalid' ],
		[ $account{open}, 'NULL', "'k'", 'NULL', 'invalid' ],
		[ $account{open}, 1, 'NULL', 'NULL', 'invalid' ],
		[ $account{open}, 1, "''", 'NULL', 'invalid' ],
		[ $account{open}, -1, "'k'", 'NULL', 'invalid' ],
		[ $account{open}, 1, "'k'", "'1960-01-01Z'", 'out_of_time' ]);
	my @arrays = map {
		my $column = $_;
		join ', ', map { $_->[$column] } @items
	} 0 .. 3;
	check(
		$mode, $settings,
		"SELECT string_agg(outcome, ' ' ORDER BY item) FROM increment_usage_batch("
		  . "ARRAY[$arrays[0]]::uuid[], ARRAY[$arrays[1]], ARRAY[$arrays[2]], "
		  . "p_occurred_at => ARRAY[$arrays[3]]::timestamptz[])",
		join(' ', map { $_->[4] } @items),
		$mode eq 'deferred'
		? 'queued 2, replayed 1, conflicts 1, refused 10'
		: 'applied 1, replayed 1, conflicts 1, refused 11');

	# A batch that is refused as a whole counts one.
	my $one = "ARRAY[$account{open}]::uuid[]";
	check_calls(
		$mode, $settings, 'SELECT count(*) FROM increment_usage_batch',
		[ "'{}', '{}', '{}'", '0' ],
		[ "NULL, '{1}', '{k}'", '22004', 'refused 1' ],
		[ "$one, NULL, '{k}'", '22004', 'refused 1' ],
		[ "$one, '{1}', NULL", '22004', 'refused 1' ],
		[ "$one, '{1,2}', '{k}'", '22023', 'refused 1' ],
		[ "ARRAY[$one], '{1}', '{k}'", '22023', 'refused 1' ],
		[ "$one, '{1}', '{k}', p_occurred_at => '{}'", '22023', 'refused 1' ],
		[ "array_fill(NULL::uuid, '{1000001}'), '{}', '{}'", '22023', 'refused 1' ]);

	# Errors of other functions count nothing, and neither do errors before a function runs.
	for my $case (
		[ "increment_usage('no uuid', 1, 'k')", '22P02' ],
		[ "increment_usage($account{open}, '9223372036854775808', 'k')", '22003' ],
		[ "increment_usage_batch('{no uuid}', '{1}', '{k}')", '22P02' ],
		[ "void_usage('no uuid', 'k', 'reason')", '22P02' ],
		[ "close_usage_period($account{unknown}, '2024-01-01Z')", 'UL002' ],
		[ "close_usage_period($account{open}, NULL)", '22004' ],
		[ "end_usage_period($account{unknown})", 'UL002' ],
		[ "open_usage_period($account{closed}, '2024-01-15Z', '2024-02-15Z')", '23P01' ],
		[ "open_usage_period($account{open}, '2024-02-01Z', '2024-01-01Z')", '22023' ],
		[ "open_usage_period($account{open}, NULL, '2024-01-01Z')", '22004' ],
		[ "set_usage_cycle($account{open}, '0')", '22023' ],
		[ "set_usage_cycle(NULL, '1 day')", '22004' ],
		[ 'settle_usage(0)', '22023' ],
		[ 'settle_usage(NULL)', '22004' ],
		[ "prune_usage_events('infinity', 0)", '22023' ],
		[ 'prune_usage_events(NULL)', '22004' ],
		[ 'current_usage(NULL)', '22004' ])
	{
		my ($call, $sqlstate) = @$case;
		check($mode, $settings, "SELECT FROM $call", $sqlstate, 'nothing');
	}
}

# ----------------------------------------------------------------------------
# Failures that are no refusals: the caller's transaction or the server is the cause

my $account = "'44444444-0000-0000-0000-000000000001'";
my $call = "SELECT outcome FROM increment_usage($account, 1, 'contended')";
my $batch = "SELECT outcome FROM increment_usage_batch(ARRAY[$account]::uuid[], '{1}', '{contended}')";
my $void = "SELECT outcome FROM void_usage($account, 'first', 'reason')";
$node->safe_psql('postgres', "SELECT increment_usage($account, 1, 'first')");

for my $query ($call, $batch, $void)
{
	check('read only', 'SET default_transaction_read_only = on;', $query, '25006', 'nothing');
}

my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT increment_usage($account, 1, 'holder')");
for my $query ($call, $batch, $void)
{
	check('cancelled', "SET statement_timeout = '10ms';", $query, '57014', 'nothing');
	check('lock timeout', "SET lock_timeout = '1ms';", $query, '55P03', 'nothing');
}
$holder->query_safe('ROLLBACK');

# The counter changes after the transaction has taken its snapshot.
my $update = "UPDATE usage_periods SET tokens_used = tokens_used WHERE account_id = $account";
my $old_snapshot = qq{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;\n\\! psql -X -q -c "$update" postgres\n};
for my $query ($call, $batch, $void)
{
	check('old snapshot', $old_snapshot, $query, '40001', 'nothing');
}

# ----------------------------------------------------------------------------
# Waits, rollbacks and restarts

$holder->query_safe("BEGIN; SELECT usage_ledger_stats_reset(), increment_usage($account, 1, 'rolled back')");
my $waiter = $node->background_psql('postgres');
$waiter->query_until(qr/started/, "\\echo started\nSELECT increment_usage($account, 1, 'waiter');\n");
ok( $node->poll_query_until('postgres', 'SELECT lock_waits = 1 FROM usage_ledger_stats'),
	'a call that waits for a counter is counted');
$holder->query_safe('ROLLBACK');
$holder->quit;
$waiter->quit;
is($node->safe_psql('postgres', $counts_query),
	'applied 2', 'a call is counted even if it is rolled back');

my $stats_query = 'SELECT applied, stats_reset FROM usage_ledger_stats';
my $stats = $node->safe_psql('postgres', $stats_query);
$node->restart;
is($node->safe_psql('postgres', $stats_query), $stats, 'a clean restart keeps the statistics');

UsageClients::crash_backend($node);
ok($node->poll_query_until('postgres', 'SELECT applied = 0 FROM usage_ledger_stats'),
	'a crash resets the statistics');

$node->stop;
done_testing();
