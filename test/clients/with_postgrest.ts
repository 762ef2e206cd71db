// Runs the supabase-js program of docs/clients.md through the stand-in for PostgREST of
// examples/report-worker.

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Pool } from 'pg';
import { createPostgrest } from './postgrest.js';

const pool = new Pool({ options: '-c search_path=billing' });
const server = createPostgrest(pool).listen(0, '127.0.0.1');
await once(server, 'listening');
process.env['SUPABASE_URL'] = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
process.env['SUPABASE_SERVICE_ROLE_KEY'] = 'service-role-key';
await import('./supabase.js');
server.close();
await pool.end();
