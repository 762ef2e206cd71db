# The blocks that the documents print, for tests that run them.
package Snippets;

use strict;
use warnings;

# The blocks under a heading, SQL unless another language is named.
sub snippet
{
	my ($document, $heading, $language) = @_;
	my $printed = `./snippets.sh '$document' '$heading' @{[ $language // 'sql' ]}`;
	die "no snippet: $heading" if $? != 0;
	return $printed;
}

# The same SQL for a ledger in the schema public.
sub in_public
{
	local $ENV{LEDGER_SCHEMA} = 'public';
	return snippet(@_);
}

1;
