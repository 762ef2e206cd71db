# A ledger that has events is distributed over Citus, its shards move under load, and it is dumped
# and restored without Citus.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Sharding;
use UsageClients;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'Citus is not installed for this server'
  unless -e "$sharedir/extension/citus.control";

my @nodes = Sharding::start_citus(3, q{
log_statement = none
max_worker_processes = 40
usage_ledger.settle_databases = 'postgres'
});
my ($coordinator, @workers) = @nodes;

sub sql
{
	my ($sql) = @_;
	return $coordinator->safe_psql('postgres', $sql);
}

# ----------------------------------------------------------------------------
# An existing ledger

sql('CREATE EXTENSION usage_ledger');
my $arrays = q{ARRAY(SELECT md5('account ' || n % 20)::uuid FROM generate_series(1, 200) AS n)};
sql(qq{
SET usage_ledger.settlement = deferred;
SELECT count(*) FROM record_usage_batch($arrays, ARRAY(SELECT 'r' || n FROM generate_series(1, 200) AS n),
	ARRAY(SELECT 'm' || n % 3 FROM generate_series(1, 200) AS n), NULL, array_fill(7::bigint, ARRAY[200]));
SET usage_ledger.settlement = immediate;
SELECT count(*) FROM increment_usage_batch($arrays, array_fill(5::bigint, ARRAY[200]),
	ARRAY(SELECT 'k' || n FROM generate_series(1, 200) AS n));
SELECT set_usage_limit(md5('account 1')::uuid, 1000), reserve_usage(md5('account 1')::uuid, 10, 'held');});

my $set_up = Sharding::snippet('docs/sharding.md', 'Citus set-up');
$set_up =~ s/^CREATE EXTENSION.*$//m;
sql($set_up . Sharding::snippet('docs/sharding.md', 'An existing ledger'));
is(sql('SELECT count(*), sum(tokens_used) FROM usage_totals'), '20|2400', 'the totals are those from before');
is(sql('SELECT count(*), sum(tokens) FROM ONLY usage_events'), '400|2400', 'events are read from the shards');
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
# Moves under load

my $clients = UsageClients->new([ '--work-ms', 60000, '--clients', 4, '--accounts', 40 ],
	PGHOST => $coordinator->host, PGPORT => $coordinator->port, PGDATABASE => 'postgres');
$clients->await('working');
my $place = "'" . $workers[1]->host . "', " . $workers[1]->port;
sql("SELECT citus_drain_node($place)");
is(sql("SELECT count(*) FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE (nodename, nodeport) = ($place)"),
	'0', 'a node is drained');
is(sql('SELECT count(*) FROM verify_usage()'), '0', 'the books are exact while others count');
sql("SELECT citus_set_node_property($place, 'shouldhaveshards', true)");
sql(q{SELECT rebalance_table_shards('usage_accounts')});
cmp_ok(sql("SELECT count(*) FROM pg_dist_placement JOIN pg_dist_node USING (groupid) WHERE (nodename, nodeport) = ($place)"),
	'>', 0, 'it gets shards again');
my $errors = $clients->await_stop;
note 'errors: ' . join(' ', map { "$_=$errors->{$_}" } sort keys %$errors);
my @unexpected = grep { $_ ne '40P01' } sort keys %$errors;
is("@unexpected", '', 'clients saw no other error than deadlocks');
$clients->check('shards moved');
$clients->go_on;
$clients->finish_all;

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
$single->safe_psql('postgres', "CREATE ROLE $_") for qw(worker biller dba monitor);
$single->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $single->connstr('postgres') ],
	'and restored without Citus');
is($single->safe_psql('postgres', $totals), sql($totals), 'the totals are the same');
is($single->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the books are exact');
is($single->safe_psql('postgres', q{SELECT outcome FROM increment_usage(md5('account 1')::uuid, 5, 'k1')}),
	'replayed', 'keys replay');

done_testing();
