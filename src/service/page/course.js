// The course of a key over time: evidence, p-values, and each feature over what was expected of it.
import { h, many, number } from './dom.js';
import { chance, chart, legend, rare } from './charts.js';
import { isAbsence } from './episodes.js';

/** Evidence this many times as strong as what opens an episode is drawn at the upper edge. */
const TOP_OF_EVIDENCE = 5;

/** Where another model began to judge. */
export const changes = points => points.filter((point, at) => at && point.model_version !== points[at - 1].model_version).map(point => ({ time: point.time, kind: 'model', name: point.model_version ? `model ${point.model_version} judges from here on` : 'no model from here on' }));

/** Episodes as stretches of time, up to `now` while they are open. */
export const stretches = (episodes, now) => episodes.filter(episode => episode.kind !== 'storm').map(episode => {
  const silent = episode.kind === 'silence' && !isAbsence(episode), from = Date.parse(episode.since), to = episode.ended ? Date.parse(episode.ended) : now;
  return { from, to: Math.max(from, to), kind: silent ? 'silence' : 'episode', name: episode.cause, words: silent ? 'no records' : '', episode };
});

/** A feature's values over what was expected of them. */
export function featureChart(series, column, { from, to, marks, spans, counters = [] }) {
  const at = series.columns.indexOf(column), spread = series.spreads[at], counts = counters.includes(column);
  const points = series.points.filter(point => point.values.length);
  // How high a counter stands says nothing; how far it is from where it was expected is what it counted too much or too little since the record before.
  const expected = point => counts ? (point.expected[at] === null ? null : 0) : point.expected[at];
  const actual = point => counts ? (point.values[at] === null || point.expected[at] === null ? null : point.values[at] - point.expected[at]) : point.values[at];
  const edge = by => point => expected(point) === null ? null : expected(point) + by * spread;
  const own = spans.map(span => isAbsence(span.episode) && span.episode.features.some(feature => feature.feature === column && feature.share > 0) ? { ...span, kind: 'silence', words: 'no values' } : span);
  const tell = point => {
    if (point.values[at] === null) return 'missing';
    return counts ? `stands at ${number(point.values[at])}, counted ${number(Math.abs(actual(point)))} ${actual(point) < 0 ? 'less' : 'more'} than expected` : `${number(actual(point))}, expected ${number(expected(point))}`;
  };
  return chart({ title: counts ? `${column} (counts: more or less than expected since the record before)` : column, points, from, to, marks, spans: own, band: spread ? { low: edge(-3), high: edge(3) } : null, lines: [{ of: expected, kind: 'expected' }, { of: actual, kind: 'actual' }], tell });
}

/** How strong the evidence is, beside what opens an episode. */
export function evidenceChart(series, { from, to, marks, spans }) {
  const points = series.points.filter(point => !point.warming_up);
  const most = TOP_OF_EVIDENCE * Math.max(0, ...points.map(point => point.evidence_threshold));
  const highest = Math.max(0, ...points.map(point => Math.max(point.evidence, point.evidence_threshold)));
  return chart({ title: 'Evidence that something is wrong', points, from, to, marks, spans, tall: true, range: [0, Math.min(most, highest * 1.15) || 1],
    lines: [{ of: point => point.evidence_threshold, kind: 'bound' }, { of: point => Math.min(point.evidence, most), kind: 'actual' }],
    tell: point => `${number(point.evidence)}; an episode opens at ${number(point.evidence_threshold)}` });
}

/** How rare each record is by itself. */
export function rareChart(series, status, { from, to, marks, spans }) {
  return chart({ title: 'How rare each record is by itself', points: series.points.filter(point => !point.warming_up), from, to, marks, spans, tall: true, range: [0, 12.4],
    limits: status.budget > 0 ? [{ at: rare(status.budget) }] : [], label: chance,
    lines: [{ of: point => rare(point.p_value), kind: 'dots' }], tell: point => `one of ${rare(point.p_value) < 12 ? number(Math.round(1 / point.p_value)) : 'a million million'} normal records is as strange (p = ${point.p_value.toExponential(1)})${point.alert ? '; in an episode' : ''}` });
}

/** What all these charts mean. */
export const meaning = () => [legend([['actual', 'measured'], ['expected', 'expected'], ['band', 'three usual spreads around that'], ['bound', 'what opens an episode, by the budget of false alarms'], ['onset', 'an episode began'], ['episode', 'an episode'], ['silence', 'nothing came'], ['model', 'another model judges from there on']]),
  h('p', { class: 'dim small' }, 'Evidence is gathered over several records: a weak fault that lasts opens an episode, too. Drag over a chart, or press + and − on it, to look closer; Escape or a double click shows all.')];

/** Whether somebody looks at all features. */
let shows = false;

/** The features that stray most first, as many as one can look at; the others on demand. */
export function featurePart(series, around, first = 6) {
  const stray = at => { const spread = series.spreads[at]; return Math.max(0, ...series.points.filter(point => point.values.length && point.values[at] !== null && point.expected[at] !== null).map(point => spread ? Math.abs(point.values[at] - point.expected[at]) / spread : 0)); };
  const named = around.spans.flatMap(span => span.episode.features.filter(feature => feature.share >= 0.2).map(feature => feature.feature));
  const sent = at => series.points.some(point => point.values.length && point.values[at] !== null);
  const each = series.columns.map((column, at) => [column, named.includes(column), stray(at), sent(at)]);
  // What the key never sent belongs to keys of other types, unless an episode is of its absence.
  const own = each.some(([, , , sent]) => sent) ? each.filter(([, named, , sent]) => named || sent) : each;
  const sorted = own.sort((a, b) => b[1] - a[1] || b[2] - a[2]).map(([column]) => column);
  const charts = columns => h('div', { class: 'charts' }, columns.map(column => featureChart(series, column, around)));
  const rest = sorted.slice(first, 60);
  const toggled = event => { shows = event.target.open; if (shows && !event.target.querySelector('.charts')) event.target.append(charts(rest)); };
  return h('div', {}, charts(sorted.slice(0, first)), rest.length ? h('details', { open: shows, ontoggle: toggled }, h('summary', {}, `${many(rest.length, 'more feature')}`)) : null);
}
