// Keys of events: two events never share one, and the documents show no other way to make them.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { eventKey } from '../src/event-key.js';

const root = new URL('../../../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), 'utf8');

test('the same ids make the same key, and others another', () => {
  assert.equal(eventKey('run-42', 'generate-report'), 'run-42:generate-report');
  assert.notEqual(eventKey('a:b', 'c'), eventKey('a', 'b:c'));
  assert.notEqual(eventKey('a%3Ab'), eventKey('a:b'));
  assert.equal(eventKey('run 1', 'a:b', "!*()~'é"), "run%201:a%3Ab:!*()~'%C3%A9"); // as event_key in docs/keys.md
});

test('a missing id makes no key', () => {
  const missing: unknown[] = [undefined, null, '', ' ', `${undefined}`, `${null}`, NaN, {}];
  for (const id of missing) {
    assert.throws(() => eventKey('run-42', id as string), TypeError);
    assert.throws(() => eventKey(id as string, 'generate-report'), TypeError);
  }
  assert.throws(() => (eventKey as () => string)(), TypeError);
});

test('docs/keys.md prints this function', () => {
  assert.ok(read('docs/keys.md').includes(read('examples/report-worker/src/event-key.ts')));
});

test('no document and no example makes a key by a template', () => {
  const files = ['README.md', 'examples/report-worker/README.md'].concat(
    readdirSync(new URL('docs/', root)).map((name) => `docs/${name}`),
    readdirSync(new URL('examples/report-worker/src/', root)).map((name) => `examples/report-worker/src/${name}`),
  );
  for (const file of files.filter((name) => /\.(md|ts)$/.test(name))) {
    const code = file.endsWith('.md') ? [...read(file).matchAll(/^```\w+\n(.*?)^```/gms)].join('\n') : read(file);
    assert.doesNotMatch(code, /\$\{\w*id\}/i, file);
  }
});
