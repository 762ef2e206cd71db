# Interruptions of all common kinds, concurrently: sessions are cancelled and terminated,
# and meet timeouts, deadlocks, serialization failures and the connection limit. Every
# failure is an error that the caller sees, and no event is counted in part.
#
# INTERRUPTION_MS is the length of a round (4,000), INTERRUPTION_ROUNDS the number of rounds
# (2), SEED the seed of the random calls.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use UsageClients;

my $round_count = $ENV{INTERRUPTION_ROUNDS} // 2;
my $round_ms = $ENV{INTERRUPTION_MS} // 4000;
my $seed = $ENV{SEED} // 1;
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
UsageClients::configure($node, 'deadlock_timeout = 1ms');
$node->start;
$node->safe_psql(
	'postgres', q{
CREATE EXTENSION usage_ledger;
CREATE ROLE worker LOGIN CONNECTION LIMIT 14;
GRANT EXECUTE ON FUNCTION increment_usage, increment_usage_batch, record_usage, record_usage_batch, void_usage,
	reserve_usage, release_usage TO worker;});

# Cancels sessions at random for one round, and terminates some.
my $interrupt_count = int($round_ms / 5);
my $interrupt = qq{
DO \$\$ BEGIN
	FOR i IN 1 .. $interrupt_count LOOP
		PERFORM pg_stat_clear_snapshot();
		PERFORM CASE WHEN random() < 0.9 THEN pg_cancel_backend(pid) ELSE pg_terminate_backend(pid) END
		   FROM (SELECT pid FROM pg_stat_activity WHERE usename = 'worker' ORDER BY random() LIMIT 1) AS s;
		PERFORM pg_sleep(0.004);
	END LOOP;
END \$\$};

my $clients = UsageClients->new(
	[
		'--rounds', $round_count, '--seed', $seed, '--interrupted', '--work-ms', $round_ms,
		'--user', 'worker', '--accounts', 3
	],
	PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
my %expected = (
	'57014' => 'cancelled, or timed out',
	'55P03' => 'timed out waiting for a lock',
	'40P01' => 'deadlock',
	'40001' => 'serialization failure',
	'53300' => 'too many connections',
	'connection lost' => 'connection lost');
my %met;
for my $round (1 .. $round_count)
{
	$clients->await('working');
	$node->safe_psql('postgres', $interrupt);
	my $errors = $clients->await_stop;
	$met{$_} += $errors->{$_} for keys %$errors;
	ok( $node->poll_query_until('postgres',
			q{SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'worker'}),
		'all sessions have ended');
	$node->safe_psql('postgres', 'ALTER ROLE worker CONNECTION LIMIT -1');
	$clients->check("round $round");
	$node->safe_psql('postgres', 'ALTER ROLE worker CONNECTION LIMIT 14');
	$clients->go_on;
}
$clients->finish_all;

for my $error (grep { !/connection lost|40P01/ } sort keys %expected)
{
	cmp_ok($met{$error} // 0, '>', 0, "met: $expected{$error}");
}

# For these a client learns only that the connection is lost.
like(slurp_file($node->logfile), qr/terminating connection due to $_/, "met: $_")
  for 'administrator command', 'idle-in-transaction timeout';
is(join(' ', grep { !exists $expected{$_} } sort keys %met), '', 'no other error was met');

# A certain deadlock: two transactions that call for two accounts in opposite orders.
my %transactions = (first => [ 'a', 'b' ], second => [ 'b', 'a' ]);
my %account = (
	a => q{'68000000-0000-0000-0000-00000000000a'},
	b => q{'68000000-0000-0000-0000-00000000000b'});
my $call = sub {
	my ($transaction, $step) = @_;
	return "SELECT increment_usage($account{$transactions{$transaction}[$step]}, 1, '$transaction');";
};
my $total = qq{SELECT sum(tokens_used) FROM usage_totals WHERE account_id IN ($account{a}, $account{b})};
my %session = map { $_ => $node->background_psql('postgres', on_error_stop => 0) } keys %transactions;
$session{$_}->query_safe('BEGIN;' . $call->($_, 0)) for keys %transactions;
$session{first}->query_until(qr/started/, "\\echo started\n" . $call->('first', 1) . "\n");
$session{second}->query($call->('second', 1));
$session{$_}->query('COMMIT') for keys %transactions;
$session{$_}->quit for keys %transactions;
like(slurp_file($node->logfile), qr/ERROR:  deadlock detected/, 'met: deadlock');
is($node->safe_psql('postgres', $total),
	'2', 'one of the two transactions has committed');
for my $transaction (keys %transactions)
{
	$node->safe_psql('postgres', $call->($transaction, $_)) for 0, 1;
}
is($node->safe_psql('postgres', $total),
	'4', 'after the retries both are counted');

note join ', ', map { "$_: $met{$_}" } sort keys %met;

$node->stop;
done_testing();
