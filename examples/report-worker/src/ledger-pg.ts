// The ledger through node-postgres.

import type { Pool } from 'pg';
import type { Ledger, Receipt, Reservation } from './ledger.js';

export function ledgerThroughPg(pool: Pool): Ledger {
  // Bigints are strings in node-postgres.
  async function rowOf<Row extends object>(sql: string, values: unknown[]): Promise<Row> {
    const { rows } = await pool.query<Row>(sql, values);
    if (rows[0] === undefined) {
      throw new Error('the ledger returned no row');
    }
    return rows[0];
  }

  return {
    incrementUsage: ({ accountId, tokens, idempotencyKey, occurredAt }) =>
      rowOf<Receipt>(
        `SELECT outcome, tokens_used AS "tokensUsed"
           FROM increment_usage($1, $2, $3, p_is_report => true, p_occurred_at => $4)`,
        [accountId, tokens, idempotencyKey, occurredAt],
      ),
    reserveUsage: ({ accountId, tokens, idempotencyKey }) =>
      rowOf<Reservation>(
        `SELECT outcome, tokens_remaining AS "tokensRemaining"
           FROM reserve_usage($1, $2, $3)`,
        [accountId, tokens, idempotencyKey],
      ),
  };
}
