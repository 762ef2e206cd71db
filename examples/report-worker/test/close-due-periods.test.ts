// The billing run closes each period in a transaction of its own.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Client, type DatabaseError, Pool } from 'pg';
import { closeDuePeriods } from '../src/close-due-periods.js';
import { waitingSessions } from './locks.js';

const count = `SELECT * FROM increment_usage($1, $2, $3, p_occurred_at => now() - interval '3 days')`;

/** Opens a period for each account that ended two days ago, with 10 tokens. */
async function openDuePeriods(database: Pool, accounts: string[]): Promise<void> {
  for (const accountId of accounts) {
    await database.query(
      `SELECT open_usage_period($1, today - interval '40 days', today - interval '2 days', 10)
         FROM date_trunc('day', now()) AS today`,
      [accountId],
    );
  }
}

test('while it waits for one customer, calls of another are answered', { timeout: 120_000 }, async (t) => {
  const name = randomUUID();
  const run = new Pool({ application_name: name });
  const database = new Pool({ statement_timeout: 10_000 });
  const holder = new Client();
  t.after(() => Promise.all([run.end(), database.end(), holder.end()]));
  const accounts = [randomUUID(), randomUUID()].sort();
  await openDuePeriods(database, accounts);
  const [first, second] = accounts;

  await holder.connect();
  await holder.query('BEGIN');
  await holder.query(count, [second, 5, 'slow']);
  const closing = closeDuePeriods(run);
  await waitingSessions(database, name, 1, closing);
  await assert.rejects(database.query(count, [first, 7, 'late']), { code: 'UL003' });
  await holder.query('COMMIT');

  const { closed, errors } = await closing;
  assert.deepEqual(errors, []);
  assert.deepEqual(closed.map(({ tokens_used }) => tokens_used), ['10', '15']);
  assert.deepEqual((await closeDuePeriods(run)).closed, []);
});

test('a period that is held stops no other', { timeout: 60_000 }, async (t) => {
  const run = new Pool({ lock_timeout: 100 });
  const holder = new Client();
  t.after(() => Promise.all([run.end(), holder.end()]));
  const accounts = [randomUUID(), randomUUID()].sort();
  await openDuePeriods(run, accounts);

  await holder.connect();
  await holder.query('BEGIN');
  await holder.query(count, [accounts[0], 5, 'slow']);
  const { closed, errors } = await closeDuePeriods(run);
  assert.deepEqual(closed.map(({ account_id }) => account_id), accounts.slice(1));
  assert.deepEqual(errors.map((error) => (error as DatabaseError).code), ['55P03']);
  await holder.query('COMMIT');
  assert.deepEqual((await closeDuePeriods(run)).closed.map(({ tokens_used }) => tokens_used), ['15']);
});

test('docs/billing.md prints this function', () => {
  const read = (path: string) => readFileSync(new URL(`../../../../${path}`, import.meta.url), 'utf8');
  const source = read('examples/report-worker/src/close-due-periods.ts');
  assert.ok(read('docs/billing.md').includes(source.slice(source.indexOf('export async function'))));
});
