# The background worker settles pending usage, and recovers from every interruption.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use UsageClients;

my $account = "'44444444-0000-0000-0000-000000000001'";
my $launcher =
  q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'usage_ledger launcher'};

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'postgres, "No Such Database"'
usage_ledger.settle_interval = 100ms
restart_after_crash = on
});
$node->start;

my $call_number = 0;

# Queues one event and returns the outcome.
sub queue
{
	my ($server, $database) = @_;
	$call_number++;
	return $server->safe_psql($database,
		"SET usage_ledger.settlement = 'deferred';"
		  . "SELECT outcome FROM increment_usage($account, 1, 'call $call_number')");
}

sub is_settled
{
	my ($server, $database, $name) = @_;
	is(queue($server, $database), 'queued', "$name: queued");
	ok( $server->poll_query_until($database, 'SELECT count(*) = 0 FROM usage_pending'),
		"$name: settled");
	is($server->safe_psql($database, 'SELECT count(*) FROM verify_usage()'),
		'0', "$name: the ledger is sound");
	return;
}

# Waits until the log matches a pattern.
sub log_says
{
	my ($pattern, $name) = @_;
	ok($node->wait_for_log($pattern), $name);
	return;
}

ok($node->poll_query_until('postgres', "SELECT ($launcher) = 1"), 'the launcher runs');
log_says(qr/could not settle database "No Such Database"/, 'a missing database is logged');

# Without the extension there is nothing to settle, which is not an error. The launcher has
# visited this database before the missing one.
unlike(slurp_file($node->logfile), qr/could not settle database "postgres"/,
	'a missing extension is not logged as an error');

$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
is_settled($node, 'postgres', 'start');

is($node->safe_psql('postgres',
		q{SELECT count(*) FROM pg_stat_activity
		  WHERE backend_type = 'usage_ledger launcher' AND xact_start IS NULL AND datname IS NULL}),
	'1', 'the launcher holds no transaction and no database');
ok($node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'usage_ledger launcher'
		  AND state = 'idle' AND query = 'waiting for pending usage'}),
	'pg_stat_activity shows what the launcher is doing');

# usage_ledger_stats shows the work of the worker. (008_stats.pl tests its counts of calls.)
$node->safe_psql('postgres', 'SELECT usage_ledger_stats_reset()');
is(queue($node, 'postgres'), 'queued', 'a call is queued for the worker');
ok( $node->poll_query_until('postgres', q{
		SELECT settled_rows = 1 AND settle_rounds > 0 AND pending_rows = 0 AND pending_age IS NULL
		  FROM usage_ledger_stats}),
	'settled rows and rounds are counted');
ok( $node->poll_query_until('postgres',
		q{SELECT worker_error = 'database "No Such Database" does not exist'
		     AND worker_error_at > stats_reset FROM usage_ledger_stats}),
	'the worker\'s last error is shown');
# It folds breakdowns too. What it cannot read stays, with a warning in the log.
$node->safe_psql('postgres', qq{
BEGIN;
SET LOCAL usage_ledger.settlement = 'deferred';
SELECT record_usage($account, 'broken down ' || i, 'model', 'team', i) FROM generate_series(1, 3) AS i;
UPDATE usage_pending SET breakdown = 'no breakdown' WHERE tokens = 2;
COMMIT});
ok( $node->poll_query_until('postgres',
		q{SELECT events = 2 AND input_tokens = 4 FROM usage_breakdown WHERE model = 'model' AND scope = 'team'}),
	'breakdowns are settled');
log_says(qr/pending usage cannot be settled: breakdown of usage is malformed/, 'a malformed breakdown is logged');
is($node->safe_psql('postgres', 'SELECT string_agg(tokens::text, $$ $$) FROM usage_pending'), '2', 'and stays pending');
$node->safe_psql('postgres',
	q{UPDATE usage_pending AS q SET breakdown = e.breakdown FROM usage_events AS e WHERE e.tokens = 2 AND q.tokens = 2});
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'), 'it is settled once it can be read');
is($node->safe_psql('postgres', 'SELECT count(*) FROM verify_usage()'), '0', 'the breakdown is that of the events');

is( $node->safe_psql('postgres',
		'SELECT count(*) FROM usage_ledger_stats JOIN pg_stat_activity ON pid = worker_pid'),
	'1', 'the worker\'s process is shown');

# Changes settings, and waits until the launcher has read them: a database that does not
# exist appears in the log.
my $reload_count = 0;

sub change
{
	my ($settings, @databases) = @_;
	my $missing = 'Missing ' . ++$reload_count;
	$node->append_conf('postgresql.conf',
		"$settings\nusage_ledger.settle_databases = '" . join(', ', @databases, qq{"$missing"}) . q{'});
	$node->reload;
	log_says(qr/could not settle database "$missing"/, "reload $reload_count: the launcher has read the settings");
	return;
}

# Reload: first only a second database is served, then both.
$node->safe_psql('postgres', "CREATE DATABASE served_too ENCODING 'LATIN1' TEMPLATE template0");
$node->safe_psql('served_too', 'CREATE EXTENSION usage_ledger');
change('', 'served_too');
queue($node, 'postgres');
is_settled($node, 'served_too', 'a second database');
is($node->safe_psql('postgres', 'SELECT count(*) FROM usage_pending'),
	'1', 'a database that is no longer served is not settled');
change('', 'postgres', 'served_too');
is_settled($node, 'postgres', 'reload');

# A large queue does not wait for the next round.
change("usage_ledger.settle_interval = 1h\nusage_ledger.settle_rows = 100", 'postgres', 'served_too');
queue($node, 'postgres');
sleep 1; # a launcher that does not wait would settle in this time
is($node->safe_psql('postgres', 'SELECT count(*) FROM usage_pending'),
	'1', 'a small queue waits for the next round');
$node->safe_psql('postgres',
	"SET usage_ledger.settlement = 'deferred';"
	  . "SELECT count(increment_usage($account, 1, 'large ' || n)) FROM generate_series(1, 250) AS n");
ok($node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM usage_pending'),
	'a large queue is settled immediately, in several transactions');
$node->append_conf(
	'postgresql.conf', q{
usage_ledger.settle_databases = 'postgres, served_too'
usage_ledger.settle_interval = 100ms
usage_ledger.settle_rows = 100000
});
$node->restart;
is_settled($node, 'postgres', 'restart');

# A round fails.
$node->safe_psql(
	'postgres', q{
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the round fails'; END $$;
SET session_replication_role = replica; -- or the guard refuses the trigger
CREATE TRIGGER fail BEFORE UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION fail();});
queue($node, 'postgres');
log_says(qr/the round fails/, 'an error in a round is logged');
log_says(qr/could not settle database "postgres"; next try in/, 'and the launcher backs off');
ok( $node->poll_query_until('postgres',
		q{SELECT worker_error = 'the round fails' AND pending_rows = 1 AND pending_age > interval '0'
		  FROM usage_ledger_stats}),
	'the statistics show pending rows and the error that keeps them pending');
$node->safe_psql('postgres', 'DROP FUNCTION fail CASCADE');
is_settled($node, 'postgres', 'after an error');

# A row whose period was deleted by hand stays pending. The worker does not come back for it at
# every interval: two seconds have 20 of them.
my $orphan = qr/pending usage cannot be settled: billing period does not exist/;
$node->safe_psql('postgres', qq{
INSERT INTO usage_pending (account_id, period_start, tokens, reports, chats)
SELECT account_id, '2020-01-01Z', 1, 0, 0 FROM usage_accounts});
queue($node, 'postgres');
log_says($orphan, 'a row without its period is logged');
ok($node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM usage_pending'),
	'a row without its period does not keep others pending');
my $log_size = -s $node->logfile;
sleep 2;
my @warnings = substr(slurp_file($node->logfile), $log_size) =~ /$orphan/g;
cmp_ok(scalar @warnings, '<=', 2, 'and is no reason to come back');
$node->safe_psql('postgres', 'DELETE FROM usage_pending');

# DROP EXTENSION while the worker runs. Each round visits this database before the second one.
$node->safe_psql('postgres', 'DROP EXTENSION usage_ledger');
is_settled($node, 'served_too', 'the extension dropped in another database');
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
is_settled($node, 'postgres', 'the extension dropped and created again');

# An error message from the second database has another encoding than this one.
$node->safe_psql(
	'served_too', q{
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE '%', 'caf' || chr(233); END $$;
SET session_replication_role = replica; -- or the guard refuses the trigger
CREATE TRIGGER fail BEFORE UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION fail();});
queue($node, 'served_too');
ok( $node->poll_query_until('postgres', q{SELECT worker_error = 'caf?' FROM usage_ledger_stats}),
	'an error message in another encoding can be read');
$node->safe_psql('served_too', 'DROP FUNCTION fail CASCADE');
is_settled($node, 'served_too', 'after the error in another encoding');

# DROP DATABASE while the worker runs.
queue($node, 'served_too');
$node->safe_psql('postgres', 'DROP DATABASE served_too');
is_settled($node, 'postgres', 'the second database dropped');

# First the launcher is terminated, then a backend crashes.
$node->safe_psql('postgres',
	q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'usage_ledger launcher'});
ok($node->poll_query_until('postgres', "SELECT ($launcher) = 1"), 'the launcher is restarted');
is_settled($node, 'postgres', 'the launcher terminated');

UsageClients::crash_backend($node);
ok($node->poll_query_until('postgres', "SELECT ($launcher) = 1"),
	'the launcher is restarted after the crash');
is_settled($node, 'postgres', 'crash');

# A standby settles nothing until it is promoted.
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $launcher), '0', 'no launcher on a standby');
my ($status, $out, $err) =
  $standby->psql('postgres', "SELECT increment_usage($account, 1, 'on the standby')");
isnt($status, 0, 'a standby refuses a call');
like($err, qr/cannot execute INSERT in a read-only transaction/, 'with the standard error');
$standby->promote;
ok($standby->poll_query_until('postgres', "SELECT ($launcher) = 1"),
	'the launcher starts when the standby is promoted');
is_settled($standby, 'postgres', 'promotion');

# A server stops while its launcher waits for its next round, an hour away.
$standby->append_conf('postgresql.conf', 'usage_ledger.settle_interval = 1h');
$standby->restart;
ok($standby->poll_query_until('postgres', "SELECT ($launcher AND state = 'idle') = 1"),
	'the launcher waits');
ok($standby->stop('fast'), 'shutdown does not wait for the worker');
$node->stop('fast');

done_testing();
