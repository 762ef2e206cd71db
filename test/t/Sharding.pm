# Sets up the ledgers of docs/sharding.md with the SQL that documents print, and calls them.
package Sharding;
use strict;
use warnings;

# Returns the SQL that a document prints under a heading.
sub snippet
{
	my ($document, $heading) = @_;
	my $sql = `./snippets.sh '$document' '$heading'`;
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

1;
