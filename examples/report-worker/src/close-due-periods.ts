// The billing run: closes the periods that have ended at least a day ago.

import type { Pool } from 'pg';

/** A row of usage_totals or usage_periods. */
export interface Period {
  account_id: string;
  period_start: Date;
  period_end: Date;
  tokens_used: string; // node-postgres returns a bigint as a string
}

export async function closeDuePeriods(database: Pool): Promise<{ closed: Period[]; errors: unknown[] }> {
  const { rows: due } = await database.query<Period>(
    `SELECT account_id, period_start
       FROM billing.usage_totals
      WHERE period_end <= now() - interval '1 day' AND closed_at IS NULL
      ORDER BY account_id, period_start`,
  );
  const closed: Period[] = [];
  const errors: unknown[] = [];
  for (const { account_id, period_start } of due) {
    try {
      // Without BEGIN, each query is a transaction of its own.
      const { rows } = await database.query<Period>(
        'SELECT * FROM billing.close_usage_period($1::uuid, $2::timestamptz)',
        [account_id, period_start],
      );
      closed.push(...rows);
    } catch (error) {
      errors.push(error); // the next run tries it again
    }
  }
  return { closed, errors };
}
