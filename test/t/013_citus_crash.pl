# Nodes of a ledger on Citus are killed under load, in turn. Every acknowledged event is counted
# once, and every other event is counted once after its retry. Transactions that a killed
# coordinator has left prepared on other nodes are committed or rolled back as a whole.
#
# CRASH_ROUNDS is the number of crashes (3), SEED the seed of the random moments and calls.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use Sharding;
use Snippets;
use UsageClients;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'Citus is not installed for this server'
  unless -e "$sharedir/extension/citus.control";

my $round_count = $ENV{CRASH_ROUNDS} // 3;
my $seed = $ENV{SEED} // 1;
note "seed $seed";
srand $seed;

my @nodes = Sharding::start_citus(3, q{
fsync = on
log_statement = none
usage_ledger.settle_databases = 'postgres'
usage_ledger.settle_interval = 50ms
usage_ledger.settle_rows = 200
citus.recover_2pc_interval = 1s
});
my ($coordinator, @workers) = @nodes;
$coordinator->safe_psql('postgres', Snippets::snippet('docs/sharding.md', 'Citus set-up'));

# Waits until no node has a transaction that was left prepared.
sub await_recovery
{
	for my $node (@nodes)
	{
		$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_prepared_xacts')
		  or die 'a prepared transaction is left on ' . $node->name . "\n";
	}
	return;
}

# ----------------------------------------------------------------------------
# Crashes under load

my $clients = UsageClients->new(
	[ '--rounds', $round_count, '--seed', $seed, '--work-ms', 2000, '--accounts', 40 ],
	PGHOST => $coordinator->host, PGPORT => $coordinator->port, PGDATABASE => 'postgres');
my %errors;
for my $round (1 .. $round_count)
{
	my $node = $nodes[ $round % @nodes ];
	$clients->await('working');
	usleep(500_000 + rand 1_000_000);
	UsageClients::crash($node);
	my $errors = $clients->await_stop;
	$errors{$_} += $errors->{$_} for keys %$errors;
	$node->start;
	await_recovery();
	$clients->check("round $round, " . $node->name . ' is killed');
	$clients->go_on;
}
$clients->finish_all;
note "errors: " . join(' ', map { "$_=$errors{$_}" } sort keys %errors);

# Class 08, XX000: a node cannot be reached. 57P01 to 57P03: it goes away or comes back.
# All of them, and 40001 and 40P01, are for a worker to retry.
my @unexpected = grep { !/^(connection lost|no connection|08...|57P0[123]|40001|40P01|XX000)$/ } sort keys %errors;
is("@unexpected", '', 'clients saw no other errors');
my $sum = $clients->{sum};
cmp_ok($sum->{unacknowledged} // 0, '>', 0, 'calls were in progress when nodes were killed');
ok($coordinator->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'),
	'all pending rows are settled');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the ledger is sound');

# ----------------------------------------------------------------------------
# Transactions that are left prepared

my %account_of_group = map { split /\|/ } split /\n/, $coordinator->safe_psql('postgres', q{
	SELECT DISTINCT ON (p.groupid) p.groupid, a.id
	  FROM (SELECT md5('prepared ' || n)::uuid AS id FROM generate_series(1, 200) AS n) AS a
	  JOIN pg_dist_placement AS p
	    ON p.shardid = get_shard_id_for_distribution_column('usage_accounts', a.id)});
my @accounts = map { "'$account_of_group{$_}'" } 1, 2;
my $ids = 'ARRAY[' . join(', ', @accounts) . ']::uuid[]';
$coordinator->safe_psql('postgres',
	"SELECT count(*) FROM increment_usage_batch($ids, ARRAY[1, 1], ARRAY['first', 'first'])");

# Sends a batch, whose commit one of the nodes does not complete, and kills the coordinator.
sub leave_prepared
{
	my ($key, $waiting_node) = @_;
	$waiting_node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$waiting_node->reload;
	my $session = $coordinator->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	$session->query_until(qr/sent/, "\\echo sent\nSELECT count(*) FROM increment_usage_batch($ids, ARRAY[10, 10], ARRAY['$key', '$key']);\n");
	$waiting_node->poll_query_until('postgres',
		q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND backend_type = 'client backend'})
	  or die 'no commit waits';
	# The session would try to complete the commit when it sees that its postmaster is gone.
	kill 'STOP', $pid;
	UsageClients::crash($coordinator);
	$session->{run}->finish;
	$waiting_node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$waiting_node->reload if $waiting_node != $coordinator;
	return;
}

for my $case ([ 'committed', $coordinator, 'replayed' ], [ 'rolled back', $workers[1], 'applied' ])
{
	my ($name, $waiting_node, $outcome) = @$case;
	leave_prepared($name, $waiting_node);
	cmp_ok($workers[0]->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'),
		'>', 0, "$name: a transaction is left prepared");
	$coordinator->start;
	await_recovery();
	is( $coordinator->safe_psql('postgres',
			"SELECT outcome FROM increment_usage_batch($ids, ARRAY[10, 10], ARRAY['$name', '$name'])"),
		"$outcome\n$outcome", "$name: on all nodes or on none");
}
is($coordinator->safe_psql('postgres', "SELECT tokens_used FROM usage_totals WHERE account_id = ANY ($ids)"),
	"21\n21", 'each event is counted once');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the ledger is sound');

done_testing();
