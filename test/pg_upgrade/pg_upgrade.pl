# A ledger is moved from an older major version of PostgreSQL to this one, by pg_dump and by
# pg_upgrade, and is the same there. OLD_INSTALLATION is the directory of the older version.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old_installation = $ENV{OLD_INSTALLATION} or die 'OLD_INSTALLATION is not set';
my %script = map { $_ => slurp_file("$_.sql") } qw(fill ledger continue);

# Both clusters must agree on checksums. Version 18 enables them by default.
my @initdb_options = ('--encoding=UTF8', '--locale=C.UTF-8', '--data-checksums');

# The worker is loaded, as in production, but has no database to settle yet.
sub make_cluster
{
	my ($name, %installation) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, %installation);
	$node->init(extra => \@initdb_options);
	$node->append_conf(
		'postgresql.conf', q{
max_prepared_transactions = 1
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = ''
usage_ledger.settle_interval = 10ms
});
	return $node;
}

my $old = make_cluster('old', install_path => $old_installation);
$old->start;
$old->safe_psql('postgres', 'CREATE DATABASE app');
is($old->safe_psql('app', $script{fill}), q{events|1347|3
pending|106|500000002557
periods|12|3|1|1}, 'the ledger is filled');
my @ledger = split /\n/, $old->safe_psql('app', $script{ledger});

my $continued = q{again|replayed|1335
record again|replayed|11
batch again|replayed|1335
with other tokens|conflict
of a pruned period|closed
voided again|replayed
new|applied|223065|2024-04-01 00:00:00+00|2024-05-01 00:00:00+00
new period|applied|2000|2024-10-29 23:00:00+00|2024-11-05 23:00:00+00
clipped period|applied|5764|2024-04-05 00:00:00+00|2024-04-09 22:00:00+00
new account|applied|8000
new pending|queued
added|31000
voided|voided
violations|0
settled|107|107
closed|225615|179|134
closed before|276396|371|247
pruned|1117
violations|0};

# Checks a ledger that has been moved. pg_upgrade keeps policies that were created on an
# extension's table, pg_dump does not.
sub is_moved
{
	my ($node, $database, $name, $policies) = @_;
	is_deeply([ split /\n/, $node->safe_psql($database, $script{ledger}) ], \@ledger,
		"$name: the ledger is the same");
	is($node->safe_psql($database, $script{continue}), $continued, "$name: the ledger can be used");
	is($node->safe_psql($database, 'SELECT polname FROM pg_policy'),
		$policies, "$name: policies");
	return;
}

my $new = make_cluster('new');
$new->start;
$new->safe_psql('postgres', 'CREATE ROLE worker; CREATE ROLE biller');
my $bindir = $new->config_data('--bindir');

# With either version's pg_dump, in either format.
my %pg_dump = (old => "$old_installation/bin/pg_dump", new => "$bindir/pg_dump");
for my $version (qw(old new))
{
	for my $format (qw(custom plain))
	{
		my $database = "${version}_$format";
		my $file = "$database.dump";
		my $name = "pg_dump of the $version version, $format";
		$old->command_ok([ $pg_dump{$version}, "--format=$format", "--file=$file", 'app' ],
			"$name: dumped");
		$new->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
		$new->command_ok(
			$format eq 'plain'
			? [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-f', $file ]
			: [ 'pg_restore', '--exit-on-error', "--dbname=$database", $file ],
			"$name: restored");
		is_moved($new, $database, $name, '');
	}
}
$new->stop;

# Upgrades one cluster to another. Returns whether that succeeded.
sub pg_upgrade
{
	my ($from, $to) = @_;
	$from->stop;
	return run_log(
		[   'pg_upgrade', '--no-sync',
			'--old-bindir', "$old_installation/bin", '--new-bindir', $bindir,
			'--old-datadir', $from->data_dir, '--new-datadir', $to->data_dir,
			'--old-port', $from->port, '--new-port', $to->port,
			'--socketdir', $to->host ]);
}

# Returns whether pg_upgrade succeeds without usage_ledger. It fails if the old version's
# minor release is newer than this version's, and has written something that this one does
# not know.
sub can_upgrade_a_table
{
	my $from = PostgreSQL::Test::Cluster->new('table', install_path => $old_installation);
	my $to = PostgreSQL::Test::Cluster->new('upgraded_table');
	$_->init(extra => \@initdb_options) for ($from, $to);
	$from->start;
	$from->safe_psql('postgres', 'CREATE TABLE plain (number integer)');
	return pg_upgrade($from, $to);
}

# With pg_upgrade. The worker is configured to serve the database, as in production. It must
# leave both clusters alone during the upgrade.
SKIP:
{
	my $upgraded = make_cluster('upgraded');
	$_->append_conf('postgresql.conf', "usage_ledger.settle_databases = 'app'") for ($old, $upgraded);
	my $is_upgraded = pg_upgrade($old, $upgraded);
	skip 'pg_upgrade fails without usage_ledger too', 6 if !$is_upgraded && !can_upgrade_a_table();
	ok($is_upgraded, 'pg_upgrade') or last SKIP;
	$upgraded->append_conf('postgresql.conf', "usage_ledger.settle_databases = ''");
	$upgraded->start;
	is_moved($upgraded, 'app', 'pg_upgrade', 'billing');

	# The worker settles again.
	$upgraded->safe_psql('app',
		q{SET usage_ledger.settlement = 'deferred';
		  SELECT increment_usage('11111111-0000-0000-0000-000000000002', 1, 'for the worker')});
	$upgraded->append_conf('postgresql.conf', "usage_ledger.settle_databases = 'app'");
	$upgraded->reload;
	ok($upgraded->poll_query_until('app', 'SELECT count(*) = 0 FROM usage_pending'),
		'pg_upgrade: the worker settles pending usage');
	is($upgraded->safe_psql('app', 'SELECT count(*) FROM verify_usage()'),
		'0', 'pg_upgrade: the ledger is sound');
	$upgraded->stop;
}

done_testing();
