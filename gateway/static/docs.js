/** The API page: draws openapi.json, route by route, with a line to copy for each. */
'use strict';

import { el, part, prose, Schemas } from './schema.js';

/** @typedef {Record<string, any>} Json */
/** @typedef {{path: string, method: string, id: string, said: Json}} Route */

const COPIED_MS = 1500;
const ORDER = ['path', 'query', 'header'];

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
const main = $('routes');

/** @param {Json} description */
function draw(description) {
  const schemas = new Schemas(description);
  const routes = routesOf(description);
  main.replaceChildren(el('section', { class: 'about' }, ...description.info.description.split('\n\n').map((/** @type {string} */ text) => el('p', {}, ...prose(text)))));
  for (const { name, description: meaning } of description.tags) {
    const mine = routes.filter(({ said }) => said.tags.includes(name));
    main.append(el('section', { class: 'tag', 'aria-label': name }, el('h2', {}, name), el('p', {}, ...prose(meaning))));
    main.lastElementChild.append(...mine.map((route) => drawRoute(route, schemas)));
    $('links').append(el('section', {}, el('h2', {}, name), el('ul', {}, ...mine.map(link))));
  }
  main.append(credentials(description.components.securitySchemes));
  $('filter').addEventListener('input', filter);
  addEventListener('hashchange', openNamed);
  openNamed();
}

/** @param {Json} description @returns {Route[]} */
function routesOf(description) {
  return Object.entries(description.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, said]) => ({ path, method, said, id: said.operationId })));
}

/** @param {Route} route */
const label = ({ method, path }) => [el('span', { class: 'method', 'data-method': method }, method.toUpperCase()), el('code', {}, path)];

/** @param {Route} route */
const link = (route) => el('li', { 'data-for': route.id }, el('a', { href: `#${route.id}` }, ...label(route)));

/** @param {Route} route @param {Schemas} schemas */
function drawRoute(route, schemas) {
  const { said, id } = route;
  const drawn = el('details', { class: 'route', id },
    el('summary', {}, el('h3', {}, ...label(route), el('span', { class: 'soft' }, said.summary))),
    el('div', {}, said.description ? el('p', {}, ...prose(said.description)) : '',
      ...asked(said, schemas), ...answered(said, schemas), el('h4', {}, 'Try it'), curl(route, schemas)));
  const codes = JSON.stringify(said.responses).match(/[A-Z]+(_[A-Z]+)+/g) ?? [];
  drawn.dataset.words = ['', ...words(`${route.method} ${route.path} ${said.summary} ${codes.join(' ')}`)].join(' ');
  return drawn;
}

/** @param {Json} said @param {Schemas} schemas */
function asked(said, schemas) {
  const given = said.parameters.map((/** @type {Json} */ each) => schemas.of(each));
  given.sort((/** @type {Json} */ a, /** @type {Json} */ b) => ORDER.indexOf(a.in) - ORDER.indexOf(b.in));
  const found = ORDER.filter((where) => given.some((/** @type {Json} */ each) => each.in === where)).flatMap((where) => [
    el('h4', {}, where === 'header' ? 'Headers' : `In the ${where}`),
    el('dl', { class: 'fields' }, ...given.filter((/** @type {Json} */ each) => each.in === where).map((/** @type {Json} */ each) =>
      schemas.field(each.name, each.schema ?? each.content['application/json'].schema, each.required, 0, each.description))),
  ]);
  const body = said.requestBody?.content['application/json'].schema;
  if (body) found.push(el('h4', {}, 'Body'), el('p', {}, ...prose(schemas.of(body).description)), schemas.fields(body));
  return found;
}

/** @param {Json} said @param {Schemas} schemas */
function answered(said, schemas) {
  const statuses = Object.keys(said.responses).sort();
  return [el('h4', {}, 'Answers'), ...statuses.map((status) => {
    const { description, content = {}, headers = {} } = said.responses[status];
    const [title, ...codes] = description.split('\n').filter(Boolean);
    const heading = [el('span', { class: 'status', 'data-kind': /^[45]/.test(status) ? 'error' : 'good' }, status), el('span', { class: 'soft' }, ...prose(title))];
    if (codes.length) heading.push(el('span', { class: 'codes' }, codes.map((/** @type {string} */ line) => line.split('`')[1]).join(', ')));
    return part(heading, [...codes.map(code), ...bodies(content, schemas, codes.length > 0), ...headersOf(headers, schemas)]);
  })];
}

/** @param {string} line as `- \`CODE\`: its meaning` */
function code(line) {
  return el('p', {}, ...prose(line.replace(/^- /, '')));
}

/** @param {Json} content @param {Schemas} schemas */
function bodies(content, schemas, refused = false) {
  return Object.entries(content).flatMap(([type, { schema }]) => {
    const heading = el('p', { class: 'media' }, 'Body ', el('code', {}, type));
    if (type === 'text/event-stream') return [heading, ...schemas.events(schema)];
    const fields = schemas.fields(schema);
    return fields && refused ? [part([heading], [fields])] : [heading, fields];
  });
}

/** @param {Json} headers @param {Schemas} schemas */
function headersOf(headers, schemas) {
  const rows = Object.entries(headers).map(([name, header]) => {
    const { description, schema } = schemas.of(header);
    return schemas.field(name, schema, false, 0, description);
  });
  return rows.length ? [part([el('span', { class: 'media' }, 'Headers')], [el('dl', { class: 'fields' }, ...rows)])] : [];
}

/** A request to this very gateway, for a shell. @param {Route} route @param {Schemas} schemas */
function curl({ method, path, said }, schemas) {
  const given = said.parameters.map((/** @type {Json} */ each) => schemas.of(each)).filter((/** @type {Json} */ each) => 'example' in each);
  const query = new URLSearchParams(given.filter((/** @type {Json} */ each) => each.in === 'query').map((/** @type {Json} */ each) => [each.name, each.example]));
  let url = location.origin + path;
  for (const each of given) url = url.replace(`{${each.name}}`, each.example);
  if (query.size) url += `?${query}`;
  const body = said.requestBody?.content['application/json'].example;
  const parts = ['curl', said.responses[200]?.content?.['text/event-stream'] ? '-N' : '', method === 'get' || body ? '' : `-X ${method.toUpperCase()}`, quoted(url)];
  if (body) parts.push(`\\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`);
  if (body && method !== 'post') parts[2] = `-X ${method.toUpperCase()}`;
  const line = parts.filter(Boolean).join(' ');
  const button = el('button', { class: 'copy', type: 'button', 'aria-label': `Copy the request for ${method.toUpperCase()} ${path}` }, 'Copy');
  button.addEventListener('click', () => copy(line, button));
  return el('div', { class: 'curl' }, el('pre', { tabindex: 0, 'aria-label': 'A request' }, el('code', {}, line)), button);
}

/** @param {string} text */
const quoted = (text) => (/^[\w:/.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** @param {string} line @param {HTMLElement} button */
async function copy(line, button) {
  try {
    await navigator.clipboard.writeText(line);
    button.textContent = 'Copied';
  } catch { // not allowed here: let it be copied by hand
    getSelection()?.selectAllChildren(/** @type {Node} */ (button.previousElementSibling));
    button.textContent = 'Selected';
  }
  $('announce').textContent = button.textContent;
  setTimeout(() => { button.textContent = 'Copy'; }, COPIED_MS);
}

/** @param {Json} schemes */
function credentials(schemes) {
  const rows = Object.values(schemes).map((each) => el('div', {},
    el('dt', {}, el('code', {}, each.name ?? `Authorization: ${each.scheme === 'bearer' ? 'Bearer' : each.scheme}`)),
    el('dd', {}, el('span', { class: 'kind' }, each.bearerFormat ?? (each.in === 'query' ? 'query' : 'header')), el('span', {}, ...prose(each.description)))));
  return el('section', { class: 'tag', id: 'credentials' }, el('h2', {}, 'Credentials'), el('p', {}, 'One of them, where tenants are configured.'), el('dl', { class: 'fields' }, ...rows));
}

/** @param {string} text */
const words = (text) => text.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean);

/** Show the routes that have a word for every word of the filter, or for the beginning of one. */
function filter() {
  const wanted = words($('filter').value);
  let count = 0;
  for (const route of main.querySelectorAll('.route')) {
    route.hidden = !wanted.every((word) => route.dataset.words.includes(` ${word}`));
    document.querySelector(`[data-for="${route.id}"]`)?.toggleAttribute('hidden', route.hidden);
    count += Number(!route.hidden);
  }
  for (const section of document.querySelectorAll('.tag:not(#credentials), #links section')) {
    section.toggleAttribute('hidden', ![...section.querySelectorAll('.route, li')].some((each) => !(/** @type {HTMLElement} */ (each).hidden)));
  }
  $('announce').textContent = `${count} routes`;
}

/** Open the route that the address names. */
function openNamed() {
  const named = document.getElementById(location.hash.slice(1));
  if (!(named instanceof HTMLDetailsElement)) return;
  named.open = true;
  named.scrollIntoView({ behavior: 'instant' });
  named.querySelector('summary')?.focus({ preventScroll: true });
}

try {
  const answer = await fetch('/openapi.json', { headers: { Accept: 'application/json' } });
  if (!answer.ok) throw new Error(`it was answered with ${answer.status}`);
  draw(await answer.json());
} catch (error) {
  main.replaceChildren(el('p', { class: 'state', role: 'alert' }, `The description cannot be shown: ${/** @type {Error} */ (error).message}.`));
}
main.removeAttribute('aria-busy');
