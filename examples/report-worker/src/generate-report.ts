// Stands in for a language model. Like a real one, it uses a different number of tokens
// for each call.

import { randomInt } from 'node:crypto';

export interface Report {
  text: string;
  tokens: number;
  finishedAt: string;
}

export type GenerateReport = (title: string) => Promise<Report>;

export async function generateReport(title: string): Promise<Report> {
  return {
    text: `${title}: nothing out of the ordinary.`,
    tokens: randomInt(1_000, 100_000),
    finishedAt: new Date().toISOString(),
  };
}
