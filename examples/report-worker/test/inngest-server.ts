// Stands in for the Inngest server, which is a service. (Its package inngest-cli fetches a
// program from elsewhere.) It sends a worker the requests that the server would send, and
// keeps the results of the steps. The worker's side is the real SDK over real HTTP.
//
// A request carries the event, the run, and the results of the steps so far. The answer
// is one of these:
//
// - 206 with the state of a step. StepRun: its result. StepError: it threw, retry it.
//   StepFailed: it threw, do not retry it.
// - 200 with the result of the function.
// - 4xx or 5xx with the error that it threw.

import { randomUUID } from 'node:crypto';
import { type ReportRequest, inngest, reportRequested } from '../src/report-job.js';

const functionId = `${inngest.id}-generate-report`;
const attemptsMax = 4; // per step: Inngest's default is three retries

interface StepOperation {
  id: string;
  op: string;
  displayName: string;
  data?: unknown;
  error?: StepFailure;
}

interface StepFailure {
  name: string;
  message: string;
}

interface Reply {
  status: number;
  noRetry: boolean;
  body: unknown;
}

export interface Run {
  status: 'completed' | 'failed';
  /** The function's result, or its error. */
  output: unknown;
  /** Every result of every step that any worker sent, including lost ones. */
  results: { step: string; data: unknown }[];
  /** Every error that a step threw, and whether it is to be retried. */
  errors: { step: string; message: string; retry: boolean }[];
}

export interface RunOptions {
  runId?: string;
  /** Loses the first answer to every step, then retries. */
  losesFirstReply?: boolean;
}

/** Runs the job. Every request goes to all workers concurrently, as if it were sent twice. */
export async function runJob(workers: string[], data: ReportRequest, options: RunOptions = {}): Promise<Run> {
  const { runId = randomUUID(), losesFirstReply = false } = options;
  const event = { id: randomUUID(), name: reportRequested.name, data, ts: Date.now() };
  const steps: Record<string, unknown> = {};
  const results: Run['results'] = [];
  const errors: Run['errors'] = [];

  let attempt = 0;
  while (attempt < attemptsMax) {
    const request = {
      version: 2,
      event,
      events: [event],
      steps,
      ctx: {
        run_id: runId,
        attempt,
        max_attempts: attemptsMax,
        disable_immediate_execution: false,
        use_api: false,
        stack: { stack: Object.keys(steps), current: Object.keys(steps).length },
      },
    };
    const replies = await Promise.all(workers.map((worker) => post(worker, request)));

    for (const operation of replies.flatMap(operationsOf)) {
      if (operation.op === 'StepRun') {
        results.push({ step: operation.displayName, data: operation.data });
      } else {
        errors.push({
          step: operation.displayName,
          message: operation.error?.message ?? '',
          retry: operation.op === 'StepError',
        });
      }
    }

    const reply = replies[0];
    if (reply === undefined) {
      throw new Error('no worker');
    }
    if (reply.status === 200) {
      return { status: 'completed', output: reply.body, results, errors };
    }
    if (losesFirstReply && attempt === 0) {
      attempt += 1;
      continue;
    }
    if (reply.status !== 206) {
      if (reply.noRetry) {
        return { status: 'failed', output: reply.body, results, errors };
      }
      attempt += 1;
      continue;
    }
    for (const operation of operationsOf(reply)) {
      switch (operation.op) {
        case 'StepRun':
          steps[operation.id] = { type: 'data', data: operation.data };
          attempt = 0;
          break;
        case 'StepFailed':
          steps[operation.id] = { type: 'error', error: operation.error };
          attempt = 0;
          break;
        case 'StepError':
          attempt += 1;
          break;
        default:
          throw new Error(`unexpected operation: ${JSON.stringify(operation)}`);
      }
    }
  }
  throw new Error(`gave up after ${attemptsMax} attempts: ${JSON.stringify(errors)}`);
}

async function post(worker: string, request: object): Promise<Reply> {
  const response = await fetch(`${worker}?fnId=${functionId}&stepId=step`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return {
    status: response.status,
    noRetry: response.headers.get('x-inngest-no-retry') === 'true',
    body: await response.json(),
  };
}

function operationsOf(reply: Reply): StepOperation[] {
  return reply.status === 206 ? (reply.body as StepOperation[]) : [];
}
