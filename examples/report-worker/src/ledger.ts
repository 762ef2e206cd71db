// The calls of the ledger that the worker makes. ledger-pg.ts and ledger-supabase.ts make them.

import type { KindsOfTokens } from './kinds-of-tokens.js';

export interface Usage {
  accountId: string;
  /** The model that was used, under one spelling. */
  model: string;
  /** Who used it within the account: a path such as team/user. Empty if that is not known. */
  scope: string;
  /** At most 10^12 in one event, so a number is exact. */
  kinds: KindsOfTokens;
  /** Names the event. Every retry sends the same key; every other event has another. */
  idempotencyKey: string;
  /** ISO 8601; null counts the event in the period that is open now. */
  occurredAt: string | null;
}

export interface Receipt {
  outcome: 'applied' | 'queued' | 'replayed';
  /** The counter in decimal digits, because JSON has no bigint. Null if it is not known yet. */
  tokensUsed: string | null;
}

export interface Claim {
  accountId: string;
  /** The most that the work can use. */
  tokens: number;
  /** The key that the work will be counted under. */
  idempotencyKey: string;
}

export interface Reservation {
  outcome: 'reserved' | 'unlimited' | 'limit_reached' | 'replayed';
  /** What is left of the limit, or what would fit, in decimal digits. Null if there is no limit. */
  tokensRemaining: string | null;
}

export interface Ledger {
  recordUsage(usage: Usage): Promise<Receipt>;
  reserveUsage(claim: Claim): Promise<Reservation>;
}
