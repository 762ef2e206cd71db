# Long work on a large ledger can be cancelled. It is then undone as a whole, and succeeds when it
# is run again.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $account = '77777777-0000-0000-0000-000000000001';
my $event_count = 200_000;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nautovacuum = off");
$node->start;

# One account, one closed period and one open one, and as many pending rows as events.
$node->safe_psql('postgres', qq{
CREATE EXTENSION usage_ledger;
SET usage_ledger.settlement = 'deferred';
SELECT open_usage_period('$account', date_trunc('day', now()) - interval '2 days', date_trunc('day', now()) - interval '1 day');
SELECT open_usage_period('$account', date_trunc('day', now()) - interval '1 day', date_trunc('day', now()) + interval '10 days');
SELECT count(*) FROM increment_usage_batch(array_fill('$account'::uuid, '{$event_count}'), array_fill(1::bigint, '{$event_count}'),
       ARRAY(SELECT 'k' || i FROM generate_series(1, $event_count) AS i),
       p_occurred_at => array_fill(date_trunc('day', now()) - interval '36 hours', '{$event_count}'))});

my $state = q{SELECT (SELECT sum(tokens_used) FROM usage_totals), (SELECT sum(tokens_used) FROM usage_periods),
    (SELECT count(*) FROM usage_events), (SELECT count(*) FROM usage_pending),
    (SELECT count(*) FROM usage_periods WHERE closed_at IS NOT NULL)};

sub cancelled_and_done
{
	my ($call, $query, $after) = @_;
	my $before = $node->safe_psql('postgres', $state);
	my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '1ms'; $query",
		extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	like($err, qr/57014/, "$call can be cancelled");
	is($node->safe_psql('postgres', $state), $before, 'nothing has changed');
	is($node->safe_psql('postgres', $query), $after, "$call succeeds later");
}

# The batch has made few pending rows of many events.
$node->safe_psql('postgres', qq{
INSERT INTO usage_pending SELECT '$account', period_start, 0, 0, 0 FROM usage_periods, generate_series(1, $event_count)
 WHERE period_end < now()});
my $pending = $node->safe_psql('postgres', 'SELECT count(*) FROM usage_pending');
my $past = "(SELECT min(period_start) FROM usage_periods)";
cancelled_and_done('settle_usage', 'SELECT settle_usage(10000000)', $pending);
cancelled_and_done('verify_usage', 'SELECT count(*) FROM verify_usage()', '0');
cancelled_and_done('close_usage_period', "SELECT tokens_used FROM close_usage_period('$account', $past)", $event_count);
cancelled_and_done('prune_usage_events', "SELECT prune_usage_events('infinity', 150000)", '150000');
cancelled_and_done('erase_usage', "SELECT erase_usage('$account')", $event_count - 150_000);

done_testing();
