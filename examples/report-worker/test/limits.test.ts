// The limit is reserved before the work. It is never passed, and what was used is counted.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { Pool } from 'pg';
import { firstRequestTokensMax, generateReport, inputTokens } from '../src/generate-report.js';
import { noTokens } from '../src/kinds-of-tokens.js';
import { routes, serveJob } from './harness.js';
import { runJob } from './inngest-server.js';
import { assertSound, tallyOf } from './tally.js';

const database = new Pool();
after(async () => {
  await assertSound(database);
  await database.end();
});

const finished = { text: '', model: 'm', isComplete: true, finishedAt: new Date().toISOString() };

async function accountWithLimit(tokens: number): Promise<string> {
  const accountId = randomUUID();
  await database.query('SELECT set_usage_limit($1, $2)', [accountId, tokens]);
  return accountId;
}

async function tokensRemaining(accountId: string): Promise<bigint> {
  const { rows } = await database.query<{ tokens_remaining: string }>(
    'SELECT tokens_remaining FROM usage_balances WHERE account_id = $1',
    [accountId],
  );
  return BigInt(rows[0]?.tokens_remaining ?? -1);
}

for (const route of routes) {
  describe(route.name, { timeout: 60_000 }, () => {
    test('a report that does not fit is not begun', async (t) => {
      const accountId = await accountWithLimit(firstRequestTokensMax - 1);
      const { ledger } = await route.open(t);
      const generate = t.mock.fn(generateReport);
      const run = await runJob([await serveJob(t, generate, ledger)], { accountId, title: '' });
      assert.equal(run.status, 'completed');
      assert.deepEqual(run.output, {
        text: null,
        tokens: 0,
        reservation: { outcome: 'limit_reached', tokensRemaining: String(firstRequestTokensMax - 1) },
      });
      assert.equal(generate.mock.callCount(), 0);
      assert.deepEqual(await tallyOf(database, accountId), { tokens: 0n, reports: 0n, events: 0n });
    });

    test('a stream raises its hold, and is broken off and counted where that does not fit', async (t) => {
      const accountId = await accountWithLimit(2 * firstRequestTokensMax);
      const { ledger } = await route.open(t);
      const sections: boolean[] = [];
      const worker = await serveJob(
        t,
        async (_, raiseHold) => {
          let tokens = 0;
          while (tokens < 3 * firstRequestTokensMax) {
            const isAdmitted = await raiseHold(tokens + firstRequestTokensMax);
            sections.push(isAdmitted);
            if (!isAdmitted) {
              break;
            }
            tokens += firstRequestTokensMax - 100;
          }
          return { ...finished, kinds: { ...noTokens, outputTokens: tokens }, isComplete: false };
        },
        ledger,
      );
      const run = await runJob([worker], { accountId, title: '' });
      assert.equal(run.status, 'completed');
      assert.deepEqual(sections, [true, true, false]);
      const used = BigInt(2 * (firstRequestTokensMax - 100));
      assert.deepEqual(await tallyOf(database, accountId), { tokens: used, reports: 1n, events: 1n });
      assert.equal(await tokensRemaining(accountId), 200n, 'the count has ended the hold');
    });

    test('a stream that the model cuts off is counted as far as it came', async (t) => {
      t.mock.method(console, 'warn', () => {});
      const accountId = await accountWithLimit(firstRequestTokensMax);
      const { ledger } = await route.open(t);
      const cutOff = async function* () {
        yield { outputTokens: 20 };
        yield { outputTokens: 10 };
        throw new Error('connection reset');
      };
      const worker = await serveJob(t, (title, raiseHold) => generateReport(title, raiseHold, cutOff), ledger);
      const run = await runJob([worker], { accountId, title: '' });
      assert.equal(run.status, 'completed');
      assert.equal((run.output as { isComplete: boolean }).isComplete, false);
      const used = inputTokens + 30;
      assert.deepEqual(await tallyOf(database, accountId), { tokens: BigInt(used), reports: 1n, events: 1n });
      assert.equal(await tokensRemaining(accountId), BigInt(firstRequestTokensMax - used));
    });

    test('a reply of the reservation is lost: the retry holds once', async (t) => {
      const accountId = await accountWithLimit(firstRequestTokensMax);
      const { ledger, proxy } = await route.open(t);
      const worker = await serveJob(
        t,
        async () => ({ ...finished, kinds: { ...noTokens, outputTokens: 1 } }),
        ledger,
      );
      proxy.arm('reserve_usage');
      const run = await runJob([worker], { accountId, title: '' });
      assert.equal(proxy.lost(), 1);
      assert.deepEqual(run.errors.map(({ step, retry }) => ({ step, retry })), [{ step: 'reserve-usage', retry: true }]);
      assert.equal(run.status, 'completed');
      assert.equal(await tokensRemaining(accountId), BigInt(firstRequestTokensMax - 1));
    });

    test('twenty jobs at the same time do not pass the limit', async (t) => {
      const accountId = await accountWithLimit(4 * firstRequestTokensMax);
      const { ledger } = await route.open(t);
      const worker = await serveJob(t, generateReport, ledger);
      const runs = await Promise.all(
        Array.from({ length: 20 }, (_, index) => runJob([worker], { accountId, title: `Report ${index}` })),
      );
      const tokens = runs.map(({ output }) => (output as { tokens: number }).tokens).reduce((sum, used) => sum + used);
      const tally = await tallyOf(database, accountId);
      assert.equal(tally.tokens, BigInt(tokens));
      assert.ok(tokens > 0 && tokens <= 4 * firstRequestTokensMax, `${tokens} tokens`);
      assert.equal(await tokensRemaining(accountId), BigInt(4 * firstRequestTokensMax - tokens));
    });
  });
}
