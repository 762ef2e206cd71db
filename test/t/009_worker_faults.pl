# A fault in one database, a bad setting or a prepared transaction does not keep the
# background worker from settling, and its status says what is wrong where.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $account = "'99999999-0000-0000-0000-000000000001'";

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'one, two, "Three"'
usage_ledger.settle_interval = 200ms
max_prepared_transactions = 2
});
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for ('one', 'two', '"Three"');

my $call_number = 0;

# Queues one event and returns the outcome.
sub queue
{
	my ($database) = @_;
	$call_number++;
	return $node->safe_psql($database,
		"SET usage_ledger.settlement = 'deferred';"
		  . "SELECT outcome FROM increment_usage($account, 1, 'call $call_number')");
}

sub is_settled
{
	my ($database, $name) = @_;
	ok($node->poll_query_until($database, 'SELECT count(*) = 0 FROM usage_pending'), $name);
	return;
}

sub is_pending
{
	my ($database, $name) = @_;
	is($node->safe_psql($database, 'SELECT count(*) FROM usage_pending'), '1', $name);
	return;
}

# Waits for the worker's status of a database. The status is the server's, and read in "two".
sub status_is
{
	my ($database, $condition, $name) = @_;
	ok( $node->poll_query_until('two',
			"SELECT $condition FROM usage_ledger_worker WHERE database = '$database'"),
		$name);
	return;
}

sub status_has_error
{
	my ($database, $error, $name) = @_;
	status_is($database, "error LIKE '$error' AND error_at IS NOT NULL", $name);
	return;
}

# A database without the extension, and one that does not exist.
$node->safe_psql('two', 'CREATE EXTENSION usage_ledger');
$node->safe_psql('Three', 'CREATE EXTENSION usage_ledger');
status_has_error('one', 'extension usage_ledger is not installed', 'a database without the extension');
$node->safe_psql('one', 'CREATE EXTENSION usage_ledger');
status_is('one', 'error IS NULL AND last_settled_at IS NOT NULL', 'the extension is installed');
status_is('Three', 'error IS NULL AND last_settled_at IS NOT NULL', 'a name in quotes');
is($node->safe_psql('two', q{SELECT string_agg(database, ',' ORDER BY database COLLATE "C") FROM usage_ledger_worker}),
	'Three,one,two', 'a row per database');
ok($node->poll_query_until('two', 'SELECT worker_error IS NULL FROM usage_ledger_stats'),
	'no error is shown when all is well');

# A locked table, and a database that lets nobody connect, hold up no other database.
my $locker = $node->background_psql('one');
$locker->query_safe('BEGIN; LOCK TABLE usage_pending IN SHARE MODE');
status_has_error('one', '%lock timeout%', 'a settler gives up a locked table');
is(queue('two'), 'queued', 'next to a locked table: queued');
is_settled('two', 'next to a locked table: settled');
status_is('two', 'error IS NULL', 'next to a locked table: no error');
$locker->query_safe('COMMIT');
queue('one');
is_settled('one', 'the table is free again');
status_is('one', 'error IS NULL', 'the error is gone');
$locker->quit;

$locker = $node->background_psql('postgres', on_error_stop => 0);
$locker->query_safe('BEGIN');
for (1 .. 100)
{
	# A settler may be connected at that moment.
	last if $locker->query('SAVEPOINT s; ALTER DATABASE one RENAME TO renamed; SELECT 1') eq '1';
	$locker->query('ROLLBACK TO s');
}
status_has_error('one', '%lock timeout%', 'a settler gives up a locked database');
queue('two');
is_settled('two', 'next to a locked database: settled');
$locker->query_safe('ROLLBACK');
$locker->quit;
status_is('one', 'error IS NULL', 'the database is free again');

# A settler that hangs is reported, and there is no second one. Neither waiting for it nor
# a new launcher changes that.
my $settlers = q{SELECT count(*) FROM pg_stat_activity
                  WHERE backend_type = 'usage_ledger settler' AND datname = 'one'};
$node->safe_psql(
	'one', q{
CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN new; END $$;
SET session_replication_role = replica; -- or the guard refuses the trigger
CREATE TRIGGER hang BEFORE UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION hang();});
queue('one');
ok( $node->poll_query_until('one',
		q{SELECT count(*) = 1 FROM pg_stat_activity
		   WHERE backend_type = 'usage_ledger settler' AND datname = 'one' AND wait_event = 'PgSleep'}),
	'a settler hangs');
my $settler = $node->safe_psql('two', q{SELECT settler_pid FROM usage_ledger_worker WHERE database = 'one'});
is(kill('STOP', $settler), 1, 'and is stopped');
queue('two');
is_settled('two', 'next to a settler that hangs: settled');
status_has_error('one', "settler process $settler has finished no round for 10 s",
	'a settler that hangs is reported');
is($node->safe_psql('two', 'SELECT worker_error FROM usage_ledger_stats'),
	"settler process $settler has finished no round for 10 s", 'also in usage_ledger_stats');
is( $node->safe_psql('one',
		qq{SET lock_timeout = '100ms'; SET usage_ledger.settlement = 'adaptive';
		   SELECT outcome FROM increment_usage($account, 1, 'adaptive next to it')}),
	'queued', 'it holds a counter, and adaptive calls go on');
my $launcher_pid = $node->safe_psql('two', 'SELECT worker_pid FROM usage_ledger_stats');
$node->safe_psql('two', "SELECT pg_terminate_backend($launcher_pid)");
ok( $node->poll_query_until('two', "SELECT worker_pid <> $launcher_pid FROM usage_ledger_stats"),
	'the launcher is started again');
queue('two');
is_settled('two', 'by a new launcher: settled');
queue('two');
is_settled('two', 'and again');
is($node->safe_psql('one', $settlers), '1', 'the settler that hangs is the only one');
is(kill('CONT', $settler), 1, 'the settler goes on');
$node->safe_psql('one', "SELECT pg_terminate_backend($settler)");
status_has_error('one', 'terminating background worker%', 'and is terminated, which its status shows');
$node->safe_psql('one', "DROP FUNCTION hang CASCADE");
is_settled('one', 'what it had not settled is settled');

# A setting that cannot be read is refused, and the one before it stays.
for my $names ('one, two,', 'one two', '"one', ',', 'one, ""', join(',', map { "d$_" } 1 .. 257))
{
	my $log_end = -s $node->logfile;
	$node->append_conf('postgresql.conf', "usage_ledger.settle_databases = '$names'");
	$node->reload;
	ok( $node->wait_for_log(qr/invalid value for parameter "usage_ledger.settle_databases"/, $log_end),
		'refused: ' . substr($names, 0, 12));
	is( $node->safe_psql('two', 'SHOW usage_ledger.settle_databases'),
		'one, two, "Three"', 'the setting before it stays');
}
queue('two');
is_settled('two', 'and is served');
$node->append_conf('postgresql.conf', "usage_ledger.settle_databases = 'ONE, two, Three, two'");
$node->reload;
status_has_error('three', 'database "three" does not exist', 'a name without quotes is folded');
is($node->safe_psql('two', q{SELECT string_agg(database, ',' ORDER BY database COLLATE "C") FROM usage_ledger_worker}),
	'one,three,two', 'the status shows what is served now');
$node->append_conf('postgresql.conf', "usage_ledger.settle_databases = 'one, two, \"Three\"'");
$node->reload;

# Settings that the owner of a database can make do not reach the settler.
$node->safe_psql(
	'postgres', q{
CREATE ROLE owner;
CREATE ROLE nobody;
GRANT nobody TO owner;
ALTER DATABASE one OWNER TO owner;});
$node->safe_psql(
	'one', q{
CREATE TABLE seen (setting text, value text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.seen
  SELECT name, setting FROM pg_settings
  UNION ALL SELECT 'current_user', current_user
  UNION ALL SELECT 'transaction_isolation', current_setting('transaction_isolation');
  RETURN new;
END $$;
SET session_replication_role = replica; -- or the guard refuses the trigger
CREATE TRIGGER see BEFORE UPDATE ON usage_periods FOR EACH ROW EXECUTE FUNCTION see();});
my @settings = (
	[ 'role', 'nobody' ],
	[ 'default_transaction_read_only', 'on' ],
	[ 'default_transaction_isolation', 'serializable' ],
	[ 'default_transaction_deferrable', 'on' ],
	[ 'row_security', 'off' ],
	[ 'search_path', 'nowhere' ],
	[ 'statement_timeout', '1' ],
	[ 'lock_timeout', '1' ],
	[ 'idle_in_transaction_session_timeout', '1' ],
	[ 'synchronous_commit', 'remote_apply' ],
	[ 'exit_on_error', 'on' ],
	[ 'enable_nestloop', 'off' ],
	[ 'enable_tidscan', 'off' ],
	[ 'plan_cache_mode', 'force_custom_plan' ]);
push @settings, [ 'transaction_timeout', '1' ]
  if $node->safe_psql('one', "SELECT count(*) FROM pg_settings WHERE name = 'transaction_timeout'");


# This session has begun before, so that no setting of the database reaches it.
my $session = $node->background_psql('one');
$session->query_safe("SET usage_ledger.settlement = 'deferred'");

# Sets something for the database, queues one event, and waits until it is settled.
sub settles_with
{
	my ($who, $setting, $value) = @_;
	$node->safe_psql('postgres', "SET ROLE $who; ALTER DATABASE one SET $setting = '$value'");
	$session->query_safe("SELECT increment_usage($account, 1, 'with $setting')");
	for (1 .. 600)
	{
		last if $session->query('SELECT count(*) FROM usage_pending') eq '0';
		usleep(100_000);
	}
	is($session->query('SELECT count(*) FROM usage_pending'), '0', "with $setting: settled");
	my $same = $setting =~ /role|authorization/ ? 'current_user' : $setting;
	is( $session->query("SELECT value = '$value' FROM seen WHERE setting = '$same'"),
		'f', "with $setting: the settler does not have it");
	$session->query_safe('TRUNCATE seen');
	$node->safe_psql('postgres', 'ALTER DATABASE one RESET ALL');
	return;
}

settles_with('owner', @$_) for @settings;
settles_with('postgres', 'session_replication_role', 'replica');
settles_with('postgres', 'session_authorization', 'nobody');
$session->query_safe('DROP TRIGGER see ON usage_periods');
$session->quit;

# Rows of a prepared transaction are announced when it is committed, in any session, and not
# by the session that has prepared it.
$node->append_conf('postgresql.conf',
	"usage_ledger.settle_interval = 1h\nusage_ledger.settle_rows = 1");
$node->reload;
ok($node->poll_query_until('two', "SELECT setting = '3600000' FROM pg_settings WHERE name = 'usage_ledger.settle_interval'"),
	'the worker waits for full rounds alone');
queue('two');
is_settled('two', 'a full round of one row');
$session = $node->background_psql('two');
$session->query_safe(
	qq{SET usage_ledger.settlement = 'deferred'; BEGIN; SELECT increment_usage($account, 1, 'prepared'); PREPARE TRANSACTION 'p'});
$session->query_safe('CREATE TABLE another (i integer)');
$session->quit;
$node->safe_psql('two', "COMMIT PREPARED 'p'");
ok( $node->poll_query_until('two',
		q{SELECT count(*) = 0 FROM usage_pending WHERE EXISTS (SELECT FROM usage_events WHERE idempotency_key = 'prepared')}),
	'the rows of a prepared transaction are settled');
is_settled('two', 'all of them');
$node->append_conf('postgresql.conf',
	"usage_ledger.settle_interval = 200ms\nusage_ledger.settle_rows = 100000");

# Without room for the worker's processes, the status says so. The server's own launcher for
# logical replication takes a place too, if it may.
$node->append_conf('postgresql.conf', 'max_logical_replication_workers = 0');
for my $max (0, 1)
{
	$node->append_conf('postgresql.conf', "max_worker_processes = $max");
	$node->restart;
	queue('two');
	my $error =
	  $max == 0
	  ? 'the launcher has not started: it needs one of max_worker_processes, which is 0'
	  : 'no background worker is free: max_worker_processes is 1';
	ok( $node->poll_query_until('two',
			"SELECT worker_error = '$error' AND worker_error_at IS NOT NULL FROM usage_ledger_stats"),
		"max_worker_processes = $max: worker_error says so");
	is( $node->safe_psql('two', 'SELECT worker_pid IS NULL FROM usage_ledger_stats'),
		$max == 0 ? 't' : 'f', "max_worker_processes = $max: the launcher");
	status_is('two', "error = '$error'", 'the error is that of the database') if $max == 1;
}
$node->append_conf('postgresql.conf', 'max_worker_processes = 2');
$node->restart;
is_settled('two', 'max_worker_processes = 2: settled');
ok($node->poll_query_until('two', 'SELECT worker_error IS NULL FROM usage_ledger_stats'),
	'and no error is left');

# Without the library there is no worker to speak of.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is( $node->safe_psql('two',
		'SELECT count(*), (SELECT worker_error FROM usage_ledger_stats) FROM usage_ledger_worker'),
	'0|', 'without the library: no rows');

$node->stop;
done_testing();
