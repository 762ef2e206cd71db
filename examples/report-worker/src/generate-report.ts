// Stands in for a language model. Like a real one, it streams, and how many tokens a report
// uses is known only at its end. Its usage has the shape of OpenAI's Responses API.

import { randomInt } from 'node:crypto';
import { type KindsOfTokens, add, kindsOfOpenAIResponse, noTokens, sumOf } from './kinds-of-tokens.js';

export interface Report {
  text: string;
  model: string;
  /** What was used, also if the report was broken off. */
  kinds: KindsOfTokens;
  isComplete: boolean;
  finishedAt: string;
}

/** Asks whether the report may use that many tokens in all. */
export type RaiseHold = (tokens: number) => Promise<boolean>;

export type GenerateReport = (title: string, raiseHold: RaiseHold) => Promise<Report>;

/** A part of the model's answer. The last one has the usage of the whole request. */
export type Chunk = { outputTokens: number } | { usage: Parameters<typeof kindsOfOpenAIResponse>[0] };

/** Makes a request to the model. */
export type StreamSection = () => AsyncIterable<Chunk>;

export const model = 'stand-in-1';

/** The input of a request, and the most that the model may return for it (max_tokens). */
export const inputTokens = 1_000;
const outputTokensMax = 20_000;

/** The most that the first request of a report can use. */
export const firstRequestTokensMax = inputTokens + outputTokensMax;

async function* streamSection(): AsyncGenerator<Chunk> {
  const outputTokens = randomInt(1, outputTokensMax + 1);
  const reasoningTokens = Math.floor(outputTokens / 2);
  for (let left = outputTokens - reasoningTokens; left > 0; left -= 100) {
    yield { outputTokens: Math.min(left, 100) };
  }
  yield {
    usage: {
      input_tokens: inputTokens,
      input_tokens_details: { cached_tokens: 768, cache_write_tokens: 128 },
      output_tokens: outputTokens,
      output_tokens_details: { reasoning_tokens: reasoningTokens },
    },
  };
}

export async function generateReport(
  title: string,
  raiseHold: RaiseHold,
  stream: StreamSection = streamSection,
): Promise<Report> {
  let kinds = noTokens;
  let isComplete = true;
  for (let sections = randomInt(1, 6); sections > 0 && isComplete; sections -= 1) {
    isComplete = await raiseHold(sumOf(kinds) + inputTokens + outputTokensMax);
    if (!isComplete) {
      break;
    }
    // Until the model reports what it has used, that is the input and what has arrived.
    let section: KindsOfTokens = { ...noTokens, inputTokens };
    try {
      for await (const chunk of stream()) {
        section =
          'usage' in chunk
            ? kindsOfOpenAIResponse(chunk.usage)
            : add(section, { ...noTokens, outputTokens: chunk.outputTokens });
      }
    } catch (error) {
      // The model has stopped. What has arrived was used, so it is counted.
      console.warn(`report broken off: ${String(error)}`);
      isComplete = false;
    }
    kinds = add(kinds, section);
  }
  return {
    text: `${title}: nothing out of the ordinary.`,
    model,
    kinds,
    isComplete,
    finishedAt: new Date().toISOString(),
  };
}
