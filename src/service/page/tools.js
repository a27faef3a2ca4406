// Small tools of all views. Everything that comes from records is put in as text, never as markup.

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

/** Puts children in the place of what an element has, if anything changed; whoever had the focus keeps it. */
export function fill(element, key, make) {
  const text = JSON.stringify(key);
  if (element.shown === text) return;
  element.shown = text;
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute('href') || document.activeElement.id : null;
  element.replaceChildren(...[make()].flat(9).filter(Boolean));
  if (focused) [...element.querySelectorAll('a, button, input')].find(other => (other.getAttribute('href') || other.id) === focused)?.focus();
}

/** Asks the API. */
export async function ask(path) {
  const answer = await fetch(`/api/v1/${path}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || `${answer.status}`);
  return body;
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
/** A time of day, with the date if that is not clear. */
export function clock(time, near = Date.now()) {
  const date = new Date(time);
  const day = Math.abs(date - near) < DAY / 2 ? '' : `${date.toLocaleDateString([], { day: 'numeric', month: 'short' })} `;
  return `${day}${date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })}`;
}

/** A time for people, with the exact one for programs and for who points at it. */
export const when = time => h('time', { datetime: new Date(time).toISOString(), title: new Date(time).toISOString() }, clock(time));

/** The address of an episode's page, and of a key's. */
export const episodeLink = id => `/episode/${id.split('/').map(encodeURIComponent).join('/')}`;
export const keyLink = key => `/key/${encodeURIComponent(key)}`;

/** A command with a button that copies it. */
export function command(text) {
  const code = h('code', {}, text);
  const button = h('button', { type: 'button', onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = 'Copied'; } catch { getSelection().selectAllChildren(code); button.textContent = 'Selected'; }
  } }, 'Copy');
  return h('div', { class: 'command' }, code, button);
}

// The token lives as long as the tab. An address such as /#token=... brings it along.
const given = new URLSearchParams(location.hash.slice(1)).get('token');
if (given) { sessionStorage.setItem('token', given); history.replaceState(null, '', location.pathname + location.search); }

/** Buttons that change something, with a place for what came of it. `actions`: [text, path, class]; `done` is called after each change. */
export function buttons(actions, done) {
  const said = h('div', { role: 'status' });
  const row = h('div', { class: 'tools' }, actions.map(([text, path, kind]) => h('button', { type: 'button', class: kind || null, onclick: event => act(event.target, path, said, done) }, text)));
  return h('div', {}, row, said);
}

async function act(button, path, said, done) {
  button.disabled = true;
  try {
    const token = sessionStorage.getItem('token');
    const answer = await fetch(`/api/v1/${path}`, { method: 'POST', headers: token ? { authorization: `Bearer ${token}` } : {} });
    const body = await answer.json();
    if (answer.ok) { said.replaceChildren(h('p', { class: 'good' }, body.message)); done(); }
    else if (answer.status === 401) said.replaceChildren(tokenForm(body, () => act(button, path, said, done)));
    else said.replaceChildren(h('p', { class: 'bad' }, `${body.error}${body.command ? ':' : ''}`), body.command ? command(body.command) : '');
  } catch { said.replaceChildren(h('p', { class: 'bad' }, 'no answer: is the process still running?')); }
  button.disabled = false;
}

function tokenForm(body, again) {
  const input = h('input', { type: 'password', id: 'token', autocomplete: 'off' });
  const form = h('form', { class: 'tools', onsubmit: event => { event.preventDefault(); sessionStorage.setItem('token', input.value); again(); } },
    h('label', { for: 'token' }, sessionStorage.getItem('token') ? 'That is not the token. Try another:' : 'Token (http.token):'), input, h('button', { class: 'main' }, 'Go on'));
  setTimeout(() => input.focus());
  return h('div', {}, form, h('p', { class: 'dim small' }, 'Or on the command line:'), command(body.command));
}
