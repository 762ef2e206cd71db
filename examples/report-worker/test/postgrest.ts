// Stands in for PostgREST, which is not packaged for Debian. It has the part that
// supabase-js uses for .rpc(). POST /rest/v1/rpc/FUNCTION?select=COLUMNS calls the
// function with named arguments, each call in a transaction of its own. The answer is
// one JSON object with the OUT columns, or an array of them if the function returns a
// set. An error is {code, details, hint, message}, with
// PostgREST's HTTP status for that SQLSTATE. Roles, tokens, schemas and filters are not
// supported.

import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { DatabaseError, type Pool, escapeIdentifier, escapeLiteral } from 'pg';

/** PostgREST looks for the function itself, before it calls it. */
const codes: ReadonlyMap<string, string> = new Map([
  ['42883', 'PGRST202'],
  ['42725', 'PGRST203'],
]);

export function createPostgrest(pool: Pool): Server {
  return createServer((request, response) => {
    answer(pool, request, response).catch((error: unknown) => {
      const { code: sqlstate = 'PGRST000', detail = null, hint = null, message } =
        error instanceof DatabaseError ? error : { message: String(error) };
      const code = codes.get(sqlstate) ?? sqlstate;
      send(response, statusOf(code), JSON.stringify({ code, details: detail, hint, message }));
    });
  });
}

async function answer(pool: Pool, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '', 'http://localhost');
  const functionName = /^\/rest\/v1\/rpc\/(\w+)$/.exec(url.pathname)?.[1];
  if (request.method !== 'POST' || functionName === undefined) {
    const message = `not part of this stand-in: ${request.method} ${url.pathname}`;
    send(response, 404, JSON.stringify({ code: 'PGRST125', details: null, hint: null, message }));
    return;
  }

  const argumentsByName = Object.entries(JSON.parse(await text(request)) as Record<string, unknown>);
  const names = argumentsByName.map(([name], index) => `${escapeIdentifier(name)} => $${index + 1}`);
  const { rows } = await pool.query<{ body: string }>(
    `SELECT (CASE WHEN (SELECT bool_or(proretset) FROM pg_proc WHERE proname = ${escapeLiteral(functionName)})
                  THEN COALESCE(json_agg(result), '[]')
                  ELSE json_agg(result) -> 0 END)::text AS body
       FROM (SELECT ${columnsOf(url.searchParams.get('select'))}
               FROM ${escapeIdentifier(functionName)}(${names.join(', ')})) AS result`,
    argumentsByName.map(([, value]) => value),
  );
  send(response, 200, rows[0]?.body ?? 'null');
}

/** Converts "a,b::text,name:c::text" to a select list. */
function columnsOf(select: string | null): string {
  if (select === null) {
    return '*';
  }
  return select
    .split(',')
    .map((item) => {
      const [, name, column = ''] = /^(?:(\w+):(?!:))?(.*)$/.exec(item) ?? [];
      const value = column.split('::').map(escapeIdentifier).join('::');
      return name === undefined ? value : `${value} AS ${escapeIdentifier(name)}`;
    })
    .join(', ');
}

function statusOf(code: string): number {
  if (code === 'PGRST202' || code === 'PGRST203') {
    return code === 'PGRST202' ? 404 : 300;
  }
  switch (code.slice(0, 2)) {
    case '08':
    case '53':
    case 'PG':
      return 503;
    case '25':
    case '40':
    case '54':
    case '55':
    case '57':
    case '58':
    case 'XX':
      return 500;
    default:
      return code === '42501' ? 403 : 400;
  }
}

function send(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(body);
}
