// The worker serves the job to Inngest. It counts through PostgREST if SUPABASE_URL is
// set. Otherwise it connects to the database that the PG* environment variables name.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from '@supabase/supabase-js';
import { serve } from 'inngest/node';
import { Pool } from 'pg';
import { generateReport } from './generate-report.js';
import { ledgerThroughPg } from './ledger-pg.js';
import { ledgerThroughSupabase } from './ledger-supabase.js';
import type { Ledger } from './ledger.js';
import { createReportJob, inngest } from './report-job.js';

function openLedger(): Ledger {
  const { SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY } = process.env;
  if (SUPABASE_URL !== undefined) {
    return ledgerThroughSupabase(createClient(SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY ?? '', { db: { schema: 'billing' } }));
  }
  const pool = new Pool();
  // The next call replaces a broken idle connection.
  pool.on('error', (error) => console.warn(`idle connection lost: ${error.message}`));
  return ledgerThroughPg(pool);
}

const job = createReportJob(generateReport, openLedger());
const server = createServer(serve({ client: inngest, functions: [job] }));
const { HOST = 'localhost', PORT = '3000' } = process.env;
server.listen(Number(PORT), HOST, () => {
  const { port } = server.address() as AddressInfo;
  console.log(`listening on http://${HOST}:${port}/api/inngest`);
});
