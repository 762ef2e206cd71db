// The ledger through supabase-js, that is, through PostgREST.

import type { SupabaseClient } from '@supabase/supabase-js';
import type { Ledger, Receipt, Reservation } from './ledger.js';

export function ledgerThroughSupabase(supabase: SupabaseClient<any, any, 'billing'>): Ledger {
  return {
    async recordUsage({ accountId, idempotencyKey, model, scope, kinds, occurredAt }) {
      const { data } = await supabase
        .rpc('record_usage', {
          p_account_id: accountId,
          p_idempotency_key: idempotencyKey,
          p_model: model,
          p_scope: scope,
          p_input_tokens: kinds.inputTokens,
          p_cache_read_tokens: kinds.cacheReadTokens,
          p_cache_write_tokens: kinds.cacheWriteTokens,
          p_output_tokens: kinds.outputTokens,
          p_reasoning_tokens: kinds.reasoningTokens,
          p_is_report: true,
          p_occurred_at: occurredAt,
        })
        // As text, because a bigint above 2^53 loses digits as a JSON number.
        .select('outcome, tokensUsed:tokens_used::text')
        .single<Receipt>()
        .throwOnError();
      return data;
    },
    async reserveUsage({ accountId, tokens, idempotencyKey }) {
      const { data } = await supabase
        .rpc('reserve_usage', {
          p_account_id: accountId,
          p_tokens: tokens,
          p_idempotency_key: idempotencyKey,
        })
        .select('outcome, tokensRemaining:tokens_remaining::text')
        .single<Reservation>()
        .throwOnError();
      return data;
    },
  };
}
