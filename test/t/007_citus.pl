# The Citus script that docs/sharding.md prints, on a coordinator and two workers. The script
# was written from the documentation of Citus, because Citus was not available to run it.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Sharding;

chomp(my $sharedir = `pg_config --sharedir`);
plan skip_all => 'Citus is not installed for this server'
  unless -e "$sharedir/extension/citus.control";

my @nodes;
for my $name (qw(coordinator worker_1 worker_2))
{
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf(
		'postgresql.conf', q{
shared_preload_libraries = 'citus'
listen_addresses = '127.0.0.1'
citus.node_conninfo = 'sslmode=prefer'
max_prepared_transactions = 100
});
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION citus');
	push @nodes, $node;
}
my ($coordinator, @workers) = @nodes;
$coordinator->safe_psql('postgres', "SELECT citus_set_coordinator_host('127.0.0.1', " . $coordinator->port . ')');
$coordinator->safe_psql('postgres', "SELECT citus_add_node('127.0.0.1', " . $_->port . ')') for @workers;
$coordinator->safe_psql('postgres', Sharding::snippet('docs/sharding.md', 'Citus set-up'));

# The account of the document. Its period is opened by the document's SQL.
my $account = "'7f0c64f2-3a0e-4b61-9f0b-0f6f2d1f9a11'";
$coordinator->safe_psql('postgres', Sharding::snippet('docs/sharding.md', 'What works on Citus'));

# Runs SQL as a role on the coordinator.
sub call
{
	my ($role, $sql) = @_;
	return Sharding::call($coordinator, $role, $sql);
}

is($coordinator->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT colocationid) FROM pg_dist_partition
		 WHERE logicalrelid::text LIKE 'usage\_%'}),
	'5|1', 'the five tables are distributed together');

is(call('worker', "SELECT outcome, tokens_used FROM increment_usage($account, 100, 'one')"),
	'applied|100', 'a call is counted');
is(call('worker', "SELECT outcome, tokens_used FROM increment_usage($account, 100, 'one')"),
	'replayed|100', 'its retry is replayed');
is(call('worker', "SELECT increment_usage($account, 101, 'one')"), 'UL001', 'a conflict is an error');
is(call('worker', "BEGIN; SELECT outcome FROM increment_usage($account, 10, 'two'); COMMIT"),
	'applied', 'a call in a transaction block is counted');
my (undef, undef, $messages) = $coordinator->psql('postgres',
	"SET client_min_messages = debug1; SELECT increment_usage($account, 1, 'three')");
like($messages, qr/pushing down the function call/, 'a call runs on the node of its account');

is(call($coordinator->safe_psql('postgres', 'SELECT current_user'),
		"SELECT outcome, tokens_used FROM void_usage($account, 'two', 'not wanted')"),
	'voided|101', 'void_usage');
is($coordinator->safe_psql('postgres', "SELECT tokens_used FROM current_usage($account)"), '101', 'current_usage');
is($coordinator->safe_psql('postgres',
		"SELECT period_length FROM set_usage_cycle($account, '7 days')"), '7 days', 'set_usage_cycle');
is($coordinator->safe_psql('postgres', 'SELECT tokens_used FROM usage_totals'), '101', 'usage_totals');
is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'verify_usage finds nothing');
$coordinator->safe_psql('postgres', "UPDATE usage_periods SET tokens_used = 1 WHERE account_id = $account");
is($coordinator->safe_psql('postgres', 'SELECT recorded, expected FROM verify_usage()'),
	'1|101', 'verify_usage lists a wrong counter');

# The calls that the document lists as refused. One that works in a later version must be
# moved to the document's list of what works.
for my $refused (
	"increment_usage(gen_random_uuid(), 1, 'first use')",
	"open_usage_period(gen_random_uuid(), date_trunc('milliseconds', now()), date_trunc('milliseconds', now()) + interval '1 day')",
	"close_usage_period($account, (SELECT period_start FROM usage_periods WHERE account_id = $account))",
	"increment_usage_batch(ARRAY[$account]::uuid[], ARRAY[1], ARRAY['batch'])",
	'prune_usage_events(now())')
{
	my ($status) = $coordinator->psql('postgres', "SELECT $refused");
	isnt($status, 0, "refused: $refused");
}

done_testing();
