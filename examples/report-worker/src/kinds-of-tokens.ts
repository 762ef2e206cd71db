// Splits the usage that a provider reports into the kinds of tokens that record_usage takes.
// docs/breakdown.md has the table that these functions follow, and the documents it is from.

/** Each token is in one of them. So their sum is what the event used. */
export interface KindsOfTokens {
  inputTokens: number;
  cacheReadTokens: number;
  cacheWriteTokens: number;
  outputTokens: number;
  reasoningTokens: number;
}

export const noTokens: KindsOfTokens = {
  inputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  reasoningTokens: 0,
};

export function add(a: KindsOfTokens, b: KindsOfTokens): KindsOfTokens {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    reasoningTokens: a.reasoningTokens + b.reasoningTokens,
  };
}

export function sumOf(kinds: KindsOfTokens): number {
  return Object.values<number>({ ...kinds }).reduce((sum, tokens) => sum + tokens, 0);
}

type Count = number | null | undefined;

interface OpenAIChatUsage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: Count; cache_write_tokens?: Count } | null;
  completion_tokens_details?: { reasoning_tokens?: Count } | null;
}

export function kindsOfOpenAIChat(usage: OpenAIChatUsage): KindsOfTokens {
  const { prompt_tokens_details: prompt, completion_tokens_details: completion } = usage;
  return split({
    input: reported('prompt_tokens', usage.prompt_tokens),
    cacheRead: part('cached_tokens', prompt?.cached_tokens),
    cacheWrite: part('cache_write_tokens', prompt?.cache_write_tokens),
    output: part('completion_tokens', usage.completion_tokens),
    reasoning: part('reasoning_tokens', completion?.reasoning_tokens),
  });
}

interface OpenAIResponsesUsage {
  input_tokens: number;
  output_tokens: number;
  input_tokens_details?: { cached_tokens?: Count; cache_write_tokens?: Count } | null;
  output_tokens_details?: { reasoning_tokens?: Count } | null;
}

export function kindsOfOpenAIResponse(usage: OpenAIResponsesUsage): KindsOfTokens {
  const { input_tokens_details: input, output_tokens_details: output } = usage;
  return split({
    input: reported('input_tokens', usage.input_tokens),
    cacheRead: part('cached_tokens', input?.cached_tokens),
    cacheWrite: part('cache_write_tokens', input?.cache_write_tokens),
    output: part('output_tokens', usage.output_tokens),
    reasoning: part('reasoning_tokens', output?.reasoning_tokens),
  });
}

interface AnthropicUsage {
  input_tokens: number;
  output_tokens: number;
  cache_read_input_tokens?: Count;
  cache_creation_input_tokens?: Count;
  output_tokens_details?: { thinking_tokens?: Count } | null;
}

/** Also takes an element of usage.iterations. */
export function kindsOfAnthropic(usage: AnthropicUsage): KindsOfTokens {
  const cacheRead = part('cache_read_input_tokens', usage.cache_read_input_tokens);
  const cacheWrite = part('cache_creation_input_tokens', usage.cache_creation_input_tokens);
  return split({
    input: reported('input_tokens', usage.input_tokens) + cacheRead + cacheWrite,
    cacheRead,
    cacheWrite,
    output: part('output_tokens', usage.output_tokens),
    reasoning: part('thinking_tokens', usage.output_tokens_details?.thinking_tokens),
  });
}

interface GeminiUsage {
  promptTokenCount?: Count;
  cachedContentTokenCount?: Count;
  toolUsePromptTokenCount?: Count;
  candidatesTokenCount?: Count;
  thoughtsTokenCount?: Count;
}

export function kindsOfGemini(usage: GeminiUsage): KindsOfTokens {
  const reasoning = part('thoughtsTokenCount', usage.thoughtsTokenCount);
  return split({
    input:
      reported('promptTokenCount', usage.promptTokenCount) +
      part('toolUsePromptTokenCount', usage.toolUsePromptTokenCount),
    cacheRead: part('cachedContentTokenCount', usage.cachedContentTokenCount),
    cacheWrite: 0, // not reported
    output: part('candidatesTokenCount', usage.candidatesTokenCount) + reasoning,
    reasoning,
  });
}

interface AiSdkUsage {
  inputTokens: number | undefined;
  inputTokenDetails: { cacheReadTokens: number | undefined; cacheWriteTokens: number | undefined };
  outputTokens: number | undefined;
  outputTokenDetails: { reasoningTokens: number | undefined };
}

/** Of version 6 and later. */
export function kindsOfAiSdk(usage: AiSdkUsage): KindsOfTokens {
  return split({
    input: reported('inputTokens', usage.inputTokens),
    cacheRead: part('cacheReadTokens', usage.inputTokenDetails.cacheReadTokens),
    cacheWrite: part('cacheWriteTokens', usage.inputTokenDetails.cacheWriteTokens),
    output: part('outputTokens', usage.outputTokens),
    reasoning: part('reasoningTokens', usage.outputTokenDetails.reasoningTokens),
  });
}

/** Takes the attributes of a span. */
export function kindsOfOpenTelemetry(attributes: Readonly<Record<string, unknown>>): KindsOfTokens {
  const attribute = (name: string) => attributes[`gen_ai.usage.${name}`];
  return split({
    input: reported('gen_ai.usage.input_tokens', attribute('input_tokens')),
    cacheRead: part('cache_read', attribute('cache_read.input_tokens')),
    cacheWrite: part('cache_write', attribute('cache_write.input_tokens') ?? attribute('cache_creation.input_tokens')),
    output: part('output_tokens', attribute('output_tokens')),
    reasoning: part('reasoning', attribute('reasoning.output_tokens')),
  });
}

interface Whole {
  input: number;
  cacheRead: number;
  cacheWrite: number;
  output: number;
  reasoning: number;
}

/**
 * Takes the parts of the input and of the output out of them. A part that is larger than
 * its whole is cut, so that the sum is what the provider reports in total.
 */
function split({ input, cacheRead, cacheWrite, output, reasoning }: Whole): KindsOfTokens {
  const cacheReadTokens = Math.min(cacheRead, input);
  const cacheWriteTokens = Math.min(cacheWrite, input - cacheReadTokens);
  const reasoningTokens = Math.min(reasoning, output);
  return {
    inputTokens: input - cacheReadTokens - cacheWriteTokens,
    cacheReadTokens,
    cacheWriteTokens,
    outputTokens: output - reasoningTokens,
    reasoningTokens,
  };
}

/** A number that every response has. Without it, usage would be lost, so that is an error. */
function reported(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw new TypeError(`${name} is not a number of tokens: ${String(value)}`);
  }
  return value;
}

/** A number that a response may leave out. */
function part(name: string, value: unknown): number {
  return value === null || value === undefined ? 0 : reported(name, value);
}
