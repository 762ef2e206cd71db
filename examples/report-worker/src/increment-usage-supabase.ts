// increment_usage through supabase-js, that is, through PostgREST.

import type { SupabaseClient } from '@supabase/supabase-js';
import type { IncrementUsage, Outcome } from './record-usage.js';

interface Row {
  outcome: Outcome;
  tokens_used: string | null;
}

export function incrementUsageThroughSupabase(supabase: SupabaseClient): IncrementUsage {
  return async ({ accountId, tokens, idempotencyKey, occurredAt }) => {
    const { data } = await supabase
      .rpc('increment_usage', {
        p_account_id: accountId,
        p_tokens: tokens,
        p_idempotency_key: idempotencyKey,
        p_is_report: true,
        p_occurred_at: occurredAt,
      })
      // As text, because a bigint above 2^53 loses digits as a JSON number.
      .select('outcome, tokens_used::text')
      .single<Row>()
      .throwOnError();
    return { outcome: data.outcome, tokensUsed: data.tokens_used };
  };
}
