/** Schemas as lists of fields, and whatever else is drawn of a description. Text reaches the page as text only. */
'use strict';

/** @typedef {Record<string, any>} Schema */

const DEEPEST = 5; // levels that are drawn; deeper there is nothing to learn
const WORDS = { string: 'text', integer: 'integer', number: 'number', boolean: 'true or false', object: 'object', array: 'list', null: 'null' };

/** An element with attributes and children; text is set as text. @param {string} name @param {Record<string, any>} [attributes] @param {...any} children */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value != null && value !== false) made.setAttribute(key, value);
  made.append(...children.filter((child) => child != null && child !== ''));
  return made;
}

/** Text in which words in backticks are code. @param {string} text */
export function prose(text = '') {
  return text.split(/`([^`]+)`/).map((part, place) => (place % 2 ? el('code', {}, part) : part));
}

export class Schemas {
  /** @param {Schema} description the whole document, of which the schemas refer to parts */
  constructor(description) {
    this.description = description;
  }

  /** What a reference stands for; anything else is itself. @param {any} part @returns {any} */
  of(part) {
    if (!part?.$ref) return part;
    return this.of(part.$ref.slice(2).split('/').reduce((/** @type {any} */ found, /** @type {string} */ name) => found?.[name], this.description));
  }

  /** One schema of one that is made of several; the null that any field may be is not told. @param {Schema} given @returns {Schema} */
  one(given) {
    const schema = this.of(given) ?? {};
    const kinds = (schema.anyOf ?? []).filter(isSomething);
    if (kinds.length === 1) return this.one({ ...this.of(kinds[0]), ...(schema.description && { description: schema.description }) });
    if (!schema.allOf) return schema;
    return Object.assign({}, ...schema.allOf.map((/** @type {Schema} */ part) => this.one(part)));
  }

  /** In a few words what a value may be. @param {Schema} given @returns {string} */
  kind(given) {
    const schema = this.one(given);
    if ('const' in schema) return `always ${JSON.stringify(schema.const)}`;
    if (schema.enum) return schema.enum.length > 12 ? 'a code' : `one of ${schema.enum.join(', ')}`;
    if (schema.anyOf) return schema.anyOf.filter(isSomething).map((/** @type {Schema} */ kind) => this.kind(kind)).join(' or ');
    const types = [schema.type ?? []].flat().filter((type) => type !== 'null');
    if (types.includes('array') && schema.items) return `list of ${this.kind(schema.items)}${range(schema.minItems, schema.maxItems)}`;
    const bounds = range(schema.minimum ?? schema.minLength, schema.maximum ?? schema.maxLength, types.includes('string') ? ' characters' : '');
    return `${types.map((type) => WORDS[/** @type {keyof typeof WORDS} */ (type)]).join(' or ') || 'anything'}${bounds}`;
  }

  /** The fields of an object, of the objects in a list, or of either of several; null where it has none. @param {Schema} given @returns {HTMLElement | null} */
  fields(given, level = 0) {
    const schema = this.one(given);
    if (level > DEEPEST) return null;
    if (schema.items) return this.fields(schema.items, level);
    if (schema.anyOf && !schema.properties) {
      const several = schema.anyOf.map((/** @type {Schema} */ kind) => this.fields(kind, level)).filter(Boolean);
      return several.length ? el('div', {}, ...several) : null;
    }
    const names = Object.keys(schema.properties ?? {});
    if (!names.length) return null;
    const needed = new Set(schema.required);
    return el('dl', { class: 'fields' }, ...names.map((name) => this.field(name, schema.properties[name], needed.has(name), level)));
  }

  /** @param {string} name @param {Schema} schema @param {boolean} needed @param {string} [about] */
  field(name, schema, needed, level = 0, about = '') {
    const preset = this.one(schema).default;
    const kind = this.kind(schema) + (preset == null ? '' : `, else ${JSON.stringify(preset)}`);
    const meaning = about || this.one(schema).description || '';
    return el('div', {},
      el('dt', {}, el('code', {}, name), needed ? el('span', { class: 'required' }, ' required') : ''),
      el('dd', {}, el('span', { class: 'kind' }, kind), meaning ? el('span', {}, ...prose(meaning)) : '', this.fields(schema, level + 1)));
  }

  /** The kinds of events in a stream, each to be opened. @param {Schema} given @returns {HTMLElement[]} */
  events(given) {
    const schema = this.of(given);
    if (schema.anyOf) return schema.anyOf.flatMap((/** @type {Schema} */ kind) => this.events(kind));
    const kinds = schema.oneOf ?? [schema];
    return kinds.map((/** @type {Schema} */ kind) => {
      const data = this.of(kind.properties.data);
      const said = data.contentSchema ?? data.anyOf?.find((/** @type {Schema} */ each) => each.contentSchema)?.contentSchema ?? {};
      return part([el('code', {}, kind.title ?? kind.properties.event.const), el('span', { class: 'soft' }, ...prose(kind.description))],
        [this.fields(said) ?? el('p', { class: 'soft' }, 'Free form.')]);
    });
  }
}

/** @param {Schema} kind */
const isSomething = (kind) => kind.type !== 'null';

/** Something to be opened. @param {any[]} heading @param {any[]} content */
export function part(heading, content) {
  return el('details', { class: 'part' }, el('summary', {}, ...heading), el('div', {}, ...content));
}

/** @param {number} [least] @param {number} [most] */
function range(least, most, unit = '') {
  if (most == null) return Number(least) > 1 ? `, at least ${least}${unit}` : '';
  return least == null ? `, at most ${most}${unit}` : `, ${least} to ${most}${unit}`;
}
