// Finds the view of the address, and tells it what is known whenever the process says that something has changed.
import { h } from './dom.js';
import { ask, base } from './tools.js';
import { home } from './home.js';
import { models } from './models.js';
import { settings } from './settings.js';
import { episode } from './episode.js';
import { key } from './key.js';

const path = location.pathname.slice(base.length) || '/', root = document.getElementById('main');
const rest = start => decodeURIComponent(path.slice(start.length));
const view = path.startsWith('/episode/') ? episode(root, rest('/episode/')) : path.startsWith('/key/') ? key(root, rest('/key/')) : path === '/models' ? models(root) : path === '/settings' ? settings(root) : home(root);
for (const link of document.querySelectorAll('nav a')) if (link.getAttribute('href') === path) link.setAttribute('aria-current', 'page');
for (const link of document.querySelectorAll('a[href^="/"]')) link.setAttribute('href', base + link.getAttribute('href'));
// One of several detectors: the list of all is the process's.
if (base) document.querySelector('nav').prepend(h('a', { href: '/' }, 'All detectors'));

const ready = document.getElementById('ready');
function say(text, state) {
  ready.textContent = text;
  ready.className = `pill ${state}`;
}

let status = null, busy = false, again = false;
async function draw() {
  if (!status) return;
  if (busy) { again = true; return; }
  busy = true;
  try {
    document.getElementById('name').textContent = status.detector;
    document.title = `anomalyd: ${status.detector}${path === '/' ? '' : path === '/models' || path === '/settings' ? `, ${path.slice(1)}` : `, ${rest(path.startsWith('/key/') ? '/key/' : '/episode/')}`}`;
    say(status.ready ? 'ready' : 'not ready', status.ready ? 'good' : 'bad');
    document.getElementById('facts').textContent = `anomalyd ${status.version}, reads ${status.topics.join(', ')}, ${status.delivery.replaceAll('_', ' ')}, up since ${status.started.slice(0, 16).replace('T', ' ')} UTC, configuration ${status.config_digest}`;
    await view(status);
    root.dataset.drawn = 'yes';
  } catch (error) {
    say('no answer', 'bad');
    console.error(error);
  }
  busy = false;
  if (again) { again = false; draw(); }
}

/** Asks once: after something was changed here, and where no events are to be had. */
async function refresh() {
  try { status = await ask('status'); } catch { say('no answer', 'bad'); return; }
  await draw();
}

let events = null, late = 0;
function watch() {
  clearTimeout(late);
  events?.close();
  events = null;
  // A page that nobody looks at needs no connection, of which a browser has few.
  if (document.hidden) return;
  events = new EventSource(`${base}/api/v1/events`);
  events.addEventListener('status', event => { clearTimeout(late); status = JSON.parse(event.data); draw(); });
  events.onerror = () => {
    clearTimeout(late);
    // A connection that has ended comes again by itself; one that was refused does not.
    late = events.readyState === EventSource.CLOSED ? setTimeout(() => { refresh(); watch(); }, 5000) : setTimeout(() => say('no answer', 'bad'), 5000);
    if (!status) refresh();
  };
}
addEventListener('refresh', refresh);
document.addEventListener('visibilitychange', watch);
watch();
