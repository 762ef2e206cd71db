# The blue/green upgrade of docs/blue_green.md, with the SQL that it prints. The background
# worker runs on both servers, and settles on one of them at a time.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Snippets;

my $account = "'aaaaaaaa-0000-0000-0000-000000000001'";

# Returns the SQL that the document prints under a heading, as a list of statements.
sub snippet
{
	my ($heading, $statement) = @_;
	return (split /(?<=;)\n/, Snippets::in_public('docs/blue_green.md', $heading))[ $statement // 0 ];
}

sub new_server
{
	my ($name) = @_;
	my $server = PostgreSQL::Test::Cluster->new($name);
	$server->init(allows_streaming => 'logical', extra => [ '--encoding=UTF8', '--locale=C' ]);
	$server->append_conf(
		'postgresql.conf', q{
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'postgres'
usage_ledger.settle_interval = 100ms
});
	$server->start;
	$server->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
	return $server;
}

my $blue = new_server('blue');
my $green = new_server('green');
my $call_number = 0;

sub count_usage
{
	my ($server, $settlement) = @_;
	$call_number++;
	return $server->safe_psql('postgres',
		"SET usage_ledger.settlement = '$settlement';"
		  . "SELECT outcome FROM increment_usage($account, 1, 'call $call_number')");
}

sub is_settled
{
	my ($server, $name) = @_;
	ok($server->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'), $name);
	return;
}

sub catch_up
{
	ok($blue->poll_query_until('postgres', snippet('Switch')), 'green has caught up');
	return;
}

# Fails for a reason: SQLSTATE, DETAIL and HINT.
sub is_refused
{
	my ($function, $name) = @_;
	my ($status, $out, $err) =
	  $green->psql('postgres', "SELECT $function", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($err, qr/ERROR:  55000: usage is not settled where a subscription feeds the ledger/, $name);
	like($err, qr/DETAIL:  Subscription "ledger" feeds table "usage_\w+"/, "$name: DETAIL");
	like($err, qr/HINT:  Settle on the publisher/, "$name: HINT");
	return;
}

# Copies what is there, in counters and in the queue.
count_usage($blue, $_) for qw(immediate deferred);
$blue->safe_psql('postgres', "SELECT record_usage($account, 'broken down', 'model', 'team', p_cost_nanos => 5)");
is_settled($blue, 'blue settles');
$blue->safe_psql('postgres', snippet('Publish'));
my $subscribe = snippet('Subscribe');
my $connection = $blue->connstr('postgres');
$subscribe =~ s/'host=blue dbname=app'/\$\$$connection\$\$/ or die 'no connection string';
$green->safe_psql('postgres', $subscribe);
ok($green->poll_query_until('postgres', snippet('Subscribe', 1)), 'the rows are copied');

# Blue settles and green does not, in whatever mode calls are made.
ok( $green->poll_query_until('postgres',
		q{SELECT error ~ 'subscription "ledger" feeds table "usage_[a-z]+", so the publisher settles'
		    FROM usage_ledger_worker}),
	'the worker on green passes over the database and says so');
like($green->safe_psql('postgres', 'SELECT worker_error FROM usage_ledger_stats'),
	qr/^subscription "ledger" feeds/, 'also in usage_ledger_stats');
like(slurp_file($green->logfile), qr/database "postgres" is not settled: subscription "ledger" feeds/,
	'and in the log');
unlike(slurp_file($green->logfile), qr/could not settle/, 'which is not an error');

# A pending row that has arrived on green, while blue does not settle.
$blue->append_conf('postgresql.conf', "usage_ledger.settle_databases = ''");
$blue->reload;
ok($blue->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_ledger_worker'), 'blue does not settle');
is(count_usage($blue, 'deferred'), 'queued', 'a call is queued on blue');
$blue->safe_psql('postgres',
	"SET usage_ledger.settlement = 'deferred';"
	  . "SELECT record_usage($account, 'broken down ' || m, m, 'team', p_cost_nanos => 7) FROM unnest('{model,other}'::text[]) AS m");
catch_up();
is_refused('settle_usage()', 'settle_usage on green');
is_refused("close_usage_period($account, period_start) FROM usage_periods", 'close_usage_period on green');
my $rounds = 'SELECT settle_rounds FROM usage_ledger_stats';
is($green->safe_psql('postgres', $rounds), $green->safe_psql('postgres', $rounds), 'no round on green');
is($green->safe_psql('postgres', 'SELECT count(*) FROM usage_pending'), '3', 'the rows stay pending on green');
my $breakdown = 'SELECT scope, model, cost_nanos, events FROM usage_breakdown_totals ORDER BY 1, 2';
is($green->safe_psql('postgres', $breakdown), "team|model|12|2\nteam|other|7|1", 'green has the breakdown');
is(count_usage($blue, 'immediate'), 'applied', 'the counter changes on blue');
catch_up();
is($green->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'green is sound');

# A disabled subscription counts too: it may be enabled again.
$green->safe_psql('postgres', 'ALTER SUBSCRIPTION ledger DISABLE');
is_refused('settle_usage()', 'settle_usage with a disabled subscription');
$green->safe_psql('postgres', 'ALTER SUBSCRIPTION ledger ENABLE');

# A close on blue arrives with its period, and is answered on green, where nothing is folded.
$blue->safe_psql('postgres',
	"SELECT open_usage_period($account, '2020-01-01', '2020-02-01', 5); SELECT close_usage_period($account, '2020-01-01')");
catch_up();
is( $green->safe_psql('postgres', "SELECT tokens_used FROM close_usage_period($account, '2020-01-01')"),
	'5', 'a period that blue has closed is answered on green');

# The switch, with a row that blue has not settled.
count_usage($blue, 'deferred');
catch_up();
my $totals = snippet('Switch', 1);
my $expected = $blue->safe_psql('postgres', $totals);
like($expected, qr/^2\|10\|9\|0$/, 'blue is sound');
is($green->safe_psql('postgres', $totals), $expected, 'green has the same totals');
$green->safe_psql('postgres', snippet('Switch', 2));
is_settled($green, 'green settles what was pending');
ok( $green->poll_query_until('postgres',
		'SELECT error IS NULL AND last_settled_at IS NOT NULL FROM usage_ledger_worker'),
	'and its status is good');
is($green->safe_psql('postgres', $totals), $expected, 'the totals are the same');
is($green->safe_psql('postgres', $breakdown), "team|model|12|2\nteam|other|7|1", 'and so is the breakdown');
is($green->safe_psql('postgres', 'SELECT sum(events) FROM usage_breakdown'), '3', 'which green has settled');
is( $green->safe_psql('postgres', "SELECT outcome FROM increment_usage($account, 1, 'call $call_number')"),
	'replayed', 'a retry of a call that blue has counted');
is(count_usage($green, 'deferred'), 'queued', 'green counts');
is_settled($green, 'green settles');
is( $green->safe_psql('postgres',
		"SELECT closed.tokens_used FROM usage_periods AS p, close_usage_period($account, p.period_start) AS closed"
		  . ' WHERE p.closed_at IS NULL'),
	'6', 'green closes');
$blue->stop;

# A ledger that receives its accounts from elsewhere, and no usage, settles by itself.
$green->safe_psql('postgres', "CREATE DATABASE $_") for qw(directory ledger);
$green->safe_psql($_, 'CREATE EXTENSION usage_ledger') for qw(directory ledger);
$green->safe_psql('directory',
	'CREATE PUBLICATION accounts FOR TABLE usage_accounts;'
	  . q{SELECT pg_create_logical_replication_slot('accounts', 'pgoutput')});
my $directory = $green->connstr('directory');
$green->safe_psql('ledger',
	"CREATE SUBSCRIPTION accounts CONNECTION \$\$$directory\$\$ PUBLICATION accounts WITH (create_slot = false)");
$green->safe_psql('directory', "SELECT set_usage_cycle($account, '1 day')");
ok($green->poll_query_until('ledger', 'SELECT count(*) = 1 FROM usage_accounts'), 'an account arrives');
$green->safe_psql('ledger',
	"SET usage_ledger.settlement = 'deferred'; SELECT increment_usage($account, 1, 'here')");
is($green->safe_psql('ledger', 'SELECT settle_usage()'), '1', 'and its usage is settled where it is counted');

$green->stop;
done_testing();
