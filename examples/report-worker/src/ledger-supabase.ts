// The ledger through supabase-js, that is, through PostgREST.

import type { SupabaseClient } from '@supabase/supabase-js';
import type { Ledger, Receipt, Reservation } from './ledger.js';

export function ledgerThroughSupabase(supabase: SupabaseClient): Ledger {
  return {
    async incrementUsage({ accountId, tokens, idempotencyKey, occurredAt }) {
      const { data } = await supabase
        .rpc('increment_usage', {
          p_account_id: accountId,
          p_tokens: tokens,
          p_idempotency_key: idempotencyKey,
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
