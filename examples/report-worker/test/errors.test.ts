// What the worker does for each SQLSTATE. Each error comes from the database itself.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { NonRetriableError } from 'inngest';
import { Pool } from 'pg';
import type { GenerateReport, Report } from '../src/generate-report.js';
import { ledgerThroughPg } from '../src/ledger-pg.js';
import { noTokens } from '../src/kinds-of-tokens.js';
import type { Receipt, Usage } from '../src/ledger.js';
import { recordUsage } from '../src/record-usage.js';
import { serveJob, routes } from './harness.js';
import { type Run, runJob } from './inngest-server.js';
import { holdCounter, waitingSessions } from './locks.js';
import { assertSound, tallyOf } from './tally.js';

const database = new Pool();
after(async () => {
  await assertSound(database);
  await database.end();
});

const output = (outputTokens: number) => ({ ...noTokens, outputTokens });

function generating(report: Partial<Report>): GenerateReport {
  const finishedAt = new Date().toISOString();
  return async () => ({ text: '', model: 'm', kinds: output(100), isComplete: true, finishedAt, ...report });
}

function usageOf(tokens: number): Usage {
  const kinds = output(tokens);
  return { accountId: randomUUID(), model: 'm', scope: 's', kinds, idempotencyKey: 'key', occurredAt: null };
}

/** One step failed, with that SQLSTATE, and was not retried. */
function assertGivenUp(run: Run, sqlstate: string): void {
  assert.equal(run.status, 'failed');
  assert.equal(run.errors.length, 1);
  assert.equal(run.errors[0]?.retry, false);
  assert.match(run.errors[0].message, new RegExp(`\\(${sqlstate}\\)$`));
}

/** The usage was counted, and the job completed. */
function assertCounted(run: Run, receipt: Partial<Receipt>): void {
  assert.equal(run.status, 'completed');
  const { usage } = run.output as { usage: Receipt };
  assert.deepEqual({ ...usage, ...receipt }, usage);
}

/** Opens the account's period that covers now, with opening tokens. */
async function openPeriod(accountId: string, tokens: bigint): Promise<void> {
  await database.query(
    `SELECT open_usage_period($1, month, month + interval '1 month', $2)
       FROM date_trunc('month', now(), 'UTC') AS month`,
    [accountId, tokens],
  );
}

for (const route of routes) {
  describe(route.name, { timeout: 120_000 }, () => {
    test('UL001, the key was counted with another amount: gives up', async (t) => {
      const accountId = randomUUID();
      const runId = randomUUID();
      const { ledger } = await route.open(t);
      // Another caller takes the key while the report is generated.
      const generate: GenerateReport = async (...work) => {
        await database.query('SELECT increment_usage($1, 1, $2)', [accountId, `${runId}:generate-report`]);
        return generating({})(...work);
      };
      const worker = await serveJob(t, generate, ledger);
      assertGivenUp(await runJob([worker], { accountId, title: '' }, { runId }), 'UL001');
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 1n, reports: 0n, events: 1n });
    });

    test('UL002, the account is unknown: gives up', async (t) => {
      const accountId = randomUUID();
      const { ledger } = await route.open(t, { options: '-c usage_ledger.unknown_account=reject' });
      const worker = await serveJob(t, generating({}), ledger);
      assertGivenUp(await runJob([worker], { accountId, title: '' }), 'UL002');
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 0n, reports: 0n, events: 0n });
    });

    test('UL003, the period is closed: counts in the open one', async (t) => {
      const accountId = randomUUID();
      const { rows } = await database.query<{ last_month: string }>(
        `SELECT to_json(date_trunc('month', now(), 'UTC') - interval '1 day') #>> '{}' AS last_month`,
      );
      const finishedAt = rows[0]?.last_month;
      assert.ok(finishedAt);
      await database.query(
        `SELECT close_usage_period($1, period_start)
           FROM increment_usage($1, 5, 'last month', p_occurred_at => $2)`,
        [accountId, finishedAt],
      );

      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generating({ finishedAt }), ledger);
      assertCounted(await runJob([worker], { accountId, title: '' }), { outcome: 'applied', tokensUsed: '100' });
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 105n, reports: 1n, events: 2n });
    });

    test('UL003, and the period that covers now is closed too: gives up', async (t) => {
      const accountId = randomUUID();
      await database.query(
        `SELECT close_usage_period($1, period_start) FROM increment_usage($1, 5, 'the last one')`,
        [accountId],
      );

      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generating({}), ledger);
      assertGivenUp(await runJob([worker], { accountId, title: '' }), 'UL003');
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 5n, reports: 0n, events: 1n });
    });

    test('UL005, the time is out of bounds: counts without it', async (t) => {
      for (const occurredAt of [Date.now() - 36 * 86_400_000, Date.now() + 6 * 60_000]) {
        const { ledger } = await route.open(t);
        const usage = { ...usageOf(100), occurredAt: new Date(occurredAt).toISOString() };
        const receipt = await recordUsage(ledger, usage);
        assert.equal(receipt.outcome, 'applied');
        assert.deepEqual(await tallyOf(database, usage.accountId), { tokens: 100n, reports: 1n, events: 1n });
      }
    });

    test('22003, the counter would overflow: gives up', async (t) => {
      const accountId = randomUUID();
      const full = 2n ** 63n - 1n;
      await openPeriod(accountId, full);

      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generating({}), ledger);
      assertGivenUp(await runJob([worker], { accountId, title: '' }), '22003');
      assert.deepEqual(await tallyOf(database, accountId), { tokens: full, reports: 0n, events: 1n });
    });

    test('22004, 22023 and 22P02, an argument is invalid: gives up', async (t) => {
      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generating({}), ledger);
      const noAccount = null as unknown as string; // Inngest does not check an event's data
      assertGivenUp(await runJob([worker], { accountId: noAccount, title: '' }), '22004');
      assertGivenUp(await runJob([worker], { accountId: 'acme', title: '' }), '22P02');

      const accountId = randomUUID();
      const negative = await serveJob(t, generating({ kinds: output(-1) }), ledger);
      assertGivenUp(await runJob([negative], { accountId, title: '' }), '22023');
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 0n, reports: 0n, events: 0n });
    });

    test('no such function, or no right to call it: gives up', async (t) => {
      const usage = usageOf(1);
      await database.query('GRANT USAGE ON SCHEMA billing TO pg_monitor');
      const refusals = [['-c role=pg_monitor', '42501']];
      if (route.name === 'supabase-js') { // finds the function by the path
        refusals.push(['-c search_path=pg_catalog', 'PGRST202']);
      }
      for (const [options, sqlstate] of refusals) {
        const { ledger } = await route.open(t, { options });
        await assert.rejects(
          recordUsage(ledger, usage),
          (error: Error) => error instanceof NonRetriableError && error.message.endsWith(`(${sqlstate})`),
        );
      }
    });

    test('25006, the server is read-only: retries', async (t) => {
      const usage = usageOf(1);
      const { ledger } = await route.open(t, { options: '-c default_transaction_read_only=on' });
      await assert.rejects(recordUsage(ledger, usage), (error) => !(error instanceof NonRetriableError));
    });

    test('40001, a serialization failure: retries', async (t) => {
      const accountId = randomUUID();
      const name = randomUUID();
      const { ledger } = await route.open(t, {
        application_name: name,
        options: '-c default_transaction_isolation=repeatable\\ read',
      });
      const worker = await serveJob(t, generating({}), ledger);

      const holder = await holdCounter(t, accountId);
      const running = runJob([worker], { accountId, title: '' });
      await waitingSessions(database, name, 1, running);
      await holder.query('COMMIT');

      const run = await running;
      assert.deepEqual(
        run.errors.map(({ step, retry }) => ({ step, retry })),
        [{ step: 'record-usage', retry: true }],
      );
      assertCounted(run, { outcome: 'applied', tokensUsed: '102' });
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 102n, reports: 1n, events: 3n });
    });

    test('57P01, the connection ends before the commit: retries', async (t) => {
      const accountId = randomUUID();
      const name = randomUUID();
      const { ledger } = await route.open(t, { application_name: name });
      const worker = await serveJob(t, generating({}), ledger);

      const holder = await holdCounter(t, accountId);
      const running = runJob([worker], { accountId, title: '' });
      const sessions = await waitingSessions(database, name, 1, running);
      await database.query('SELECT pg_terminate_backend($1)', sessions);
      await holder.query('COMMIT');

      const run = await running;
      assert.deepEqual(
        run.errors.map(({ step, retry }) => ({ step, retry })),
        [{ step: 'record-usage', retry: true }],
      );
      assertCounted(run, { outcome: 'applied', tokensUsed: '102' });
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 102n, reports: 1n, events: 3n });
    });

    test('queued, a settler adds it later: goes on', async (t) => {
      const accountId = randomUUID();
      const { ledger } = await route.open(t, { options: '-c usage_ledger.settlement=deferred' });
      const worker = await serveJob(t, generating({}), ledger);
      assertCounted(await runJob([worker], { accountId, title: '' }), { outcome: 'queued', tokensUsed: null });
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 100n, reports: 1n, events: 1n });
    });

    test('a total above 2^53 keeps its last digit', async (t) => {
      const accountId = randomUUID();
      await openPeriod(accountId, 2n ** 53n);

      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generating({ kinds: output(1) }), ledger);
      assertCounted(await runJob([worker], { accountId, title: '' }), { tokensUsed: '9007199254740993' });
    });
  });
}

test('an answer without an outcome is an error that is retried', async () => {
  const usage = usageOf(1);
  await assert.rejects(
    recordUsage({ ...ledgerThroughPg(database), recordUsage: async () => ({}) as Receipt }, usage),
    (error: Error) => !(error instanceof NonRetriableError) && /Unexpected outcome/.test(error.message),
  );
});

test('without an id of the run, no report is generated', async (t) => {
  const generate = t.mock.fn(generating({}));
  const worker = await serveJob(t, generate, ledgerThroughPg(database));
  const run = await runJob([worker], { accountId: randomUUID(), title: '' }, { runId: '' });
  assert.equal(run.status, 'failed');
  assert.match(JSON.stringify(run.output), /an id is missing/);
  assert.equal(generate.mock.callCount(), 0);
});
