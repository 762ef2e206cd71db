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

/** Makes a request to the model. Yields the number of output tokens in each chunk that arrives. */
export type StreamSection = () => AsyncIterable<number>;

/** The input of a request, and the most that the model may return for it (max_tokens). */
export const inputTokens = 1_000;
const outputTokensMax = 20_000;

/** The most that the first request of a report can use. */
export const firstRequestTokensMax = inputTokens + outputTokensMax;

async function* streamSection(): AsyncGenerator<number> {
  for (let left = randomInt(1, outputTokensMax + 1); left > 0; left -= 100) {
    yield Math.min(left, 100);
  }
}

export async function generateReport(
  title: string,
  raiseHold: RaiseHold,
  stream: StreamSection = streamSection,
): Promise<Report> {
  let tokens = 0;
  let isComplete = true;
  for (let sections = randomInt(1, 6); sections > 0 && isComplete; sections -= 1) {
    isComplete = await raiseHold(tokens + inputTokens + outputTokensMax);
    if (!isComplete) {
      break;
    }
    tokens += inputTokens;
    try {
      for await (const outputTokens of stream()) {
        tokens += outputTokens;
      }
    } catch (error) {
      // The model has stopped. What has arrived was used, so it is counted.
      console.warn(`report broken off: ${String(error)}`);
      isComplete = false;
    }
  }
  return {
    text: `${title}: nothing out of the ordinary.`,
    tokens,
    isComplete,
    finishedAt: new Date().toISOString(),
  };
}
