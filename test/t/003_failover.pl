# The primary crashes under load and its synchronous standby takes over. No acknowledged
# event is lost, none is counted twice, and the worker settles on the new primary.
#
# FAILOVER_ROUNDS is the number of failovers (2), each to a new standby. SEED is the seed of
# the random moments and calls.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use UsageClients;

my $round_count = $ENV{FAILOVER_ROUNDS} // 2;
my $seed = $ENV{SEED} // 1;
note "seed $seed";
srand $seed;

my @nodes = map { PostgreSQL::Test::Cluster->new("server$_") } 0 .. $round_count;
my $primary = $nodes[0];
$primary->init(allows_streaming => 1);
UsageClients::configure($primary, 'fsync = on');
$primary->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');

# Creates a synchronous standby of a primary.
sub follow
{
	my ($standby, $server) = @_;
	my $name = $standby->name;
	$server->backup($name);
	$standby->init_from_backup($server, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$standby->start;
	$server->append_conf('postgresql.conf', "synchronous_standby_names = '*'");
	$server->reload;
	ok( $server->poll_query_until('postgres',
			q{SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'}),
		"$name follows");
	return;
}

follow($nodes[1], $primary);
my $clients = UsageClients->new(
	[ '--rounds', $round_count, '--seed', $seed ],
	PGHOST => join(',', map { $_->host } @nodes),
	PGPORT => join(',', map { $_->port } @nodes),
	PGTARGETSESSIONATTRS => 'read-write',
	PGDATABASE => 'postgres');
for my $round (1 .. $round_count)
{
	my $standby = $nodes[$round];
	$clients->await('working');
	usleep(200_000 + rand 800_000);
	UsageClients::crash($primary);
	$clients->await_stop;
	my ($status, $out, $err) = $standby->psql('postgres',
		q{SELECT increment_usage(gen_random_uuid(), 1, 'on the standby')});
	like($err, qr/cannot execute INSERT in a read-only transaction/, 'a standby refuses a call');
	$standby->promote;
	$primary = $standby;
	$clients->check("failover $round");
	ok($primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'),
		'the worker settles on the new primary');
	follow($nodes[ $round + 1 ], $primary) if $round < $round_count;
	$clients->go_on;
}
$clients->finish_all;
cmp_ok($clients->{sum}{unacknowledged}, '>', 0, 'calls were in progress when the primary was killed');
is($primary->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the ledger is sound');

$primary->stop;
done_testing();
