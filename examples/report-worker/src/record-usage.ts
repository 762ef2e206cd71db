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

type WayOn = 'fix the caller' | 'count again without a time';

// As the table of errors in the ledger's README. All other errors are retried, for example
// 40001, 40P01, a timeout, a lost connection, or a gateway that is down.
const waysOn: ReadonlyMap<string, WayOn> = new Map<string, WayOn>([
  ['UL001', 'fix the caller'], // the key was counted with other tokens or flags
  ['UL002', 'count again without a time'], // no account, or no period for that time
  ['UL003', 'count again without a time'], // the period of that time is closed
  ['UL004', 'fix the caller'], // void_usage: no such event
  ['UL005', 'count again without a time'], // that time is too old or too far ahead
  ['22003', 'fix the caller'], // the counter would overflow
  ['22004', 'fix the caller'], // an argument is NULL
  ['22007', 'count again without a time'], // that time cannot be read
  ['22008', 'count again without a time'], // that time does not exist
  ['22021', 'fix the caller'], // a byte of the key is not in the database's encoding
  ['22023', 'fix the caller'], // an argument is outside its limits
  ['22P02', 'fix the caller'], // an argument cannot be read, such as a malformed uuid
  ['22P05', 'fix the caller'], // a character of the key is not in the database's encoding
  ['23P01', 'fix the caller'], // open_usage_period: the period overlaps
  ['23503', 'fix the caller'], // erase_usage: a foreign key refers to the account
  ['42501', 'fix the caller'], // a right is missing
  ['42725', 'fix the caller'], // there are several such functions
  ['42883', 'fix the caller'], // there is no such function
  ['PGRST202', 'fix the caller'], // the same, as PostgREST says it
  ['PGRST203', 'fix the caller'], // as 42725
  ['55000', 'fix the caller'], // settle_usage: a subscription feeds the ledger
  ['XX001', 'fix the caller'], // close_usage_period: the counter is not the sum of its events
]);

export async function recordUsage(increment: IncrementUsage, usage: Usage): Promise<Receipt> {
  let receipt: Receipt;
  try {
    receipt = await increment(usage);
  } catch (error) {
    const sqlstate = sqlstateOf(error);
    const wayOn = waysOn.get(sqlstate ?? '');
    if (wayOn === undefined) {
      // The usage may have been counted or not. A retry with the same key is safe.
      throw error;
    }
    if (wayOn === 'count again without a time' && usage.occurredAt !== null) {
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
