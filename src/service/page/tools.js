// What only the pages need: the API, links, commands, buttons.
import { h } from './dom.js';

/** What all addresses begin with: of one detector among several, `/d/NAME`. */
export const base = (location.pathname.match(/^\/d\/[^/]+/) || [''])[0];

/** Asks the API. */
export async function ask(path) {
  const answer = await fetch(`${base}/api/v1/${path}`);
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error || `${answer.status}`), { status: answer.status });
  return body;
}

/** The address of an episode's page, and of a key's. */
export const episodeLink = id => `${base}/episode/${id.split('/').map(encodeURIComponent).join('/')}`;
export const keyLink = key => `${base}/key/${encodeURIComponent(key)}`;

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
    const answer = await fetch(`${base}/api/v1/${path}`, { method: 'POST', headers: token ? { authorization: `Bearer ${token}` } : {} });
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
