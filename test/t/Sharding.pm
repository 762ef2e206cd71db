# Starts the servers of a ledger on several nodes, and calls them.
package Sharding;
use strict;
use warnings;

use PostgreSQL::Test::Cluster;

# Runs SQL on a node as a role. Returns the output, or the SQLSTATE of the error.
sub call
{
	my ($node, $role, $sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);
	return $out if $status == 0;
	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err;
}

# Starts a server with Citus, which is no node of others yet. Its sessions find the ledger in billing.
sub start_with_citus
{
	my ($name, $settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(allows_streaming => 'logical'); # shards move by logical replication
	$node->append_conf(
		'postgresql.conf', q{
shared_preload_libraries = 'citus,usage_ledger'
max_connections = 100
max_prepared_transactions = 100
citus.local_hostname = '} . $node->host . "'\n" . ($settings // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION citus; ALTER DATABASE postgres SET search_path = billing, public');
	return $node;
}

# The host and port of a node, as arguments of Citus's functions.
sub place
{
	my ($node) = @_;
	return "'" . $node->host . "', " . $node->port;
}

# Starts nodes with Citus, and returns them. The first one is the coordinator, and has shards too.
sub start_citus
{
	my ($count, $settings) = @_;
	my @nodes = map { start_with_citus("citus_$_", $settings) } 0 .. $count - 1;
	my ($coordinator, @workers) = @nodes;
	$coordinator->safe_psql('postgres', 'SELECT citus_set_coordinator_host(' . place($coordinator) . ')');
	$coordinator->safe_psql('postgres', 'SELECT citus_add_node(' . place($_) . ')') for @workers;
	$coordinator->safe_psql('postgres',
		'SELECT citus_set_node_property(' . place($coordinator) . ", 'shouldhaveshards', true)");
	return @nodes;
}

1;
