// What the worker does for each SQLSTATE that the ledger answers. Only this file decides that.

export type WayOn = 'retry' | 'fix the caller' | 'count again without a time';

// As the table of errors in the README. Of classes 07, 22, 23 and 42 only the exceptions are here.
const waysOn: ReadonlyMap<string, WayOn> = new Map<string, WayOn>([
  ['UL001', 'fix the caller'], // the key was counted with another payload
  ['UL002', 'count again without a time'], // no account, or no period for that time
  ['UL003', 'count again without a time'], // the period of that time is closed
  ['UL004', 'fix the caller'], // void_usage: no such event
  ['UL005', 'count again without a time'], // that time is too old or too far ahead
  ['22007', 'count again without a time'], // that time cannot be read
  ['22008', 'count again without a time'], // that time does not exist
  ['3F000', 'fix the caller'], // there is no schema billing
  ['55000', 'fix the caller'], // settle_usage: a subscription feeds the ledger
  ['PGRST202', 'fix the caller'], // PostgREST: there is no such function
  ['PGRST203', 'fix the caller'], // PostgREST: there are several such functions
  ['XX001', 'fix the caller'], // close_usage_period: the counter is not the sum of its events
]);
const isFaultOfCaller = /^(07|22|23|42)/; // an argument, a constraint, a name or a right

/** All other errors are retried: 40001, 40P01, a timeout, a lost connection, a gateway that is down. */
export function wayOn(error: unknown): WayOn {
  const sqlstate = sqlstateOf(error) ?? '';
  return waysOn.get(sqlstate) ?? (isFaultOfCaller.test(sqlstate) ? 'fix the caller' : 'retry');
}

/** Both node-postgres and supabase-js put the SQLSTATE into "code". */
export function sqlstateOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
