/** The wire: parsing server-sent events, what they make of an answer, and reading one to its end over many connections. */
'use strict';

const TRIES = 8; // connections in a row that bring nothing new
const RETRY_MS = 500; // first pause, until the server names another with `retry:`
const PAUSE_CAP_MS = 15_000;
const SILENCE_MS = 45_000; // three missed heartbeats: the peer has vanished without a word

/** @typedef {{name: string, data: string, id: string}} SseEvent */

/** Text goes in as it arrives, cut anywhere; whole events come out. */
export class SseParser {
  /** @type {number | undefined} The last `retry:`, in ms. */
  retry;
  #rest = '';
  #afterCr = false;
  #name = '';
  #id = '';
  /** @type {string[]} */
  #data = [];

  /** @param {string} chunk @returns {SseEvent[]} */
  push(chunk) {
    if (!chunk) return [];
    // A CR ends its line at once; an LF that follows in the next chunk belongs to it and is no second line.
    const text = this.#rest + (this.#afterCr && chunk[0] === '\n' ? chunk.slice(1) : chunk);
    this.#afterCr = chunk.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? '';
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  /** @param {string} line @returns {SseEvent | null} */
  #line(line) {
    if (line === '') return this.#dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon); // '' is a comment, such as a heartbeat
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#name = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
    return null;
  }

  /** @returns {SseEvent | null} */
  #dispatch() {
    const [name, data] = [this.#name || 'message', this.#data];
    this.#name = '';
    this.#data = [];
    return data.length ? { name, data: data.join('\n'), id: this.#id } : null;
  }
}

const now = () => performance.timeOrigin + performance.now();

/** @typedef {'connecting' | 'streaming' | 'reconnecting' | 'done' | 'stopped' | 'failed'} State */
/** @typedef {ReturnType<typeof newAnswer>} Answer */

/** crypto.randomUUID is missing on plain http, where this page is served too. */
export function uuid() {
  const random = (/** @type {number} */ digit) => digit ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (digit / 4)));
  return '10000000-1000-4000-8000-100000000000'.replace(/[018]/g, (digit) => random(Number(digit)).toString(16));
}

/** Plain data, so that a page can keep it over a reload. @param {string} question @param {string} sessionId */
export const newAnswer = (question, sessionId) => ({
  question, sessionId,
  messageId: uuid(), // makes a repeated POST attach to the same answer instead of asking twice
  sentAt: now(), // ms, comparable over reloads
  state: /** @type {State} */ ('connecting'),
  sid: '', lastId: '', // where to resume; no id means: from what is kept
  text: '', reasoning: '',
  phase: '', // what the gateway is doing while there is no text yet
  note: '', // what the reader should know about the ending
  resumable: false, // failed, yet perhaps still kept
  tokens: 0, guessed: false, // an estimate where text came folded
  ttft: /** @type {number | null} */ (null), // ms to the first token
  rate: /** @type {number | null} */ (null), // tokens a second, once it is over
});

/** @param {Answer | undefined} answer */
export const isRunning = (answer) => ['connecting', 'streaming', 'reconnecting'].includes(answer?.state ?? '');

const PHASES = /** @type {Record<string, string>} */ ({ opened: 'Waiting for the first token', thinking: 'Thinking', queued: 'Waiting in line', retry: 'Trying again' });
const ENDINGS = /** @type {Record<string, string>} */ ({ length: 'Cut off at the length limit.', content_filter: 'Cut off by the content filter.' });
const forget = (/** @type {Answer} */ answer) => Object.assign(answer, { text: '', reasoning: '' });

/** What each event makes of an answer. @type {Record<string, (answer: Answer, data: any) => void>} */
const FOLD = {
  connected(answer, data) {
    Object.assign(answer, { state: 'streaming', sid: data.stream_id ?? answer.sid });
    if (!answer.lastId) forget(answer); // read from the beginning, so what we had comes again
  },
  status(answer, data) {
    const state = data.state === 'queued' && data.position === 0 ? 'opened' : data.state; // its turn has come
    const place = state === 'queued' && data.position ? `, position ${data.position}` : '';
    answer.phase = (PHASES[state] ?? answer.phase) + place;
  },
  text(answer, { token = '', replace = false }) {
    answer.text = replace ? token : answer.text + token;
    if (replace) Object.assign(answer, { tokens: Math.max(answer.tokens, Math.ceil(token.length / 4)), guessed: true });
    else answer.tokens += 1;
    if (!replace && answer.tokens === 1) answer.ttft = now() - answer.sentAt;
  },
  reasoning(answer, { token = '', replace = false }) { answer.reasoning = replace ? token : answer.reasoning + token; },
  warning(answer, data) { if (['GAP', 'RESET', 'REWIND'].includes(data.code)) forget(answer); },
  complete(answer, data) {
    const stopped = data.status === 'cancelled';
    Object.assign(answer, { state: stopped ? 'stopped' : 'done', note: stopped ? 'Stopped.' : ENDINGS[data.finish_reason] ?? '' });
    const counted = data.usage?.completion_tokens ?? data.usage?.output_tokens;
    if (counted) Object.assign(answer, { tokens: counted, guessed: false });
  },
  error(answer, data) { Object.assign(answer, { state: 'failed', note: data.message ?? 'The answer failed.' }); },
};

/** Names that are not known are left alone, and so are events after the terminal one. @param {Answer} answer @param {SseEvent} event */
function takeIn(answer, { name, data, id }) {
  if (!isRunning(answer)) return;
  const fields = parsed(data);
  if (fields && Object.hasOwn(FOLD, name)) FOLD[name](answer, fields);
  if (id) answer.lastId = id;
}

/** Broken JSON is skipped like an unknown name: reading it again would not mend it. @param {string} data */
function parsed(data) {
  try { return JSON.parse(data); } catch { return null; }
}

const streamUrl = (/** @type {Answer} */ { sid, sessionId }) => `/stream/${encodeURIComponent(sid)}?session_id=${encodeURIComponent(sessionId)}`;

/** Asks, or goes on where the answer was. @param {Answer} answer @param {AbortSignal} signal @returns {Promise<Response>} */
async function connect(answer, signal) {
  /** @type {Record<string, string>} */
  const headers = { Accept: 'text/event-stream' };
  if (answer.lastId) headers['Last-Event-ID'] = answer.lastId;
  if (answer.sid) return fetch(streamUrl(answer), { headers, signal, cache: 'no-store' });
  headers['Content-Type'] = 'application/json';
  const asked = { query: answer.question, session_id: answer.sessionId, message_id: answer.messageId, on_disconnect: 'grace' };
  const response = await fetch('/stream', { method: 'POST', headers, body: JSON.stringify(asked), signal });
  if (response.ok) answer.sid = response.headers.get('X-Stream-Id') ?? '';
  return response;
}

/** May fail: an answer without a reader ends by itself. @param {Answer} answer */
export const cancel = (answer) => fetch(streamUrl(answer), { method: 'DELETE', keepalive: true }).catch(() => {});

/** The server answered, but not with a stream: a refusal, or 204 when there is nothing more to read. */
class NoStream extends Error {
  /** @param {number} status @param {Record<string, any>} body @param {number} waitMs */
  constructor(status, body, waitMs) {
    super(body.message ?? `The gateway answered with status ${status}.`);
    this.status = status;
    this.waitMs = waitMs;
    this.retryable = body.retryable ?? [429, 502, 503, 504].includes(status);
  }

  /** @param {Response} response */
  static async from(response) {
    const body = await response.json().catch(() => ({})); // a proxy may answer in HTML
    const seconds = Number(response.headers.get('Retry-After'));
    return new NoStream(response.status, body ?? {}, seconds > 0 ? seconds * 1000 : 0);
  }
}

/**
 * Reads until a terminal event, reconnecting as often as that takes; how it went stands in the answer.
 *
 * @param {Answer} answer
 * @param {AbortSignal} signal stops reading, which is not yet cancelling
 * @param {(event?: SseEvent) => void} onChange
 */
export async function readAnswer(answer, signal, onChange) {
  let [tries, retry] = [0, RETRY_MS];
  while (isRunning(answer)) {
    const parser = new SseParser();
    let error = /** @type {any} */ (null);
    try {
      for await (const event of eventsOf(answer, parser, signal)) {
        takeIn(answer, event);
        if (event.id) tries = 0; // only logged events are progress; a greeting alone is none
        onChange(event);
      }
    } catch (caught) { error = caught; }
    if (!isRunning(answer)) return;
    retry = parser.retry ?? retry;
    const ending = endingOf(answer, error, ++tries > TRIES, signal.aborted);
    Object.assign(answer, ending ?? { state: answer.sid ? 'reconnecting' : 'connecting' });
    onChange();
    if (!ending) await pause(Math.max(error?.waitMs ?? 0, backoff(retry, tries)), signal);
  }
}

/**
 * What a connection without a terminal event means: an ending, or nothing yet. A refused resume is ours to repeat,
 * a refused question is the reader's.
 *
 * @param {Answer} answer @param {unknown} error @param {boolean} enough @param {boolean} stopped @returns {Partial<Answer> | null}
 */
function endingOf(answer, error, enough, stopped) {
  if (stopped) return { state: 'stopped', note: 'Stopped.' };
  if (!(error instanceof NoStream)) return enough ? { state: 'failed', note: 'The gateway cannot be reached.', resumable: true } : null;
  if (error.status === 204) return { state: 'done' };
  const asked = answer.sid !== '';
  if (asked && [404, 410].includes(error.status)) return { state: 'failed', note: 'The gateway no longer keeps this answer.' };
  if (asked && error.retryable && !enough) return null;
  const later = error.waitMs ? ` Try again in ${Math.ceil(error.waitMs / 1000)} s.` : '';
  return { state: 'failed', note: error.message + later, resumable: asked && error.retryable };
}

/** One connection's events. It counts as broken when it is silent too long. @param {Answer} answer @param {SseParser} parser @param {AbortSignal} stopped */
async function* eventsOf(answer, parser, stopped) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  try {
    const response = await connect(answer, AbortSignal.any([stopped, silent.signal]));
    const isStream = response.headers.get('Content-Type')?.startsWith('text/event-stream');
    if (response.status !== 200 || !isStream || !response.body) throw await NoStream.from(response);
    const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return; // an event cut off in the middle is dropped; its id was never taken
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Never sooner than the server asked for, and never all clients at once. @param {number} retry @param {number} tries */
function backoff(retry, tries) {
  const grown = Math.min(retry * 2 ** (tries - 1), PAUSE_CAP_MS);
  return Math.max(grown, retry) * (1 + Math.random() / 2);
}

/** Ends early when the network returns or nobody waits any longer. @param {number} ms @param {AbortSignal} signal */
const pause = (ms, signal) => new Promise((resolve) => {
  setTimeout(resolve, ms);
  addEventListener('online', resolve, { once: true });
  signal.addEventListener('abort', resolve, { once: true });
});
