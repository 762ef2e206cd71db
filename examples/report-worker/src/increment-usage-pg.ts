// increment_usage through node-postgres.

import type { Pool } from 'pg';
import type { IncrementUsage, Outcome } from './record-usage.js';

interface Row {
  outcome: Outcome;
  tokens_used: string | null; // node-postgres returns a bigint as a string
}

export function incrementUsageThroughPg(pool: Pool): IncrementUsage {
  return async ({ accountId, tokens, idempotencyKey, occurredAt }) => {
    const { rows } = await pool.query<Row>(
      `SELECT outcome, tokens_used
         FROM increment_usage($1, $2, $3, p_is_report => true, p_occurred_at => $4)`,
      [accountId, tokens, idempotencyKey, occurredAt],
    );
    const row = rows[0];
    if (row === undefined) {
      throw new Error('increment_usage returned no row');
    }
    return { outcome: row.outcome, tokensUsed: row.tokens_used };
  };
}
