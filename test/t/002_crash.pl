# The whole cluster is killed at random moments under load. Every acknowledged event is
# counted once, and every other event is counted once after its retry.
#
# CRASH_ROUNDS is the number of crashes (10), SEED the seed of the random moments and calls.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use UsageClients;

my $round_count = $ENV{CRASH_ROUNDS} // 10;
my $seed = $ENV{SEED} // 1;
note "seed $seed";
srand $seed;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init;
UsageClients::configure($node, 'fsync = on');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');

my $clients = UsageClients->new([ '--rounds', $round_count, '--seed', $seed ],
	PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
for my $round (1 .. $round_count)
{
	$clients->await('working');
	usleep(20_000 + rand 800_000);
	UsageClients::crash($node);
	my $errors = $clients->await_stop;
	my @unexpected = grep { !/^(connection lost|no connection)$/ } sort keys %$errors;
	is("@unexpected", '', "round $round: clients saw no other errors");
	$node->start;
	$clients->check("round $round");
	$clients->go_on;
}
$clients->finish_all;

my $sum = $clients->{sum};
cmp_ok($sum->{unacknowledged}, '>', 0, 'calls were in progress when the cluster was killed');
cmp_ok($sum->{events}, '>', $sum->{unacknowledged}, 'other calls were complete');
ok( $node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'),
	'all pending rows are settled');
is($node->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the ledger is sound');
note "$round_count crashes: $sum->{events} events, $sum->{unacknowledged} not acknowledged, "
  . "$sum->{of_these_counted} of these counted";

$node->stop;
done_testing();
