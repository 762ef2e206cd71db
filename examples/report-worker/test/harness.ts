// Starts what the tests need: workers that serve the job, and the two routes to the ledger.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Server as HttpServer, createServer } from 'node:http';
import { type AddressInfo, type NetConnectOpts, type Server } from 'node:net';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createClient } from '@supabase/supabase-js';
import { serve } from 'inngest/node';
import { Pool, type PoolConfig, defaults } from 'pg';
import type { GenerateReport } from '../src/generate-report.js';
import { ledgerThroughPg } from '../src/ledger-pg.js';
import { ledgerThroughSupabase } from '../src/ledger-supabase.js';
import type { Ledger } from '../src/ledger.js';
import { createReportJob, inngest } from '../src/report-job.js';
import { type LossyProxy, createLossyProxy } from './lossy-proxy.js';
import { createPostgrest } from './postgrest.js';

export interface Route {
  name: string;
  /** Opens the route through a proxy that can lose a reply. */
  open(t: TestContext, config?: PoolConfig): Promise<{ ledger: Ledger; proxy: LossyProxy }>;
  /** The environment of a worker process that takes this route, in sessions of that name. */
  environment(t: TestContext, sessionName: string): Promise<NodeJS.ProcessEnv>;
}

export const routes: Route[] = [
  {
    name: 'node-postgres',
    async open(t, config) {
      const proxy = createLossyProxy(database());
      const { port } = await listen(t, proxy.server);
      const pool = openPool(t, { ...config, host: '127.0.0.1', port });
      return { ledger: ledgerThroughPg(pool), proxy };
    },
    async environment(_, sessionName) {
      return { PGAPPNAME: sessionName };
    },
  },
  {
    name: 'supabase-js',
    async open(t, config) {
      const postgrest = await listen(t, createPostgrest(openPool(t, config)));
      const proxy = createLossyProxy({ host: '127.0.0.1', port: postgrest.port });
      const { port } = await listen(t, proxy.server);
      const supabase = createClient(`http://127.0.0.1:${port}`, 'service-role-key', { db: { schema: 'billing' } });
      return { ledger: ledgerThroughSupabase(supabase), proxy };
    },
    async environment(t, sessionName) {
      const { port } = await listen(t, createPostgrest(openPool(t, { application_name: sessionName })));
      return { SUPABASE_URL: `http://127.0.0.1:${port}`, SUPABASE_SERVICE_ROLE_KEY: 'service-role-key' };
    },
  },
];

/** Serves the job from this process and returns the URL. */
export async function serveJob(
  t: TestContext,
  generateReport: GenerateReport,
  ledger: Ledger,
): Promise<string> {
  t.mock.method(console, 'error', () => {}); // the SDK logs errors of steps here, and these tests cause some
  const job = createReportJob(generateReport, ledger);
  const { port } = await listen(t, createServer(serve({ client: inngest, functions: [job] })));
  return `http://127.0.0.1:${port}/api/inngest`;
}

/** Starts the worker as a separate process and returns the URL. */
export async function startWorker(t: TestContext, environment: NodeJS.ProcessEnv): Promise<string> {
  const worker = spawn(process.execPath, [fileURLToPath(new URL('../src/worker.js', import.meta.url))], {
    env: { ...process.env, ...environment, HOST: '127.0.0.1', PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => worker.kill());
  for await (const line of createInterface(worker.stdout)) {
    const url = /^listening on (\S+)$/.exec(line)?.[1];
    if (url !== undefined) {
      worker.stdout.resume();
      return url;
    }
  }
  throw new Error('the worker ended before it listened');
}

function openPool(t: TestContext, config?: PoolConfig): Pool {
  const pool = new Pool(config);
  // The next call replaces a connection that a test has cut.
  pool.on('error', () => {});
  t.after(() => pool.end());
  return pool;
}

function database(): NetConnectOpts {
  const host = process.env['PGHOST'] ?? 'localhost';
  const port = Number(process.env['PGPORT'] ?? defaults.port);
  return host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port };
}

async function listen(t: TestContext, server: Server | HttpServer): Promise<AddressInfo> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    if ('closeAllConnections' in server) {
      server.closeAllConnections();
    }
  });
  return server.address() as AddressInfo;
}
