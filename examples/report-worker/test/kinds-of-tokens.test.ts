// Each provider's numbers become kinds that exclude each other, and lose or double no token.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import {
  type KindsOfTokens,
  add,
  kindsOfAiSdk,
  kindsOfAnthropic,
  kindsOfGemini,
  kindsOfOpenAIChat,
  kindsOfOpenAIResponse,
  kindsOfOpenTelemetry,
  noTokens,
  sumOf,
} from '../src/kinds-of-tokens.js';

/** In the order of the columns of docs/breakdown.md. */
function kinds(...tokens: [number, number, number, number, number]): KindsOfTokens {
  const [inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens] = tokens;
  return { inputTokens, cacheReadTokens, cacheWriteTokens, outputTokens, reasoningTokens };
}

describe('OpenAI Chat Completions', () => {
  test('cached and reasoning tokens are taken out', () => {
    const usage = {
      prompt_tokens: 2400,
      completion_tokens: 700,
      total_tokens: 3100,
      prompt_tokens_details: { cached_tokens: 1920, audio_tokens: 0, cache_write_tokens: 384 },
      completion_tokens_details: {
        reasoning_tokens: 512,
        audio_tokens: 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    };
    assert.deepEqual(kindsOfOpenAIChat(usage), kinds(96, 1920, 384, 188, 512));
    assert.equal(sumOf(kindsOfOpenAIChat(usage)), usage.total_tokens);
  });

  test('a response of an older model, or of another server that speaks this protocol, has no details', () => {
    assert.deepEqual(
      kindsOfOpenAIChat({ prompt_tokens: 19, completion_tokens: 10 }),
      kinds(19, 0, 0, 10, 0),
    );
    assert.deepEqual(
      kindsOfOpenAIChat({
        prompt_tokens: 19,
        completion_tokens: 10,
        prompt_tokens_details: null,
        completion_tokens_details: null,
      }),
      kinds(19, 0, 0, 10, 0),
    );
  });
});

test('OpenAI Responses: cached and reasoning tokens are taken out', () => {
  const usage = {
    input_tokens: 3438,
    input_tokens_details: { cached_tokens: 3072, cache_write_tokens: 128 },
    output_tokens: 1186,
    output_tokens_details: { reasoning_tokens: 1024 },
    total_tokens: 4624,
  };
  assert.deepEqual(kindsOfOpenAIResponse(usage), kinds(238, 3072, 128, 162, 1024));
  assert.equal(sumOf(kindsOfOpenAIResponse(usage)), usage.total_tokens);
});

describe('Anthropic Messages', () => {
  test('the cache is no part of the input, and thinking is part of the output', () => {
    const usage = {
      input_tokens: 4,
      cache_creation_input_tokens: 287,
      cache_read_input_tokens: 30433,
      cache_creation: { ephemeral_5m_input_tokens: 287, ephemeral_1h_input_tokens: 0 },
      output_tokens: 503,
      output_tokens_details: { thinking_tokens: 420 },
      server_tool_use: null,
      service_tier: 'standard',
      inference_geo: null,
    };
    assert.deepEqual(kindsOfAnthropic(usage), kinds(4, 30433, 287, 83, 420));
  });

  test('without a cache, and from before thinking was reported', () => {
    assert.deepEqual(
      kindsOfAnthropic({
        input_tokens: 2095,
        cache_creation_input_tokens: null,
        cache_read_input_tokens: null,
        output_tokens: 503,
      }),
      kinds(2095, 0, 0, 503, 0),
    );
  });

  test('an iteration of a compaction', () => {
    const compaction = {
      type: 'compaction',
      input_tokens: 180_000,
      output_tokens: 3_500,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 0,
      cache_creation: null,
    };
    assert.deepEqual(kindsOfAnthropic(compaction), kinds(180_000, 0, 0, 3_500, 0));
  });
});

describe('Gemini', () => {
  test('cached content is part of the prompt, and thoughts are no part of the candidates', () => {
    const usage = {
      promptTokenCount: 1100,
      candidatesTokenCount: 250,
      cachedContentTokenCount: 1024,
      thoughtsTokenCount: 900,
      toolUsePromptTokenCount: 60,
      totalTokenCount: 2310,
      promptTokensDetails: [{ modality: 'TEXT', tokenCount: 1100 }],
      cacheTokensDetails: [{ modality: 'TEXT', tokenCount: 1024 }],
    };
    assert.deepEqual(kindsOfGemini(usage), kinds(136, 1024, 0, 250, 900));
    assert.equal(sumOf(kindsOfGemini(usage)), usage.totalTokenCount);
  });

  test('a response that has only thoughts leaves out the candidates', () => {
    assert.deepEqual(
      kindsOfGemini({ promptTokenCount: 12, thoughtsTokenCount: 2045 }),
      kinds(12, 0, 0, 0, 2045),
    );
  });
});

describe('AI SDK', () => {
  const details = { noCacheTokens: undefined, cacheReadTokens: undefined, cacheWriteTokens: undefined };

  test('cached and reasoning tokens are taken out', () => {
    const usage = {
      inputTokens: 30724,
      inputTokenDetails: { noCacheTokens: 4, cacheReadTokens: 30433, cacheWriteTokens: 287 },
      outputTokens: 503,
      outputTokenDetails: { textTokens: 83, reasoningTokens: 420 },
      totalTokens: 31227,
    };
    assert.deepEqual(kindsOfAiSdk(usage), kinds(4, 30433, 287, 83, 420));
    assert.equal(sumOf(kindsOfAiSdk(usage)), usage.totalTokens);
  });

  test('a provider that reports no details', () => {
    const usage = {
      inputTokens: 7,
      inputTokenDetails: details,
      outputTokens: 5,
      outputTokenDetails: { textTokens: undefined, reasoningTokens: undefined },
    };
    assert.deepEqual(kindsOfAiSdk(usage), kinds(7, 0, 0, 5, 0));
  });

  test('a provider that reports no usage is an error, not an event of 0 tokens', () => {
    assert.throws(
      () =>
        kindsOfAiSdk({
          inputTokens: undefined,
          inputTokenDetails: details,
          outputTokens: undefined,
          outputTokenDetails: { reasoningTokens: undefined },
        }),
      /inputTokens is not a number of tokens: undefined/,
    );
  });
});

describe('OpenTelemetry', () => {
  const span = {
    'gen_ai.provider.name': 'anthropic',
    'gen_ai.response.model': 'claude-sonnet-5',
    'gen_ai.usage.input_tokens': 30724,
    'gen_ai.usage.cache_read.input_tokens': 30433,
    'gen_ai.usage.output_tokens': 503,
    'gen_ai.usage.reasoning.output_tokens': 420,
  };

  test('cached and reasoning tokens are taken out, under both names of cache writes', () => {
    for (const name of ['gen_ai.usage.cache_write.input_tokens', 'gen_ai.usage.cache_creation.input_tokens']) {
      assert.deepEqual(kindsOfOpenTelemetry({ ...span, [name]: 287 }), kinds(4, 30433, 287, 83, 420));
    }
  });

  test('a span without usage', () => {
    assert.throws(() => kindsOfOpenTelemetry({ 'gen_ai.response.model': 'm' }), TypeError);
  });
});

test('a part that is larger than its whole is cut, and the total stays', () => {
  const usage = {
    input_tokens: 5136,
    input_tokens_details: { cached_tokens: 10192, cache_write_tokens: 12 },
    output_tokens: 201,
    output_tokens_details: { reasoning_tokens: 300 },
  };
  assert.deepEqual(kindsOfOpenAIResponse(usage), kinds(0, 5136, 0, 0, 201));
});

test('what is not a number of tokens is an error', () => {
  for (const value of [NaN, -1, 1.5, Infinity, '7', {}]) {
    const tokens = value as number;
    assert.throws(() => kindsOfOpenAIChat({ prompt_tokens: tokens, completion_tokens: 1 }), TypeError);
    assert.throws(() => kindsOfOpenAIChat({ prompt_tokens: 1, completion_tokens: tokens }), TypeError);
    assert.throws(() => kindsOfGemini({ promptTokenCount: 1, cachedContentTokenCount: tokens }), TypeError);
  }
});

test('several responses of one event are added up', () => {
  assert.deepEqual(add(add(noTokens, kinds(1, 2, 3, 4, 5)), kinds(10, 20, 30, 40, 50)), kinds(11, 22, 33, 44, 55));
});

test('the table in the documentation names each number that these functions read', () => {
  const root = new URL('../../../../', import.meta.url);
  const table = readFileSync(new URL('docs/breakdown.md', root), 'utf8');
  const source = readFileSync(new URL('examples/report-worker/src/kinds-of-tokens.ts', root), 'utf8');
  const names = [...source.matchAll(/(?:reported|part)\('([\w.]+)'/g)].map(([, name = '']) => name.replace(/.*\./, ''));
  assert.ok(names.length > 20, `${names.length} names`);
  for (const name of names) {
    assert.ok(table.includes(name), name);
  }
});
