// The first page: is all well, what is open, and all keys over time.
import { clock, fill, h, many, percent, span, when } from './dom.js';
import { ask, keyLink } from './tools.js';
import { chance, legend, levels, strip } from './charts.js';
import { episodeList, keyText, nowBy } from './episodes.js';

/** A stream of a single feature is judged by the season of its key, too. */
const bySeason = status => status.seasonal && status.columns.length === 1;

const trained = model => `trained ${span(Date.now() - Date.parse(model.created))} ago`;

/** Dead letters of late, in words; `null`: none. */
function unread(status) {
  const { seconds, read, dead_letters } = status.records.lately, newest = status.records.newest_dead_letter;
  if (!dead_letters) return null;
  return `${percent(dead_letters / read)} of the records of the last ${span(seconds * 1000)} could not be read: ${newest.detail}. \`anomalyd dead-letters list\` shows them.`;
}

/** From this share of the records on, those that cannot be read are what is said first: that of the alert AnomalydDeadLetters. */
const UNREAD_MAX = 0.01;

/** Is all well: a state, one sentence, and a word for the state where there are several of it. */
export function health(status) {
  const told = status.episodes.filter(episode => !episode.suppressed);
  if (!status.ready) return ['bad', `Not ready: ${status.waiting}.`];
  if (told.length) { const worst = told[0]; return [worst.severity, told.length === 1 ? `One episode is open: ${keyText(worst.key)} is not as it should be.` : `${told.length} episodes are open, the worst is ${worst.severity}: ${keyText(worst.key)}.`]; }
  if (status.records.lately.dead_letters > UNREAD_MAX * status.records.lately.read) return ['warn', unread(status), 'unreadable'];
  if (status.records.silent) return ['warn', `No record has come for ${span(Date.now() - Date.parse(status.records.last_read))}, which is longer than usual.`, 'silent'];
  if (!status.records.read) return ['warn', `No record has been read since this process started, ${span(Date.now() - Date.parse(status.started))} ago.`, 'nothing read'];
  if (!status.model && !bySeason(status)) return ['warn', 'All quiet, but it is still learning what normal is.', 'learning'];
  return ['good', 'All quiet: everything is as expected.'];
}

export function judge(status) {
  if (bySeason(status)) return `Each key is judged by what it did at this time of day and week${status.model ? `, and its last few records by model ${status.model.version}, ${trained(status.model)}` : ''}.`;
  if (!status.model) return 'There is no model yet: records are judged by each key’s own past, with care.';
  return `Model ${status.model.version} (${status.model.kind}) judges, ${trained(status.model)}.`;
}

export function flow(status) {
  const dead = status.episodes.some(episode => !episode.suppressed) || status.records.lately.dead_letters <= UNREAD_MAX * status.records.lately.read ? unread(status) : null;
  const known = status.partitions.filter(partition => partition.lag !== null);
  const lag = known.reduce((sum, partition) => sum + partition.lag, 0);
  const behind = known.length ? lag ? `${many(lag, 'record')} are still to be read.` : 'No record waits to be read.' : '';
  const late = status.newest && Date.now() - status.newest > 300000 ? ` The newest record is of ${span(Date.now() - status.newest)} ago.` : '';
  return behind + late + (dead ? ` ${dead}` : '');
}

/** Text with `code` in it. */
export const prose = text => text.split('`').map((part, at) => at % 2 ? h('code', {}, part) : part);

const SPANS = [[1, 'minute'], [2, '2 minutes'], [5, '5 minutes'], [15, '15 minutes'], [60, 'hour'], [360, '6 hours'], [1440, 'day'], [10080, 'week']];
const KEYS = 40, MORE_KEYS = 200;

/** Keys × time. Answers what draws it: the section, and a function that asks and draws. */
function heatStrip() {
  let most = KEYS, chosen = false;
  const search = h('input', { type: 'search', id: 'search', placeholder: 'part of a key', autocomplete: 'off', oninput: () => refresh() });
  const minutes = h('select', { id: 'minutes', onchange: () => { chosen = true; refresh(); } }, SPANS.map(([value, text]) => h('option', { value, selected: value === 60 }, text)));
  const rows = h('div', { class: 'strip' }), note = h('p', { class: 'dim small' });
  const more = h('button', { type: 'button', id: 'more', hidden: true, onclick: () => { most += MORE_KEYS; refresh(); } }, 'Show more keys');
  const meaning = legend([...levels.map((words, at) => [`h${at}`, words]), ['silence', 'no records']]);
  const section = h('section', {}, h('h2', {}, 'Keys over time: open episodes first, then the strangest'), h('div', { class: 'tools' }, h('label', { for: 'search' }, 'Find'), search, h('label', { for: 'minutes' }, 'in the last'), minutes), rows, meaning, note, more);
  const draw = seen => {
    fill(rows, seen, () => [seen.keys.length ? timeAxis(seen) : null, seen.keys.map(row => [h('a', { href: keyLink(row.key), title: row.key, class: row.open ? 'open' : null }, keyText(row.key)), strip(row.key, row.bins, seen.from, seen.to, clock, row.open === 'silence' ? row.last : null), rarest(row)])]);
    fill(note, [seen.keys.length, seen.keys_found, seen.keys_total], () => seen.keys_total ? [`${seen.keys.length} of ${many(seen.keys_found, 'key')}${seen.keys_found === seen.keys_total ? '' : ` found, ${seen.keys_total} in all`}.`, h('span', { class: 'broad' }, ' At the right is the smallest chance that a normal record is as strange as one of these.'), ' Where many records come, a sample of them.'] : 'No record was judged yet.');
    more.hidden = seen.keys.length >= seen.keys_found || seen.keys.length < most;
  };
  const refresh = async () => {
    const look = () => ask(`keys?most=${most}&minutes=${minutes.value}&bins=60&search=${encodeURIComponent(search.value)}`);
    let seen = await look();
    // Of a process that has just started there is no hour to show.
    const fits = String((SPANS.find(([value]) => value * 60000 >= seen.to - seen.remembered_from && value <= 60) || SPANS[4])[0]);
    if (!chosen && seen.keys_total && minutes.value !== fits) { minutes.value = fits; seen = await look(); }
    draw(seen);
  };
  return { section, refresh };
}

/** The rarest record of a key, or that none came. */
function rarest(row) {
  const bins = row.bins.filter(bin => bin !== null);
  return h('span', { class: 'last' }, row.open === 'silence' ? 'silent' : bins.length ? `p ${chance(Math.max(0, ...bins))}` : '–');
}

export function home(root) {
  const top = h('section', { class: 'health' }), open = h('section'), waits = h('section', { hidden: true }), closed = h('section'), more = h('section'), heat = heatStrip();
  root.append(top, open, waits, heat.section, closed, more);
  return async status => {
    const now = nowBy(status), [state, sentence] = health(status);
    top.className = `health ${state}`;
    fill(top, [state, sentence, judge(status), flow(status)], () => [h('h1', {}, prose(sentence)), h('p', { class: 'dim' }, prose(`${judge(status)} ${flow(status)}`))]);
    const told = status.episodes.filter(episode => !episode.suppressed), held = status.episodes.filter(episode => episode.suppressed);
    fill(open, [status.episodes, status.partitions.length, span(now)], () => [h('h2', {}, 'Open episodes'), told.length ? episodeList(told, now) : h('p', { class: 'dim' }, status.partitions.length ? 'None.' : 'None that this process knows of: it holds no partition. An episode that was open goes on when it does.'),
      held.length ? h('details', {}, h('summary', {}, `${held.length} more of which nobody was told`), episodeList(held, now)) : null]);
    const waiting = status.training_waits || (status.model || bySeason(status) ? null : 'The first model is trained as soon as the log has enough records.');
    waits.hidden = !waiting;
    fill(waits, [waiting, status.model], () => [h('h2', {}, status.model ? 'Why there is no newer model' : 'What the first model waits for'), h('p', {}, prose(capital(waiting || ''))), status.model ? null : h('p', { class: 'dim small' }, 'Until then each key is judged by its own past: what is far from it is told, what is strange only beside other features is not yet seen.')]);
    fill(closed, [status.closed, span(now)], () => [h('h2', {}, 'Over lately'), status.closed.length ? episodeList(status.closed.slice(0, 10), now) : h('p', { class: 'dim' }, 'No episode has ended since this process started.')]);
    drawMore(more, status);
    await heat.refresh();
  };
}

const capital = text => text && `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`;

/** The times over the strips. */
const timeAxis = seen => [h('span'), h('div', { class: 'times' }, [0, 0.5, 1].map(share => h('span', {}, clock(seen.from + (seen.to - seen.from) * share, seen.to)))), h('span', { class: 'last' }, 'rarest')];

/** What became of a training, in words. */
const OUTCOMES = { promoted: 'the model was accepted, and judges', rejected: 'the gate refused the model', skipped: 'no model was made', cancelled: 'it was stopped', failed: 'it failed' };

function drawMore(section, status) {
  const said = status.feedback, training = status.training;
  fill(section, [status.partitions, said, training, status.wrong_clocks], () => [h('h2', {}, 'At work'), h('dl', {},
    h('dt', {}, 'Partitions'), h('dd', {}, status.partitions.length ? status.partitions.map(part => `${part.topic}[${part.partition}]${part.restoring ? ' (being restored)' : part.lag ? ` (${part.lag} to read)` : ''}`).join(', ') : 'none yet'),
    h('dt', {}, 'Last training'), h('dd', {}, training ? [when(training.ended), `, ${training.seconds.toFixed(1)} s: ${OUTCOMES[training.outcome] || training.outcome}${training.detail === training.outcome ? '' : ` (${training.detail})`}`] : 'none yet in this process'),
    h('dt', {}, 'What people said'), h('dd', {}, said.precision === null ? 'Nobody has called an episode a fault or a false alarm yet.' : `Of the episodes that somebody judged ${many(said.true_positive, 'was a fault', 'were faults')} and ${many(said.false_positive, 'was a false alarm', 'were false alarms')}: ${percent(said.precision)} were worth the call.`),
    status.wrong_clocks.length ? [h('dt', {}, 'Wrong clocks'), h('dd', {}, status.wrong_clocks.map(found => `${keyText(found.key)} is ${span(Math.abs(found.ahead_seconds) * 1000)} ${found.ahead_seconds > 0 ? 'ahead' : 'behind'}`).join('; '))] : null)]);
}
