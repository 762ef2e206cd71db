-- Limits: tokens are reserved before the work, and counted after it.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET usage_ledger.max_event_age = '20000d';
\set a '''17000000-0000-0000-0000-000000000001'''
\set b '''17000000-0000-0000-0000-000000000002'''
\set c '''17000000-0000-0000-0000-000000000003'''
\set d '''17000000-0000-0000-0000-000000000004'''
\set e '''17000000-0000-0000-0000-000000000005'''
\set f '''17000000-0000-0000-0000-000000000006'''
\set g '''17000000-0000-0000-0000-000000000007'''
CREATE VIEW balances AS
SELECT right(account_id::text, 1) AS account, token_limit, tokens_used, tokens_held, tokens_remaining,
       period_start IS NOT NULL AS has_period
  FROM usage_balances ORDER BY 1;
CREATE VIEW holds AS
SELECT right(account_id::text, 1) AS account, idempotency_key, tokens FROM usage_holds ORDER BY 1, 2;
-- For a hold that has expired, or would have, had somebody waited.
CREATE PROCEDURE expire(account uuid, key text) LANGUAGE sql AS
$$ UPDATE usage_holds SET expires_at = now() WHERE account_id = account AND idempotency_key = key $$;

-- Without a limit nothing is held or written.
BEGIN;
SELECT * FROM reserve_usage(:a, 10, 'k1');
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:b, 0, 'zero');
SELECT * FROM release_usage(:a, 'k1');
SELECT count(*) FROM usage_limits;
ROLLBACK;
SELECT outcome, pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing FROM reserve_usage(:a, 10, 'k1');

-- Reserve, work, count. The expiry is that of the call.
SELECT token_limit, tokens_held, scope = '' AS is_whole_account FROM set_usage_limit(:a, 100);
SELECT outcome, tokens_remaining, expires_at - now() BETWEEN '15 min' AND '16 min' AS expires_in_15_minutes FROM reserve_usage(:a, 60, 'k1');
SELECT outcome, tokens_remaining, expires_at - now() BETWEEN '1 h' AND '61 min' AS expires_in_an_hour FROM reserve_usage(:a, 30, 'k2', '1 hour');
SELECT * FROM balances;
SELECT outcome, tokens_used FROM increment_usage(:a, 40, 'k1', true);
SELECT * FROM balances;
-- The hold is dead. It is deleted when its room is needed.
SELECT * FROM holds;
SELECT outcome, tokens_remaining, expires_at FROM reserve_usage(:a, 31, 'k3');
SELECT * FROM holds;
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'k3');
SELECT * FROM holds;
-- A counted key is replayed, before any look at the limit; nothing is written.
SELECT outcome, tokens_remaining, expires_at, pg_current_xact_id_if_assigned() IS NULL AS wrote_nothing FROM reserve_usage(:a, 1000, 'k1');
SELECT * FROM verify_usage();

-- The same key again: a retry holds nothing twice, a longer stream raises its hold, a shorter one lowers it.
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'k3');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 20, 'k3');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 25, 'k3');
-- A raise that does not fit: the smaller hold stays, and its expiry is returned.
SELECT expires_at AS k3_expires_at FROM usage_holds WHERE idempotency_key = 'k3' \gset
SELECT outcome, tokens_remaining, expires_at = :'k3_expires_at' AS is_own_expiry FROM reserve_usage(:a, 31, 'k3', '2 hours');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'k3');
SELECT * FROM holds;
SELECT * FROM balances;

-- Released, once. An expired hold and one of a counted key have nothing to give back.
SELECT * FROM release_usage(:a, 'k3');
SELECT * FROM release_usage(:a, 'k3');
SELECT * FROM release_usage(:a, 'k1');
SELECT outcome FROM reserve_usage(:a, 30, 'k3');
CALL expire(:a, 'k3');
SELECT * FROM balances;
SELECT * FROM release_usage(:a, 'k3');
SELECT * FROM holds;
-- Zero tokens can be held and released too.
SELECT outcome FROM reserve_usage(:a, 0, 'zero');
SELECT * FROM release_usage(:a, 'zero');
SELECT * FROM verify_usage();

-- After it has expired, a hold makes room for others. Its key can reserve again if there is room, and what it counts is counted.
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'late');
CALL expire(:a, 'late');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 20, 'other');
SELECT outcome, tokens_remaining, expires_at FROM reserve_usage(:a, 30, 'late');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 10, 'late');
CALL expire(:a, 'late');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 5, 'other 2');
-- 40 used, 30, 20 and 5 held. An expired hold of the key itself is no claim to its tokens.
UPDATE usage_limits SET tokens_held = tokens_held + 5 WHERE account_id = :a;
INSERT INTO usage_holds SELECT account_id, now(), 5, 'late' FROM usage_limits WHERE account_id = :a;
SELECT outcome, tokens_remaining, expires_at FROM reserve_usage(:a, 6, 'late');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 5, 'late');
SELECT outcome, tokens_used FROM increment_usage(:a, 50, 'late');
SELECT * FROM balances;
SELECT * FROM verify_usage();

-- Above the limit: counted without a hold, above its hold, or after it expired. New holds are refused; those that exist can be kept and lowered.
SELECT outcome, tokens_used FROM increment_usage(:a, 1000, 'no hold');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 1, 'new');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'k2');
SELECT outcome, tokens_remaining, expires_at IS NULL AS has_no_hold FROM reserve_usage(:a, 31, 'k2');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 29, 'k2');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 30, 'k2');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 0, 'nothing');
SELECT * FROM balances;

-- A void makes room at once, and its key stays claimed.
SELECT * FROM void_usage(:a, 'no hold', 'by mistake');
SELECT * FROM void_usage(:a, 'late', 'by mistake');
SELECT outcome FROM reserve_usage(:a, 1, 'late');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 6, 'room');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 7, 'room');
-- So does a higher limit; a lower one refuses, NULL refuses nothing.
SELECT token_limit, tokens_held FROM set_usage_limit(:a, 150);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 7, 'room');
SELECT token_limit FROM set_usage_limit(:a, 20);
SELECT * FROM balances;
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 8, 'room');
SELECT token_limit FROM set_usage_limit(:a, NULL);
SELECT * FROM balances;
SELECT * FROM reserve_usage(:a, 1000000000000, 'any');
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:a, 5, 'spent without a limit');
SELECT outcome, tokens_remaining FROM release_usage(:a, 'room');
SELECT token_limit FROM set_usage_limit(:a, 0);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 1, 'any');
SELECT token_limit FROM set_usage_limit(:a, 9223372036854775807);
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 1, 'any');
SELECT * FROM verify_usage();

-- Counted above its hold: all of it.
SELECT count(*) FROM set_usage_limit(:b, 100);
SELECT outcome, tokens_remaining FROM reserve_usage(:b, 100, 'above');
SELECT outcome, tokens_used FROM increment_usage(:b, 101, 'above');
SELECT outcome, tokens_remaining FROM reserve_usage(:b, 1, 'more');
SELECT * FROM balances WHERE account = '2';

-- Spending: all or nothing, by the code that counts.
SELECT count(*) FROM set_usage_limit(:c, 100);
SELECT outcome, tokens_used, period_start <= now() AND period_end > now() AS is_current, tokens_remaining
  FROM spend_usage(:c, 60, 's1', true);
SELECT * FROM spend_usage(:c, 41, 's2', true, true);
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:c, 60, 's1', true);
SELECT outcome FROM spend_usage(:c, 61, 's1', true);
-- Holds of other keys take room, that of its own does not.
SELECT outcome, tokens_remaining FROM reserve_usage(:c, 30, 's3');
SELECT outcome, tokens_remaining FROM spend_usage(:c, 11, 's4');
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:c, 40, 's3', false, true);
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:c, 0, 's5');
SELECT * FROM balances WHERE account = '3';
SELECT tokens_used, reports_used, chats_used FROM current_usage(:c);
-- Refused in the middle of a transaction, which goes on.
BEGIN;
SELECT outcome FROM spend_usage(:c, 1, 's6');
SELECT outcome FROM reserve_usage(:c, 1, 's6');
SELECT outcome FROM increment_usage(:c, 1, 'goes on');
COMMIT;
SELECT tokens_used FROM current_usage(:c);
SELECT * FROM verify_usage();

-- Usage that is pending takes room, in every settlement mode, and reserves and spends with it.
SET usage_ledger.settlement = 'deferred';
SELECT count(*) FROM set_usage_limit(:d, 100);
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:d, 50, 'd1');
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 51, 'd2');
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 50, 'd2');
SELECT outcome FROM increment_usage(:d, 30, 'd2');
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 21, 'd3');
SELECT tokens_used FROM usage_periods WHERE account_id = :d;
SET usage_ledger.settlement = 'adaptive';
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:d, 5, 'd4');
SELECT settle_usage() > 0 AS settled;
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 16, 'd3');
RESET usage_ledger.settlement;
SELECT outcome, outcome FROM increment_usage_batch(ARRAY[:d]::uuid[], '{1}', '{d5}');
SELECT * FROM balances WHERE account = '4';

-- Rolled back, all of it; a savepoint, what came after it.
BEGIN;
SELECT outcome FROM reserve_usage(:d, 1, 'rolled back');
ROLLBACK;
BEGIN;
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 1, 'kept');
SAVEPOINT s;
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 2, 'rolled back');
ROLLBACK TO s;
SELECT outcome, tokens_remaining FROM reserve_usage(:d, 3, 'kept too');
COMMIT;
SELECT * FROM holds WHERE account = '4';
-- Several in one statement, of which each sees those before it.
SELECT outcome, tokens_remaining FROM generate_series(1, 14) AS n, reserve_usage(:d, 1, 'n' || n) WHERE outcome <> 'reserved' OR tokens_remaining < 2;
SELECT * FROM verify_usage();

-- A default limit is given with the first reservation or spending, not by counting. An account that has a limit keeps it.
SET usage_ledger.default_token_limit = '70';
SELECT outcome FROM increment_usage(:e, 1, 'counted');
SELECT count(*) FROM usage_limits WHERE account_id = :e;
SELECT outcome, tokens_remaining FROM reserve_usage(:e, 70, 'e1');
SELECT outcome, tokens_remaining FROM reserve_usage(:e, 69, 'e1');
SELECT outcome FROM reserve_usage(:e, 1, 'counted');
SET usage_ledger.default_token_limit = '1000';
SELECT outcome, tokens_remaining FROM spend_usage(:e, 1, 'e2');
SELECT outcome, tokens_remaining FROM reserve_usage(:a, 1000, 'has its own');
SET usage_ledger.default_token_limit = '9223372036854775807';
SET usage_ledger.default_token_limit = '';
SET usage_ledger.default_token_limit = '-1';
SET usage_ledger.default_token_limit = '9223372036854775808';
SET usage_ledger.default_token_limit = '12 tokens';
SET usage_ledger.default_token_limit = '-';
SHOW usage_ledger.default_token_limit;

-- The next period. A hold that outlives its period counts against the next one.
SELECT count(*) FROM set_usage_limit(:f, 100);
SELECT outcome FROM increment_usage(:f, 60, 'f1');
SELECT outcome, tokens_remaining FROM reserve_usage(:f, 40, 'f2', '1 day');
SELECT outcome FROM reserve_usage(:f, 1, 'f3');
SELECT period_end AS ended_at FROM end_usage_period(:f) \gset
SELECT pg_sleep(0.002);
SELECT tokens_used, tokens_held, tokens_remaining, has_period FROM balances WHERE account = '6';
SELECT outcome, tokens_remaining FROM reserve_usage(:f, 61, 'f3');
SELECT outcome, tokens_remaining FROM reserve_usage(:f, 60, 'f3');
SELECT outcome, tokens_used FROM increment_usage(:f, 40, 'f2');
SELECT * FROM balances WHERE account = '6';
SELECT outcome, tokens_remaining FROM reserve_usage(:f, 1, 'f4');
-- Usage goes to the period of its time: spending late counts there.
SELECT outcome, tokens_remaining FROM spend_usage(:f, 1, 'f5', p_occurred_at => :'ended_at'::timestamptz - interval '1 ms');
SELECT outcome FROM release_usage(:f, 'f3');
SELECT outcome, tokens_used, tokens_remaining FROM spend_usage(:f, 1, 'f5', p_occurred_at => :'ended_at'::timestamptz - interval '1 ms');
-- Usage that was counted ahead: a hold must fit each period that its life touches.
SELECT outcome FROM increment_usage(:g, 1, 'g1');
SELECT count(*) FROM set_usage_limit(:g, 100);
UPDATE usage_periods SET period_end = date_trunc('milliseconds', now()) + interval '1 hour' WHERE account_id = :g;
SELECT o.tokens_used FROM usage_periods AS p, open_usage_period(:g, p.period_end, p.period_end + interval '1 day', 90) AS o WHERE p.account_id = :g;
SELECT outcome, tokens_remaining FROM reserve_usage(:g, 11, 'g2', '50 minutes');
SELECT outcome, tokens_remaining FROM reserve_usage(:g, 11, 'g2', '70 minutes');
SELECT outcome, tokens_remaining FROM reserve_usage(:g, 10, 'g2', '70 minutes');
SELECT outcome, tokens_remaining FROM reserve_usage(:g, 10, 'g2', '2 hours');
SELECT outcome, tokens_remaining FROM reserve_usage(:g, 1, 'g3', '70 minutes');

-- Work that cannot be counted must not begin: the period is closed,
SELECT count(*) FROM usage_periods AS p, close_usage_period(p.account_id, p.period_start) WHERE p.account_id = :g AND p.period_end <= now() + interval '1 hour';
\set VERBOSITY sqlstate
SELECT reserve_usage(:g, 1, 'g4');
SELECT reserve_usage(:g, 1000, 'g4');
SELECT spend_usage(:g, 1, 'g4');
SELECT spend_usage(:g, 1000, 'g4');
\set VERBOSITY terse
SELECT outcome FROM reserve_usage(:g, 1, 'g1');
SELECT count(*) FROM set_usage_limit(:g, NULL);
SELECT reserve_usage(:g, 1, 'g4');
SELECT spend_usage(:g, 1, 'g4');
-- or the account is unknown,
\set unknown '''17000000-0000-0000-0000-0000000000ff'''
SET usage_ledger.unknown_account = 'reject';
SELECT reserve_usage(:unknown, 1, 'k');
SET usage_ledger.default_token_limit = '10';
SELECT reserve_usage(:unknown, 1, 'k');
SELECT reserve_usage(:unknown, 11, 'k');
SELECT spend_usage(:unknown, 1, 'k');
SELECT spend_usage(:unknown, 11, 'k');
SELECT count(*) FROM usage_limits WHERE account_id = :unknown;
RESET usage_ledger.unknown_account;
SELECT outcome, tokens_remaining FROM reserve_usage(:unknown, 1, 'k');
RESET usage_ledger.default_token_limit;
-- or no period can be opened.
SELECT count(*) FROM set_usage_cycle(:unknown, '1 month');
UPDATE usage_accounts SET time_zone = 'Nowhere' WHERE account_id = :unknown;
SELECT reserve_usage(:unknown, 2, 'k2');

-- Arguments outside their limits.
\set VERBOSITY default
SELECT reserve_usage(NULL, 1, 'k');
SELECT reserve_usage(:a, NULL, 'k');
SELECT reserve_usage(:a, 1, NULL);
SELECT reserve_usage(:a, 1, 'k', NULL);
SELECT reserve_usage(:a, -1, 'k');
SELECT reserve_usage(:a, 1000000000001, 'k');
SELECT reserve_usage(:a, 1, '');
SELECT reserve_usage(:a, 1, repeat('k', 256));
SELECT reserve_usage(:a, 1, repeat('k', 800));
SELECT reserve_usage(:a, 1, 'k', '0');
SELECT reserve_usage(:a, 1, 'k', '-1 second');
SELECT reserve_usage(:a, 1, 'k', '24:00:00.000001');
SELECT reserve_usage(:a, 1, 'k', '1 month');
SELECT reserve_usage(:a, 1, 'k', '178000000 years');
SELECT outcome FROM reserve_usage(:a, 1, 'k', '1 day');
SELECT outcome FROM reserve_usage(:a, 1, 'k', '1 microsecond');
SELECT release_usage(NULL, 'k');
SELECT release_usage(:a, NULL);
SELECT release_usage(:a, '');
SELECT release_usage(:a, repeat('k', 256));
SELECT spend_usage(NULL, 1, 'k');
SELECT spend_usage(:a, -1, 'k');
SELECT spend_usage(:a, 1, repeat('k', 256));
\set VERBOSITY terse
SELECT spend_usage(:a, 1, 'k', p_occurred_at => 'infinity');
\set VERBOSITY default
SELECT set_usage_limit(NULL, 1);
SELECT set_usage_limit(:a, -1);

-- Dead holds are cleared in steps, as many as are needed, and only those.
\set h '''17000000-0000-0000-0000-000000000008'''
SELECT count(*) FROM set_usage_limit(:h, 5000);
INSERT INTO usage_holds SELECT :h, now() - interval '1 minute', 1, 'dead ' || n FROM generate_series(1, 2500) AS n;
INSERT INTO usage_holds SELECT :h, now() + interval '1 hour', 1, 'alive ' || n FROM generate_series(1, 2500) AS n;
UPDATE usage_limits SET tokens_held = 5000 WHERE account_id = :h;
SELECT outcome, tokens_remaining FROM reserve_usage(:h, 500, 'new');
SELECT count(*) FROM usage_holds WHERE account_id = :h AND expires_at <= now();
SELECT outcome, tokens_remaining FROM reserve_usage(:h, 2000, 'newer');
SELECT outcome, tokens_remaining FROM reserve_usage(:h, 2001, 'newer');
SELECT outcome, tokens_remaining FROM reserve_usage(:h, 1, 'newest');
SELECT count(*) FROM usage_holds WHERE account_id = :h;

-- Limits of scopes. A reservation must fit at each level on its way.
\set s '''17000000-0000-0000-0000-000000000009'''
CREATE VIEW levels AS
SELECT scope, token_limit, tokens_used, tokens_held, tokens_remaining FROM usage_balances
 WHERE account_id = :s ORDER BY scope;
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 10, 'before', p_scope => 'team/ann');
SELECT scope, token_limit, tokens_held FROM set_usage_limit(:s, 50, 'team');
SELECT scope, token_limit FROM usage_limits WHERE account_id = :s ORDER BY scope;
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 1000, 'elsewhere', p_scope => 'teams');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 30, 'k1', p_scope => 'team/ann');
SELECT scope, token_limit, tokens_held FROM set_usage_limit(:s, 100);
SELECT scope, token_limit, tokens_held FROM set_usage_limit(:s, 35, 'team/ann');
SELECT scope, token_limit, tokens_held FROM set_usage_limit(:s, NULL, 'team/ann/deep');
SELECT * FROM levels;
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 6, 'k2', p_scope => 'team/ann');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 21, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 101, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 20, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 51, 'k3');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 50, 'k3', p_scope => 'other');
SELECT * FROM levels;
-- A retry holds nothing twice. The hold of a key moves with its scope, also to none and back.
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 20, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 5, 'k2', p_scope => 'team/ann/deep');
SELECT * FROM levels;
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 20, 'k2');
SELECT idempotency_key, tokens, scope FROM usage_holds WHERE account_id = :s ORDER BY 1;
SELECT * FROM levels;
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 21, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining FROM reserve_usage(:s, 20, 'k2', p_scope => 'team/bob');
SELECT outcome, tokens_remaining FROM release_usage(:s, 'k3');
SELECT count(*) FROM verify_usage(:s);
-- Usage counts at each level, in every mode, and its count ends the hold.
SELECT outcome FROM record_usage(:s, 'k1', 'm', 'team/ann', p_input_tokens => 20, p_output_tokens => 5);
SET usage_ledger.settlement = 'deferred';
SELECT outcome FROM record_usage(:s, 'k2', 'm', 'team/bob', p_output_tokens => 20);
SELECT outcome FROM record_usage(:s, 'near', 'm', 'team/annette', p_output_tokens => 1);
RESET usage_ledger.settlement;
SELECT * FROM levels;
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 5, 'k4', p_scope => 'team/ann');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 4, 'k4', p_scope => 'team/ann');
SELECT settle_usage() >= 2 AS is_settled;
SELECT * FROM levels;
SELECT outcome FROM void_usage(:s, 'k1', 'test');
SELECT * FROM levels;
-- What a level has used is read in its range of the primary key, not in the whole period.
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS
$$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || query; END $$;
SELECT substring(line FROM '\(scope >= .*') AS range FROM pg_temp.plan_of('SELECT * FROM usage_scope_totals') AS line
 WHERE line LIKE '%Index Cond: %scope >= %';
-- A spending is recorded with its scope.
SELECT outcome, tokens_used, tokens_remaining, refused_by FROM spend_usage(:s, 26, 'k5', p_scope => 'team/ann');
SELECT outcome, tokens_used, tokens_remaining, refused_by FROM spend_usage(:s, 25, 'k5', p_scope => 'team/ann');
SELECT outcome FROM record_usage(:s, 'k5', p_scope => 'team/ann', p_input_tokens => 25);
SELECT outcome, tokens_remaining, refused_by FROM spend_usage(:s, 25, 'k5', p_scope => 'team/ann');
SELECT outcome FROM spend_usage(:s, 25, 'k5');
SELECT * FROM levels;
-- Usage beyond max_breakdowns is under _other, but its scope is known.
SET usage_ledger.max_breakdowns = 0;
SELECT scope, token_limit FROM set_usage_limit(:s, 40, 'full/ann');
SELECT outcome FROM record_usage(:s, 'f1', 'm', 'full/ann', p_input_tokens => 9);
SELECT outcome FROM record_usage(:s, 'f2', 'm', 'full/bob', p_input_tokens => 2);
RESET usage_ledger.max_breakdowns;
SELECT scope, model, input_tokens FROM usage_breakdown WHERE account_id = :s AND scope LIKE 'full%' ORDER BY 1;
SELECT * FROM levels WHERE scope LIKE 'full%';
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 32, 'f3', p_scope => 'full/ann');
-- A dead hold gives room back at each level.
CALL expire(:s, 'k4');
SELECT outcome, tokens_remaining, refused_by FROM reserve_usage(:s, 10, 'k6', p_scope => 'team/ann');
SELECT scope, tokens_held FROM usage_limits WHERE account_id = :s ORDER BY 1;
SELECT * FROM verify_usage(:s);
BEGIN;
UPDATE usage_limits SET tokens_held = 1 WHERE account_id = :s AND scope = 'team';
SELECT counter, recorded, expected FROM verify_usage(:s);
ROLLBACK;
\set VERBOSITY default
SELECT set_usage_limit(:s, 1, 'team//ann');
SELECT reserve_usage(:s, 1, 'k', p_scope => '/team');
SELECT spend_usage(:s, 1, 'k', p_scope => E'a\tb');
SELECT set_usage_limit(:s, 1, repeat('x', 256));
-- An event from a dump in another encoding may have a longer scope. Its retry is a replay.
BEGIN;
SELECT outcome FROM spend_usage(:s, 1, 'restored', p_scope => repeat('x', 255));
UPDATE usage_events SET breakdown = repeat('x', 300) || substr(breakdown, 256) WHERE idempotency_key = 'restored';
SELECT outcome FROM spend_usage(:s, 1, 'restored', p_scope => repeat('x', 300));
SELECT outcome FROM reserve_usage(:s, 1, 'restored', p_scope => repeat('x', 300));
ROLLBACK;
SELECT spend_usage(:s, 1, 'new', p_scope => repeat('x', 300));
SELECT reserve_usage(:s, 1, 'new', p_scope => repeat('x', 300));
SELECT reserve_usage(:s, 1, 'new', p_scope => repeat('x', 800));
SELECT outcome FROM reserve_usage(:s, 1, 'null', p_scope => NULL);
SELECT erase_usage(:s) > 0 AS is_erased;
SELECT count(*) FROM usage_limits WHERE account_id = :s;
DROP VIEW levels;

-- verify_usage compares limits with holds.
BEGIN;
UPDATE usage_limits SET tokens_held = 1 WHERE account_id = :h;
DELETE FROM usage_limits WHERE account_id = :d;
SELECT right(account_id::text, 1) AS account, period_start, counter, recorded, expected FROM verify_usage();
SELECT counter, recorded, expected FROM verify_usage(:d);
ROLLBACK;
SELECT * FROM verify_usage();

-- An erase leaves neither limit nor hold.
SELECT erase_usage(:d) > 0 AS is_erased;
SELECT count(*) FROM usage_holds WHERE account_id = :d;
SELECT count(*) FROM usage_limits WHERE account_id = :d;
SELECT * FROM reserve_usage(:d, 1, 'd1');

-- What the view shows a tenant is decided by policies on the tables.
CREATE ROLE usage_ledger_limits_tenant;
GRANT SELECT ON usage_balances TO usage_ledger_limits_tenant;
SET ROLE usage_ledger_limits_tenant;
SELECT count(*) FROM usage_balances;
SELECT reserve_usage(:a, 1, 'k');
SELECT release_usage(:a, 'k');
SELECT spend_usage(:a, 1, 'k');
SELECT set_usage_limit(:a, 1);
RESET ROLE;
GRANT SELECT ON usage_limits, usage_holds, usage_periods, usage_pending, usage_breakdown, usage_totals, usage_scope_totals TO usage_ledger_limits_tenant;
GRANT SELECT (account_id, period_start, tokens, idempotency_key, voided_at, breakdown) ON usage_events TO usage_ledger_limits_tenant;
SET ROLE usage_ledger_limits_tenant;
SELECT count(*) FROM usage_balances;
RESET ROLE;
CREATE POLICY tenant ON usage_limits FOR SELECT TO usage_ledger_limits_tenant USING (account_id = :c);
CREATE POLICY tenant ON usage_holds FOR SELECT TO usage_ledger_limits_tenant USING (account_id = :c);
CREATE POLICY tenant ON usage_periods FOR SELECT TO usage_ledger_limits_tenant USING (account_id = :c);
CREATE POLICY tenant ON usage_pending FOR SELECT TO usage_ledger_limits_tenant USING (account_id = :c);
CREATE POLICY tenant ON usage_events FOR SELECT TO usage_ledger_limits_tenant USING (account_id = :c);
SET ROLE usage_ledger_limits_tenant;
SELECT token_limit, tokens_used, tokens_held, tokens_remaining FROM usage_balances;
RESET ROLE;
DROP OWNED BY usage_ledger_limits_tenant;
DROP ROLE usage_ledger_limits_tenant;
DROP VIEW balances, holds;
DROP PROCEDURE expire;
TRUNCATE usage_accounts, usage_periods, usage_events, usage_pending, usage_breakdown, usage_limits, usage_holds;
