# Sets up the ledgers of docs/sharding.md with the SQL that documents print, and calls them.
package Sharding;
use strict;
use warnings;

use PostgreSQL::Test::Cluster;

# Returns the SQL that a document prints under a heading.
sub snippet
{
	my ($document, $heading) = @_;
	my $sql = `LEDGER_SCHEMA=public ./snippets.sh '$document' '$heading'`;
	die "no snippet: $heading" if $? != 0;
	return $sql;
}

# Runs SQL on a node as a role. Returns the output, or the SQLSTATE of the error.
sub call
{
	my ($node, $role, $sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $sql,
		extra_params => [ '-U', $role, '-v', 'VERBOSITY=sqlstate' ]);
	return $out if $status == 0;
	return $err =~ /ERROR:\s+(\w{5})/ ? $1 : $err;
}

# Starts nodes with Citus, and returns them. The first one is the coordinator, and has shards too.
sub start_citus
{
	my ($count, $settings) = @_;
	my @nodes;
	for my $number (0 .. $count - 1)
	{
		my $node = PostgreSQL::Test::Cluster->new("citus_$number");
		$node->init(allows_streaming => 'logical'); # shards move by logical replication
		$node->append_conf(
			'postgresql.conf', q{
shared_preload_libraries = 'citus,usage_ledger'
max_connections = 100
max_prepared_transactions = 100
citus.local_hostname = '} . $node->host . "'\n" . ($settings // ''));
		$node->start;
		$node->safe_psql('postgres', 'CREATE EXTENSION citus');
		push @nodes, $node;
	}
	my ($coordinator, @workers) = @nodes;
	my $place = sub { "'" . $_[0]->host . "', " . $_[0]->port };
	$coordinator->safe_psql('postgres', 'SELECT citus_set_coordinator_host(' . $place->($coordinator) . ')');
	$coordinator->safe_psql('postgres', 'SELECT citus_add_node(' . $place->($_) . ')') for @workers;
	$coordinator->safe_psql('postgres',
		'SELECT citus_set_node_property(' . $place->($coordinator) . ", 'shouldhaveshards', true)");
	return @nodes;
}

1;
