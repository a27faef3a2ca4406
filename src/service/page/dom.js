// Elements, numbers and times, of the pages and of a backtest's report. Everything that comes from records is put in as text, never as markup.

/** An element with attributes and children; text becomes text. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children.flat(9).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same of SVG. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
}

/** Puts children in the place of what an element has, if anything changed; whoever had the focus keeps it. Nothing is taken away under a hand that drags. */
export function fill(element, key, make) {
  const text = JSON.stringify(key);
  if (element.shown === text || element.querySelector('.held')) return;
  element.shown = text;
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute('href') || document.activeElement.id : null;
  element.replaceChildren(...[make()].flat(9).filter(Boolean));
  if (focused) [...element.querySelectorAll('a, button, input, select, svg[tabindex]')].find(other => (other.getAttribute('href') || other.id) === focused)?.focus({ preventScroll: true });
}

const PLAIN = new Intl.NumberFormat('en', { maximumSignificantDigits: 4, useGrouping: false });
/** A number with four digits. */
export const number = value => value === null || value === undefined ? 'missing' : Math.abs(value) >= 1e7 || (value && Math.abs(value) < 1e-4) ? Number(value).toExponential(2) : PLAIN.format(value);
export const many = (count, what, whats = `${what}s`) => `${count} ${count === 1 ? what : whats}`;
export const percent = share => `${Number((share * 100).toPrecision(share < 0.1 ? 2 : 3))} %`;

/** A length of time in words. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 90) return many(seconds, 'second');
  if (seconds < 5400) return many(Math.round(seconds / 60), 'minute');
  if (seconds < 172800) return many(Math.round(seconds / 3600), 'hour');
  return many(Math.round(seconds / 86400), 'day');
}

const DAY = 86400000;
/** The time zone of all times; that of who looks, if none is set. */
export const zone = { timeZone: undefined };
/** A time of day, with the date if that is not clear. */
export function clock(time, near = Date.now()) {
  const date = new Date(time);
  const day = Math.abs(date - near) < DAY / 2 ? '' : `${date.toLocaleDateString([], { ...zone, day: 'numeric', month: 'short' })} `;
  return `${day}${date.toLocaleTimeString([], { ...zone, hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })}`;
}

/** A time for people, with the exact one for programs and for who points at it. */
export const when = time => h('time', { datetime: new Date(time).toISOString(), title: new Date(time).toISOString() }, clock(time));
