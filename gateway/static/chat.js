/** The demo chat: asks, shows the answer as it grows, and finds it again after a reload. Text reaches the page as text only. */
'use strict';

import { cancel, isRunning, newAnswer, readAnswer, uuid } from './sse.js';

/** @typedef {import('./sse.js').Answer} Answer */
/** The answer being read; `arrivals` are the times of its tokens. @typedef {{answer: Answer, control: AbortController, arrivals: number[], stopping: boolean}} Reading */

const STORE = 'sse-gateway.chat';
const SAVE_MS = 400;
const RATE_WINDOW_MS = 3000;
const STOP_GRACE_MS = 1500; // how long a stopped answer may take to say its last words
const NEAR_PX = 48; // this close to the end counts as following it
const FENCED = /^ {0,3}(`{3,})[^`\n]*(?:\n([^]*?))??(?:\n {0,3}\1`* *$|(?![^]))/m;

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const [prompt, send, stop, messages, latest] = ['prompt', 'send', 'stop', 'messages', 'latest'].map($);
const page = /** @type {HTMLElement} */ (document.scrollingElement);

const places = /** @type {WeakMap<Answer, HTMLElement>} */ (new WeakMap());
let reading = /** @type {Reading | null} */ (null);
let chat = restore();
let [frame, saver, following, lastTop] = [0, 0, true, 0];
const current = () => chat.answers.at(-1);

/** What was kept over a reload, or a new chat. @returns {{sessionId: string, answers: Answer[]}} */
function restore() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(STORE) ?? 'null');
    if (typeof kept?.sessionId === 'string' && Array.isArray(kept.answers)) return kept;
  } catch { /* forbidden, or somebody else's: begin anew */ }
  return { sessionId: uuid(), answers: [] };
}

function save() {
  clearTimeout(saver);
  saver = 0;
  try { sessionStorage.setItem(STORE, JSON.stringify(chat)); } catch { /* full or forbidden: the chat goes on without */ }
}

/* Asking, reading, stopping. */

/** @param {string} question */
function ask(question) {
  if (!question || isRunning(current())) return;
  const answer = newAnswer(question, chat.sessionId);
  chat.answers.push(answer);
  following = true;
  prompt.value = '';
  fit();
  read(answer);
}

/** A failed answer is asked for anew; one that was only out of reach is looked for again. @param {Answer} answer */
function retry(answer) {
  const again = { state: answer.sid ? 'reconnecting' : 'connecting', note: '', resumable: false };
  Object.assign(answer, answer.resumable ? again : newAnswer(answer.question, chat.sessionId));
  read(answer);
}

/** @param {Answer} answer */
function read(answer) {
  const me = reading = { answer, control: new AbortController(), arrivals: [], stopping: false };
  readAnswer(answer, me.control.signal, (event) => receive(me, event));
  toPrompt();
}

/** @param {Reading} me @param {import('./sse.js').SseEvent} [event] none when the connection changed */
function receive(me, event) {
  if (event?.name === 'text') me.arrivals.push(performance.now());
  if (event?.name === 'connected' && me.stopping) cancel(me.answer); // stopped before it had a name
  if (!isRunning(me.answer) && reading === me) finish(me);
  changed();
}

/** @param {Reading} me */
function finish({ answer, arrivals }) {
  const seconds = (arrivals[arrivals.length - 1] - arrivals[0]) / 1000;
  if (seconds > 0) answer.rate = (arrivals.length - 1) / seconds;
  reading = null;
  $('announce').textContent = `${answer.note || 'Answer complete.'} ${answer.text}`;
}

function stopReading() {
  if (!reading || reading.stopping) return;
  const { answer, control } = reading;
  reading.stopping = true;
  if (answer.sid) cancel(answer);
  setTimeout(() => control.abort(), STOP_GRACE_MS); // whatever the gateway says
  toPrompt();
}

function newChat() {
  stopReading();
  chat = { sessionId: uuid(), answers: [] };
  messages.replaceChildren();
  toPrompt();
}

/** The button that was pressed may vanish. On a phone focus would only raise the keyboard. */
function toPrompt() {
  if (!matchMedia('(pointer: coarse)').matches) prompt.focus();
  changed();
}

/* Showing. Changes are gathered into one paint a frame, however many tokens a frame brings. */

function changed() {
  frame ||= requestAnimationFrame(paint);
  saver ||= setTimeout(save, SAVE_MS);
}

function paint() {
  frame = 0;
  const answer = current();
  if (answer) show(answer);
  $('empty').hidden = Boolean(answer);
  const running = isRunning(answer);
  stop.hidden = !running;
  stop.disabled = Boolean(reading?.stopping);
  send.hidden = running;
  send.disabled = !prompt.value.trim();
  paintMeters(answer);
  if (following && answer) page.scrollTop = page.scrollHeight;
  lastTop = page.scrollTop;
  latest.hidden = following;
}

/** @param {Answer | undefined} answer */
function paintMeters(answer) {
  const state = answer?.state ?? 'ready';
  if ($('state').dataset.state !== state) $('state').textContent = $('state').dataset.state = state;
  const rate = isRunning(answer) ? liveRate() : answer?.rate;
  $('ttft').textContent = answer?.ttft == null ? '–' : `${Math.round(answer.ttft)} ms`;
  $('rate').textContent = rate == null ? '–' : `${rate.toFixed(1)} tok/s`;
  $('tokens').textContent = answer?.tokens ? `${answer.guessed ? '≈ ' : ''}${answer.tokens} tokens` : '–';
}

/** Over a window, so that a burst does not make the number jump. */
function liveRate() {
  const [time, arrivals] = [performance.now(), reading?.arrivals ?? []];
  const span = Math.min(time - arrivals[0], RATE_WINDOW_MS);
  return span > 300 ? arrivals.filter((at) => at > time - span).length / (span / 1000) : null;
}

/** @param {Answer} answer @returns {HTMLElement} where its answer is shown */
function placeOf(answer) {
  const known = places.get(answer);
  if (known) return known;
  messages.append($('exchange').content.cloneNode(true));
  const place = messages.lastElementChild;
  place.previousElementSibling.querySelector('p').textContent = answer.question;
  place.querySelector('button').addEventListener('click', () => retry(answer));
  places.set(answer, place);
  return place;
}

/** @param {Answer} answer */
function show(answer) {
  const place = placeOf(answer);
  const [thought, body, pending, note] = /** @type {any[]} */ (['.thought', '.body', '.pending', '.note'].map((part) => place.querySelector(part)));
  const running = isRunning(answer);
  place.ariaBusy = String(running);
  thought.hidden = !answer.reasoning;
  thought.lastElementChild.textContent = answer.reasoning;
  showText(body, answer.text);
  pending.hidden = !running || (answer.text !== '' && answer.state === 'streaming');
  pending.textContent = answer.state === 'reconnecting' ? 'Picking the answer up again' : answer.phase || 'Connecting';
  note.hidden = running || !answer.note;
  note.dataset.state = answer.state;
  note.firstElementChild.textContent = answer.note;
  note.lastElementChild.hidden = answer.state !== 'failed';
  note.lastElementChild.textContent = answer.resumable ? 'Reconnect' : 'Ask again';
}

/** Rebuilds only the blocks that changed: a long answer stays cheap, and a selection in it survives. @param {Element} body @param {string} text */
function showText(body, text) {
  const blocks = blocksOf(text);
  while (body.children.length > blocks.length) body.lastElementChild?.remove();
  blocks.forEach(({ tag, content }, index) => {
    const old = /** @type {any} */ (body.children[index]);
    if (old?.source === tag + content) return;
    const node = tag === 'pre' ? make('pre', make('code', content)) : make('p', ...inline(content));
    node.source = tag + content;
    if (tag === 'pre') node.tabIndex = 0; // wide code must scroll by keyboard too
    if (old) old.replaceWith(node); else body.append(node);
  });
}

/** Paragraphs and fenced code; a fence that is still open runs to the end. @param {string} text */
function blocksOf(text) {
  const prose = (/** @type {string} */ part) => part.split(/\n[ \t]*\n/).map((p) => p.replace(/^\n+|\s+$/g, '')).filter(Boolean);
  return text.replaceAll('\r\n', '\n').split(FENCED).flatMap((part, index) => { // prose, a fence, its code, prose, …
    if (index % 3 === 0) return prose(part).map((content) => ({ tag: 'p', content }));
    return index % 3 === 2 ? [{ tag: 'pre', content: part ?? '' }] : [];
  });
}

/** @param {string} text @returns {(Node | string)[]} */
function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part, index) => {
    if (index % 2 === 0) return part;
    return part[0] === '`' ? make('code', part.slice(1, -1)) : make('strong', part.slice(2, -2));
  });
}

/** Strings become text nodes, whatever they contain. @param {string} tag @param {...(Node | string)} children @returns {any} */
function make(tag, ...children) {
  const node = document.createElement(tag);
  node.append(...children);
  return node;
}

/* Wiring. */

function fit() {
  prompt.style.height = 'auto';
  prompt.style.height = `${prompt.scrollHeight}px`;
  changed();
}

$('composer').addEventListener('submit', (/** @type {Event} */ event) => {
  event.preventDefault();
  ask(prompt.value.trim());
});
prompt.addEventListener('input', fit);
prompt.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $('composer').requestSubmit();
});
addEventListener('keydown', (event) => { if (event.key === 'Escape') stopReading(); });
$('empty').addEventListener('click', (/** @type {any} */ event) => ask(event.target.closest('[data-question]')?.dataset.question));
stop.addEventListener('click', stopReading);
$('new-chat').addEventListener('click', newChat);
latest.addEventListener('click', () => { following = true; changed(); });
addEventListener('scroll', () => {
  const gap = page.scrollHeight - page.clientHeight - page.scrollTop;
  following = page.scrollTop < lastTop ? gap < 2 : gap < NEAR_PX; // the least move upwards lets go
  changed();
}, { passive: true });
addEventListener('pagehide', save);
setInterval(() => isRunning(current()) && changed(), 250); // the speed falls while nothing comes

chat.answers.forEach(show);
const last = current();
// Without a cursor the gateway sends the text so far in one piece, whatever had been kept here.
if (last && isRunning(last)) read(Object.assign(last, { lastId: '', state: last.sid ? 'reconnecting' : 'connecting' }));
changed();
