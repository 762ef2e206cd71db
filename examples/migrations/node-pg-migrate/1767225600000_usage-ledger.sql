-- Up Migration
CREATE SCHEMA billing;
CREATE EXTENSION usage_ledger SCHEMA billing;

GRANT USAGE ON SCHEMA billing TO worker;
GRANT EXECUTE ON FUNCTION billing.increment_usage, billing.increment_usage_batch TO worker;
GRANT EXECUTE ON FUNCTION billing.record_usage, billing.record_usage_batch TO worker;
GRANT EXECUTE ON FUNCTION billing.reserve_usage, billing.release_usage, billing.spend_usage TO worker;

-- The default. The other modes need a settler.
ALTER ROLE worker SET usage_ledger.settlement = 'immediate';

-- Down Migration
-- DROP EXTENSION deletes every row of the ledger without a question.
LOCK TABLE billing.usage_accounts;
DO $$
BEGIN
    IF EXISTS (SELECT FROM billing.usage_accounts) THEN
        RAISE EXCEPTION 'the ledger has accounts, and dropping it would delete their usage'
            USING HINT = 'Dump the database, then erase the accounts with erase_usage.';
    END IF;
END $$;

ALTER ROLE worker RESET usage_ledger.settlement;
DROP EXTENSION usage_ledger;
DROP SCHEMA billing;
