/** @microsoft/fetch-event-source: node fetch-event-source.mjs URL REQUEST_AS_JSON [HIDE_AFTER_TEXTS]; line "show" on stdin shows the tab again */
import { createInterface } from 'node:readline';
import fes from '@microsoft/fetch-event-source';

const [url, body, hideAfter = '0'] = process.argv.slice(2);
const say = (saw, more = {}) => console.log(JSON.stringify({ saw, at: performance.now(), ...more }));

// What it needs of a browser: a page that can be hidden and shown.
globalThis.window = globalThis;
globalThis.document = Object.assign(new EventTarget(), { hidden: false });
const turn = (hidden) => {
  document.hidden = hidden;
  document.dispatchEvent(new Event('visibilitychange'));
};
createInterface({ input: process.stdin }).on('line', () => turn(false));

let texts = 0;
try {
  await fes.fetchEventSource(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body,
    async onopen(response) {
      if (!response.ok) throw Object.assign(new Error('refused'), { status: response.status });
      say('open');
    },
    onmessage({ event, data, id }) {
      say('event', { name: event || 'message', data, id });
      if (event === 'text' && ++texts === Number(hideAfter)) turn(true);
    },
    onerror(error) {
      if (error.status) throw error; // an answer that is no stream; anything else is retried as the library sees fit
      say('lost');
    },
  });
} catch (error) {
  say('failure', { name: error.constructor.name, status: error.status ?? null, text: error.message });
}
say('end');
process.exit();
