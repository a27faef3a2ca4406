// The page of a key.
import { fill, h, span } from './dom.js';
import { ask } from './tools.js';
import { episodeList, keyText, nowBy, trouble } from './episodes.js';
import { changes, evidenceChart, featurePart, meaning, rareChart, stretches } from './course.js';
import { borders, pastOf } from './past.js';
import { zoom } from './charts.js';

const MINUTE = 60000;
const SPANS = [[1, 'the last minute'], [5, 'the last 5 minutes'], [15, 'the last 15 minutes'], [60, 'the last hour'], [360, 'the last 6 hours'], [1440, 'the last day'], [0, 'all that is remembered']];

function state(open) {
  if (!open) return 'It is as expected.';
  const what = trouble(open);
  return `It is not as it should be: ${what === 'silent' ? 'it is ' : ''}${open.cause}.`;
}

export function key(root, name) {
  const top = h('section'), list = h('section');
  const minutes = h('select', { id: 'minutes', onchange: () => zoom(plots, null) }, SPANS.map(([value, text]) => h('option', { value, selected: value === 0 }, text)));
  const whole = h('button', { type: 'button', id: 'whole', hidden: true, onclick: () => zoom(plots, null) }, 'Show all of it');
  const body = h('div'), past = pastOf(() => dispatchEvent(new Event('refresh')));
  const plots = h('section', { class: 'together', onzoomed: () => { whole.hidden = !plots.zoom; dispatchEvent(new Event('refresh')); } }, h('h2', {}, 'Its course'), h('div', { class: 'tools' }, h('label', { for: 'minutes' }, 'Show'), minutes, whole), past.note, body);
  root.append(top, list, plots);
  return async status => {
    const now = nowBy(status), own = [...status.episodes, ...status.closed].filter(episode => episode.key === name);
    const open = own.find(episode => !episode.ended && !episode.suppressed);
    fill(list, [own, span(now)], () => [h('h2', {}, 'Its episodes'), own.length ? episodeList(own.slice(0, 10), now, true) : h('p', { class: 'dim' }, 'None lately.')]);
    const back = Number(minutes.value) * MINUTE, wanted = plots.zoom || (back ? [now - back, now] : null);
    const between = wanted ? `&from=${Math.floor(wanted[0])}&to=${Math.ceil(wanted[1])}` : '';
    let series = null, unknown = '';
    try { series = await ask(`keys/${encodeURIComponent(name)}/series?most=900${between}`); } catch (error) { unknown = error.message; }
    plots.hidden = false;
    if (!wanted || !series) past.want(name, series, null);
    series = past.with(series, wanted);
    if (!series) {
      fill(top, [unknown, open], () => [h('h1', {}, keyText(name)), h('p', {}, open ? state(open) : unknown)]);
      body.hidden = true;
      list.hidden = !own.length;
      return;
    }
    body.hidden = list.hidden = false;
    const points = series.points, silent = open && trouble(open) === 'silent';
    const [from, to] = wanted || [points[0]?.time ?? now, silent ? now : points.at(-1)?.time ?? now];
    top.className = open ? `health ${open.severity}` : series.remembered_from === null ? 'health' : 'health good';
    fill(top, [open, series.remembered_from && span(now - series.remembered_from)], () => [h('h1', {}, keyText(name)), h('p', {}, !open && series.remembered_from === null ? 'This process has not seen it yet.' : state(open)), h('p', { class: 'dim small' }, series.remembered_from === null ? '' : `What came in the last ${span(now - series.remembered_from)} is remembered here${series.remembered_from > Date.parse(status.started) + 5 * MINUTE ? '' : ', since the process started'}: all records of episodes, of the others a sample. What is older lies in the input topic.`)]);
    const around = { from, to, spans: stretches(own, now), counters: status.model?.counters ?? [], marks: [...own.filter(episode => episode.kind === 'score').map(episode => ({ time: Date.parse(episode.since), kind: 'onset', name: `an episode began: ${episode.cause}` })), ...changes(points), ...borders(points)] };
    fill(body, [points.length, from, to, own.map(episode => [episode.id, episode.ended])], () => points.length ? [h('div', { class: 'charts wide' }, evidenceChart(series, around), rareChart(series, status, around)), featurePart(series, around), meaning()] : h('p', { class: 'dim' }, 'No record of it was seen in this time.'));
  };
}
