// The page of an episode.
import { fill, h, many, number, percent, span, when } from './dom.js';
import { ask, base, buttons, command, episodeLink } from './tools.js';
import { SAID, STRENGTH, episodeList, isAbsence, keyName, nowBy, place, severity, trouble } from './episodes.js';
import { changes, evidenceChart, featureChart, featurePart, meaning, rareChart, stretches } from './course.js';
import { borders, pastOf } from './past.js';
import { bar, zoom } from './charts.js';

const WORD = { false_positive: 'dismiss', true_positive: 'confirm', new_normal: 'new-normal' };
/** Episodes that began within this time of each other may have one cause. */
const TOGETHER = 600000;

/** The sentence at the top. */
function sentence(found) {
  const what = trouble(found);
  if (what === 'silent') return ': no records';
  if (what === 'feature missing') return `: ${found.cause}`;
  return `: ${found.cause}`;
}

/** How sure it is, in words. */
function sure(found) {
  const alert = found.alert;
  if (found.kind === 'silence') return isAbsence(found) ? 'The records lack this for longer than they ever did, by more than chance explains under your budget of false alarms.' : 'It sends nothing for longer than it ever did, by more than chance explains under your budget of false alarms.';
  if (!alert || found.kind !== 'score') return null;
  const gathered = alert.evidence_records > 1 ? `gathered over ${alert.evidence_records} records` : 'a single record sufficed';
  return `${found.severity[0].toUpperCase()}${found.severity.slice(1)}: its strongest evidence is ${STRENGTH[found.severity]}. Evidence of ${number(alert.evidence)} where ${number(alert.evidence_threshold)} opens an episode, ${gathered}. Confidence ${percent(alert.confidence)}: how far such rare chances can be told from the records that the model was calibrated on.`;
}

function judge(alert) {
  if (!alert) return null;
  if (alert.seasonal) return 'what the key did at this time of day and week';
  return alert.model_version ? h('a', { href: `${base}/models` }, `model ${alert.model_version}`) : 'the key’s own past: there was no model';
}

function drawTop(top, found, { also, begin, end }) {
  const offset = found.id.split('/').at(-1).replace(/\D.*$/, ''), by = found.kind === 'score' ? judge(found.alert) : null, certain = sure(found);
  fill(top, [found, span(end - begin), also.map(other => other.id)], () => [h('div', { class: 'row' }, severity(found), h('h1', { class: 'grow' }, keyName(found.key), sentence(found))),
    h('dl', {}, h('dt', {}, found.ended ? 'Lasted' : 'Since'), h('dd', {}, when(found.since), found.ended ? [' to ', when(found.ended)] : '', `, for ${span(end - begin)}`),
      certain ? [h('dt', {}, 'How sure'), h('dd', {}, certain)] : null,
      h('dt', {}, 'One or many'), h('dd', {}, also.length ? [`${many(also.length, 'other episode')} began within ten minutes of it: `, also.slice(0, 12).flatMap((other, at) => [at ? ', ' : '', h('a', { href: episodeLink(other.id) }, other.key)]), also.length > 12 ? ' and others' : ''] : 'No other episode began within ten minutes of it.'),
      found.within ? [h('dt', {}, 'On top of'), h('dd', {}, h('a', { href: episodeLink(found.within) }, found.within), ', which has lasted: this one is stranger')] : null,
      by ? [h('dt', {}, 'Judged by'), h('dd', {}, by)] : null,
      found.input ? [h('dt', {}, found.kind === 'silence' ? 'Told at' : 'Input'), h('dd', {}, place(found.input), command(`kcat -C -b BROKERS -t ${found.input.topic} -p ${found.input.partition} -o ${offset} -c 20`))] : null,
      h('dt', {}, 'Id'), h('dd', { class: 'code' }, found.id))]);
}

function drawAct(act, found, redo) {
  fill(act, [found.feedback, found.kind, found.id], () => {
    if (found.kind !== 'score') return [h('h2', {}, 'Nothing to say of it'), h('p', { class: 'dim' }, 'Training does not learn from silences and storms, so that calling them false alarms would change nothing.')];
    const said = found.feedback;
    return [h('h2', {}, said ? `Somebody said that it is ${SAID[said]}` : 'What is it?'),
      h('p', { class: 'dim small' }, 'What is normal from now on is trained at once, and the episode closes by that model. A false alarm is learnt by the next one, and episodes like it are held back at once. A fault is never learnt.'),
      buttons([['False alarm', 'dismiss'], ['Confirm', 'confirm'], ['New normal', 'new-normal'], ...(said ? [['Take it back', `${WORD[said]}?undo=true`]] : [])].map(([text, path]) => [text, `episodes/${encodeURIComponent(found.id)}/${path}`]), redo)];
  });
}

export function episode(root, id) {
  const top = h('section', { class: 'health' }), act = h('section'), why = h('section'), others = h('section'), body = h('div'), past = pastOf(() => dispatchEvent(new Event('refresh')));
  const whole = h('button', { type: 'button', id: 'whole', hidden: true, onclick: () => zoom(plots, null) }, 'Show all of it');
  const plots = h('section', { class: 'together', onzoomed: () => { whole.hidden = !plots.zoom; } }, h('h2', {}, 'Around its beginning'), whole, past.note, body);
  root.append(top, act, plots, why, others);
  const redo = () => setTimeout(() => dispatchEvent(new Event('refresh')), 700);
  return async status => {
    let found;
    try { found = await ask(`episodes/${encodeURIComponent(id)}`); } catch (error) {
      fill(top, error.message, () => [h('h1', {}, 'An episode that is not known here'), h('p', {}, error.message), h('p', {}, h('a', { href: `${base}/` }, 'Open and recent episodes'))]);
      [act, plots, why, others].forEach(part => { part.hidden = true; });
      return;
    }
    [act, others].forEach(part => { part.hidden = false; });
    const now = nowBy(status), begin = Date.parse(found.since), end = found.ended ? Date.parse(found.ended) : Math.max(begin, now);
    const also = [...status.episodes, ...status.closed].filter(other => other.id !== id && !other.suppressed && other.kind !== 'storm' && Math.abs(Date.parse(other.since) - begin) < TOGETHER);
    top.className = `health ${found.ended ? 'good' : found.severity}`;
    drawTop(top, found, { also, begin, end });
    drawAct(act, found, redo);
    drawWhy(why, found);
    const earlier = found.similar.filter(other => Date.parse(other.since) < begin), later = found.similar.filter(other => Date.parse(other.since) >= begin);
    fill(others, [found.similar, span(now)], () => [h('h2', {}, 'Earlier ones for the same reasons'), earlier.length ? episodeList(earlier, now) : h('p', { class: 'dim' }, 'None that this process has seen.'), later.length ? [h('h2', {}, 'And later ones'), episodeList(later, now)] : null]);
    await drawPlots({ plots, body, past }, found, status, [begin, end]);
  };
}

/** The course around an episode: as long before and after as half of what it lasted, but at least two minutes, as far as there are records. */
async function drawPlots({ plots, body, past }, found, status, [begin, end]) {
  if (found.kind === 'storm') { plots.hidden = true; return; }
  const around = Math.min(Math.max((end - begin) * 0.5, 120000), 1800000);
  let from = begin - around, to = found.ended ? end + around : end + (end - begin) * 0.02, series = null;
  try { series = await ask(`keys/${encodeURIComponent(found.key)}/series?from=${Math.round(from)}&to=${Math.round(to)}&most=900`); } catch { /* Nothing of the key is remembered. */ }
  past.want(found.key, series, begin, found.id);
  series = past.with(series, [from, to]);
  plots.hidden = false;
  body.hidden = !series;
  if (!series) return;
  const first = series.points[0]?.time, last = series.points.at(-1)?.time;
  if (first !== undefined) { from = Math.max(from, first); to = found.ended ? Math.max(end, last) : to; }
  const own = [...status.episodes, ...status.closed].filter(episode => episode.key === found.key && !episode.suppressed);
  const spans = stretches([...own.filter(episode => episode.id !== found.id), found], end), settings = { from, to, spans, counters: status.model?.counters ?? [], marks: [{ time: begin, kind: 'onset', name: 'it began about here' }, ...changes(series.points), ...borders(series.points)] };
  const features = found.features.filter(feature => (found.kind === 'silence' ? feature.share > 0 : feature.share >= 0.02) && series.columns.includes(feature.feature)).slice(0, 4).map(feature => feature.feature);
  fill(body, [series.points.length, last, features, from, to, own.map(episode => [episode.id, episode.ended])], () => series.points.some(point => point.values.length)
    ? [features.length ? h('div', { class: 'charts' }, features.map(feature => featureChart(series, feature, settings))) : featurePart(series, settings, 4), h('div', { class: 'charts wide' }, evidenceChart(series, settings), rareChart(series, status, settings)), meaning()]
    : [h('p', { class: 'dim' }, 'The records around it lie in the input, where it says above.'), series.points.length ? h('div', { class: 'charts wide' }, evidenceChart(series, settings), rareChart(series, status, settings)) : null]);
}

function measured(part) {
  return part.spreads === null ? '–' : `${part.spreads > 0 ? '+' : '−'}${Math.abs(part.spreads).toFixed(1)} spreads`;
}

function drawWhy(section, found) {
  section.hidden = !found.features.length && !found.told.length;
  fill(section, [found.features, found.told], () => [h('h2', {}, found.features.length ? 'Why' : 'Its messages'),
    found.features.length ? h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['feature', 'share', 'measured', 'expected', 'off by'].map(text => h('th', {}, text)))),
      h('tbody', {}, found.features.map(part => h('tr', {}, h('td', {}, part.feature), h('td', {}, bar(part.share), percent(part.share)), h('td', { 'data-label': 'measured' }, number(part.actual)), h('td', { 'data-label': 'expected' }, number(part.expected)), h('td', { 'data-label': 'off by' }, measured(part)))))) : null,
    found.features.length ? h('p', { class: 'dim small' }, 'A share is a feature’s part in what is strange. A spread is how far the feature usually is from what is expected of it.') : null,
    found.told.length ? h('details', {}, h('summary', {}, `What was told of it: ${many(found.told.length, 'message')}`), h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['time', 'message', 'evidence', 'shares'].map(text => h('th', {}, text)))),
      h('tbody', {}, found.told.map(told => h('tr', {}, h('td', {}, when(told.time)), h('td', {}, `${told.event}, ${told.severity}`), h('td', { 'data-label': 'evidence' }, told.evidence ? `${number(told.evidence)}, where ${number(told.evidence_threshold)} opens one; ${many(told.records, 'record')}` : '–'), h('td', {}, told.features.slice(0, 3).map(part => `${part.feature} ${percent(part.share)}`).join(', '))))))) : null]);
}
