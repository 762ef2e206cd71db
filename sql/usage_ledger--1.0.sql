\echo Use "CREATE EXTENSION usage_ledger" to load this file. \quit

-- All built-in functions and operators are qualified, so that nothing that a hostile
-- user has created in the target schema can take their place.

------------------------------------------------------------------------------
-- Tables
--
-- Each leads with account_id, and every unique key contains it, so that the
-- ledger can be sharded by account. Fixed-width columns come first.
--
-- usage_periods and usage_events have no CHECK and no foreign key, because the
-- executor would set them up again on every call. Only the functions below write to
-- these tables, and verify_usage() checks them.
------------------------------------------------------------------------------

CREATE TABLE @extschema@.usage_accounts (
    account_id     uuid        NOT NULL,
    period_anchor  timestamptz NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    period_length  interval    NOT NULL DEFAULT '1 month',
    time_zone      text        NOT NULL DEFAULT 'UTC',
    PRIMARY KEY (account_id)
);
COMMENT ON TABLE @extschema@.usage_accounts IS
'Accounts and their billing cycles: period n runs from period_anchor + n * period_length
to period_anchor + (n + 1) * period_length, computed in time_zone.';
COMMENT ON COLUMN @extschema@.usage_accounts.account_id IS 'The account, by the id that callers give it.';
COMMENT ON COLUMN @extschema@.usage_accounts.period_anchor IS 'The start of one of its periods.';
COMMENT ON COLUMN @extschema@.usage_accounts.created_at IS 'When the account was registered.';
COMMENT ON COLUMN @extschema@.usage_accounts.period_length IS 'The length of a period.';
COMMENT ON COLUMN @extschema@.usage_accounts.time_zone IS 'The time zone of days, months and years.';

-- fillfactor 50 leaves room on the page for the next version of a counter's row, so
-- that an update touches no index (HOT). Dead versions are pruned when the page is
-- visited, and autovacuum handles only the rest.
CREATE TABLE @extschema@.usage_periods (
    account_id    uuid        NOT NULL,
    period_start  timestamptz NOT NULL,
    period_end    timestamptz NOT NULL,
    tokens_used   bigint      NOT NULL DEFAULT 0,
    reports_used  bigint      NOT NULL DEFAULT 0,
    chats_used    bigint      NOT NULL DEFAULT 0,
    closed_at     timestamptz,
    pruned_at     timestamptz,
    PRIMARY KEY (account_id, period_start)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE @extschema@.usage_periods IS
'Counters: one row of running totals per account and billing period
[period_start, period_end). Pending usage is not included: read usage_totals.';
COMMENT ON COLUMN @extschema@.usage_periods.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_periods.period_start IS 'The first moment of the period.';
COMMENT ON COLUMN @extschema@.usage_periods.period_end IS 'The first moment after the period.';
COMMENT ON COLUMN @extschema@.usage_periods.tokens_used IS 'Tokens, without pending usage.';
COMMENT ON COLUMN @extschema@.usage_periods.reports_used IS 'Reports, without pending usage.';
COMMENT ON COLUMN @extschema@.usage_periods.chats_used IS 'Chats, without pending usage.';
COMMENT ON COLUMN @extschema@.usage_periods.closed_at IS 'When the period was closed; NULL while it is open.';
COMMENT ON COLUMN @extschema@.usage_periods.pruned_at IS
'When pruning was complete; infinity while events
are left; NULL before pruning begins.';

-- Holds only closed periods that have events left, so updates of open counters never
-- touch it.
CREATE INDEX usage_periods_prunable ON @extschema@.usage_periods (closed_at)
 WHERE closed_at IS NOT NULL
   AND (pruned_at IS NULL OR pruned_at OPERATOR(pg_catalog.=) 'infinity');
COMMENT ON INDEX @extschema@.usage_periods_prunable IS 'Closed periods that have events left, in the order in which they are pruned.';

-- Until a period is closed and pruned, its events are only inserted, and rarely voided.
-- Vacuum runs to set the visibility map and to freeze, in small steps.
--
-- Keys are ordered by their bytes (COLLATE "C"). A locale's order costs more to compare
-- in, and it changes with the system's libraries: an index would then no longer find a
-- key that it contains.
CREATE TABLE @extschema@.usage_events (
    account_id       uuid        NOT NULL,
    period_start     timestamptz NOT NULL,
    occurred_at      timestamptz NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    tokens           bigint      NOT NULL,
    reports          integer     NOT NULL,
    chats            integer     NOT NULL,
    idempotency_key  text        COLLATE pg_catalog."C" NOT NULL,
    voided_at        timestamptz,
    void_reason      text,
    breakdown        text        COLLATE pg_catalog."C",
    PRIMARY KEY (account_id, idempotency_key)
) WITH (
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
COMMENT ON TABLE @extschema@.usage_events IS
'Billable events: one row per account and idempotency key. The primary key makes a retry
count once.';
COMMENT ON COLUMN @extschema@.usage_events.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_events.period_start IS 'The period that the event is counted in.';
COMMENT ON COLUMN @extschema@.usage_events.occurred_at IS
'When the event happened, as reported by the first
call with its key.';
COMMENT ON COLUMN @extschema@.usage_events.recorded_at IS 'When the transaction that counted the event began.';
COMMENT ON COLUMN @extschema@.usage_events.tokens IS 'Tokens; negative for a credit.';
COMMENT ON COLUMN @extschema@.usage_events.reports IS '1 for a report, else 0.';
COMMENT ON COLUMN @extschema@.usage_events.chats IS '1 for a chat, else 0.';
COMMENT ON COLUMN @extschema@.usage_events.idempotency_key IS 'The name of the event within the account.';
COMMENT ON COLUMN @extschema@.usage_events.voided_at IS 'When the event was voided; NULL while it counts.';
COMMENT ON COLUMN @extschema@.usage_events.void_reason IS
'The reason of the void, or of the credit that the
event is.';
COMMENT ON COLUMN @extschema@.usage_events.breakdown IS
'What record_usage was given: scope, model,
input_tokens, cache_read_tokens, cache_write_tokens,
output_tokens, reasoning_tokens, cost_nanos and the
number of events, 1, separated by tabs; NULL for other
events.';

-- A B-tree, although a BRIN index would cost writers less: docs/internals.md says why. The
-- account comes first, so that it also finds all events of an account.
CREATE INDEX usage_events_period ON @extschema@.usage_events (account_id, period_start);
-- Where most accounts have few events, the planner would take this index, the smaller one, to
-- look for a key, and read all events of the account. So it is told that they have many.
ALTER TABLE @extschema@.usage_events ALTER COLUMN account_id SET (n_distinct = -0.01);
COMMENT ON INDEX @extschema@.usage_events_period IS 'Finds the events of one period when it is closed or pruned.';

-- A queue: every row is deleted when it is settled. Vacuum runs as often as it can, to
-- make room for new rows and to truncate the table. Nothing uses the table's statistics,
-- so it is hardly ever analyzed.
CREATE TABLE @extschema@.usage_pending (
    account_id    uuid        NOT NULL,
    period_start  timestamptz NOT NULL,
    tokens        bigint      NOT NULL,
    reports       integer     NOT NULL,
    chats         integer     NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    breakdown     text        COLLATE pg_catalog."C"
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_threshold = 1000000,
    autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE @extschema@.usage_pending REPLICA IDENTITY FULL;
COMMENT ON TABLE @extschema@.usage_pending IS
'Usage that is recorded in usage_events but not yet added to its counter in
usage_periods. The row of a void is negative.';
COMMENT ON COLUMN @extschema@.usage_pending.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_pending.period_start IS 'The period whose counter lacks the usage.';
COMMENT ON COLUMN @extschema@.usage_pending.tokens IS 'Tokens to add; negative for a void.';
COMMENT ON COLUMN @extschema@.usage_pending.reports IS 'Reports to add; negative for a void.';
COMMENT ON COLUMN @extschema@.usage_pending.chats IS 'Chats to add; negative for a void.';
COMMENT ON COLUMN @extschema@.usage_pending.recorded_at IS 'When the transaction that queued the row began.';
COMMENT ON COLUMN @extschema@.usage_pending.breakdown IS
'What is to be added to usage_breakdown, in the form
of usage_events.breakdown, the last part being a
number of events; NULL for usage that record_usage
has not counted.';

-- Kinds of tokens are columns, so that an event writes one row here, whatever it used. Its
-- rows are updated like those of usage_periods, and only under the lock of their counter.
CREATE TABLE @extschema@.usage_breakdown (
    account_id          uuid        NOT NULL,
    period_start        timestamptz NOT NULL,
    input_tokens        bigint      NOT NULL,
    cache_read_tokens   bigint      NOT NULL,
    cache_write_tokens  bigint      NOT NULL,
    output_tokens       bigint      NOT NULL,
    reasoning_tokens    bigint      NOT NULL,
    cost_nanos          bigint      NOT NULL,
    events              bigint      NOT NULL,
    scope               text        COLLATE pg_catalog."C" NOT NULL,
    model               text        COLLATE pg_catalog."C" NOT NULL,
    PRIMARY KEY (account_id, period_start, scope, model)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE @extschema@.usage_breakdown IS
'What record_usage has counted in a period, by scope and model. Pending usage is not
included: read usage_breakdown_totals.';
COMMENT ON COLUMN @extschema@.usage_breakdown.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_breakdown.period_start IS 'The period.';
COMMENT ON COLUMN @extschema@.usage_breakdown.input_tokens IS 'Input tokens, neither read from nor written to a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown.cache_read_tokens IS 'Input tokens read from a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown.cache_write_tokens IS 'Input tokens written to a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown.output_tokens IS 'Output tokens without reasoning.';
COMMENT ON COLUMN @extschema@.usage_breakdown.reasoning_tokens IS 'Output tokens spent on reasoning.';
COMMENT ON COLUMN @extschema@.usage_breakdown.cost_nanos IS
'Cost in 10^-9 of the currency unit that the callers
of record_usage use.';
COMMENT ON COLUMN @extschema@.usage_breakdown.events IS 'Number of events.';
COMMENT ON COLUMN @extschema@.usage_breakdown.scope IS 'The part of the account, such as "team/user".';
COMMENT ON COLUMN @extschema@.usage_breakdown.model IS
'The model. _other stands for the models of all pairs
of scope and model that found no place, because the
period had usage_ledger.max_breakdowns of them; its
scope is the first level of theirs.';

-- Both tables hold what is in flight: rows are updated and deleted all the time, and
-- vacuum runs as often as it can.
--
-- A limit's row is locked while holds of its account change, so that they fit together. It
-- has no foreign key to usage_accounts: a limit may be set before the account is used, and
-- a key check would lock the account's row after it.
CREATE TABLE @extschema@.usage_limits (
    account_id   uuid   NOT NULL,
    token_limit  bigint,
    tokens_held  bigint NOT NULL DEFAULT 0,
    version      bigint NOT NULL DEFAULT 0,
    scope        text   COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, scope)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE @extschema@.usage_limits IS
'Limits: how many tokens an account may use in a billing period. Read usage_balances for
what is left.';
COMMENT ON COLUMN @extschema@.usage_limits.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_limits.token_limit IS 'Tokens per period; NULL: no limit.';
COMMENT ON COLUMN @extschema@.usage_limits.tokens_held IS
'The sum of the holds in this scope and below it,
dead ones included.';
COMMENT ON COLUMN @extschema@.usage_limits.version IS
'Counts changes after which a session must read again
what is used: spendings and deleted holds.';
COMMENT ON COLUMN @extschema@.usage_limits.scope IS
'The part of the account that is limited; empty: the
whole account.';

CREATE TABLE @extschema@.usage_holds (
    account_id       uuid        NOT NULL,
    expires_at       timestamptz NOT NULL,
    tokens           bigint      NOT NULL,
    idempotency_key  text        COLLATE pg_catalog."C" NOT NULL,
    scope            text        COLLATE pg_catalog."C" NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, idempotency_key)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE @extschema@.usage_holds IS
'Holds: tokens reserved for a key until it is counted. A hold is dead, and counts no
longer, once it has expired or once its key has an event. Dead holds are deleted later.';
COMMENT ON COLUMN @extschema@.usage_holds.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_holds.expires_at IS 'When the hold expires.';
COMMENT ON COLUMN @extschema@.usage_holds.tokens IS 'Tokens reserved.';
COMMENT ON COLUMN @extschema@.usage_holds.idempotency_key IS 'The key that will be counted.';
COMMENT ON COLUMN @extschema@.usage_holds.scope IS
'The part of the account that the tokens are for;
empty: none. They count at each level above it too.';

ALTER TABLE @extschema@.usage_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_periods ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_pending ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_breakdown ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE @extschema@.usage_holds ENABLE ROW LEVEL SECURITY;

SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_accounts', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_periods', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_events', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_pending', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_breakdown', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_limits', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.usage_holds', '');

------------------------------------------------------------------------------
-- Totals
------------------------------------------------------------------------------

-- The totals are numeric, as sums of bigint are: pending usage that overflows one
-- counter must not make every query of the view fail.
--
-- Views are security_invoker: a reader needs rights on the tables, and their policies
-- decide which rows it sees.
CREATE VIEW @extschema@.usage_totals WITH (security_invoker = true) AS
SELECT p.account_id,
       p.period_start,
       p.period_end,
       p.tokens_used OPERATOR(pg_catalog.+) COALESCE(q.tokens, 0) AS tokens_used,
       p.reports_used OPERATOR(pg_catalog.+) COALESCE(q.reports, 0) AS reports_used,
       p.chats_used OPERATOR(pg_catalog.+) COALESCE(q.chats, 0) AS chats_used,
       p.closed_at,
       p.pruned_at
  FROM @extschema@.usage_periods AS p
  LEFT JOIN (SELECT account_id,
                    period_start,
                    pg_catalog.sum(tokens) AS tokens,
                    pg_catalog.sum(reports::numeric) AS reports,
                    pg_catalog.sum(chats::numeric) AS chats
               FROM @extschema@.usage_pending
              GROUP BY account_id, period_start) AS q
    ON q.account_id OPERATOR(pg_catalog.=) p.account_id
   AND q.period_start OPERATOR(pg_catalog.=) p.period_start;
COMMENT ON VIEW @extschema@.usage_totals IS
'Usage per account and period: the counter plus pending usage, exact at the reader''s
snapshot. Readers need SELECT on usage_periods and usage_pending too, and see the
accounts that the policies on both show them.';
COMMENT ON COLUMN @extschema@.usage_totals.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_totals.period_start IS 'The first moment of the period.';
COMMENT ON COLUMN @extschema@.usage_totals.period_end IS 'The first moment after the period.';
COMMENT ON COLUMN @extschema@.usage_totals.tokens_used IS 'Tokens, pending usage included.';
COMMENT ON COLUMN @extschema@.usage_totals.reports_used IS 'Reports, pending usage included.';
COMMENT ON COLUMN @extschema@.usage_totals.chats_used IS 'Chats, pending usage included.';
COMMENT ON COLUMN @extschema@.usage_totals.closed_at IS 'When the period was closed; NULL while it is open.';
COMMENT ON COLUMN @extschema@.usage_totals.pruned_at IS
'When pruning was complete; infinity while events
are left; NULL before pruning begins.';

-- The usage of a scope is that of all scopes below it too. Where the period has more pairs of
-- scope and model than fit, usage of scopes below the first level may be under _other, so
-- only the events tell whose it is. The first byte after a slash is 0, so a level is a part
-- of the range between itself and itself with a 0. The primary key finds that range.
CREATE VIEW @extschema@.usage_scope_totals WITH (security_invoker = true) AS
SELECT l.account_id,
       p.period_start,
       p.period_end,
       CASE WHEN pg_catalog.strpos(l.scope, '/') OPERATOR(pg_catalog.>) 0
             AND EXISTS (SELECT
                           FROM @extschema@.usage_breakdown AS b
                          WHERE b.account_id OPERATOR(pg_catalog.=) l.account_id
                            AND b.period_start OPERATOR(pg_catalog.=) p.period_start
                            AND b.scope OPERATOR(pg_catalog.=) pg_catalog.split_part(l.scope, '/', 1)
                            AND b.model OPERATOR(pg_catalog.=) '_other')
            THEN (SELECT COALESCE(pg_catalog.sum(e.tokens), 0)
                    FROM @extschema@.usage_events AS e
                   WHERE e.account_id OPERATOR(pg_catalog.=) l.account_id
                     AND e.period_start OPERATOR(pg_catalog.=) p.period_start
                     AND e.voided_at IS NULL
                     AND pg_catalog.starts_with(
                             pg_catalog.split_part(e.breakdown, E'\t', 1) OPERATOR(pg_catalog.||) '/',
                             l.scope OPERATOR(pg_catalog.||) '/'))
            ELSE (SELECT COALESCE(pg_catalog.sum(b.input_tokens OPERATOR(pg_catalog.+) b.cache_read_tokens
                                                 OPERATOR(pg_catalog.+) b.cache_write_tokens
                                                 OPERATOR(pg_catalog.+) b.output_tokens
                                                 OPERATOR(pg_catalog.+) b.reasoning_tokens), 0)
                    FROM @extschema@.usage_breakdown AS b
                   WHERE b.account_id OPERATOR(pg_catalog.=) l.account_id
                     AND b.period_start OPERATOR(pg_catalog.=) p.period_start
                     AND b.scope OPERATOR(pg_catalog.>=) l.scope
                     AND b.scope OPERATOR(pg_catalog.<) (l.scope OPERATOR(pg_catalog.||) '0')
                     AND pg_catalog.starts_with(b.scope OPERATOR(pg_catalog.||) '/',
                                                l.scope OPERATOR(pg_catalog.||) '/'))
                 OPERATOR(pg_catalog.+)
                 (SELECT COALESCE(pg_catalog.sum(q.tokens), 0)
                    FROM @extschema@.usage_pending AS q
                   WHERE q.account_id OPERATOR(pg_catalog.=) l.account_id
                     AND q.period_start OPERATOR(pg_catalog.=) p.period_start
                     AND pg_catalog.starts_with(
                             pg_catalog.split_part(q.breakdown, E'\t', 1) OPERATOR(pg_catalog.||) '/',
                             l.scope OPERATOR(pg_catalog.||) '/'))
             END AS tokens_used,
       l.scope
  FROM @extschema@.usage_limits AS l
  JOIN @extschema@.usage_periods AS p ON p.account_id OPERATOR(pg_catalog.=) l.account_id
 WHERE l.scope OPERATOR(pg_catalog.<>) '';
COMMENT ON VIEW @extschema@.usage_scope_totals IS
'Usage per limited scope and period, exact at the reader''s snapshot: what the limits of
scopes are compared with.';
COMMENT ON COLUMN @extschema@.usage_scope_totals.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_scope_totals.period_start IS 'The first moment of the period.';
COMMENT ON COLUMN @extschema@.usage_scope_totals.period_end IS 'The first moment after the period.';
COMMENT ON COLUMN @extschema@.usage_scope_totals.tokens_used IS
'Tokens of the scope and all below it, pending usage
included.';
COMMENT ON COLUMN @extschema@.usage_scope_totals.scope IS 'The part of the account that has a limit.';

-- now() is never later than the reader's snapshot. A hold that seems to live by now() and
-- has expired since is still part of the limit, or it is deleted in the snapshot.
CREATE VIEW @extschema@.usage_balances WITH (security_invoker = true) AS
SELECT l.account_id,
       l.token_limit,
       u.tokens AS tokens_used,
       h.tokens AS tokens_held,
       CASE WHEN l.token_limit IS NOT NULL
            THEN GREATEST(l.token_limit OPERATOR(pg_catalog.-) u.tokens
                                        OPERATOR(pg_catalog.-) h.tokens, 0) END AS tokens_remaining,
       t.period_start,
       t.period_end,
       l.scope
  FROM @extschema@.usage_limits AS l
  LEFT JOIN @extschema@.usage_totals AS t
    ON t.account_id OPERATOR(pg_catalog.=) l.account_id
   AND t.period_start OPERATOR(pg_catalog.<=) pg_catalog.now()
   AND t.period_end OPERATOR(pg_catalog.>) pg_catalog.now()
  LEFT JOIN LATERAL (
       SELECT s.tokens_used
         FROM @extschema@.usage_scope_totals AS s
        WHERE s.account_id OPERATOR(pg_catalog.=) l.account_id
          AND s.scope OPERATOR(pg_catalog.=) l.scope
          AND s.period_start OPERATOR(pg_catalog.=) t.period_start
       ) AS s ON true
 CROSS JOIN LATERAL (
       SELECT CASE WHEN l.scope OPERATOR(pg_catalog.=) '' THEN COALESCE(t.tokens_used, 0)
                   ELSE COALESCE(s.tokens_used, 0) END AS tokens
       ) AS u
 CROSS JOIN LATERAL (
       SELECT COALESCE(pg_catalog.sum(held.tokens), 0) AS tokens
         FROM @extschema@.usage_holds AS held
        WHERE held.account_id OPERATOR(pg_catalog.=) l.account_id
          AND (l.scope OPERATOR(pg_catalog.=) ''
               OR pg_catalog.starts_with(held.scope OPERATOR(pg_catalog.||) '/',
                                         l.scope OPERATOR(pg_catalog.||) '/'))
          AND held.expires_at OPERATOR(pg_catalog.>) pg_catalog.now()
          AND NOT EXISTS (SELECT
                            FROM @extschema@.usage_events AS e
                           WHERE e.account_id OPERATOR(pg_catalog.=) held.account_id
                             AND e.idempotency_key OPERATOR(pg_catalog.=) held.idempotency_key)
       ) AS h;
COMMENT ON VIEW @extschema@.usage_balances IS
'What is left: one row per row of usage_limits, for the period that covers now(), exact at
the reader''s snapshot. Readers need SELECT on usage_limits, usage_holds, usage_totals,
usage_scope_totals, usage_periods, usage_pending, usage_breakdown and usage_events
(account_id, period_start, idempotency_key, tokens, voided_at, breakdown) too, and policies
on these tables that show them the account''s rows.';
COMMENT ON COLUMN @extschema@.usage_balances.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_balances.token_limit IS 'Tokens per period; NULL: no limit.';
COMMENT ON COLUMN @extschema@.usage_balances.tokens_used IS
'Tokens counted in the period, pending usage
included; 0 if there is no such period yet.';
COMMENT ON COLUMN @extschema@.usage_balances.tokens_held IS
'Tokens of holds that have not expired and whose key
is not counted.';
COMMENT ON COLUMN @extschema@.usage_balances.tokens_remaining IS
'The limit without both, never below 0; NULL: no
limit.';
COMMENT ON COLUMN @extschema@.usage_balances.period_start IS
'The first moment of the period; NULL if there is
none yet.';
COMMENT ON COLUMN @extschema@.usage_balances.period_end IS
'The first moment after the period; NULL if there is
none yet.';
COMMENT ON COLUMN @extschema@.usage_balances.scope IS
'The part of the account that is limited; empty: the
whole account.';

-- Pending usage of a pair without a row is shown where it will be added: under _other if the
-- period has a row of that model (src/pg/breakdowns.hpp), and else, as far as anyone can
-- know, under its own. A row that cannot be read cannot be added either, and is left out. It is
-- appended to an empty text to be tested: to the planner, that costs more than to compare
-- accounts, which thus comes first.
CREATE VIEW @extschema@.usage_breakdown_totals WITH (security_invoker = true) AS
SELECT u.account_id,
       u.period_start,
       CASE WHEN u.is_full AND NOT u.has_row
            THEN pg_catalog.split_part(u.scope, '/', 1) ELSE u.scope END AS scope,
       CASE WHEN u.is_full AND NOT u.has_row
            THEN '_other' ELSE u.model END AS model,
       pg_catalog.sum(u.input_tokens) AS input_tokens,
       pg_catalog.sum(u.cache_read_tokens) AS cache_read_tokens,
       pg_catalog.sum(u.cache_write_tokens) AS cache_write_tokens,
       pg_catalog.sum(u.output_tokens) AS output_tokens,
       pg_catalog.sum(u.reasoning_tokens) AS reasoning_tokens,
       pg_catalog.sum(u.cost_nanos) AS cost_nanos,
       pg_catalog.sum(u.events) AS events
  FROM (SELECT p.*,
               pg_catalog.bool_or(p.has_row AND p.model OPERATOR(pg_catalog.=) '_other')
                   OVER (PARTITION BY p.account_id, p.period_start) AS is_full
          FROM (SELECT s.account_id, s.period_start, s.scope, s.model,
                       pg_catalog.bool_or(s.has_row) AS has_row,
                       pg_catalog.sum(s.input_tokens) AS input_tokens,
                       pg_catalog.sum(s.cache_read_tokens) AS cache_read_tokens,
                       pg_catalog.sum(s.cache_write_tokens) AS cache_write_tokens,
                       pg_catalog.sum(s.output_tokens) AS output_tokens,
                       pg_catalog.sum(s.reasoning_tokens) AS reasoning_tokens,
                       pg_catalog.sum(s.cost_nanos) AS cost_nanos,
                       pg_catalog.sum(s.events) AS events
                  FROM (SELECT account_id, period_start, scope, model, true AS has_row,
                               input_tokens::numeric,
                               cache_read_tokens::numeric,
                               cache_write_tokens::numeric,
                               output_tokens::numeric,
                               reasoning_tokens::numeric,
                               cost_nanos::numeric,
                               events::numeric
                          FROM @extschema@.usage_breakdown
                        UNION ALL
                        SELECT account_id, period_start,
                               pg_catalog.split_part(breakdown, E'\t', 1),
                               pg_catalog.split_part(breakdown, E'\t', 2), false,
                               pg_catalog.split_part(breakdown, E'\t', 3)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 4)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 5)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 6)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 7)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 8)::numeric,
                               pg_catalog.split_part(breakdown, E'\t', 9)::numeric
                          FROM @extschema@.usage_pending
                         WHERE breakdown IS NOT NULL
                           AND ('' OPERATOR(pg_catalog.||) breakdown)
                               OPERATOR(pg_catalog.~) E'^[^\t]*\t[^\t]*(\t-?[0-9]+){7}$') AS s
                 GROUP BY s.account_id, s.period_start, s.scope, s.model) AS p
       ) AS u
 GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW @extschema@.usage_breakdown_totals IS
'Usage per account, period, scope and model: usage_breakdown plus pending usage, exact at
the reader''s snapshot. Readers need SELECT on usage_breakdown and usage_pending too, and
see the accounts that the policies on both show them.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.account_id IS 'The account.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.period_start IS 'The period.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.scope IS 'The part of the account, such as "team/user".';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.model IS 'The model; _other for those that found no place.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.input_tokens IS 'Input tokens, neither read from nor written to a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.cache_read_tokens IS 'Input tokens read from a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.cache_write_tokens IS 'Input tokens written to a cache.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.output_tokens IS 'Output tokens without reasoning.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.reasoning_tokens IS 'Output tokens spent on reasoning.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.cost_nanos IS
'Cost in 10^-9 of the currency unit that the callers
of record_usage use.';
COMMENT ON COLUMN @extschema@.usage_breakdown_totals.events IS 'Number of events.';

------------------------------------------------------------------------------
-- Functions
--
-- All but current_usage are SECURITY DEFINER: their callers need no right on any table.
--
-- The PL/pgSQL functions look up the schema on each call, so that it can be renamed. They
-- pin the search path, because it decides what a type name in a declaration means, and
-- temporary types come first in it. current_usage also pins row_security, which would turn
-- its policies into an error. The C functions do nothing that depends on the path, and
-- pinning it would cost time on each call.
------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.increment_usage(
    p_account_id uuid,
    p_tokens bigint,
    p_idempotency_key text,
    p_is_report boolean DEFAULT false,
    p_is_chat boolean DEFAULT false,
    p_occurred_at timestamptz DEFAULT NULL,
    OUT outcome text,
    OUT tokens_used bigint,
    OUT period_start timestamptz,
    OUT period_end timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_increment_usage';
COMMENT ON FUNCTION @extschema@.increment_usage(uuid, bigint, text, boolean, boolean, timestamptz) IS
'Counts one event, once per account and idempotency key, in the caller''s transaction.

Arguments:
  p_account_id       the account; registered on first use, with monthly periods in UTC,
                     unless usage_ledger.unknown_account is reject
  p_tokens           tokens, 0 to 10^12
  p_idempotency_key  names the event within its account, 1 to 255 bytes; send the same
                     key again with every retry
  p_is_report        whether the event is a report; NULL means false
  p_is_chat          whether the event is a chat; NULL means false
  p_occurred_at      when the event happened: at most usage_ledger.max_event_age before
                     the transaction''s start, and 5 minutes ahead of the server''s clock;
                     NULL means now()

Outcomes:
  applied   recorded and added; tokens_used is the counter after the addition
  queued    recorded and pending, to be settled later (usage_ledger.settlement is
            adaptive or deferred); tokens_used is NULL
  replayed  the key was counted before with this payload (tokens, report, chat), and
            nothing changed; tokens_used, period_start and period_end are those of the
            period that it was counted in (tokens_used and period_end are NULL if the
            period was deleted)

Errors (nothing is written):
  UL001  the key was counted before with another payload
  UL002  the account is unknown and unknown accounts are rejected, or no period covers
         the time and none can be opened
  UL003  the period that covers the time is closed
  UL005  p_occurred_at is outside its limits; the event can be counted without it
  22003  the counter would overflow
  22004  account, tokens or key is NULL
  22023  key or tokens is outside its limits';

CREATE FUNCTION @extschema@.increment_usage_batch(
    p_account_ids uuid[],
    p_tokens bigint[],
    p_idempotency_keys text[],
    p_is_report boolean[] DEFAULT NULL,
    p_is_chat boolean[] DEFAULT NULL,
    p_occurred_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_increment_usage_batch';
COMMENT ON FUNCTION @extschema@.increment_usage_batch(uuid[], bigint[], text[], boolean[], boolean[], timestamptz[]) IS
'Counts many events in the caller''s transaction, each as increment_usage would.

The items are counted in the order given. Returns a row per item in this order, with the
item''s number from 1. A refused item does not affect items with other keys.

The same key several times in one batch: an item whose own arguments are invalid is
refused by itself and claims nothing. The first other item of the key is the event. Those
after it share its fate: replayed where it was counted (conflict if their payload
differs), else the same refusal as the first.

Arguments, an element per item, in arrays of one dimension and equal length:
  p_account_ids       as in increment_usage; at most 1,000,000 items
  p_tokens            as in increment_usage
  p_idempotency_keys  as in increment_usage
  p_is_report         as in increment_usage; the whole array may be NULL
  p_is_chat           as in increment_usage; the whole array may be NULL
  p_occurred_at       as in increment_usage; the whole array may be NULL

Outcomes:
  applied, queued, replayed  as in increment_usage
  conflict                   refused, sqlstate UL001
  unknown_account            refused, sqlstate UL002
  closed                     refused, sqlstate UL003
  out_of_time                refused, sqlstate UL005
  invalid                    refused, sqlstate 22003, 22004 or 22023
The reason of a refusal is in detail.

Errors (nothing is written):
  22004  the array of accounts, tokens or keys is NULL
  22023  arrays have unequal lengths, several dimensions or too many elements';

CREATE FUNCTION @extschema@.record_usage(
    p_account_id uuid,
    p_idempotency_key text,
    p_model text DEFAULT '',
    p_scope text DEFAULT '',
    p_input_tokens bigint DEFAULT 0,
    p_cache_read_tokens bigint DEFAULT 0,
    p_cache_write_tokens bigint DEFAULT 0,
    p_output_tokens bigint DEFAULT 0,
    p_reasoning_tokens bigint DEFAULT 0,
    p_cost_nanos bigint DEFAULT 0,
    p_is_report boolean DEFAULT false,
    p_is_chat boolean DEFAULT false,
    p_occurred_at timestamptz DEFAULT NULL,
    OUT outcome text,
    OUT tokens_used bigint,
    OUT period_start timestamptz,
    OUT period_end timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_record_usage';
COMMENT ON FUNCTION @extschema@.record_usage(uuid, text, text, text, bigint, bigint, bigint, bigint, bigint, bigint, boolean, boolean, timestamptz) IS
'Counts one event as increment_usage does, and breaks it down by model, scope, kinds of
tokens and cost: see usage_breakdown_totals.

The kinds exclude each other: a token that was read from a cache is not an input token
too. The tokens of the event are their sum.

A period has at most usage_ledger.max_breakdowns pairs of scope and model. What is counted
for a pair beyond that is counted under the model _other and the first level of its scope.
A pair that found no place in a period stays there until the period ends.

Arguments:
  p_account_id          as in increment_usage
  p_idempotency_key     as in increment_usage
  p_model               the model, up to 255 bytes without control characters, but not
                        _other; NULL means none
  p_scope               who used it within the account, as a path such as team/user: up to
                        255 bytes without control characters, none of its parts empty;
                        NULL means none
  p_input_tokens        input tokens, but for those of the next two, 0 to 10^12
  p_cache_read_tokens   input tokens that were read from a cache, 0 to 10^12
  p_cache_write_tokens  input tokens that were written to a cache, 0 to 10^12
  p_output_tokens       output tokens, but for those of reasoning, 0 to 10^12
  p_reasoning_tokens    output tokens of reasoning, 0 to 10^12; all kinds together may not
                        be above 10^12
  p_cost_nanos          what the event cost in 10^-9 of a currency unit of the caller''s
                        choice, -10^18 to 10^18
  p_is_report           as in increment_usage
  p_is_chat             as in increment_usage
  p_occurred_at         as in increment_usage
Models and scopes are kept as they are given, and compared by their bytes.

Outcomes and errors are those of increment_usage, and:
  replayed  the payload is all arguments but the time. An event of increment_usage has
            another payload than one of record_usage, whatever their tokens
  22003     the counter or the breakdown would overflow
  22004     account, key, or tokens of a kind or cost is NULL
  22023     also: model, scope or cost is outside its limits';

CREATE FUNCTION @extschema@.record_usage_batch(
    p_account_ids uuid[],
    p_idempotency_keys text[],
    p_models text[] DEFAULT NULL,
    p_scopes text[] DEFAULT NULL,
    p_input_tokens bigint[] DEFAULT NULL,
    p_cache_read_tokens bigint[] DEFAULT NULL,
    p_cache_write_tokens bigint[] DEFAULT NULL,
    p_output_tokens bigint[] DEFAULT NULL,
    p_reasoning_tokens bigint[] DEFAULT NULL,
    p_cost_nanos bigint[] DEFAULT NULL,
    p_is_report boolean[] DEFAULT NULL,
    p_is_chat boolean[] DEFAULT NULL,
    p_occurred_at timestamptz[] DEFAULT NULL)
RETURNS TABLE (item integer, outcome text, tokens_used bigint,
               period_start timestamptz, period_end timestamptz, detail text, sqlstate text)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_record_usage_batch';
COMMENT ON FUNCTION @extschema@.record_usage_batch(uuid[], text[], text[], text[], bigint[], bigint[], bigint[], bigint[], bigint[], bigint[], boolean[], boolean[], timestamptz[]) IS
'Counts many events in the caller''s transaction, each as record_usage would.

Arguments, an element per item, in arrays of one dimension and equal length. All but the
first two may be NULL: then each item has the default of record_usage.
  p_account_ids         as in record_usage; at most 1,000,000 items
  p_idempotency_keys    as in record_usage
  p_models              as in record_usage
  p_scopes              as in record_usage
  p_input_tokens        as in record_usage
  p_cache_read_tokens   as in record_usage
  p_cache_write_tokens  as in record_usage
  p_output_tokens       as in record_usage
  p_reasoning_tokens    as in record_usage
  p_cost_nanos          as in record_usage
  p_is_report           as in record_usage
  p_is_chat             as in record_usage
  p_occurred_at         as in record_usage

Rows, outcomes and errors are those of increment_usage_batch.';

CREATE FUNCTION @extschema@.set_usage_cycle(
    p_account_id uuid,
    p_period_length interval,
    p_period_anchor timestamptz DEFAULT NULL,
    p_time_zone text DEFAULT 'UTC')
RETURNS @extschema@.usage_accounts
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_set_usage_cycle';
COMMENT ON FUNCTION @extschema@.set_usage_cycle(uuid, interval, timestamptz, text) IS
'Sets the billing cycle of an account and returns the account''s row.

An unknown account is registered. Periods that exist stay as they are. The next one to be
opened follows the new cycle, clipped to the gap that it falls in.

Arguments:
  p_account_id     the account
  p_period_length  1 second to 100 years in whole milliseconds, no field negative
  p_period_anchor  a time at which some period starts, in the years 1 to 9999; it is
                   truncated to a millisecond, because some clients keep no more. NULL
                   means midnight of Monday, 1 January 2001 in p_time_zone, so that
                   months, ISO weeks and days are those of the calendar
  p_time_zone      name of the time zone in which months and days are added, as in
                   pg_timezone_names

Errors (nothing is written):
  22004  account, length or time zone is NULL
  22023  length or anchor is outside its limits, or the time zone is unknown';

CREATE FUNCTION @extschema@.open_usage_period(
    p_account_id uuid,
    p_period_start timestamptz,
    p_period_end timestamptz,
    p_tokens_used bigint DEFAULT 0,
    p_reports_used bigint DEFAULT 0,
    p_chats_used bigint DEFAULT 0)
RETURNS @extschema@.usage_periods
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_open_usage_period';
COMMENT ON FUNCTION @extschema@.open_usage_period(uuid, timestamptz, timestamptz, bigint, bigint, bigint) IS
'Opens one period of an account, optionally with totals, and returns the period''s row. The
same call again returns the same row.

An unknown account is registered. Opening totals are those carried over from another
system. They are recorded as an event too, so that the events explain the counter. Its key
is "opening:" followed by the start of the period.

Arguments:
  p_account_id    the account
  p_period_start  first instant of the period, in whole milliseconds
  p_period_end    first instant after it, in whole milliseconds
  p_tokens_used   opening tokens, 0 to 2^63 - 1
  p_reports_used  opening reports, 0 to 2^31 - 1
  p_chats_used    opening chats, 0 to 2^31 - 1

Errors (nothing is written):
  UL001  the key of the opening event is already used
  22004  an argument is NULL
  22023  the end is not after the start, a bound is infinite or finer than a
         millisecond, or a total is outside its limits
  23P01  the period overlaps one that exists';

CREATE FUNCTION @extschema@.set_usage_limit(
    p_account_id uuid,
    p_token_limit bigint,
    p_scope text DEFAULT '')
RETURNS @extschema@.usage_limits
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_set_usage_limit';
COMMENT ON FUNCTION @extschema@.set_usage_limit(uuid, bigint, text) IS
'Sets how many tokens an account, or a scope of it, may use in each period, and returns
the limit''s row.

The limit decides what reserve_usage and spend_usage answer. increment_usage counts
whatever was used. A limit below what is used and held refuses new reservations; holds
that exist stay.

Arguments:
  p_account_id   the account, known or not
  p_token_limit  tokens per period, 0 to 2^63 - 1; NULL means no limit, whatever
                 usage_ledger.default_token_limit is
  p_scope        what is limited: a scope as in record_usage, with all scopes below it;
                 empty or NULL: the whole account

Errors (nothing is written):
  22004  account is NULL
  22023  the limit is negative, or the scope is outside its limits';

CREATE FUNCTION @extschema@.reserve_usage(
    p_account_id uuid,
    p_tokens bigint,
    p_idempotency_key text,
    p_expires_in interval DEFAULT '15 minutes',
    p_scope text DEFAULT '',
    OUT outcome text,
    OUT tokens_remaining bigint,
    OUT expires_at timestamptz,
    OUT refused_by text)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_reserve_usage';
COMMENT ON FUNCTION @extschema@.reserve_usage(uuid, bigint, text, interval, text) IS
'Holds tokens of an account''s limit for a key, before the work that will use them.

Count the work under the same key, by any function that counts: that ends the hold. If
nobody counts the key, the hold ends when it expires. Called again with the same key, it
replaces the key''s hold and its expiry: so a retry holds nothing twice, and longer work
raises its hold.

An account without a limit gets usage_ledger.default_token_limit with its first
reservation, if that is set. A hold counts against every period that its life touches.
In a transaction that does both, reserve before you count.

Arguments:
  p_account_id       the account
  p_tokens           the most that the work will use, 0 to 10^12
  p_idempotency_key  the key that the work will be counted under, 1 to 255 bytes
  p_expires_in       how long the hold lives, above 0 and up to 24 hours
  p_scope            the scope that the work will be recorded under, as in record_usage. It
                     must fit at each level on its way: the account, team, team/user. Empty
                     or NULL: only the account''s own limit counts

Outcomes:
  reserved       held until expires_at; at least tokens_remaining are left after it (holds
                 that are dead but not yet deleted may make it less than usage_balances
                 shows)
  limit_reached  refused: a new hold, or a raised one, does not fit. tokens_remaining is
                 the most that this key could hold. A smaller hold of the key stays, and
                 expires_at is its expiry (otherwise NULL). The next try may fit.
                 refused_by is the scope of the limit, the outermost if several refuse;
                 empty: the account''s
  replayed       the key was counted already: do not work again. The others are NULL
  unlimited      no level has a limit, and nothing was written. The others are NULL

Errors (nothing is written):
  UL002  the account is unknown and unknown accounts are rejected, or no period covers
         the time and none can be opened
  UL003  the current period is closed
  22004  an argument is NULL
  22023  key, tokens, expiry or scope is outside its limits';

CREATE FUNCTION @extschema@.release_usage(
    p_account_id uuid,
    p_idempotency_key text,
    OUT outcome text,
    OUT tokens_remaining bigint)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_release_usage';
COMMENT ON FUNCTION @extschema@.release_usage(uuid, text) IS
'Gives back what a key holds, for work that will not be counted.

Arguments:
  p_account_id       the account
  p_idempotency_key  the key of the reservation, 1 to 255 bytes

Outcomes:
  released  given back; tokens_remaining is what is left of the account''s limit, as in
            reserve_usage, NULL if it has none
  replayed  the key holds nothing: it was counted, or its hold was released, has expired
            or was never made; tokens_remaining is NULL

Errors (nothing is written):
  22004  account or key is NULL
  22023  key is outside its limits';

CREATE FUNCTION @extschema@.spend_usage(
    p_account_id uuid,
    p_tokens bigint,
    p_idempotency_key text,
    p_is_report boolean DEFAULT false,
    p_is_chat boolean DEFAULT false,
    p_occurred_at timestamptz DEFAULT NULL,
    p_scope text DEFAULT '',
    OUT outcome text,
    OUT tokens_used bigint,
    OUT period_start timestamptz,
    OUT period_end timestamptz,
    OUT tokens_remaining bigint,
    OUT refused_by text)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_spend_usage';
COMMENT ON FUNCTION @extschema@.spend_usage(uuid, bigint, text, boolean, boolean, timestamptz, text) IS
'Counts one event as increment_usage does, but only if all of it fits the account''s limit.

The holds of other keys take room, that of its own key does not. In a transaction that
does both, spend before you count other events.

Arguments:
  p_account_id       as in increment_usage
  p_tokens           as in increment_usage
  p_idempotency_key  as in increment_usage
  p_is_report        as in increment_usage
  p_is_chat          as in increment_usage
  p_occurred_at      as in increment_usage; the limit is that of the period of this time
  p_scope            as in reserve_usage. Unless it is empty, the event is what record_usage
                     counts with this scope, no model, and all tokens as input tokens

Outcomes:
  applied, queued, replayed  as in increment_usage
  limit_reached              nothing is counted; all but tokens_remaining and refused_by
                             are NULL

tokens_remaining and refused_by are as in reserve_usage. tokens_remaining is NULL if no
level has a limit, and with replayed.

Errors (nothing is written):
  UL001, UL002, UL003, UL005, 22003, 22004, 22023  as in increment_usage';

CREATE FUNCTION @extschema@.settle_usage(p_max_rows integer DEFAULT 100000)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_settle_usage';
COMMENT ON FUNCTION @extschema@.settle_usage(integer) IS
'Settles pending usage: folds rows of usage_pending into their counters.

Runs in the caller''s transaction and returns the number of rows folded. It never waits
for a lock. Rows whose counter another session holds stay pending without a message. Rows
whose counter would overflow or is closed stay pending with a WARNING.

Arguments:
  p_max_rows  pending rows to fold at most, 1 to 10,000,000

Errors (nothing is written):
  22004  the number of rows is NULL
  22023  the number of rows is outside its limits
  55000  a subscription feeds the ledger, so its publisher settles';

CREATE FUNCTION @extschema@.end_usage_period(p_account_id uuid, p_at timestamptz DEFAULT NULL)
RETURNS @extschema@.usage_periods
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_end_usage_period';
COMMENT ON FUNCTION @extschema@.end_usage_period(uuid, timestamptz) IS
'Ends the current period of an account early, and returns the period''s row.

The period keeps its events and totals. The next one opens with the next usage: from the
new end, under the account''s cycle of then. Usage goes to the period that covers its
time, so a late event can still go to the ended one. A closed period can be ended too, and
stays closed.

If no period covers the time, or one ends exactly there, the last period that ended by
then is returned unchanged. So the same p_at again returns the same row.

An end waits for every transaction that has counted usage of the period and has not yet
finished. Later calls for the period wait for the end.

Arguments:
  p_account_id  the account
  p_at          the new end, in whole milliseconds, not in the future: after the start of
                the period and after its last event, voided or not. NULL means now,
                rounded up to a millisecond, or the millisecond after the last event if
                that is later

Errors (nothing is written):
  UL002  the account has no period that starts by p_at
  22004  the account is NULL
  22023  p_at is outside its limits';

CREATE FUNCTION @extschema@.close_usage_period(p_account_id uuid, p_period_start timestamptz)
RETURNS @extschema@.usage_periods
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_close_usage_period';
COMMENT ON FUNCTION @extschema@.close_usage_period(uuid, timestamptz) IS
'Closes a period and returns its final row: the totals on the invoice.

Settles the pending usage of the period, checks the counter and its breakdown against the
events, as verify_usage does, and stamps closed_at. A period that is already closed is
returned unchanged.

A close waits for every transaction that has counted usage of the period and has not yet
ended, and for every one that has queued usage for more than 32 periods. Later calls for
the period wait until the closing transaction ends, and then fail with UL003. So close
each period in a transaction of its own: a close that waits for one account then holds up
no other account.

Arguments:
  p_account_id    the account
  p_period_start  start of one of its periods; a period can be closed before it has ended,
                  and then takes no more usage

Errors (nothing is written):
  UL002  the account has no period with this start
  22003  the counter or its breakdown would overflow with the pending usage
  22004  an argument is NULL
  55000  a subscription feeds the ledger, so periods are closed on its publisher
  XX001  the counter or its breakdown differs from its events';

CREATE FUNCTION @extschema@.void_usage(
    p_account_id uuid,
    p_idempotency_key text,
    p_reason text,
    OUT outcome text,
    OUT tokens_used bigint)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_void_usage';
COMMENT ON FUNCTION @extschema@.void_usage(uuid, text, text) IS
'Takes an event back, once, whether or not it is still pending.

The event''s key stays claimed: a late retry of the call that counted it is replayed.

Arguments:
  p_account_id       the account
  p_idempotency_key  the key that the event was counted under, 1 to 255 bytes
  p_reason           kept with the event, up to 1,000 bytes; NULL means none, or that the
                     reason of a credit stays

Outcomes:
  voided    taken back; tokens_used is the counter after it, without what is pending, or
            NULL where the counter cannot take it yet, so that the void is pending too
  replayed  it was voided before, and nothing changed, not even the reason; tokens_used
            is the counter

Errors (nothing is written):
  UL002  the period of the event was deleted by hand
  UL003  the period of the event is closed
  UL004  no event was counted under this key
  22004  account or key is NULL
  22023  key or reason is outside its limits, or the total of the period would fall below
         zero, because a credit has taken the event''s tokens off: void the credit first';

CREATE FUNCTION @extschema@.credit_usage(
    p_account_id uuid,
    p_tokens bigint,
    p_idempotency_key text,
    p_reason text,
    OUT outcome text,
    OUT tokens_used bigint,
    OUT period_start timestamptz,
    OUT period_end timestamptz)
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_credit_usage';
COMMENT ON FUNCTION @extschema@.credit_usage(uuid, bigint, text, text) IS
'Takes tokens off the current period of an account, once per account and idempotency key:
the correction of a period that is closed.

A credit is an event with negative tokens, which counts now. In every settlement mode it
locks the counter and settles the pending usage of the period, so its total never falls
below zero. void_usage takes a credit back.

A credit has no breakdown. To give back a cost, call record_usage without tokens, for the
same model and scope, with a negative cost.

Arguments:
  p_account_id       the account; registered as by increment_usage
  p_tokens           tokens to take off, 1 to 10^12
  p_idempotency_key  names the credit within its account, 1 to 255 bytes; keys of credits
                     and of other events must differ
  p_reason           kept in void_reason of the event, up to 1,000 bytes; NULL means none

Outcomes:
  applied   recorded and taken off; tokens_used is the counter after it
  replayed  as in increment_usage; the reason stays as it was

Errors (nothing is written):
  UL001  the key was counted before with another payload
  UL002  the account is unknown and unknown accounts are rejected, or no period covers
         the time and none can be opened
  UL003  the current period is closed
  22003  the counter or the breakdown would overflow with the pending usage
  22004  account, tokens or key is NULL
  22023  tokens, key or reason is outside its limits, or the credit exceeds the total of
         the period, which is in DETAIL
  55000  a subscription feeds the ledger, so credits are given on its publisher';

CREATE FUNCTION @extschema@.prune_usage_events(
    p_closed_before timestamptz,
    p_max_rows integer DEFAULT 10000)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_prune_usage_events';
COMMENT ON FUNCTION @extschema@.prune_usage_events(timestamptz, integer) IS
'Deletes events of closed periods, beginning with those closed first, and their keys.

Returns the number of events deleted. Call it until that is less than p_max_rows. A retry
that comes after its key was deleted is a new event.

It can run at the same time as any other call, itself included, and skips a period that
another call is pruning. Sets pruned_at of a period: infinity while the period has events
left, then the time.

An event to which a foreign key of another table refers is left, and named in a WARNING.
All others are deleted. The next call tries it again.

Arguments:
  p_closed_before  only periods whose closed_at is earlier are pruned
  p_max_rows       events to delete at most, 1 to 10,000,000

Errors (nothing is written):
  22004  an argument is NULL
  22023  the number of rows is outside its limits';

CREATE FUNCTION @extschema@.erase_usage(p_account_id uuid)
RETURNS bigint
LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'usage_ledger_erase_usage';
COMMENT ON FUNCTION @extschema@.erase_usage(uuid) IS
'Erases an account: its events with their keys, its periods and their breakdowns, closed
ones too, its pending usage and its cycle.

Returns the number of events erased. For an unknown account that is 0, unless events were
left of it. A call that comes later counts for a new account, also under a key that was
erased.

An erase waits for every transaction that has counted usage of the account and has not yet
ended. A call that is in progress but has not reached its counter may fail with 40001. Its
retry is counted for the new account.

An erase can be cancelled at any time. Then nothing is erased.

Arguments:
  p_account_id  the account

Errors (nothing is written):
  22004  the account is NULL
  23503  a foreign key of another table refers to a row of the account';

CREATE FUNCTION @extschema@.current_usage(p_account_id uuid)
RETURNS @extschema@.usage_totals
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
SET row_security = on
AS $function$
DECLARE
    usage pg_catalog.record;
BEGIN
    IF p_account_id IS NULL THEN
        RAISE EXCEPTION 'account must not be null'
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'Argument p_account_id is null.',
                  HINT = 'Pass the uuid of an account.';
    END IF;

    EXECUTE pg_catalog.format($query$
        SELECT t.*
          FROM %s.usage_totals AS t
         WHERE t.account_id OPERATOR(pg_catalog.=) $1
           AND t.period_start OPERATOR(pg_catalog.<=) pg_catalog.now()
           AND t.period_end OPERATOR(pg_catalog.>) pg_catalog.now()
        $query$, (SELECT extnamespace::pg_catalog.regnamespace
                    FROM pg_catalog.pg_extension
                   WHERE extname OPERATOR(pg_catalog.=) 'usage_ledger'))
       INTO usage
      USING p_account_id;

    -- The query leaves a row of NULLs, which is distinct from NULL.
    IF usage.account_id IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN usage;
END
$function$;
COMMENT ON FUNCTION @extschema@.current_usage(uuid) IS
'Returns the row of usage_totals for the period that covers now().

Runs with the rights of its caller, who needs SELECT on usage_totals, usage_periods and
usage_pending, and sees the accounts that the policies on the tables show. If there is no
such row, the result is NULL. In FROM, as REST gateways call it, that is one row of NULLs:
test account_id.

Arguments:
  p_account_id  the account

Errors:
  22004  the account is NULL
  42501  the caller has no right on the view or its tables';

CREATE FUNCTION @extschema@.verify_usage(p_account_id uuid DEFAULT NULL)
RETURNS TABLE (account_id uuid, period_start timestamptz, counter text, recorded bigint, expected bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    ledger CONSTANT pg_catalog.text := (SELECT extnamespace::pg_catalog.regnamespace
                                          FROM pg_catalog.pg_extension
                                         WHERE extname OPERATOR(pg_catalog.=) 'usage_ledger');
    breakdown_pattern CONSTANT pg_catalog.text := E'^[^\t]*\t[^\t]*(\t-?[0-9]+){7}$';
BEGIN
    RETURN QUERY EXECUTE pg_catalog.format($query$
        SELECT u.account_id, u.period_start, c.counter,
               CASE WHEN pg_catalog.abs(c.recorded) OPERATOR(pg_catalog.<=) 9223372036854775807
                    THEN c.recorded::bigint END,
               CASE WHEN pg_catalog.abs(c.expected) OPERATOR(pg_catalog.<=) 9223372036854775807
                    THEN c.expected::bigint END
          FROM (SELECT s.account_id, s.period_start,
                       pg_catalog.bool_or(s.has_period) AS has_period,
                       pg_catalog.bool_or(s.is_pruned) AS is_pruned,
                       pg_catalog.sum(s.tokens) AS tokens,
                       pg_catalog.sum(s.reports) AS reports,
                       pg_catalog.sum(s.chats) AS chats,
                       pg_catalog.sum(s.tokens_expected) AS tokens_expected,
                       pg_catalog.sum(s.reports_expected) AS reports_expected,
                       pg_catalog.sum(s.chats_expected) AS chats_expected
                  FROM (SELECT account_id, period_start, true AS has_period,
                               pruned_at IS NOT NULL AS is_pruned,
                               tokens_used::numeric AS tokens, reports_used::numeric AS reports,
                               chats_used::numeric AS chats, 0::numeric AS tokens_expected,
                               0::numeric AS reports_expected, 0::numeric AS chats_expected
                          FROM %1$s.usage_periods
                        UNION ALL
                        SELECT account_id, period_start, false, false,
                               tokens::numeric, reports::numeric, chats::numeric,
                               0::numeric, 0::numeric, 0::numeric
                          FROM %1$s.usage_pending
                        UNION ALL
                        SELECT account_id, period_start, false, false,
                               0::numeric, 0::numeric, 0::numeric, pg_catalog.sum(tokens),
                               pg_catalog.sum(reports)::numeric, pg_catalog.sum(chats)::numeric
                          FROM %1$s.usage_events
                         WHERE voided_at IS NULL
                         GROUP BY account_id, period_start) AS s
                 WHERE $1 IS NULL OR s.account_id OPERATOR(pg_catalog.=) $1
                 GROUP BY s.account_id, s.period_start) AS u
         CROSS JOIN LATERAL (
               VALUES (1, 'tokens', CASE WHEN u.has_period THEN u.tokens END, u.tokens_expected),
                      (2, 'reports', CASE WHEN u.has_period THEN u.reports END, u.reports_expected),
                      (3, 'chats', CASE WHEN u.has_period THEN u.chats END, u.chats_expected)
               ) AS c (ordinal, counter, recorded, expected)
         WHERE NOT u.is_pruned
           AND (c.recorded IS NULL OR c.recorded OPERATOR(pg_catalog.<>) c.expected)
         UNION ALL
        SELECT w.account_id, w.period_start, 'malformed', pg_catalog.count(*), 0
          FROM (SELECT account_id, period_start, breakdown
                  FROM %1$s.usage_events
                UNION ALL
                SELECT account_id, period_start, breakdown
                  FROM %1$s.usage_pending) AS w
         WHERE w.breakdown OPERATOR(pg_catalog.!~) %2$L
           AND ($1 IS NULL OR w.account_id OPERATOR(pg_catalog.=) $1)
         GROUP BY w.account_id, w.period_start
         UNION ALL
        SELECT COALESCE(l.account_id, h.account_id), NULL, 'tokens_held', l.tokens_held,
               COALESCE(h.tokens, 0)::bigint
          FROM (SELECT *
                  FROM %1$s.usage_limits
                 WHERE scope OPERATOR(pg_catalog.=) ''
                   AND ($1 IS NULL OR account_id OPERATOR(pg_catalog.=) $1)) AS l
          FULL JOIN (SELECT account_id, pg_catalog.sum(tokens) AS tokens
                       FROM %1$s.usage_holds
                      WHERE $1 IS NULL OR account_id OPERATOR(pg_catalog.=) $1
                      GROUP BY account_id) AS h
            ON h.account_id OPERATOR(pg_catalog.=) l.account_id
         WHERE l.tokens_held IS NULL
            OR l.tokens_held OPERATOR(pg_catalog.<>) COALESCE(h.tokens, 0)
         UNION ALL
        SELECT l.account_id, NULL, pg_catalog.concat(l.scope, '/tokens_held'), l.tokens_held,
               COALESCE(pg_catalog.sum(h.tokens), 0)::bigint
          FROM %1$s.usage_limits AS l
          LEFT JOIN %1$s.usage_holds AS h
            ON h.account_id OPERATOR(pg_catalog.=) l.account_id
           AND pg_catalog.starts_with(h.scope OPERATOR(pg_catalog.||) '/',
                                      l.scope OPERATOR(pg_catalog.||) '/')
         WHERE l.scope OPERATOR(pg_catalog.<>) ''
           AND ($1 IS NULL OR l.account_id OPERATOR(pg_catalog.=) $1)
         GROUP BY l.account_id, l.scope, l.tokens_held
        HAVING l.tokens_held OPERATOR(pg_catalog.<>) COALESCE(pg_catalog.sum(h.tokens), 0)
         ORDER BY 1, 2, 3 DESC
        $query$, ledger, breakdown_pattern)
    USING p_account_id;

    -- Events are expected where src/pg/breakdowns.hpp says that their pair is counted. The rule is
    -- that of usage_breakdown_totals, which Citus cannot plan as a part of this query.
    RETURN QUERY EXECUTE pg_catalog.format($query$
        SELECT u.account_id, u.period_start,
               pg_catalog.concat_ws('/', u.scope, u.model, c.amount),
               CASE WHEN pg_catalog.abs(c.recorded) OPERATOR(pg_catalog.<=) 9223372036854775807
                    THEN c.recorded::bigint END,
               CASE WHEN pg_catalog.abs(c.expected) OPERATOR(pg_catalog.<=) 9223372036854775807
                    THEN c.expected::bigint END
          FROM (SELECT r.account_id, r.period_start,
                       CASE WHEN r.is_full AND NOT r.has_row
                            THEN pg_catalog.split_part(r.scope, '/', 1) ELSE r.scope END AS scope,
                       CASE WHEN r.is_full AND NOT r.has_row
                            THEN '_other' ELSE r.model END AS model,
                       pg_catalog.sum(r.input_tokens) FILTER (WHERE NOT r.is_event) AS input_tokens,
                       pg_catalog.sum(r.cache_read_tokens) FILTER (WHERE NOT r.is_event) AS cache_read_tokens,
                       pg_catalog.sum(r.cache_write_tokens) FILTER (WHERE NOT r.is_event) AS cache_write_tokens,
                       pg_catalog.sum(r.output_tokens) FILTER (WHERE NOT r.is_event) AS output_tokens,
                       pg_catalog.sum(r.reasoning_tokens) FILTER (WHERE NOT r.is_event) AS reasoning_tokens,
                       pg_catalog.sum(r.cost_nanos) FILTER (WHERE NOT r.is_event) AS cost_nanos,
                       pg_catalog.sum(r.events) FILTER (WHERE NOT r.is_event) AS events,
                       pg_catalog.sum(r.input_tokens) FILTER (WHERE r.is_event) AS input_tokens_expected,
                       pg_catalog.sum(r.cache_read_tokens) FILTER (WHERE r.is_event) AS cache_read_tokens_expected,
                       pg_catalog.sum(r.cache_write_tokens) FILTER (WHERE r.is_event) AS cache_write_tokens_expected,
                       pg_catalog.sum(r.output_tokens) FILTER (WHERE r.is_event) AS output_tokens_expected,
                       pg_catalog.sum(r.reasoning_tokens) FILTER (WHERE r.is_event) AS reasoning_tokens_expected,
                       pg_catalog.sum(r.cost_nanos) FILTER (WHERE r.is_event) AS cost_nanos_expected,
                       pg_catalog.sum(r.events) FILTER (WHERE r.is_event) AS events_expected
                  FROM (SELECT p.*,
                               pg_catalog.bool_or(p.is_row)
                                   OVER (PARTITION BY p.account_id, p.period_start, p.scope, p.model) AS has_row,
                               pg_catalog.bool_or(p.is_row AND p.model OPERATOR(pg_catalog.=) '_other')
                                   OVER (PARTITION BY p.account_id, p.period_start) AS is_full,
                               pg_catalog.bool_or(p.is_pruned)
                                   OVER (PARTITION BY p.account_id, p.period_start) AS is_left_out
                          FROM (SELECT s.account_id, s.period_start, s.scope, s.model, s.is_event,
                                       pg_catalog.bool_or(s.is_row) AS is_row,
                                       pg_catalog.bool_or(s.is_pruned) AS is_pruned,
                                       pg_catalog.sum(s.input_tokens) AS input_tokens,
                                       pg_catalog.sum(s.cache_read_tokens) AS cache_read_tokens,
                                       pg_catalog.sum(s.cache_write_tokens) AS cache_write_tokens,
                                       pg_catalog.sum(s.output_tokens) AS output_tokens,
                                       pg_catalog.sum(s.reasoning_tokens) AS reasoning_tokens,
                                       pg_catalog.sum(s.cost_nanos) AS cost_nanos,
                                       pg_catalog.sum(s.events) AS events
                                  FROM (SELECT account_id, period_start, scope, model,
                                               false AS is_event, true AS is_row, false AS is_pruned,
                                               input_tokens::numeric,
                                               cache_read_tokens::numeric,
                                               cache_write_tokens::numeric,
                                               output_tokens::numeric,
                                               reasoning_tokens::numeric,
                                               cost_nanos::numeric,
                                               events::numeric
                                          FROM %1$s.usage_breakdown
                                        UNION ALL
                                        SELECT account_id, period_start, '', '', false, false, true,
                                               0::numeric, 0::numeric, 0::numeric, 0::numeric, 0::numeric, 0::numeric, 0::numeric
                                          FROM %1$s.usage_periods
                                         WHERE pruned_at IS NOT NULL
                                        UNION ALL
                                        SELECT w.account_id, w.period_start,
                                               pg_catalog.split_part(w.breakdown, E'\t', 1),
                                               pg_catalog.split_part(w.breakdown, E'\t', 2),
                                               w.is_event, false, false,
                                               pg_catalog.split_part(w.breakdown, E'\t', 3)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 4)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 5)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 6)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 7)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 8)::numeric,
                                               pg_catalog.split_part(w.breakdown, E'\t', 9)::numeric
                                          FROM (SELECT account_id, period_start, breakdown, false AS is_event
                                                  FROM %1$s.usage_pending
                                                UNION ALL
                                                SELECT account_id, period_start, breakdown, true
                                                  FROM %1$s.usage_events
                                                 WHERE voided_at IS NULL) AS w
                                         WHERE w.breakdown OPERATOR(pg_catalog.~) %2$L) AS s
                                 WHERE $1 IS NULL OR s.account_id OPERATOR(pg_catalog.=) $1
                                 GROUP BY s.account_id, s.period_start, s.scope, s.model, s.is_event
                               ) AS p
                       ) AS r
                 WHERE NOT r.is_left_out
                 GROUP BY 1, 2, 3, 4) AS u
         CROSS JOIN LATERAL (
               VALUES (1, 'input', COALESCE(u.input_tokens, 0), COALESCE(u.input_tokens_expected, 0)),
                      (2, 'cache_read', COALESCE(u.cache_read_tokens, 0), COALESCE(u.cache_read_tokens_expected, 0)),
                      (3, 'cache_write', COALESCE(u.cache_write_tokens, 0), COALESCE(u.cache_write_tokens_expected, 0)),
                      (4, 'output', COALESCE(u.output_tokens, 0), COALESCE(u.output_tokens_expected, 0)),
                      (5, 'reasoning', COALESCE(u.reasoning_tokens, 0), COALESCE(u.reasoning_tokens_expected, 0)),
                      (6, 'cost_nanos', COALESCE(u.cost_nanos, 0), COALESCE(u.cost_nanos_expected, 0)),
                      (7, 'events', COALESCE(u.events, 0), COALESCE(u.events_expected, 0))
               ) AS c (ordinal, amount, recorded, expected)
         WHERE c.recorded OPERATOR(pg_catalog.<>) c.expected
         ORDER BY 1, 2, u.scope, u.model, c.ordinal
        $query$, ledger, breakdown_pattern)
    USING p_account_id;
END
$function$;
COMMENT ON FUNCTION @extschema@.verify_usage(uuid) IS
'Lists every counter and row of a breakdown that differs from the sum of its events, and
every limit whose tokens_held differs from the sum of its holds.

A sound ledger has no such row, even while other sessions write, because the whole check
reads one snapshot. A period is left out once its pruning has begun.

Arguments:
  p_account_id  the account to check; NULL means all accounts

Returns:
  counter   tokens, reports or chats; of a breakdown, its scope, its model, and input,
            cache_read, cache_write, output, reasoning, cost_nanos or events, separated
            by /; tokens_held, or scope/tokens_held, of no period; or malformed
  recorded  the counter plus pending usage; NULL for events and pending usage whose period
            does not exist, and for more than 2^63 - 1, which usage_totals shows. Of
            tokens_held, what usage_limits has; NULL for holds without a limit. Of
            malformed, the number of events and pending rows whose breakdown cannot be
            read: write what their breakdown was, or NULL
  expected  the sum of the events that are not voided; NULL for more than 2^63 - 1. Of
            tokens_held, the sum of the holds; of malformed, 0';

------------------------------------------------------------------------------
-- Statistics
------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.usage_ledger_stats(
    OUT applied bigint,
    OUT queued bigint,
    OUT replayed bigint,
    OUT conflicts bigint,
    OUT refused bigint,
    OUT lock_waits bigint,
    OUT settle_rounds bigint,
    OUT settled_rows bigint,
    OUT reserved bigint,
    OUT limit_reached bigint,
    OUT expired_holds bigint,
    OUT worker_pid integer,
    OUT worker_error text,
    OUT worker_error_at timestamptz,
    OUT stats_reset timestamptz)
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'usage_ledger_stats';
COMMENT ON FUNCTION @extschema@.usage_ledger_stats() IS
'Returns the statistics of the view usage_ledger_stats that are kept in shared memory.

All are NULL unless usage_ledger is in shared_preload_libraries.';

CREATE FUNCTION @extschema@.usage_ledger_stats_reset()
RETURNS void
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'usage_ledger_stats_reset';
COMMENT ON FUNCTION @extschema@.usage_ledger_stats_reset() IS
'Sets the statistics of all databases to 0 and forgets the worker''s errors until they
occur again.

Errors:
  55000  usage_ledger is not in shared_preload_libraries';

-- Reads the whole queue of this database, which is short as long as it is settled.
CREATE VIEW @extschema@.usage_ledger_stats WITH (security_invoker = true) AS
SELECT s.applied,
       s.queued,
       s.replayed,
       s.conflicts,
       s.refused,
       s.lock_waits,
       s.settle_rounds,
       s.settled_rows,
       s.reserved,
       s.limit_reached,
       s.expired_holds,
       q.pending_rows,
       q.pending_age,
       s.worker_pid,
       s.worker_error,
       s.worker_error_at,
       s.stats_reset
  FROM @extschema@.usage_ledger_stats() AS s
 CROSS JOIN (SELECT pg_catalog.count(*) AS pending_rows,
                    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.min(recorded_at) AS pending_age
               FROM @extschema@.usage_pending) AS q;
COMMENT ON VIEW @extschema@.usage_ledger_stats IS
'One row: the outcomes of calls in all databases since stats_reset, the pending usage of
this database, and the settling worker. A call is counted when it is made, even if its
transaction rolls back. Without usage_ledger in shared_preload_libraries, only
pending_rows and pending_age are known. Readers need EXECUTE on usage_ledger_stats(), and
SELECT on usage_pending (recorded_at) with a policy that shows all rows.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.applied IS
'Calls of increment_usage, record_usage and credit_usage
and items of batches that were recorded and added.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.queued IS
'Calls of increment_usage and record_usage and items of
batches that were recorded and left pending.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.replayed IS
'Calls of increment_usage, record_usage and credit_usage
and items of batches whose key had been counted before.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.conflicts IS
'Calls of increment_usage, record_usage and credit_usage
and items of batches whose key had been counted before
with another payload (UL001).';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.refused IS
'Calls of increment_usage, record_usage, credit_usage and
void_usage and items of batches that were refused with
UL002, UL003, UL004, UL005, 22003, 22004 or 22023. A
batch that is refused as a whole, because an array is
NULL or malformed, counts one. Not counted: errors of
other functions, and errors that the server raises
before the function runs, such as a malformed uuid. A
void that succeeds counts neither here nor in applied,
queued or replayed.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.lock_waits IS 'Calls that had to wait in line for a counter.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.settle_rounds IS
'How often a worker or settle_usage has looked for
pending rows.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.settled_rows IS 'Pending rows added to their counters.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.reserved IS 'Calls of reserve_usage that were answered with reserved.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.limit_reached IS
'Calls of reserve_usage and spend_usage that were
answered with limit_reached.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.expired_holds IS
'Holds that expired before their key was counted, of
those that were deleted by a worker or a reservation.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.pending_rows IS 'Rows in usage_pending of this database.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.pending_age IS
'How long the oldest pending row has been pending; NULL
when there is none.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_pid IS
'Process of the settling worker''s launcher; NULL when it
does not run.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_error IS
'Why the worker does not run, or the newest of the errors
in usage_ledger_worker; NULL if all is well.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.worker_error_at IS 'When the error last occurred.';
COMMENT ON COLUMN @extschema@.usage_ledger_stats.stats_reset IS 'When the statistics were last reset.';

CREATE FUNCTION @extschema@.usage_ledger_worker(
    OUT database text,
    OUT settler_pid integer,
    OUT last_settled_at timestamptz,
    OUT error text,
    OUT error_at timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'usage_ledger_worker';
COMMENT ON FUNCTION @extschema@.usage_ledger_worker() IS
'Returns the rows of the view usage_ledger_worker, from shared memory.';

CREATE VIEW @extschema@.usage_ledger_worker WITH (security_invoker = true) AS
SELECT w.database,
       w.settler_pid,
       w.last_settled_at,
       w.error,
       w.error_at
  FROM @extschema@.usage_ledger_worker() AS w;
COMMENT ON VIEW @extschema@.usage_ledger_worker IS
'A row per database in usage_ledger.settle_databases: how the settling worker fares there. No
rows unless usage_ledger is in shared_preload_libraries.';
COMMENT ON COLUMN @extschema@.usage_ledger_worker.database IS 'Name of the database, as configured.';
COMMENT ON COLUMN @extschema@.usage_ledger_worker.settler_pid IS
'Process that is settling the database now; NULL between
its visits.';
COMMENT ON COLUMN @extschema@.usage_ledger_worker.last_settled_at IS
'When the worker last committed a round there, whether or
not anything was pending; NULL if it has not since the
server started.';
COMMENT ON COLUMN @extschema@.usage_ledger_worker.error IS
'Why the database is not settled, at most 255 bytes; NULL
once a round has succeeded.';
COMMENT ON COLUMN @extschema@.usage_ledger_worker.error_at IS 'When the error last occurred.';

------------------------------------------------------------------------------
-- Guard
------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.usage_ledger_guard()
RETURNS event_trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'usage_ledger_guard';
COMMENT ON FUNCTION @extschema@.usage_ledger_guard() IS
'Refuses what the event trigger usage_ledger_guard is there to refuse.

Errors:
  0A000  a table, view or function of the extension would be changed
  2BP01  the extension would be dropped while tables have columns of its row types';

CREATE EVENT TRIGGER usage_ledger_guard ON ddl_command_start
  WHEN TAG IN ('ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER TABLE', 'ALTER VIEW', 'CREATE INDEX',
               'CREATE RULE', 'CREATE TRIGGER', 'CREATE VIEW', 'DROP EXTENSION')
  EXECUTE FUNCTION @extschema@.usage_ledger_guard();
COMMENT ON EVENT TRIGGER usage_ledger_guard IS
'Refuses changes to the ledger that a dump and restore would lose or stumble over: other
columns, constraints, unique indexes, triggers and rules of its tables, other names and
schemas. ALTER EVENT TRIGGER usage_ledger_guard DISABLE permits them.';

------------------------------------------------------------------------------
-- Rights
--
-- Only the owner keeps any. PUBLIC and the default privileges of the schema or the
-- database would otherwise give rights to others.
------------------------------------------------------------------------------

DO $rights$
DECLARE
    revoke_command pg_catalog.text;
BEGIN
    FOR revoke_command IN
        SELECT DISTINCT pg_catalog.format(
                   'REVOKE ALL ON %s FROM %s',
                   CASE WHEN c.oid IS NULL
                        THEN pg_catalog.format('FUNCTION %s', p.oid::pg_catalog.regprocedure)
                        ELSE pg_catalog.format('TABLE %s', c.oid::pg_catalog.regclass) END,
                   CASE WHEN acl.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                        ELSE acl.grantee::pg_catalog.regrole::pg_catalog.text END)
          FROM pg_catalog.pg_extension AS e
          JOIN pg_catalog.pg_depend AS d
            ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
           AND d.refobjid OPERATOR(pg_catalog.=) e.oid
          LEFT JOIN pg_catalog.pg_class AS c
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.objid OPERATOR(pg_catalog.=) c.oid
          LEFT JOIN pg_catalog.pg_proc AS p
            ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
           AND d.objid OPERATOR(pg_catalog.=) p.oid
         CROSS JOIN LATERAL pg_catalog.aclexplode(
               COALESCE(c.relacl, p.proacl, pg_catalog.acldefault('f', p.proowner))) AS acl
         WHERE e.extname OPERATOR(pg_catalog.=) 'usage_ledger'
           AND acl.grantee OPERATOR(pg_catalog.<>) COALESCE(c.relowner, p.proowner)
    LOOP
        EXECUTE revoke_command;
    END LOOP;
END
$rights$;

------------------------------------------------------------------------------
-- Objects of the same names
--
-- A call that passes a text and an integer reaches an older increment_usage(uuid, integer,
-- text) in the same schema, which matches it better, or in any schema that comes first in
-- the caller's search path. A query reaches a table in such a schema in the same way.
------------------------------------------------------------------------------

DO $names$
DECLARE
    objects pg_catalog.text;
BEGIN
    WITH members AS (
        SELECT d.classid, d.objid
          FROM pg_catalog.pg_depend AS d
          JOIN pg_catalog.pg_extension AS e
            ON e.oid OPERATOR(pg_catalog.=) d.refobjid
         WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
           AND d.deptype OPERATOR(pg_catalog.=) 'e'
           AND e.extname OPERATOR(pg_catalog.=) 'usage_ledger'),
    objects_by_name AS (
        SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass AS classid, oid AS objid,
               proname AS name, pronamespace AS namespace
          FROM pg_catalog.pg_proc
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, oid, relname, relnamespace
          FROM pg_catalog.pg_class
         WHERE relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'))
    SELECT pg_catalog.string_agg(pg_catalog.format('%s %s', i.type, i.identity), E'\n'
                                 ORDER BY i.identity COLLATE pg_catalog."C")
      INTO objects
      FROM objects_by_name AS o
      JOIN pg_catalog.pg_namespace AS n
        ON n.oid OPERATOR(pg_catalog.=) o.namespace
     CROSS JOIN LATERAL pg_catalog.pg_identify_object(o.classid, o.objid, 0) AS i
     WHERE NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')
       AND NOT EXISTS (SELECT
                         FROM members AS m
                        WHERE m.classid OPERATOR(pg_catalog.=) o.classid
                          AND m.objid OPERATOR(pg_catalog.=) o.objid)
       AND EXISTS (SELECT
                     FROM objects_by_name AS ours
                     JOIN members AS m
                       ON m.classid OPERATOR(pg_catalog.=) ours.classid
                      AND m.objid OPERATOR(pg_catalog.=) ours.objid
                    WHERE ours.classid OPERATOR(pg_catalog.=) o.classid
                      AND ours.name OPERATOR(pg_catalog.=) o.name);
    IF objects IS NOT NULL THEN
        RAISE WARNING 'other objects have the names of objects of usage_ledger'
            USING DETAIL = objects,
                  HINT = E'Calls and queries may reach them instead of the ledger. Drop or rename them,\n'
                          'or name the schema of the ledger and cast arguments to its types.';
    END IF;
END
$names$;
