// What the process does not remember: records read again from the log, one question at a time, shown before what is remembered.
import { fill, h } from './dom.js';
import { ask } from './tools.js';

/** Fewer records than these are no course: those before them are read again without being asked for. */
const FEW = 100;

/** Reads records of a key again, once; `episode`: around its beginning, else those before what is remembered. `drawn` is called when something is to be drawn again. */
export function pastOf(drawn) {
  let found = null, state = 'unread', problem = '', from = null;
  const note = h('div', { class: 'past', role: 'status' });
  const read = async (key, episode) => {
    state = 'reading';
    from = [key, episode];
    show();
    try {
      found = await ask(`keys/${encodeURIComponent(key)}/past?most=900${episode ? `&episode=${encodeURIComponent(episode)}` : ''}`);
      state = 'read';
    } catch (error) { state = error.status === 404 ? 'none' : 'failed'; problem = error.message; }
    show();
    drawn();
  };
  const button = text => h('button', { type: 'button', onclick: () => read(...from) }, text);
  const show = () => fill(note, [state, problem, found?.message], () => {
    if (state === 'reading') return h('p', { class: 'dim small' }, 'Earlier records are being read again from the log …');
    if (state === 'none') return h('p', { class: 'dim small' }, `${problem}.`);
    if (state === 'failed') return h('p', { class: 'dim small' }, `Earlier records could not be read again from the log: ${problem}. `, button('Try again'));
    if (state === 'offered') return button('Read earlier records again from the log');
    if (state === 'read') return h('p', { class: 'dim small' }, found.points.length ? 'What came before this process began to remember: ' : '', `${found.message}.`);
    return [];
  });
  /** As what is remembered (`series`, or null) needs it: what came before `begin` in the log. */
  const want = (key, series, begin, episode) => {
    if (state !== 'unread' && state !== 'offered') return;
    const begins = series ? series.remembered_from : Infinity;
    if (begin === null ? (series?.points.length ?? 0) < FEW : begin < begins) read(key, episode);
    else if (begin === null) { state = 'offered'; from = [key, episode]; show(); }
  };
  /** What is remembered with what was read again before it; null without either. */
  const with_ = (series, between) => {
    if (!found?.points.length) return series;
    const begins = series ? series.remembered_from : Infinity;
    const points = found.points.filter(point => point.time < begins && (!between || (between[0] <= point.time && point.time <= between[1]))).map(point => ({ ...point, again: true }));
    return { ...(series || found), remembered_from: series?.remembered_from ?? null, columns: found.columns, spreads: found.spreads.map((spread, at) => series?.spreads[at] ?? spread), points: [...points, ...(series?.points ?? [])] };
  };
  return { note, want, with: with_ };
}

/** Where what was read again ends, and what is remembered begins. */
export const borders = points => points.filter((point, at) => at && points[at - 1].again && !point.again).map(point => ({ time: point.time, kind: 'model', name: 'remembered from here on; before, read again from the log' }));
