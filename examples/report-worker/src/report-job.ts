// The job reserves tokens, generates a report, then counts the tokens that it used.

import { Inngest, eventType, staticSchema } from 'inngest';
import { eventKey } from './event-key.js';
import { type GenerateReport, firstRequestTokensMax } from './generate-report.js';
import { sumOf } from './kinds-of-tokens.js';
import type { Ledger } from './ledger.js';
import { recordUsage } from './record-usage.js';
import { isAdmitted, reserveUsage } from './reserve-usage.js';

export type ReportRequest = {
  accountId: string;
  title: string;
  /** Who asked for it within the account: a path such as team/user. */
  scope?: string;
};

export const inngest = new Inngest({ id: 'report-worker' });

export const reportRequested = eventType('report/requested', { schema: staticSchema<ReportRequest>() });

const reserveStep = 'reserve-usage';
const generateStep = 'generate-report';
const recordStep = 'record-usage';

export function createReportJob(generateReport: GenerateReport, ledger: Ledger) {
  return inngest.createFunction(
    { id: 'generate-report', triggers: [reportRequested] },
    async ({ event, runId, step }) => {
      const { accountId, title, scope = '' } = event.data;
      // The run and the step that used the tokens: the same for every worker and every try.
      // It is made before any tokens are used, so that none are used that cannot be counted.
      const idempotencyKey = eventKey(runId, generateStep);
      const reserve = (tokens: number) => reserveUsage(ledger, { accountId, tokens, idempotencyKey });

      // If the job dies after this step, the hold ends when it expires.
      const reservation = await step.run(reserveStep, () => reserve(firstRequestTokensMax));
      if (!isAdmitted(reservation)) {
        return { text: null, tokens: 0, reservation };
      }

      // This is a separate step because Inngest keeps its result. So every try of the next
      // step sends the same tokens. A report that is generated again would use
      // another number, and the retry would be a conflict instead of a replay.
      //
      // The hold grows with the report. A report that the limit breaks off is counted too.
      const report = await step.run(generateStep, () =>
        generateReport(title, async (tokens) => isAdmitted(await reserve(tokens))),
      );

      // This ends the hold, because it has the hold's key.
      const usage = await step.run(recordStep, () =>
        recordUsage(ledger, {
          accountId,
          model: report.model,
          scope,
          kinds: report.kinds,
          idempotencyKey,
          occurredAt: report.finishedAt,
        }),
      );

      return { text: report.text, isComplete: report.isComplete, tokens: sumOf(report.kinds), usage };
    },
  );
}
