// Makes calls wait for each other in the database, so that no test depends on timing.

import { randomUUID } from 'node:crypto';
import type { TestContext } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { Client, type Pool } from 'pg';

/** Opens a transaction that holds the account's counter until it commits or the test ends. It counts two tokens. */
export async function holdCounter(t: TestContext, accountId: string): Promise<Client> {
  const holder = new Client();
  t.after(() => holder.end());
  await holder.connect();
  await holder.query('SELECT increment_usage($1, 1, $2)', [accountId, randomUUID()]);
  await holder.query('BEGIN');
  await holder.query('SELECT increment_usage($1, 1, $2)', [accountId, randomUUID()]);
  return holder;
}

/** Returns the sessions of that name once `count` of them wait for a lock during that run. */
export async function waitingSessions(
  database: Pool,
  name: string,
  count: number,
  run: Promise<unknown>,
): Promise<number[]> {
  let isRunning = true;
  const end = () => (isRunning = false);
  run.then(end, end);
  while (isRunning) {
    const { rows } = await database.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'`,
      [name],
    );
    if (rows.length === count) {
      return rows.map(({ pid }) => pid);
    }
    await setTimeout(10);
  }
  throw new Error(`the run ended before ${count} sessions waited`);
}
