// Reserves tokens of the account's limit before they are used.

import { giveUp } from './give-up.js';
import type { Claim, Ledger, Reservation } from './ledger.js';
import { wayOn } from './ways-on.js';

export async function reserveUsage(ledger: Ledger, claim: Claim): Promise<Reservation> {
  try {
    return await ledger.reserveUsage(claim);
  } catch (error) {
    // A retry replaces the hold of its key, so it holds nothing twice.
    throw wayOn(error) === 'retry' ? error : giveUp('Usage not reserved', error);
  }
}

/** Whether the work may begin, or go on. */
export function isAdmitted({ outcome }: Reservation): boolean {
  switch (outcome) {
    case 'reserved':
    case 'unlimited':
      return true;
    case 'limit_reached': // an outcome, not an error: a later try may fit
    case 'replayed': // an earlier try has done this work and counted it
      return false;
    default:
      throw new Error(`Unexpected outcome: ${outcome satisfies never}`);
  }
}
