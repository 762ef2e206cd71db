// What postgres-meta 0.99.0, the type generator of Supabase, writes for the two functions of
// docs/clients.md.

type Table = { Row: Record<string, unknown>; Insert: Record<string, unknown>; Update: Record<string, unknown>; Relationships: [] };

export type Database = {
  billing: {
    Tables: { [name in never]: Table };
    Views: { [name in never]: Table };
    Functions: {
      increment_usage: {
        Args: {
          p_account_id: string;
          p_idempotency_key: string;
          p_is_chat?: boolean;
          p_is_report?: boolean;
          p_occurred_at?: string;
          p_tokens: number;
        };
        Returns: Record<string, unknown>;
      };
      increment_usage_batch: {
        Args: {
          p_account_ids: string[];
          p_idempotency_keys: string[];
          p_is_chat?: boolean[];
          p_is_report?: boolean[];
          p_occurred_at?: string[];
          p_tokens: number[];
        };
        Returns: {
          detail: string;
          item: number;
          outcome: string;
          period_end: string;
          period_start: string;
          sqlstate: string;
          tokens_used: number;
        }[];
      };
    };
    Enums: { [name in never]: never };
    CompositeTypes: { [name in never]: never };
  };
};
