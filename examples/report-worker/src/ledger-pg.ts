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
    recordUsage: ({ accountId, idempotencyKey, model, scope, kinds, occurredAt }) =>
      rowOf<Receipt>(
        `SELECT outcome, tokens_used AS "tokensUsed"
           FROM record_usage($1, $2, p_model => $3, p_scope => $4,
                             p_input_tokens => $5, p_cache_read_tokens => $6, p_cache_write_tokens => $7,
                             p_output_tokens => $8, p_reasoning_tokens => $9,
                             p_is_report => true, p_occurred_at => $10)`,
        [
          accountId,
          idempotencyKey,
          model,
          scope,
          kinds.inputTokens,
          kinds.cacheReadTokens,
          kinds.cacheWriteTokens,
          kinds.outputTokens,
          kinds.reasoningTokens,
          occurredAt,
        ],
      ),
    reserveUsage: ({ accountId, tokens, idempotencyKey }) =>
      rowOf<Reservation>(
        `SELECT outcome, tokens_remaining AS "tokensRemaining"
           FROM reserve_usage($1, $2, $3)`,
        [accountId, tokens, idempotencyKey],
      ),
  };
}
