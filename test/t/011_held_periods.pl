# A transaction that has queued usage for more than 32 periods holds up every close, and the
# documented query names the transactions that hold periods.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Snippets;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', 'max_prepared_transactions = 2');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
$node->safe_psql('postgres', 'CREATE ROLE monitor LOGIN IN ROLE pg_monitor');

my $query = Snippets::in_public('docs/billing.md', 'What holds up a close');

# A call for each of some accounts, in one statement.
sub calls
{
	my ($accounts, $key) = @_;
	return "SELECT count(increment_usage(md5(n::text)::uuid, 1, '$key')) FROM generate_series(1, $accounts) AS n;";
}

sub holders
{
	return $node->safe_psql('postgres',
		qq{SELECT COALESCE(prepared_transaction, 'session'), holds_all_periods, COALESCE(state, '')
		     FROM ($query) AS holders WHERE open_for > '0' ORDER BY open_for DESC}
		  =~ s/;//r, extra_params => [ '-U', 'monitor' ]);
}

# Tries to close the period of an account.
sub close_error
{
	my ($account) = @_;
	my ($status, $out, $err) = $node->psql('postgres',
		"SET lock_timeout = '100ms'; SELECT close_usage_period(account_id, period_start)"
		  . " FROM usage_periods WHERE account_id = md5('$account')::uuid",
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $err;
}

$node->safe_psql('postgres', calls(40, 'before'));
is(holders(), '', 'nothing holds a period');

my $session = $node->background_psql('postgres');
$session->query_safe("SET usage_ledger.settlement = 'deferred'; BEGIN;" . calls(32, 'session'));
is(holders(), 'session|f|idle in transaction', 'a session that holds 32 periods');
like(close_error(32), qr/55P03/, 'it holds up a close of these');
is(close_error(40), '', 'and of no other');

$node->safe_psql('postgres',
	"SET usage_ledger.settlement = 'deferred'; BEGIN;" . calls(33, 'prepared') . "PREPARE TRANSACTION 'forgotten'");
is(holders(), "session|f|idle in transaction\nforgotten|t|",
	'a prepared transaction that holds all periods');
like(close_error(39), qr/55P03/, 'it holds up every close');
$session->query_safe('COMMIT');
$session->quit;
is(holders(), 'forgotten|t|', 'the session has ended its transaction');
$node->restart;
is(holders(), 'forgotten|t|', 'a restart does not end the prepared transaction');

$node->safe_psql('postgres', "COMMIT PREPARED 'forgotten'");
is(holders(), '', 'and the prepared transaction is committed');
is(close_error($_), '', "the period of account $_ is closed") for (1, 39);

# Usage that was added holds a period too.
$session = $node->background_psql('postgres');
$session->query_safe('SET usage_ledger.settlement = immediate; BEGIN; SELECT increment_usage(md5(\'2\')::uuid, 1, \'added\')');
is(holders(), 'session|f|idle in transaction', 'a session that has added to a counter');
like(close_error(2), qr/55P03/, 'it holds up the close');
$session->quit;

$node->stop;
done_testing();
