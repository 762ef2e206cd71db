// Counts usage once. This is the one place that says what the worker does about each
// outcome and each SQLSTATE of increment_usage; how the call gets to the database is
// in increment-usage-pg.ts and increment-usage-supabase.ts.

import { NonRetriableError } from 'inngest';

export interface Usage {
  accountId: string;
  /** At most 10^12 in one event, so a number holds it exactly. */
  tokens: number;
  /** Names the event: the same with every retry, another for every other event. */
  idempotencyKey: string;
  /** ISO 8601; null counts the event in the period that is open now. */
  occurredAt: string | null;
}

export type Outcome = 'applied' | 'queued' | 'replayed';

export interface Receipt {
  outcome: Outcome;
  /** The counter in decimal digits, since JSON carries no bigint; null if it is not known yet. */
  tokensUsed: string | null;
}

export type IncrementUsage = (usage: Usage) => Promise<Receipt>;

type Action = 'give up' | 'count in the open period';

const actions: ReadonlyMap<string, Action> = new Map<string, Action>([
  ['UL001', 'give up'], // the key was counted with other tokens or flags: mend the key
  ['UL002', 'count in the open period'], // no account, or no period for that time
  ['UL003', 'count in the open period'], // the period of that time is closed
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
      // 40001, 40P01, a timeout, a lost connection, a gateway that is down: it may have
      // been counted or not, and a retry with the same key is safe either way.
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
      // Whatever answered, it was not increment_usage of usage_ledger.
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
