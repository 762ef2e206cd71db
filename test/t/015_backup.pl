# Backups of a ledger by each kind of role, and the restore into a new server by a role that
# is no superuser, with the SQL and the commands that docs/operations.md prints.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Snippets;

my $install = Snippets::snippet('docs/quick_start.md', 'Installation');
my $roles = join '', map { "CREATE ROLE $_ LOGIN;" } qw(worker biller dba monitor);
my $account = '77777777-0000-0000-0000-000000000001';
my $rows = q{
SET search_path = billing;
SELECT md5(string_agg(r, E'\n' ORDER BY r COLLATE "C"))
  FROM (SELECT a::text FROM usage_accounts AS a UNION ALL SELECT p::text FROM usage_periods AS p
        UNION ALL SELECT e::text FROM usage_events AS e UNION ALL SELECT q::text FROM usage_pending AS q
        UNION ALL SELECT b::text FROM usage_breakdown AS b UNION ALL SELECT l::text FROM usage_limits AS l
        UNION ALL SELECT h::text FROM usage_holds AS h) AS rows (r)};

my $old = PostgreSQL::Test::Cluster->new('old');
$old->init;
$old->start;
$old->safe_psql('postgres', 'CREATE ROLE app_owner LOGIN; CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;'
	. $roles . 'CREATE DATABASE app OWNER app_owner');
$old->safe_psql('app', $install . Snippets::snippet('README.md', 'Grants')
	. Snippets::snippet('docs/operations.md', 'Who can dump and restore') . qq{
RESET search_path;
SELECT billing.increment_usage('$account', 50000, 'kept', true);
SELECT billing.record_usage('$account', 'broken down', 'model', 'team/user', 1, 2, 3, 4, 5, -6);
SET usage_ledger.settlement = 'deferred';
SELECT billing.increment_usage('$account', 7, 'pending');
SELECT billing.set_usage_limit('$account', 60000);
SELECT billing.reserve_usage('$account', 4000, 'held');
CREATE TABLE reports (id integer); INSERT INTO reports VALUES (1)});
my $before = $old->safe_psql('app', $rows);

my $dump = PostgreSQL::Test::Utils::tempdir . '/ledger.dump';

sub dump_as
{
	my ($role, @options) = @_;
	return ('pg_dump', '-Fc', '-f', $dump, '-U', $role, @options, '-d', $old->connstr('app'));
}

# The number of events in the dump, by the command that the page prints.
my $count_events = Snippets::snippet('docs/operations.md', 'An empty dump', 'sh');
$count_events =~ s/ledger\.dump/'$dump'/;

sub events_in_dump
{
	chomp(my $count = `$count_events`);
	return $count;
}

command_fails_like([ dump_as('app_owner') ], qr/permission denied for/, 'the owner of the database cannot dump it');
command_fails_like([ dump_as('reader') ], qr/row-level security/, 'pg_read_all_data alone is not enough');
command_ok([ dump_as('reader', '--enable-row-security') ], 'with row security it seems to be');
is(events_in_dump(), '0', 'but the dump is empty');
command_ok([ dump_as('backup', '--exclude-table=*.usage_*') ], 'a dump without the tables');
is(events_in_dump(), '0', 'has no event');
command_ok([ dump_as('backup', '--schema=public') ], 'a dump of another schema');
is(events_in_dump(), '0', 'has no event');
command_ok([ dump_as('backup', '--schema=billing') ], 'a dump of the schema');
is(events_in_dump(), '3', 'has the events');
command_like([ 'pg_restore', '-l', $dump ], qr/^(?!.* EXTENSION )/s, 'and no extension');
command_ok([ dump_as('backup', '--schema=billing', '--extension=usage_ledger') ], 'a dump of schema and extension');
command_like([ 'pg_restore', '-l', $dump ], qr/ EXTENSION .*usage_ledger/, 'has both');
command_ok([ dump_as('backup') ], 'the role for backups dumps the database');
is(events_in_dump(), '3', 'with its events');

# ----------------------------------------------------------------------------
# A new server

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->start;
$new->safe_psql('postgres', "CREATE ROLE app_owner LOGIN; $roles CREATE DATABASE app OWNER app_owner");
command_fails_like([ 'pg_restore', '--exit-on-error', '--no-owner', '-U', 'app_owner', '-d', $new->connstr('app'), $dump ],
	qr{permission denied to create extension}, 'a restore needs a superuser for the extension');
$new->safe_psql('postgres', 'DROP DATABASE app');
$new->safe_psql('postgres', 'CREATE DATABASE app OWNER app_owner');
$new->safe_psql('app', $install . Snippets::snippet('docs/operations.md', 'The restoring role'));
my $restore = Snippets::snippet('docs/operations.md', 'The restoring role', 'sh');
my $target = $new->connstr('app') . ' user=restorer';
$restore =~ s/--dbname=app ledger\.dump/--dbname="$target" '$dump'/ or die $restore;
chomp $restore;
is(system($restore), 0, 'the restoring role restores the rows');
is($new->safe_psql('app', $rows), $before, 'the rows are the same');
$new->safe_psql('app', 'DROP OWNED BY restorer; DROP ROLE restorer;' . Snippets::snippet('README.md', 'Grants'));
is($new->safe_psql('app', 'SELECT * FROM billing.verify_usage()', extra_params => [ '-U', 'biller' ]), '', 'the ledger is sound');
is($new->safe_psql('app', "SELECT tokens_used FROM billing.usage_totals", extra_params => [ '-U', 'biller' ]),
	'50022', 'the biller sees the total');
is($new->safe_psql('app', "SELECT outcome FROM billing.increment_usage('$account', 7, 'pending')",
		extra_params => [ '-U', 'worker' ]), 'replayed', 'a retry is a replay');

done_testing();
