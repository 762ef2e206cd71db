/** Joins the ids that name an event to its idempotency key. Throws if one of them is missing. */
export function eventKey(...ids: [string, ...string[]]): string {
  const isMissing = (id: unknown) => typeof id !== 'string' || ['', 'undefined', 'null'].includes(id.trim());
  if (ids.length === 0 || ids.some(isMissing)) {
    throw new TypeError(`an id is missing, or no string, in an idempotency key: ${ids.map(String).join(', ')}`);
  }
  return ids.map(encodeURIComponent).join(':'); // an id that contains a colon stays one id
}
