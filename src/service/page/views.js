// What each page shows. A view builds its parts once and is then told what is known, again and again.
import { clock, fill, h, many, number, percent, s, span, when } from './dom.js';
import { ask, base, buttons, command, episodeLink, keyLink } from './tools.js';
import { bar, chance, chart, level, levels, rare, strip } from './charts.js';

const WORDS = { false_positive: 'a false alarm', true_positive: 'a fault', new_normal: 'the new normal' };
const place = input => `${input.topic}[${input.partition}] at offset ${input.offset}`;
const lasted = (episode, now) => span(Math.max(0, (episode.ended ? Date.parse(episode.ended) : now) - Date.parse(episode.since)));
/** Now, by the records: a plant that is replayed, or a producer that is behind, has a time of its own. */
const nowBy = status => Math.min(Date.now(), status.newest ?? Date.now());

function severity(episode) {
  if (episode.suppressed) return h('span', { class: 'pill dim' }, episode.suppressed === 'dismissed' ? 'like one that was dismissed' : 'held back in a storm');
  return h('span', { class: `pill ${episode.ended ? 'dim' : episode.severity}` }, episode.ended ? `${episode.severity}, over` : episode.severity);
}

function episodeItem(episode, now) {
  const records = episode.records && episode.input ? `${many(episode.records, 'record')} up to ${place(episode.input)}; ` : '';
  return h('li', {}, h('div', { class: 'row' }, severity(episode),
    h('a', { class: 'grow cause', href: episodeLink(episode.id) }, h('b', {}, `${episode.key}: `), `${episode.cause}, for ${lasted(episode, now)}`)),
  h('p', { class: 'dim small' }, records, 'since ', when(episode.since), episode.feedback ? `; somebody said: ${WORDS[episode.feedback]}` : ''));
}

const episodeList = (episodes, now) => h('ul', { class: 'plain' }, episodes.map(episode => episodeItem(episode, now)));

/** A stream of a single feature is judged by the season of its key. */
const bySeason = status => status.seasonal && status.columns.length === 1;

/** One sentence: is all well? */
function health(status) {
  const told = status.episodes.filter(episode => !episode.suppressed);
  if (!status.ready) return ['bad', `Not ready: ${status.waiting}.`];
  if (told.length) { const worst = told[0]; return [worst.severity, told.length === 1 ? `One episode is open: ${worst.key} is not as it should be.` : `${told.length} episodes are open, the worst is ${worst.severity}: ${worst.key}.`]; }
  if (!status.model && !bySeason(status)) return ['warn', 'All quiet, but it is still learning what normal is.'];
  return ['good', 'All quiet: everything is as expected.'];
}

function judge(status) {
  if (bySeason(status)) return 'Each key is judged by what it did at this time of day and week.';
  if (!status.model) return 'There is no model yet: records are judged by each key’s own past, with care.';
  return `Model ${status.model.version} (${status.model.kind}) judges, trained ${span(Date.now() - Date.parse(status.model.created))} ago.`;
}

function flow(status) {
  const known = status.partitions.filter(partition => partition.lag !== null);
  const lag = known.reduce((sum, partition) => sum + partition.lag, 0);
  const behind = known.length ? lag ? `${many(lag, 'record')} are still to be read.` : 'All records are read.' : '';
  const late = status.newest && Date.now() - status.newest > 300000 ? ` The newest record is of ${span(Date.now() - status.newest)} ago.` : '';
  return behind + late;
}

/** Text with `code` in it. */
const prose = text => text.split('`').map((part, at) => at % 2 ? h('code', {}, part) : part);

export function home(root) {
  const top = h('section', { class: 'health' }), open = h('section'), waits = h('section', { hidden: true }), closed = h('section'), more = h('section');
  const search = h('input', { type: 'search', id: 'search', placeholder: 'part of a key', autocomplete: 'off', oninput: () => refresh() });
  let chosen = false;
  const minutes = h('select', { id: 'minutes', onchange: () => { chosen = true; refresh(); } }, [[5, '5 minutes'], [15, '15 minutes'], [60, 'hour'], [360, '6 hours'], [1440, 'day'], [10080, 'week']].map(([value, text]) => h('option', { value, selected: value === 60 }, text)));
  const rows = h('div', { class: 'strip' }), note = h('p', { class: 'dim small' });
  const legend = h('div', { class: 'legend' }, levels.map((words, at) => h('span', {}, s('svg', { viewBox: '0 0 1 1', 'aria-hidden': 'true' }, s('rect', { class: `h${at}`, width: 1, height: 1 })), words)));
  const heat = h('section', {}, h('h2', {}, 'Keys over time, the strangest first'), h('div', { class: 'tools' }, h('label', { for: 'search' }, 'Find'), search, h('label', { for: 'minutes' }, 'of the last'), minutes), rows, legend, note);
  root.append(top, open, waits, heat, closed, more);
  const drawHeat = seen => {
    fill(rows, seen, () => [seen.keys.length ? timeAxis(seen) : null, seen.keys.map(row => [h('a', { href: keyLink(row.key), title: row.key }, row.key || '(empty)'), strip(row.key, row.bins, seen.from, seen.to), h('span', { class: 'last' }, `p ${chance(Math.max(0, ...row.bins.filter(bin => bin !== null)))}`)])]);
    fill(note, [seen.keys.length, seen.keys_found, seen.keys_total], () => seen.keys_total ? `${seen.keys.length} of ${many(seen.keys_found, 'key')}${seen.keys_found === seen.keys_total ? '' : ` found, ${seen.keys_total} in all`}; at the right how rare the strangest record was. Where many records come, a sample of them.` : 'No record was judged yet.');
  };
  const ask_keys = () => ask(`keys?most=40&minutes=${minutes.value}&bins=60&search=${encodeURIComponent(search.value)}`);
  const refresh = async () => drawHeat(await ask_keys());
  return async status => {
    // Of a process that has just started there is no hour to show.
    const up = (Date.now() - Date.parse(status.started)) / 60000;
    if (!chosen) minutes.value = up < 5 ? 5 : up < 15 ? 15 : 60;
    const now = nowBy(status), [state, sentence] = health(status);
    top.className = `health ${state}`;
    fill(top, [state, sentence, judge(status), flow(status)], () => [h('h1', {}, sentence), h('p', { class: 'dim' }, `${judge(status)} ${flow(status)}`)]);
    const told = status.episodes.filter(episode => !episode.suppressed), held = status.episodes.filter(episode => episode.suppressed);
    fill(open, [status.episodes, span(now)], () => [h('h2', {}, 'Open episodes'), told.length ? episodeList(told, now) : h('p', { class: 'dim' }, 'None.'),
      held.length ? h('details', {}, h('summary', {}, `${held.length} more of which nobody was told`), episodeList(held, now)) : null]);
    waits.hidden = !status.training_waits;
    fill(waits, status.training_waits, () => [h('h2', {}, status.model ? 'Why there is no newer model' : 'What it waits for'), h('p', {}, prose(status.training_waits || ''))]);
    fill(closed, [status.closed, span(now)], () => [h('h2', {}, 'Over lately'), status.closed.length ? episodeList(status.closed.slice(0, 10), now) : h('p', { class: 'dim' }, 'No episode has ended since this process started.')]);
    drawMore(more, status);
    drawHeat(await ask_keys());
  };
}

/** The times over the strips. */
const timeAxis = seen => [h('span'), h('div', { class: 'times' }, [0, 0.5, 1].map(share => h('span', {}, clock(seen.from + (seen.to - seen.from) * share, seen.to)))), h('span', { class: 'last' }, 'rarest')];

function drawMore(section, status) {
  const said = status.feedback, training = status.training;
  fill(section, [status.partitions, said, training, status.wrong_clocks], () => [h('h2', {}, 'At work'), h('dl', {},
    h('dt', {}, 'Partitions'), h('dd', {}, status.partitions.length ? status.partitions.map(part => `${part.topic}[${part.partition}]${part.restoring ? ' (being restored)' : part.lag ? ` (${part.lag} to read)` : ''}`).join(', ') : 'none yet'),
    h('dt', {}, 'Last training'), h('dd', {}, training ? [when(training.ended), `: ${training.outcome.replaceAll('_', ' ')}, ${training.seconds.toFixed(1)} s. ${training.detail}`] : 'none yet in this process'),
    h('dt', {}, 'What people said'), h('dd', {}, said.precision === null ? 'Nobody has called an episode a fault or a false alarm yet.' : `${percent(said.precision)} of the episodes that somebody judged were faults: ${many(said.true_positive, 'fault')}, ${many(said.false_positive, 'false alarm')}.`),
    status.wrong_clocks.length ? [h('dt', {}, 'Wrong clocks'), h('dd', {}, status.wrong_clocks.map(found => `${found.key} is ${span(Math.abs(found.ahead_seconds) * 1000)} ${found.ahead_seconds > 0 ? 'ahead' : 'behind'}`).join('; '))] : null)]);
}

/** A feature's values over what was expected of them. */
function featureChart(series, column, { from, to, marks }) {
  const at = series.columns.indexOf(column), spread = series.spreads[at];
  const points = series.points.filter(point => point.values.length);
  const actual = point => point.values[at], expected = point => point.expected[at];
  const band = spread ? { low: point => expected(point) - 3 * spread, high: point => expected(point) + 3 * spread } : null;
  return chart({ title: column, points, from, to, marks, band, lines: [{ of: expected, kind: 'expected' }, { of: actual, kind: 'actual' }],
    tell: point => `${number(actual(point))}, expected ${number(expected(point))}` });
}

const CAPTION = 'Full line: what was measured. Dashed: what the model expected, with three usual spreads around it. Red: where the episode began.';

function rareChart(series, status, { from, to, marks }) {
  return chart({ title: 'How rare each record is', points: series.points.filter(point => !point.warming_up), from, to, marks, tall: true, range: [0, 12.4],
    limits: status.budget > 0 ? [{ at: rare(status.budget) }] : [], label: chance,
    lines: [{ of: point => rare(point.p_value), kind: 'dots' }], tell: point => `p = ${point.p_value.toExponential(1)}${point.alert ? ', in an episode' : ''}` });
}

/** Where another model began to judge. */
function changes(points) {
  return points.filter((point, at) => at && point.model_version !== points[at - 1].model_version).map(point => ({ time: point.time, kind: 'model', name: point.model_version ? `model ${point.model_version} from here on` : 'no model from here on' }));
}

export function episode(root, id) {
  const top = h('section', { class: 'health' }), act = h('section'), plots = h('section'), why = h('section'), others = h('section');
  root.append(top, act, plots, why, others);
  let redo = () => {};
  const drawAct = found => fill(act, [found.feedback, found.kind], () => {
    if (found.kind !== 'score') return [h('h2', {}, 'Nothing to say of it'), h('p', { class: 'dim' }, 'Training does not learn from silences and storms.')];
    const said = found.feedback, word = { false_positive: 'dismiss', true_positive: 'confirm', new_normal: 'new-normal' };
    return [h('h2', {}, said ? `Somebody said that it is ${WORDS[said]}` : 'What is it?'),
      h('p', { class: 'dim small' }, 'A false alarm and what is normal from now on are learnt by the next model, and episodes like a false alarm are held back at once. A fault is never learnt.'),
      buttons([['False alarm', 'dismiss'], ['Confirm', 'confirm'], ['New normal', 'new-normal'], ...(said ? [['Take it back', `${word[said]}?undo=true`]] : [])].map(([text, path]) => [text, `episodes/${encodeURIComponent(id)}/${path}`]), () => redo())];
  });
  return async status => {
    redo = () => setTimeout(() => window.dispatchEvent(new Event('refresh')), 700);
    let found;
    try { found = await ask(`episodes/${encodeURIComponent(id)}`); } catch (error) { fill(top, error.message, () => [h('h1', {}, 'An episode that is not known here'), h('p', {}, error.message), h('p', {}, h('a', { href: `${base}/` }, 'Open and recent episodes'))]); [act, plots, why, others].forEach(part => { part.hidden = true; }); return; }
    const now = nowBy(status), begin = Date.parse(found.since), end = found.ended ? Date.parse(found.ended) : now;
    top.className = `health ${found.ended ? 'good' : found.severity}`;
    const alert = found.alert;
    const sure = alert && found.kind === 'score' ? `Evidence of ${number(alert.evidence)} where ${number(alert.evidence_threshold)} opens an episode (${alert.evidence_records > 1 ? `gathered over ${alert.evidence_records} records` : 'a single record sufficed'}); confidence ${percent(alert.confidence)}, which grows with the records that the model was calibrated on.` : null;
    const also = status.episodes.filter(other => other.id !== id && !other.suppressed && Math.abs(Date.parse(other.since) - begin) < 600000);
    const by = alert ? alert.seasonal ? 'the season of the key' : alert.model_version ? h('a', { href: `${base}/models` }, `model ${alert.model_version}`) : 'the key’s own past: there was no model' : null;
    fill(top, [found, span(end - begin), also.length], () => [h('div', { class: 'row' }, severity(found), h('h1', { class: 'grow' }, h('a', { href: keyLink(found.key) }, found.key), `: ${found.cause}`)),
      h('dl', {}, h('dt', {}, found.ended ? 'Lasted' : 'Since'), h('dd', {}, when(found.since), found.ended ? [' to ', when(found.ended)] : '', `, for ${span(end - begin)}`),
        sure ? [h('dt', {}, 'How sure'), h('dd', {}, sure)] : null,
        h('dt', {}, 'One or many'), h('dd', {}, also.length ? [`${many(also.length, 'other episode')} began within ten minutes: `, also.flatMap((other, at) => [at ? ', ' : '', h('a', { href: episodeLink(other.id) }, other.key)])] : 'No other open episode began within ten minutes.'),
        found.within ? [h('dt', {}, 'On top of'), h('dd', {}, h('a', { href: episodeLink(found.within) }, found.within))] : null,
        by ? [h('dt', {}, 'Judged by'), h('dd', {}, by)] : null,
        found.input ? [h('dt', {}, 'Input'), h('dd', {}, place(found.input), command(`kcat -C -b BROKERS -t ${found.input.topic} -p ${found.input.partition} -o ${found.id.split('/').at(-1).replace(/\D.*$/, '')} -c 20`))] : null,
        h('dt', {}, 'Id'), h('dd', { class: 'code' }, found.id))]);
    drawAct(found);
    drawWhy(why, found);
    fill(others, found.similar, () => [h('h2', {}, 'Others for the same reasons'), found.similar.length ? episodeList(found.similar, now) : h('p', { class: 'dim' }, 'None that this process has seen.')]);
    await drawPlots(plots, found, status, [begin, end]);
  };
}

/** The course around an episode: as long before and after as it lasted, but at least a few minutes. */
async function drawPlots(section, found, status, [begin, end]) {
  const around = Math.min(Math.max((end - begin) * 0.5, 120000), 1800000);
  const from = begin - around, to = found.ended ? end + around : end + (end - begin) * 0.02;
  let series;
  try { series = await ask(`keys/${encodeURIComponent(found.key)}/series?from=${Math.round(from)}&to=${Math.round(to)}&most=900`); } catch { section.hidden = true; return; }
  section.hidden = false;
  const marks = [{ time: begin, kind: 'onset', name: 'it began about here' }, ...changes(series.points)];
  const features = found.features.filter(feature => feature.share >= 0.02 && series.columns.includes(feature.feature)).slice(0, 4);
  fill(section, [series.points.length, series.points.at(-1)?.time, features.map(f => f.feature), from, found.ended], () => [h('h2', {}, 'Around its beginning'),
    series.points.some(point => point.values.length) ? h('div', { class: 'charts' }, features.map(feature => featureChart(series, feature.feature, { from, to, marks }))) : h('p', { class: 'dim' }, 'The records around it are no longer remembered; they lie in the input.'),
    h('div', { class: 'charts wide' }, rareChart(series, status, { from, to, marks })), h('p', { class: 'dim small' }, `${CAPTION} The dashed red line is what the budget of false alarms allows for a single record.`)]);
}

function drawWhy(section, found) {
  section.hidden = !found.features.length && !found.told.length;
  fill(section, [found.features, found.told], () => [h('h2', {}, 'Why'),
    found.features.length ? h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['feature', 'share', 'measured', 'expected', 'off by'].map(text => h('th', {}, text)))),
      h('tbody', {}, found.features.map(part => h('tr', {}, h('td', {}, part.feature), h('td', {}, bar(part.share), percent(part.share)), h('td', { 'data-label': 'measured' }, number(part.actual)), h('td', { 'data-label': 'expected' }, number(part.expected)), h('td', { 'data-label': 'off by' }, part.spreads === null ? '–' : `${part.spreads > 0 ? '+' : '−'}${Math.abs(part.spreads).toFixed(1)} spreads`))))) : null,
    h('p', { class: 'dim small' }, 'A share is a feature’s part in what is strange. A spread is how far the feature usually is from what is expected of it.'),
    found.told.length ? h('details', {}, h('summary', {}, `What was told of it: ${many(found.told.length, 'message')}`), h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['time', 'message', 'evidence', 'shares'].map(text => h('th', {}, text)))),
      h('tbody', {}, found.told.map(told => h('tr', {}, h('td', {}, when(told.time)), h('td', {}, `${told.event}, ${told.severity}`), h('td', { 'data-label': 'evidence' }, `${number(told.evidence)} of ${number(told.evidence_threshold)}, ${many(told.records, 'record')}`), h('td', {}, told.features.slice(0, 3).map(part => `${part.feature} ${percent(part.share)}`).join(', '))))))) : null]);
}

export function key(root, name) {
  const top = h('section'), plots = h('section'), list = h('section');
  root.append(top, list, plots);
  return async status => {
    let series;
    try { series = await ask(`keys/${encodeURIComponent(name)}/series?most=600`); } catch (error) { fill(top, error.message, () => [h('h1', {}, name), h('p', {}, error.message)]); plots.hidden = true; list.hidden = true; return; }
    const points = series.points, from = points[0]?.time ?? 0, to = points.at(-1)?.time ?? 1;
    const own = [...status.episodes, ...status.closed].filter(episode => episode.key === name);
    const open = own.find(episode => !episode.ended && !episode.suppressed);
    fill(top, [open, points.length, span(to - from)], () => [h('h1', {}, name), h('p', {}, open ? `It is not as it should be: ${open.cause}.` : 'It is as expected.'), h('p', { class: 'dim small' }, `${many(points.length, 'record')} of the last ${span(to - from)} are remembered here.`)]);
    fill(list, [own, span(nowBy(status))], () => [h('h2', {}, 'Its episodes'), own.length ? episodeList(own.slice(0, 10), nowBy(status)) : h('p', { class: 'dim' }, 'None lately.')]);
    const marks = [...own.map(episode => ({ time: Date.parse(episode.since), kind: 'onset', name: `an episode began: ${episode.cause}` })), ...changes(points)];
    fill(plots, [points.length, to], () => [h('h2', {}, 'Its records'), h('div', { class: 'charts wide' }, rareChart(series, status, { from, to, marks })), featurePart(series, { from, to, marks }), h('p', { class: 'dim small' }, `${CAPTION} Green: another model judges from there on.`)]);
  };
}

/** The features that stray most first, as many as one can look at; the others on demand. */
function featurePart(series, around) {
  const stray = at => { const spread = series.spreads[at]; return Math.max(0, ...series.points.filter(point => point.values.length && point.values[at] !== null).map(point => spread ? Math.abs(point.values[at] - point.expected[at]) / spread : 0)); };
  const sorted = series.columns.map((column, at) => [column, stray(at)]).sort((a, b) => b[1] - a[1]).map(([column]) => column);
  const charts = columns => h('div', { class: 'charts' }, columns.map(column => featureChart(series, column, around)));
  const rest = sorted.slice(6, 60);
  return h('div', {}, charts(sorted.slice(0, 6)), rest.length ? h('details', { ontoggle: event => { if (event.target.open && !event.target.querySelector('.charts')) event.target.append(charts(rest)); } }, h('summary', {}, `${many(rest.length, 'more feature')}`)) : null);
}

export function models(root) {
  const top = h('section'), list = h('div', { class: 'charts wide' });
  root.append(top, list);
  const again = () => window.dispatchEvent(new Event('refresh'));
  fill(top, 0, () => [h('h1', {}, 'Models'), h('p', { class: 'dim' }, 'A new model is made at intervals, or when asked. The gate tries it on records it has not seen, and on faults that it puts into them, before it may judge.'), buttons([['Train now', 'retrain', 'main'], ['Back to the one before', 'models/rollback']], again)]);
  return async status => {
    let found;
    try { found = await ask('models'); } catch (error) { fill(list, error.message, () => h('section', {}, h('p', { class: 'bad' }, error.message))); return; }
    fill(list, [found, status.training_waits], () => found.models.length ? found.models.map(model => modelCard(model, again)) : h('section', {}, h('p', {}, status.training_waits || 'There is no model yet: the first is trained when there are enough records.')));
  };
}

/** What was read of each partition. */
function stretches(read) {
  const by = {};
  for (const { at, from, to } of read) (by[`${at.topic}[${at.partition}]`] ||= []).push([from, to]);
  return Object.entries(by).map(([name, all]) => `${name} from offset ${Math.min(...all.map(part => part[0]))} to ${Math.max(...all.map(part => part[1]))}${all.length > 1 ? `, in ${all.length} stretches` : ''}`).join('; ') || 'a file';
}

function modelCard(model, again) {
  const rows = name => model.rows[name] || 0, out = model.kept_out;
  const kept = [out.episodes && many(out.episodes, 'episode'), out.suspects && `${many(out.suspects, 'stretch', 'stretches')} that stood out before any model judged`, out.maintenance && `${many(out.maintenance, 'stretch', 'stretches')} of maintenance`].filter(Boolean);
  const state = model.in_use ? ['good', 'in use'] : model.promoted ? ['dim', 'was accepted'] : ['bad', 'refused'];
  return h('section', {}, h('div', { class: 'row' }, h('h2', { class: 'grow' }, `Model ${model.version}: ${model.kind}`), h('span', { class: `pill ${state[0]}` }, state[1])),
    h('dl', {}, h('dt', {}, 'The gate said'), h('dd', {}, model.verdict), h('dt', {}, 'Trained'), h('dd', {}, when(model.created), ` on ${rows('fit')} windows of ${rows('read')} records read: ${stretches(model.read)}`),
      h('dt', {}, 'Kept out'), h('dd', {}, kept.length ? `${kept.join(', ')}: they may be faults, which must not be learnt` : 'nothing', out.let_in ? `; ${many(out.let_in, 'episode')} let in, because somebody said so` : '', out.waived ? '; what was flagged before there was a model was learnt all the same' : ''),
      model.members.length ? [h('dt', {}, 'Made of'), h('dd', {}, model.members.join(', '))] : null,
      h('dt', {}, 'Features'), h('dd', {}, model.columns.slice(0, 16).join(', ') + (model.columns.length > 16 ? ` and ${model.columns.length - 16} more` : ''))),
    model.findings.length ? h('details', { open: model.in_use }, h('summary', {}, 'What it finds, and what it does not'), h('ul', {}, model.findings.map(text => h('li', {}, text)))) : null,
    model.in_use ? null : buttons([[`Use model ${model.version}`, `models/${model.version}/promote`]], again));
}

export function settings(root) {
  const body = h('tbody'), only = h('input', { type: 'checkbox', id: 'only', checked: true, onchange: () => draw() });
  root.append(h('section', {}, h('h1', {}, 'Settings in effect'), h('div', { class: 'tools' }, only, h('label', { for: 'only' }, 'only those that somebody set')), h('table', { class: 'stack' }, h('thead', {}, h('tr', {}, ['key', 'value', 'from'].map(text => h('th', {}, text)))), body)));
  let all = [];
  const draw = () => {
    const shown = all.filter(setting => !only.checked || setting.origin !== 'default');
    fill(body, shown, () => shown.length ? shown.map(setting => h('tr', {}, h('td', { class: 'code' }, setting.key), h('td', { class: 'code' }, setting.value), h('td', { class: 'dim' }, setting.origin))) : h('tr', {}, h('td', {}, 'Everything is as it comes.')));
  };
  return async () => { if (!all.length) all = (await ask('settings')).settings; draw(); };
}
