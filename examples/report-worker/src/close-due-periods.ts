// The billing run: closes the periods that have ended at least a day ago.

import type { Pool } from 'pg';

export interface Invoice {
  account_id: string;
  period_start: Date;
  period_end: Date;
  tokens_used: string; // node-postgres returns a bigint as a string
}

export async function closeDuePeriods(database: Pool): Promise<{ invoices: Invoice[]; errors: unknown[] }> {
  const { rows: due } = await database.query<Invoice>(
    `SELECT account_id, period_start
       FROM billing.usage_totals
      WHERE period_end <= now() - interval '1 day' AND closed_at IS NULL
      ORDER BY account_id, period_start`,
  );
  const invoices: Invoice[] = [];
  const errors: unknown[] = [];
  for (const { account_id, period_start } of due) {
    try {
      // Without BEGIN, each query is a transaction of its own.
      const { rows } = await database.query<Invoice>(
        'SELECT * FROM billing.close_usage_period($1::uuid, $2::timestamptz)',
        [account_id, period_start],
      );
      invoices.push(...rows);
    } catch (error) {
      errors.push(error); // the next run tries it again
    }
  }
  return { invoices, errors };
}
