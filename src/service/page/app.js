// Finds the view of the address, and tells it again and again what is known.
import { ask, base } from './tools.js';
import { episode, home, key, models, settings } from './views.js';

const path = location.pathname.slice(base.length) || '/', root = document.getElementById('main');
const rest = start => decodeURIComponent(path.slice(start.length));
const view = path.startsWith('/episode/') ? episode(root, rest('/episode/')) : path.startsWith('/key/') ? key(root, rest('/key/')) : path === '/models' ? models(root) : path === '/settings' ? settings(root) : home(root);
for (const link of document.querySelectorAll('nav a')) if (link.getAttribute('href') === path) link.setAttribute('aria-current', 'page');
for (const link of document.querySelectorAll('a[href^="/"]')) link.setAttribute('href', base + link.getAttribute('href'));

const ready = document.getElementById('ready');
let timer = 0, busy = false;
async function tick() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    const status = await ask('status');
    document.getElementById('name').textContent = status.detector;
    document.title = `anomalyd: ${status.detector}${path === '/' ? '' : path === '/models' || path === '/settings' ? `, ${path.slice(1)}` : `, ${rest(path.startsWith('/key/') ? '/key/' : '/episode/')}`}`;
    ready.textContent = status.ready ? 'ready' : 'not ready';
    ready.className = `pill ${status.ready ? 'good' : 'bad'}`;
    document.getElementById('facts').textContent = `anomalyd ${status.version}, reads ${status.topics.join(', ')}, ${status.delivery.replaceAll('_', ' ')}, up since ${status.started.slice(0, 16).replace('T', ' ')} UTC, configuration ${status.config_digest}`;
    await view(status);
    root.dataset.drawn = 'yes';
  } catch (error) {
    ready.textContent = 'no answer';
    ready.className = 'pill bad';
    console.error(error);
  }
  busy = false;
  timer = setTimeout(tick, document.hidden ? 10000 : 2000);
}
addEventListener('refresh', tick);
document.addEventListener('visibilitychange', tick);
tick();
