// Every report is counted once, even if a reply is lost after the commit, and even if two
// workers run the same step concurrently.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type TestContext, after, describe, test } from 'node:test';
import { Pool } from 'pg';
import { generateReport } from '../src/generate-report.js';
import type { Receipt } from '../src/ledger.js';
import { serveJob, startWorker, routes } from './harness.js';
import { type Run, runJob } from './inngest-server.js';
import { holdCounter, waitingSessions } from './locks.js';
import { assertSound, tallyOf } from './tally.js';

const database = new Pool();
after(() => database.end());

function outcomesOf(run: Run): string[] {
  return run.results
    .filter(({ step }) => step === 'record-usage')
    .map(({ data }) => (data as Receipt).outcome);
}

function tokensOf(run: Run): bigint {
  return BigInt((run.output as { tokens: number }).tokens);
}

function startTwoWorkers(t: TestContext, environment: NodeJS.ProcessEnv): Promise<string[]> {
  return Promise.all([startWorker(t, environment), startWorker(t, environment)]);
}

for (const route of routes) {
  describe(route.name, () => {
    test('a reply lost after the commit: the retry is a replay', { timeout: 60_000 }, async (t) => {
      const accountId = randomUUID();
      const { ledger, proxy } = await route.open(t);
      const worker = await serveJob(t, generateReport, ledger);

      const uninterrupted = await runJob([worker], { accountId, title: 'First quarter' });
      assert.deepEqual(outcomesOf(uninterrupted), ['applied']);

      proxy.arm('record_usage');
      const interrupted = await runJob([worker], { accountId, title: 'Second quarter' });
      assert.equal(proxy.lost(), 1);
      assert.deepEqual(
        interrupted.errors.map(({ step, retry }) => ({ step, retry })),
        [{ step: 'record-usage', retry: true }],
      );
      assert.deepEqual(outcomesOf(interrupted), ['replayed']);

      assert.deepEqual(await tallyOf(database, accountId), {
        tokens: tokensOf(uninterrupted) + tokensOf(interrupted),
        reports: 2n,
        events: 2n,
      });
      await assertSound(database);
    });

    test('two processes count the same report at the same time', { timeout: 60_000 }, async (t) => {
      const accountId = randomUUID();
      const sessionName = randomUUID();
      const workers = await startTwoWorkers(t, await route.environment(t, sessionName));

      // The counter is held until both calls wait for it, so neither ends before the other begins.
      const holder = await holdCounter(t, accountId);
      const running = runJob(workers, { accountId, title: 'Third quarter' });
      await waitingSessions(database, sessionName, 2, running);
      await holder.query('COMMIT');

      const run = await running;
      assert.deepEqual(run.errors, []);
      assert.deepEqual(outcomesOf(run).sort(), ['applied', 'replayed']);
      assert.deepEqual(await tallyOf(database, accountId), { tokens: tokensOf(run) + 2n, reports: 1n, events: 3n });
      await assertSound(database);
    });

    test('two processes run every step, and every first reply is lost', { timeout: 120_000 }, async (t) => {
      const workers = await startTwoWorkers(t, await route.environment(t, randomUUID()));

      const accounts = [randomUUID(), randomUUID(), randomUUID()];
      const reportsEach = 10;
      await Promise.all(
        accounts.map(async (accountId) => {
          const runs = await Promise.all(
            Array.from({ length: reportsEach }, (_, index) =>
              runJob(workers, { accountId, title: `Report ${index + 1}` }, { losesFirstReply: true }),
            ),
          );
          for (const run of runs) {
            assert.equal(run.status, 'completed');
            assert.deepEqual(run.errors, []);
            // Two workers make two tries each. One of the four counts the report.
            assert.deepEqual(outcomesOf(run).sort(), ['applied', 'replayed', 'replayed', 'replayed']);
          }
          assert.deepEqual(await tallyOf(database, accountId), {
            tokens: runs.map(tokensOf).reduce((sum, tokens) => sum + tokens),
            reports: BigInt(reportsEach),
            events: BigInt(reportsEach),
          });
        }),
      );
      await assertSound(database);
    });
  });
}
