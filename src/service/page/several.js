// The first page of a process of several detectors: of each in one sentence whether all is well, those first that need somebody.
import { fill, h, many } from './dom.js';
import { flow, health, judge, prose } from './home.js';

/** How often it is asked what has changed, in milliseconds. */
const EVERY = 2000;
/** From what needs somebody most to what does not. */
const ORDER = ['bad', 'critical', 'high', 'medium', 'low', 'warn', 'good'];

const main = document.getElementById('main'), ready = document.getElementById('ready');
const top = h('section', { class: 'health' }), list = h('section');
main.append(top, list);

function say(text, state) {
  ready.textContent = text;
  ready.className = `pill ${state}`;
}

const learns = one => one.word === 'learning', idles = one => one.word === 'nothing read';

/** One line for all: how many need somebody. */
function summary(all) {
  const off = all.filter(one => one.state !== 'good' && !learns(one) && !idles(one)).length;
  if (off) return `${off} of ${many(all.length, 'detector')} ${off === 1 ? 'needs' : 'need'} somebody to look.`;
  const learning = all.filter(learns).length, idle = all.filter(idles).length;
  const notes = [learning && `${learning} of ${many(all.length, 'detector')} still ${learning === 1 ? 'learns' : 'learn'} what normal is`, idle && `${idle} of ${many(all.length, 'detector')} ${idle === 1 ? 'has' : 'have'} read no record yet`].filter(Boolean);
  return notes.length ? `All quiet; ${notes.join(', ')}.` : `All ${many(all.length, 'detector')} are quiet: everything is as expected.`;
}

function item({ status, state, sentence, word }) {
  return h('li', {}, h('div', { class: 'row' }, h('span', { class: `pill ${state}` }, word ?? { bad: 'not ready', good: 'quiet' }[state] ?? state),
    h('a', { class: 'grow', href: `/d/${encodeURIComponent(status.detector)}` }, h('b', {}, `${status.detector}: `), prose(sentence))),
  h('p', { class: 'dim small' }, prose(`Reads ${status.topics.join(', ')}. ${status.ready ? `${judge(status)} ${flow(status)}` : ''}`)));
}

async function draw() {
  const answer = await fetch('/status');
  const all = (await answer.json()).detectors.map(status => { const [state, sentence, word] = health(status); return { status, state, sentence, word }; });
  all.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || learns(a) - learns(b) || idles(a) - idles(b) || a.status.detector.localeCompare(b.status.detector));
  const working = all.every(one => one.status.ready), text = summary(all);
  say(working ? 'ready' : 'not ready', working ? 'good' : 'bad');
  document.title = `anomalyd: ${many(all.length, 'detector')}`;
  top.className = `health ${all[0]?.state ?? 'good'}`;
  fill(top, text, () => h('h1', {}, text));
  fill(list, all.map(({ status, state, sentence }) => [status.detector, state, sentence, judge(status), flow(status)]), () => [h('h2', {}, 'Detectors'), h('ul', { class: 'plain' }, all.map(item))]);
  const [first] = all;
  if (first) document.getElementById('facts').textContent = `anomalyd ${first.status.version}, up since ${first.status.started.slice(0, 16).replace('T', ' ')} UTC`;
  main.dataset.drawn = 'yes';
}

let next = 0;
async function watch() {
  clearTimeout(next);
  if (document.hidden) return;
  try { await draw(); } catch (error) { say('no answer', 'bad'); console.error(error); }
  next = setTimeout(watch, EVERY);
}
document.addEventListener('visibilitychange', watch);
watch();
