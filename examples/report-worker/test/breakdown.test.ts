// What a report used is counted under its model and the scope that asked for it, by kind.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { NonRetriableError } from 'inngest';
import { Pool } from 'pg';
import { type Chunk, generateReport, model } from '../src/generate-report.js';
import type { KindsOfTokens } from '../src/kinds-of-tokens.js';
import type { Usage } from '../src/ledger.js';
import { recordUsage } from '../src/record-usage.js';
import { routes, serveJob } from './harness.js';
import { runJob } from './inngest-server.js';
import { assertSound } from './tally.js';

const database = new Pool();
after(async () => {
  await assertSound(database);
  await database.end();
});

/** Each row: scope, model, the kinds, and the number of events. */
async function breakdownOf(accountId: string): Promise<unknown[][]> {
  const { rows } = await database.query<unknown[]>({
    rowMode: 'array',
    text: `SELECT scope, model, input_tokens::float8, cache_read_tokens::float8, cache_write_tokens::float8,
                  output_tokens::float8, reasoning_tokens::float8, events::float8
             FROM usage_breakdown_totals
            WHERE account_id = $1
            ORDER BY scope, model`,
    values: [accountId],
  });
  return rows;
}

async function* oneSection(): AsyncGenerator<Chunk> {
  yield { outputTokens: 7 };
  yield {
    usage: {
      input_tokens: 1_000,
      input_tokens_details: { cached_tokens: 768, cache_write_tokens: 128 },
      output_tokens: 57,
      output_tokens_details: { reasoning_tokens: 50 },
    },
  };
}

for (const route of routes) {
  describe(route.name, { timeout: 60_000 }, () => {
    test('a job', async (t) => {
      const accountId = randomUUID();
      const { ledger } = await route.open(t);
      let sections = 0;
      const worker = await serveJob(
        t,
        (title, raiseHold) =>
          generateReport(title, raiseHold, () => {
            sections += 1;
            return oneSection();
          }),
        ledger,
      );
      const run = await runJob([worker], { accountId, title: '', scope: 'research/ann' });
      assert.equal(run.status, 'completed');
      const kinds = [104, 768, 128, 7, 50].map((tokens) => tokens * sections);
      assert.deepEqual(await breakdownOf(accountId), [['research/ann', model, ...kinds, 1]]);
      assert.equal((run.output as { tokens: number }).tokens, 1_057 * sections);
    });

    test('a retry with another kind, model or scope is a conflict, and the first stands', async (t) => {
      const { ledger } = await route.open(t);
      const kinds: KindsOfTokens = {
        inputTokens: 1,
        cacheReadTokens: 2,
        cacheWriteTokens: 3,
        outputTokens: 4,
        reasoningTokens: 5,
      };
      const accountId = randomUUID();
      const usage: Usage = { accountId, model: 'm', scope: 's', kinds, idempotencyKey: 'key', occurredAt: null };
      assert.equal((await recordUsage(ledger, usage)).outcome, 'applied');
      assert.equal((await recordUsage(ledger, usage)).outcome, 'replayed');
      const others: Usage[] = [
        { ...usage, model: 'M' },
        { ...usage, scope: 's/t' },
        { ...usage, kinds: { ...kinds, outputTokens: 5, reasoningTokens: 4 } },
      ];
      for (const other of others) {
        await assert.rejects(
          recordUsage(ledger, other),
          (error: Error) => error instanceof NonRetriableError && error.message.endsWith('(UL001)'),
        );
      }
      assert.deepEqual(await breakdownOf(accountId), [['s', 'm', 1, 2, 3, 4, 5, 1]]);
    });
  });
}
