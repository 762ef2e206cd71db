// Counts usage once. Only this file decides what the worker does for each outcome and
// each SQLSTATE of increment_usage. increment-usage-pg.ts and increment-usage-supabase.ts
// make the call to the database.

import { NonRetriableError } from 'inngest';

export interface Usage {
  accountId: string;
  /** At most 10^12 in one event, so a number is exact. */
  tokens: number;
  /** Names the event. Every retry sends the same key; every other event has another. */
  idempotencyKey: string;
  /** ISO 8601; null counts the event in the period that is open now. */
  occurredAt: string | null;
}

export type Outcome = 'applied' | 'queued' | 'replayed';

export interface Receipt {
  outcome: Outcome;
  /** The counter in decimal digits, because JSON has no bigint. Null if it is not known yet. */
  tokensUsed: string | null;
}

export type IncrementUsage = (usage: Usage) => Promise<Receipt>;

type Action = 'give up' | 'count in the open period';

const actions: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['UL001', 'give up'], // the key was counted with other tokens or flags: fix the key
  ['UL002', 'count in the open period'], // no account, or no period for that time
  ['UL003', 'count in the open period'], // the period of that time is closed
  ['UL005', 'count in the open period'], // that time is too old or too far ahead
  ['22003', 'give up'], // the counter would overflow
  ['22004', 'give up'], // an argument is NULL
  ['22023', 'give up'], // an argument is outside its limits
  ['22P02', 'give up'], // an argument cannot be read, such as a malformed uuid
]);

export async function recordUsage(increment: IncrementUsage, usage: Usage): Promise<Receipt> {
  let receipt: Receipt;
  try {
    receipt = await increment(usage);
  } catch (error) {
    const sqlstate = sqlstateOf(error);
    const action = actions.get(sqlstate ?? '');
    if (action === undefined) {
      // For example 40001, 40P01, a timeout, a lost connection, or a gateway that is down.
      // The usage may have been counted or not. A retry with the same key is safe.
      throw error;
    }
    if (action === 'count in the open period' && usage.occurredAt !== null) {
      return recordUsage(increment, { ...usage, occurredAt: null });
    }
    throw new NonRetriableError(`Usage not counted: ${messageOf(error)} (${sqlstate})`, { cause: error });
  }

  switch (receipt.outcome) {
    case 'applied': // counted now
    case 'queued': // counted now; a settler adds it to the counter
    case 'replayed': // counted by an earlier try, whose reply was lost
      return receipt;
    default:
      // This answer does not come from usage_ledger's increment_usage.
      throw new Error(`Unexpected outcome: ${receipt.outcome satisfies never}`);
  }
}

/** Both node-postgres and supabase-js put the SQLSTATE into "code". */
function sqlstateOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
