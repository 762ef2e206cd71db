// Reads usage from the database.

import assert from 'node:assert/strict';
import type { Pool } from 'pg';

export interface Tally {
  tokens: bigint;
  reports: bigint;
  events: bigint;
}

export async function tallyOf(database: Pool, accountId: string): Promise<Tally> {
  const { rows } = await database.query<{ tokens: string; reports: string; events: string }>(
    `SELECT (SELECT coalesce(sum(tokens_used), 0) FROM usage_totals WHERE account_id = $1) AS tokens,
            (SELECT coalesce(sum(reports_used), 0) FROM usage_totals WHERE account_id = $1) AS reports,
            (SELECT count(*) FROM usage_events WHERE account_id = $1) AS events`,
    [accountId],
  );
  assert.ok(rows[0]);
  const { tokens, reports, events } = rows[0];
  return { tokens: BigInt(tokens), reports: BigInt(reports), events: BigInt(events) };
}

/** Asserts that every counter is the sum of its events. */
export async function assertSound(database: Pool): Promise<void> {
  const { rows } = await database.query('SELECT * FROM verify_usage()');
  assert.deepEqual(rows, []);
}
