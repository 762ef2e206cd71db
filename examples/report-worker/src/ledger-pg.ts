// The ledger through node-postgres: a pool, or the client of a transaction.

import type { Pool } from 'pg';
import type { Ledger, Receipt, Reservation } from './ledger.js';

export function ledgerThroughPg(database: Pick<Pool, 'query'>): Ledger {
  // Bigints are strings in node-postgres.
  async function rowOf<Row extends object>(sql: string, values: unknown[]): Promise<Row> {
    const { rows } = await database.query<Row>(sql, values);
    if (rows[0] === undefined) {
      throw new Error('the ledger returned no row');
    }
    return rows[0];
  }

  return {
    recordUsage: ({ accountId, idempotencyKey, model, scope, kinds, occurredAt }) =>
      rowOf<Receipt>(
        `SELECT outcome, tokens_used AS "tokensUsed"
           FROM billing.record_usage($1::uuid, $2::text, p_model => $3::text, p_scope => $4::text,
                                     p_input_tokens => $5::bigint, p_cache_read_tokens => $6::bigint,
                                     p_cache_write_tokens => $7::bigint, p_output_tokens => $8::bigint,
                                     p_reasoning_tokens => $9::bigint,
                                     p_is_report => true, p_occurred_at => $10::timestamptz)`,
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
           FROM billing.reserve_usage($1::uuid, $2::bigint, $3::text)`,
        [accountId, tokens, idempotencyKey],
      ),
  };
}
