# The disk fills up under load, first the disk of the events, then the disk of the WAL.
# Calls fail with an error. Once there is room again, their retries are counted once.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use UsageClients;

# 64 MB, mounted by test/tools/tap.sh when it runs as root.
my $volume = $ENV{SMALL_VOLUME}
  or plan skip_all => 'no small volume to fill: only root can mount one';

# Fills the volume up to $room_kb.
sub fill_up
{
	my ($room_kb) = @_;
	my ($free_kb) = (split ' ', (split /\n/, `df -k --output=avail $volume`)[1])[0];
	open(my $file, '>', "$volume/ballast") or die "$!";
	print $file 'x' x 1024 for 1 .. $free_kb - $room_kb;
	close $file;
	return;
}

sub make_room
{
	unlink "$volume/ballast" or die "$!";
	return;
}

sub start_clients
{
	my ($node, @arguments) = @_;
	return UsageClients->new([ '--rounds', 1, @arguments ],
		PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
}

# The disk of the events.
my $node = PostgreSQL::Test::Cluster->new('full_tablespace');
$node->init;
$node->append_conf('postgresql.conf', "max_connections = 40\nlog_statement = none\nautovacuum = off");
$node->start;
mkdir "$volume/tablespace" or die "$!";
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$volume/tablespace'");
$node->safe_psql('postgres',
	'ALTER TABLE usage_events SET TABLESPACE small; ALTER TABLE usage_pending SET TABLESPACE small');
fill_up(600);
my $clients = start_clients($node, '--work-ms', 2000);
$clients->await('working');
my $errors = $clients->await_stop;
cmp_ok($errors->{53100} // 0, '>', 0, 'calls fail when the disk is full');
is(join(' ', grep { $_ ne '53100' } keys %$errors), '', 'no call fails with another error');
make_room();
$clients->check('room for events again');
$clients->go_on;
$clients->finish_all;
$node->stop;

# The disk of the WAL: without room the server stops, and it starts again once there is room.
$node = PostgreSQL::Test::Cluster->new('full_wal');
$node->init(extra => [ '--waldir', "$volume/wal", '--wal-segsize', '1' ]);
$node->append_conf('postgresql.conf',
	"max_connections = 40\nlog_statement = none\nmin_wal_size = 2MB\nmax_wal_size = 200MB\ncheckpoint_timeout = 1h");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
fill_up(2500);
$clients = start_clients($node);
$clients->await('working');
$clients->await_stop;
like(slurp_file($node->logfile), qr/PANIC: .*No space left on device/, 'the server stops for lack of room for WAL');
UsageClients::crash($node);
make_room();
$node->start;
$clients->check('room for the WAL again');
$clients->go_on;
$clients->finish_all;
$node->stop;

done_testing();
