/** Watches one stream with an EventSource, as an application does, and reports all that it is told. Runs in Node and in pages. */

/**
 * @param {typeof globalThis.EventSource} EventSource whose it is: the browser's or the npm package's
 * @param {string} url
 * @param {string[]} closeOn names of events on which the application closes; none: it leaves all to EventSource
 * @param {(line: object) => void} report
 */
export function watch(EventSource, url, closeOn, report) {
  const names = ['message', 'connected', 'status', 'metadata', 'text', 'suggestions', 'warning', 'complete', 'close'];
  const source = new EventSource(url);
  let over = false;
  const say = (saw, more = {}) => report({ saw, at: performance.now(), readyState: source.readyState, ...more });
  const end = () => {
    source.close();
    over = true;
    say('end');
  };
  const hear = (event) => {
    if (over) return;
    say('event', { name: event.type, data: event.data, id: event.lastEventId });
    if (closeOn.includes(event.type)) end();
  };
  source.addEventListener('open', () => say('open'));
  for (const name of names) source.addEventListener(name, hear);
  source.addEventListener('error', (event) => {
    if (over) return;
    if (typeof event.data === 'string') return hear(event); // the server's own event of that name
    say('lost');
    if (source.readyState === 2) end();
  });
  return source;
}
