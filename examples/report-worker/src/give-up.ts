// How a step tells Inngest that no retry will help.

import { NonRetriableError } from 'inngest';
import { sqlstateOf } from './ways-on.js';

export function giveUp(what: string, error: unknown): NonRetriableError {
  const message = error instanceof Error ? error.message : String(error);
  return new NonRetriableError(`${what}: ${message} (${sqlstateOf(error)})`, { cause: error });
}
