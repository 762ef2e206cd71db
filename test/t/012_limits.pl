# Reservations survive crashes, end by themselves, and follow the ledger wherever its rows go.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# More dead holds than one step of the worker deletes.
my $dead_hold_count = 1500;

my $node = PostgreSQL::Test::Cluster->new('primary');
$node->init(allows_streaming => 'logical');
$node->append_conf(
	'postgresql.conf', q{
restart_after_crash = on
max_prepared_transactions = 5
});
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');

# Each part of the test has an account of its own, with a limit of 100 tokens.
my $account_number = 0;

sub new_account
{
	my $account = sprintf "'76000000-0000-0000-0000-%012d'", ++$account_number;
	$node->safe_psql('postgres', "SELECT set_usage_limit($account, 100)");
	return $account;
}

# What is used, held and left.
sub balance
{
	my ($account, $server) = @_;
	return ($server // $node)->safe_psql('postgres',
		qq{SELECT concat_ws(' ', tokens_used, tokens_held, tokens_remaining)
		     FROM usage_balances WHERE account_id = $account AND scope = ''});
}

sub reserve_sql
{
	my ($account, $tokens, $key, $expires_in) = @_;
	$expires_in //= '1 hour';
	return "SELECT outcome FROM reserve_usage($account, $tokens, '$key', '$expires_in');";
}

sub count_sql
{
	my ($account, $tokens, $key) = @_;
	return "SELECT outcome FROM increment_usage($account, $tokens, '$key');";
}

sub answers
{
	my ($sql, $expected, $name) = @_;
	is($node->safe_psql('postgres', $sql), $expected, $name);
	return;
}

# Ends a session that has run statements, by a signal or by pg_terminate_backend.
sub end_session
{
	my ($signal, @statements) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe($_) for @statements;
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	my $log_end = -s $node->logfile;
	if (defined $signal)
	{
		PostgreSQL::Test::Utils::system_log('pg_ctl', 'kill', $signal, $pid);
	}
	else
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
	}
	$session->{run}->finish;

	# The server may notice the death of a process only some time after psql has.
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $log_end)
	  if defined $signal;
	ok($node->poll_query_until('postgres', 'SELECT true'), 'the server accepts connections');
	return;
}

# Sessions that end after a reservation, in its transaction and after it.
for my $signal (undef, 'KILL')
{
	my $name = $signal // 'terminated';
	my $account = new_account();
	end_session($signal, 'BEGIN', reserve_sql($account, 60, 'lost'),
		count_sql($account, 60, 'lost'));
	is(balance($account), '0 0 100', "$name: a transaction leaves no hold and no usage");

	end_session($signal, reserve_sql($account, 60, 'kept'));
	is(balance($account), '0 60 40', "$name: a committed hold stays");
	answers(reserve_sql($account, 60, 'kept'), 'reserved', "$name: its retry is the same hold");
	is(balance($account), '0 60 40', "$name: which is not added");
	end_session($signal, count_sql($account, 60, 'kept'));
	answers(count_sql($account, 60, 'kept'), 'replayed', "$name: the usage is counted");
	answers(reserve_sql($account, 60, 'kept'), 'replayed', "$name: and needs no hold again");
	is(balance($account), '60 0 40', "$name: the hold has ended once");
	answers(reserve_sql($account, 41, 'more'), 'limit_reached', "$name: no more room than that");
	answers(reserve_sql($account, 40, 'more'), 'reserved', "$name: and no less");

	my $abandoned = new_account();
	end_session($signal, reserve_sql($abandoned, 100, 'abandoned', '1 s'));
	ok( $node->poll_query_until('postgres', reserve_sql($abandoned, 100, 'next'), 'reserved'),
		"$name: an abandoned hold ends with no process to end it");
	is(balance($abandoned), '0 100 0', "$name: and gives back its tokens once");
}

# Transactions that are prepared when the server is killed.
my %prepared = map { $_ => new_account() } 'committed', 'rolled back';
my $held = new_account();
answers(reserve_sql($held, 60, 'held'), 'reserved', 'a hold is there before the server is killed');
for my $end (sort keys %prepared)
{
	$node->safe_psql('postgres',
		    'BEGIN;'
		  . reserve_sql($prepared{$end}, 20, 'held')
		  . "SELECT outcome FROM spend_usage($prepared{$end}, 10, 'spent');"
		  . "PREPARE TRANSACTION '$end'");
}
$node->stop('immediate');
$node->start;
is(balance($held), '0 60 40', 'the hold is there after that');
for my $end (sort keys %prepared)
{
	is(balance($prepared{$end}), '0 0 100', "$end: what is prepared is not there yet");
	my ($status, $out, $err) = $node->psql('postgres',
		"SET lock_timeout = '100ms';" . reserve_sql($prepared{$end}, 1, 'other'));
	like($err, qr/lock timeout/, "$end: other reservations wait for its end");
}
$node->safe_psql('postgres', "COMMIT PREPARED 'committed'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'rolled back'");
is(balance($prepared{'committed'}), '10 20 70', 'COMMIT PREPARED: held and spent');
is(balance($prepared{'rolled back'}), '0 0 100', 'ROLLBACK PREPARED: nothing is');
for my $end (sort keys %prepared)
{
	$node->safe_psql('postgres', reserve_sql($prepared{$end}, 20, 'held')
		  . "SELECT outcome FROM spend_usage($prepared{$end}, 10, 'spent')");
	is(balance($prepared{$end}), '10 20 70', "$end: after retries both are there once");
}

# Without a worker, dead holds stay until their room is needed. The worker deletes them.
my $swept = new_account();
$node->safe_psql('postgres', qq{
SELECT set_usage_limit($swept, 1000000);
SELECT set_usage_limit($swept, 1000000, 'team');
SELECT count(reserve_usage($swept, 1, 'expired ' || i, '1 ms', 'team/user')) FROM generate_series(1, $dead_hold_count) AS i;
SELECT count(reserve_usage($swept, 1, 'counted ' || i)) FROM generate_series(1, $dead_hold_count) AS i;
SELECT count(increment_usage($swept, 1, 'counted ' || i)) FROM generate_series(1, $dead_hold_count) AS i;
SELECT reserve_usage($swept, 7, 'live', p_scope => 'team/user')});
my $held_rows = "SELECT count(*), sum(tokens) FROM usage_holds WHERE account_id = $swept";
my $live = "$dead_hold_count 7 " . (1000000 - $dead_hold_count - 7);
answers($held_rows, (2 * $dead_hold_count + 1) . '|' . (2 * $dead_hold_count + 7),
	'without a worker dead holds are there');
is(balance($swept), $live, 'and count for nothing');
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'usage_ledger'
usage_ledger.settle_databases = 'postgres'
usage_ledger.settle_interval = 100ms
});
$node->restart;
ok($node->poll_query_until('postgres', $held_rows, '1|7'), 'the worker deletes dead holds only');
answers("SELECT scope, tokens_held FROM usage_limits WHERE account_id = $swept ORDER BY scope",
	"|7\nteam|7", 'and what they held with them, at each level');
is(balance($swept), $live, 'which gives nothing back twice');
answers('SELECT count(*) FROM verify_usage()', '0', 'the ledger is sound');

# Copies of all kinds have the limits and the holds.
my $copied = q{SELECT (SELECT string_agg(l::text, ' ' ORDER BY l) FROM usage_limits AS l),
	(SELECT string_agg(h::text, ' ' ORDER BY h) FROM usage_holds AS h)};
my $last = new_account();
my $divided = new_account();
$node->safe_psql('postgres', "SELECT set_usage_limit($divided, 50, 'team')");
answers("SELECT outcome FROM reserve_usage($divided, 1, 'of a team', p_scope => 'team/user')",
	'reserved', 'a scope has a limit and a hold');

sub change_holds
{
	my ($key) = @_;
	$node->safe_psql('postgres',
		    reserve_sql($last, 30, $key)
		  . reserve_sql($last, 20, $key)
		  . reserve_sql($last, 5, "$key released")
		  . "SELECT release_usage($last, '$key released')");
	return;
}

sub is_copied
{
	my ($server, $database, $name) = @_;
	is($server->safe_psql($database, $copied), $node->safe_psql('postgres', $copied),
		"$name: limits and holds are there");
	is($server->safe_psql($database, 'SELECT count(*) FROM verify_usage()'),
		'0', "$name: the ledger is sound");
	return;
}

change_holds('first');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$standby->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init;
$subscriber->start;
$subscriber->safe_psql('postgres', 'CREATE EXTENSION usage_ledger');
$node->safe_psql('postgres', 'CREATE PUBLICATION ledger FOR ALL TABLES');
my $publisher = $node->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION ledger CONNECTION '$publisher' PUBLICATION ledger");
$subscriber->wait_for_subscription_sync($node, 'ledger');
change_holds('second');
$node->wait_for_catchup('standby');
$node->wait_for_catchup('ledger');
is(balance($last), '0 40 60', 'holds have been changed in all ways');
is_copied($standby, 'postgres', 'standby');
is_copied($subscriber, 'postgres', 'subscriber');
is(balance($last, $standby), balance($last), 'the standby shows what is left');
my ($status, $out, $err) = $standby->psql('postgres', reserve_sql($last, 1, 'on the standby'));
like($err, qr/read-only transaction/, 'a standby refuses a reservation');
$standby->promote;
is($standby->safe_psql('postgres', reserve_sql($last, 61, 'third') . reserve_sql($last, 60, 'third')),
	"limit_reached\nreserved", 'the new primary goes on with them');

my $dump = "$PostgreSQL::Test::Utils::tmp_check/limits.sql";
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $node->connstr('restored') ],
	'restore');
is_copied($node, 'restored', 'dump and restore');
is($node->safe_psql('restored', reserve_sql($last, 61, 'third') . reserve_sql($last, 60, 'third')),
	"limit_reached\nreserved", 'the restored ledger goes on with them');

$_->stop for $standby, $subscriber, $node;
done_testing();
