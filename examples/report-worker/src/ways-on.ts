// What the worker does for each SQLSTATE that the ledger answers. Only this file decides that.

import { NonRetriableError } from 'inngest';

export type WayOn = 'retry' | 'fix the caller' | 'count again without a time';

// As the table of errors in the ledger's docs/reference.md. All other errors are retried, for example
// 40001, 40P01, a timeout, a lost connection, or a gateway that is down.
const waysOn: ReadonlyMap<string, WayOn> = new Map<string, WayOn>([
  ['UL001', 'fix the caller'], // the key was counted with another payload
  ['UL002', 'count again without a time'], // no account, or no period for that time
  ['UL003', 'count again without a time'], // the period of that time is closed
  ['UL004', 'fix the caller'], // void_usage: no such event
  ['UL005', 'count again without a time'], // that time is too old or too far ahead
  ['22003', 'fix the caller'], // the counter or its breakdown would overflow
  ['22004', 'fix the caller'], // an argument is NULL
  ['22007', 'count again without a time'], // that time cannot be read
  ['22008', 'count again without a time'], // that time does not exist
  ['22021', 'fix the caller'], // a byte of the key is not in the database's encoding
  ['22023', 'fix the caller'], // an argument is outside its limits
  ['22P02', 'fix the caller'], // an argument cannot be read, such as a malformed uuid
  ['22P05', 'fix the caller'], // a character of the key is not in the database's encoding
  ['23P01', 'fix the caller'], // open_usage_period: the period overlaps
  ['23503', 'fix the caller'], // erase_usage: a foreign key refers to the account
  ['3F000', 'fix the caller'], // there is no schema billing
  ['42501', 'fix the caller'], // a right is missing
  ['42725', 'fix the caller'], // there are several such functions
  ['42883', 'fix the caller'], // there is no such function
  ['PGRST202', 'fix the caller'], // the same, as PostgREST says it
  ['PGRST203', 'fix the caller'], // as 42725
  ['55000', 'fix the caller'], // settle_usage: a subscription feeds the ledger
  ['XX001', 'fix the caller'], // close_usage_period: the counter is not the sum of its events
]);

export function wayOn(error: unknown): WayOn {
  return waysOn.get(sqlstateOf(error) ?? '') ?? 'retry';
}

/** For an error that no retry will help. */
export function giveUp(what: string, error: unknown): NonRetriableError {
  return new NonRetriableError(`${what}: ${messageOf(error)} (${sqlstateOf(error)})`, { cause: error });
}

/** Both node-postgres and supabase-js put the SQLSTATE into "code". */
function sqlstateOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
