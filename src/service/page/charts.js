// Charts in SVG: what was seen over what was expected, p-values, and keys over time. Each says in words what it shows, and can be read with a pointer or with the arrow keys.
import { clock, h, number, s } from './dom.js';

const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 18;

/** Round numbers from low to high. */
function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(by => by * power).find(step => step >= rough);
  const all = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6 && all.length < 20; value += step) all.push(Math.abs(value) < step / 1e6 ? 0 : value);
  return all;
}

const path = points => points.map(([x, y], place) => `${place ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');

/** Runs of numbers that are there, as paths. */
function runs(xs, ys) {
  const out = [[]];
  ys.forEach((y, place) => { if (y === null || !isFinite(y)) out.push([]); else out.at(-1).push([xs[place], y]); });
  return out.filter(run => run.length > 1);
}

/**
 * A chart of `points` ({ time, ... }) between `from` and `to`. `lines`: { name, of, kind } with kind `actual`, `expected` or `dots`; `band`: { low, high } of a point;
 * `limits`: { at, kind } in y; `marks`: { time, kind, name }; `label(y)` of the axis; `tell(point)` in words; `moment(time, near)` where it is no time. Answers a figure.
 */
export function chart({ title, points, from, to, lines, band, limits = [], marks = [], label = number, tell, tall = false, range, moment = clock }) {
  const output = h('output');
  const svg = s('svg', { class: tall ? 'chart tall' : 'chart', role: 'img', tabindex: 0 });
  const figure = h('figure', {}, h('figcaption', {}, h('b', {}, title), output), svg);
  const shown = points.filter(point => point.time >= from && point.time <= to);
  svg.setAttribute('aria-label', `${title}: ${shown.length} records${shown.length && tell ? `, the last one ${tell(shown.at(-1))}` : ''}`);
  const draw = () => {
    const width = Math.max(200, svg.clientWidth || 320), height = tall ? 210 : 150;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const values = shown.flatMap(point => [...lines.map(line => line.of(point)), ...(band ? [band.low(point), band.high(point)] : [])]).concat(limits.map(limit => limit.at)).filter(value => value !== null && isFinite(value));
    if (!values.length) { svg.replaceChildren(s('text', { x: LEFT, y: height / 2 }, 'nothing to show yet')); return; }
    let [low, high] = range || [Math.min(...values), Math.max(...values)];
    if (!range) { const pad = (high - low || Math.abs(high) * 0.05 || 1) * 0.06; low -= pad; high += pad; }
    const x = time => LEFT + (time - from) / Math.max(1, to - from) * (width - LEFT - RIGHT);
    const y = value => TOP + (1 - (value - low) / (high - low)) * (height - TOP - BOTTOM);
    const at = value => value === null || !isFinite(value) ? null : y(value);
    const parts = [];
    for (const value of ticks(low, high, tall ? 6 : 4)) parts.push(s('line', { class: 'axis', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }), s('text', { x: LEFT - 5, y: y(value) + 4, 'text-anchor': 'end' }, label(value)));
    const xs = shown.map(point => x(point.time));
    if (band) {
      const edge = of => shown.map(point => at(of(point)));
      const lows = runs(xs, edge(band.low)), highs = runs(xs, edge(band.high));
      highs.forEach((run, place) => parts.push(s('path', { class: 'band', d: `${path(run)}${path([...(lows[place] || [])].reverse()).replace('M', 'L')}Z` })));
    }
    for (const limit of limits) parts.push(s('line', { class: 'limit', x1: LEFT, x2: width - RIGHT, y1: y(limit.at), y2: y(limit.at) }));
    for (const mark of marks.filter(mark => mark.time >= from && mark.time <= to)) parts.push(s('line', { class: mark.kind, x1: x(mark.time), x2: x(mark.time), y1: TOP, y2: height - BOTTOM }, s('title', {}, mark.name)));
    for (const line of lines) {
      if (line.kind === 'dots') shown.forEach((point, place) => { const value = at(line.of(point)); if (value !== null) parts.push(s('circle', { class: point.alert ? 'dot alert' : 'dot', cx: xs[place].toFixed(1), cy: value.toFixed(1), r: point.alert ? 3 : 2 })); });
      else for (const run of runs(xs, shown.map(point => at(line.of(point))))) parts.push(s('path', { class: line.kind, d: path(run) }));
    }
    parts.push(s('text', { x: LEFT, y: height - 4 }, moment(from, to)), s('text', { x: width - RIGHT, y: height - 4, 'text-anchor': 'end' }, moment(to, to)));
    const cursor = s('line', { class: 'cursor', y1: TOP, y2: height - BOTTOM, x1: -9, x2: -9 });
    svg.replaceChildren(...parts, cursor);
    let place = shown.length - 1;
    const point = next => {
      place = Math.min(shown.length - 1, Math.max(0, next));
      if (!shown[place]) return;
      cursor.setAttribute('x1', xs[place]); cursor.setAttribute('x2', xs[place]);
      output.textContent = `${moment(shown[place].time, to)}: ${tell(shown[place])}`;
    };
    svg.onpointermove = event => {
      const box = svg.getBoundingClientRect(), where = (event.clientX - box.left) / box.width * width;
      let best = 0;
      xs.forEach((other, index) => { if (Math.abs(other - where) < Math.abs(xs[best] - where)) best = index; });
      point(best);
    };
    svg.onkeydown = event => { const by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key]; if (by) { event.preventDefault(); point(place + by); } };
    svg.onpointerleave = () => { cursor.setAttribute('x1', -9); cursor.setAttribute('x2', -9); output.textContent = ''; };
  };
  // Its width is known once it lies in the page, and changes with it.
  new ResizeObserver(draw).observe(svg);
  return figure;
}

/** −log10 of a p-value, from 0 to 12. */
export const rare = p => p > 0 ? Math.min(12, Math.max(0, -Math.log10(p))) : 12;
/** A p-value by its −log10. */
export const chance = rarity => rarity <= 0 ? '1' : Number.isInteger(rarity) ? `1e−${rarity}` : rarity > 3 ? (10 ** -rarity).toExponential(0).replace('-', '−') : (10 ** -rarity).toPrecision(1);

/** How strange, from 0 to 5, and in words. */
const LEVELS = [[1.5, 'usual'], [3, 'one in 30 or rarer'], [4.5, 'one in 1,000'], [6, 'one in 30,000'], [9, 'one in a million'], [99, 'never seen']];
export const level = rarity => LEVELS.findIndex(([below]) => rarity < below);
export const levels = LEVELS.map(([, words]) => words);

/** A key's bins as a row of squares. */
export function strip(key, bins, from, to, moment = clock) {
  const svg = s('svg', { viewBox: `0 0 ${bins.length} 1`, preserveAspectRatio: 'none', role: 'img' });
  let worst = 0, worstAt = 0;
  bins.forEach((rarity, place) => {
    if (rarity === null) return;
    if (rarity > worst) { worst = rarity; worstAt = place; }
    const time = from + (to - from) * place / bins.length;
    svg.append(s('rect', { class: `h${level(rarity)}`, x: place, y: 0, width: 1.02, height: 1 }, s('title', {}, `${key}, ${moment(time, to)}: ${levels[level(rarity)]} (p = ${chance(rarity)})`)));
  });
  svg.setAttribute('aria-label', `${key}: ${worst ? `strangest ${levels[level(worst)]}, at ${moment(from + (to - from) * worstAt / bins.length, to)}` : 'no records'}`);
  return svg;
}

/** A share as a bar. */
export const bar = share => s('svg', { class: 'bar', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, s('rect', { width: 100, height: 10 }), s('rect', { width: Math.max(1, share * 100), height: 10 }));
