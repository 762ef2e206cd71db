// The job generates a report, then counts the tokens that it used.

import { Inngest, eventType, staticSchema } from 'inngest';
import { eventKey } from './event-key.js';
import type { GenerateReport } from './generate-report.js';
import { type IncrementUsage, recordUsage } from './record-usage.js';

export type ReportRequest = {
  accountId: string;
  title: string;
};

export const inngest = new Inngest({ id: 'report-worker' });

export const reportRequested = eventType('report/requested', { schema: staticSchema<ReportRequest>() });

const generateStep = 'generate-report';
const recordStep = 'record-usage';

export function createReportJob(generateReport: GenerateReport, incrementUsage: IncrementUsage) {
  return inngest.createFunction(
    { id: 'generate-report', triggers: [reportRequested] },
    async ({ event, runId, step }) => {
      const { accountId, title } = event.data;
      // The run and the step that used the tokens: the same for every worker and every try.
      // It is made before any tokens are used, so that none are used that cannot be counted.
      const idempotencyKey = eventKey(runId, generateStep);

      // This is a separate step because Inngest keeps its result. So every try of the next
      // step sends the same number of tokens. A report that is generated again would use
      // another number, and the retry would be a conflict instead of a replay.
      const report = await step.run(generateStep, () => generateReport(title));

      const usage = await step.run(recordStep, () =>
        recordUsage(incrementUsage, {
          accountId,
          tokens: report.tokens,
          idempotencyKey,
          occurredAt: report.finishedAt,
        }),
      );

      return { text: report.text, tokens: report.tokens, usage };
    },
  );
}
