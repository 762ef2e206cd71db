// Stands in for a language model. Like a real one, it streams, and how many tokens a report
// uses is known only at its end.

import { randomInt } from 'node:crypto';

export interface Report {
  text: string;
  /** What was used, also if the report was broken off. */
  tokens: number;
  isComplete: boolean;
  finishedAt: string;
}

/** Asks whether the report may use that many tokens in all. */
export type RaiseHold = (tokens: number) => Promise<boolean>;

export type GenerateReport = (title: string, raiseHold: RaiseHold) => Promise<Report>;

/** The input of a request, and the most that the model may return for it (max_tokens). */
const inputTokens = 1_000;
const outputTokensMax = 20_000;

/** The most that the first request of a report can use. */
export const firstRequestTokensMax = inputTokens + outputTokensMax;

export async function generateReport(title: string, raiseHold: RaiseHold): Promise<Report> {
  let tokens = 0;
  let isComplete = true;
  for (let sections = randomInt(1, 6); sections > 0 && isComplete; sections -= 1) {
    isComplete = await raiseHold(tokens + inputTokens + outputTokensMax);
    if (isComplete) {
      tokens += inputTokens + randomInt(1, outputTokensMax + 1);
    }
  }
  return {
    text: `${title}: nothing out of the ordinary.`,
    tokens,
    isComplete,
    finishedAt: new Date().toISOString(),
  };
}
