// The worker's decision for each SQLSTATE is the one in the table of errors in docs/reference.md.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { NonRetriableError } from 'inngest';
import { noTokens } from '../src/kinds-of-tokens.js';
import type { Ledger, Usage } from '../src/ledger.js';
import { recordUsage } from '../src/record-usage.js';
import { reserveUsage } from '../src/reserve-usage.js';

/** The table's way on for each SQLSTATE. */
function tableOfErrors(): Map<string, string> {
  const reference = readFileSync(new URL('../../../../docs/reference.md', import.meta.url), 'utf8');
  const section = /^## Errors\n(.*?)^## /ms.exec(reference)?.[1] ?? '';
  const ways = new Map<string, string>();
  for (const [, codes = '', way = ''] of section.matchAll(/^\|( `[^|]*)\|[^|]*\| ([^|]*) \|/gm)) {
    for (const [, code = ''] of codes.matchAll(/`(\w+)`/g)) {
      ways.set(code, way);
    }
  }
  return ways;
}

/** What the worker does when its first call fails with that SQLSTATE. */
async function decisionOn(code: string, occurredAt: string | null): Promise<string> {
  const usage: Usage = { accountId: '', model: '', scope: '', kinds: noTokens, idempotencyKey: '', occurredAt };
  const failure = Object.assign(new Error(), { code });
  const calls: Usage[] = [];
  const ledger: Ledger = {
    async recordUsage(call) {
      calls.push(call);
      if (calls.length === 1) {
        throw failure;
      }
      return { outcome: 'applied', tokensUsed: '1' };
    },
    reserveUsage: () => Promise.reject(failure),
  };
  const reserving = await reserveUsage(ledger, { ...usage, tokens: 1 }).catch((reason: unknown) => reason);
  const recording = recordUsage(ledger, usage);
  const error: unknown = await recording.then(() => undefined, (reason) => reason);
  // A reservation has no time, so it is retried or given up.
  assert.equal(reserving === failure, error === failure);
  if (error === undefined) {
    assert.deepEqual(calls, [usage, { ...usage, occurredAt: null }]);
    return 'count again without a time';
  }
  assert.deepEqual(calls, [usage]);
  return error instanceof NonRetriableError ? 'fix the caller' : error === failure ? 'retry' : String(error);
}

test('every row of the table of errors', async () => {
  const table = tableOfErrors();
  assert.ok(table.size > 20, `${table.size} rows`);
  const now = new Date().toISOString();
  for (const [code, way] of table) {
    assert.equal(await decisionOn(code, now), way, code);
    assert.equal(await decisionOn(code, null), way === 'retry' ? 'retry' : 'fix the caller', code);
  }
});

test('the README names classes that no retry helps', async () => {
  for (const code of ['07006', '22001', '23505', '42P01']) {
    assert.equal(await decisionOn(code, null), 'fix the caller', code);
  }
});

test('an error that is not in the table is retried', async () => {
  for (const code of ['08006', 'PGRST000', 'ECONNREFUSED']) {
    assert.equal(await decisionOn(code, null), 'retry');
  }
});
