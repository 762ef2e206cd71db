// Counts usage once, whatever the ledger answers to the first try.

import { giveUp } from './give-up.js';
import type { Ledger, Receipt, Usage } from './ledger.js';
import { wayOn } from './ways-on.js';

export async function recordUsage(ledger: Ledger, usage: Usage): Promise<Receipt> {
  let receipt: Receipt;
  try {
    receipt = await ledger.recordUsage(usage);
  } catch (error) {
    switch (wayOn(error)) {
      case 'retry':
        // The usage may have been counted or not. A retry with the same key is safe.
        throw error;
      case 'count again without a time':
        if (usage.occurredAt !== null) {
          return recordUsage(ledger, { ...usage, occurredAt: null });
        }
    }
    throw giveUp('Usage not counted', error);
  }

  switch (receipt.outcome) {
    case 'applied': // counted now
    case 'queued': // counted now; a settler adds it to the counter
    case 'replayed': // counted by an earlier try, whose reply was lost
      return receipt;
    default:
      // This answer does not come from usage_ledger's record_usage.
      throw new Error(`Unexpected outcome: ${receipt.outcome satisfies never}`);
  }
}
