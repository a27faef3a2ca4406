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

/** Where nothing came for much longer than usual: a line must not lead over it. */
function gaps(points) {
  const steps = points.slice(1).map((point, place) => point.time - points[place].time);
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length * 0.9)];
  return steps.map(step => step > 10 * usual);
}

/** Runs of numbers that are there, as paths; `broken[i]`: not over what lies between the i-th and the next. */
function runs(xs, ys, broken) {
  const out = [[]];
  ys.forEach((y, place) => {
    if (place && broken[place - 1]) out.push([]);
    if (y === null || !isFinite(y)) out.push([]); else out.at(-1).push([xs[place], y]);
  });
  return out.filter(run => run.length > 1);
}

/** Looks closer at a stretch of time in all charts of a group (`.together`), or with null at all of it again. */
export function zoom(group, stretch) {
  group.zoom = stretch;
  for (const figure of group.querySelectorAll('figure')) figure.dispatchEvent(new Event('zoom'));
  group.dispatchEvent(new Event('zoomed'));
}

/** Where somebody reads, { title, time }: a chart that is drawn anew goes on showing it. */
let reading = null;

/** Where a chart lies: x of a time, y of a value. */
function scales([from, to], [low, high], [width, height]) {
  return { x: time => LEFT + (time - from) / Math.max(1, to - from) * (width - LEFT - RIGHT), y: value => TOP + (1 - (value - low) / (high - low || 1)) * (height - TOP - BOTTOM), time: x => from + (x - LEFT) / (width - LEFT - RIGHT) * (to - from) };
}

/** Stretches of time that something is said of: a coloured ground, with its name where there is room. */
function grounds(spans, { x }, [from, to], height) {
  return spans.filter(span => span.to >= from && span.from <= to).flatMap(span => {
    const left = x(Math.max(from, span.from)), wide = Math.max(2, x(Math.min(to, span.to)) - left);
    const words = span.words && wide > 6.5 * span.words.length ? [s('text', { x: left + 5, y: TOP + 11 }, span.words)] : [];
    return [s('rect', { class: span.kind, x: left.toFixed(1), width: wide.toFixed(1), y: TOP, height: height - TOP - BOTTOM }, s('title', {}, span.name)), ...words];
  });
}

/**
 * A chart of `points` ({ time, ... }) between `from` and `to`. `lines`: { name, of, kind } with kind `actual`, `expected`, `bound` or `dots`; `band`: { low, high } of a
 * point; `limits`: { at, kind } in y; `marks`: { time, kind, name }; `spans`: { from, to, kind, name, words }; `label(y)` of the axis; `tell(point)` in words;
 * `moment(time, near)` where it is no time; `range`: of y, if it is not to follow from what is shown. Answers a figure. Dragging, + and − look closer, Escape looks at all.
 */
export function chart({ title, points, from, to, lines, band, limits = [], marks = [], spans = [], label = number, tell, tall = false, range, moment = clock }) {
  const output = h('output');
  const svg = s('svg', { class: tall ? 'chart tall' : 'chart', role: 'img', tabindex: 0, id: `chart-${title.replace(/\W+/g, '-')}` });
  const figure = h('figure', {}, h('figcaption', {}, h('b', {}, title), output), svg);
  const all = points.filter(point => point.time >= from && point.time <= to);
  svg.setAttribute('aria-label', `${title}: ${all.length} records${all.length && tell ? `, the last one ${tell(all.at(-1))}` : ''}`);
  const group = () => figure.closest('.together') || figure;
  let place = all.length - 1, view = null, grip = null;
  const draw = () => {
    const [begin, end] = figure.closest('.together')?.zoom || figure.zoom || [from, to];
    const shown = all.filter(point => point.time >= begin && point.time <= end);
    const width = Math.max(200, svg.clientWidth || 320), height = tall ? 210 : 150;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const values = shown.flatMap(point => [...lines.map(line => line.of(point)), ...(band ? [band.low(point), band.high(point)] : [])]).concat(limits.map(limit => limit.at)).filter(value => value !== null && isFinite(value));
    const empty = !values.length;
    let [low, high] = range || (empty ? [0, 1] : [Math.min(...values), Math.max(...values)]);
    if (!range) { const pad = (high - low || Math.abs(high) * 0.05 || 1) * 0.06; low -= pad; high += pad; }
    const scale = scales([begin, end], [low, high], [width, height]), { x, y } = scale;
    const at = value => value === null || !isFinite(value) ? null : y(value);
    const parts = grounds(spans, scale, [begin, end], height);
    if (empty) parts.push(s('text', { x: LEFT, y: height / 2 }, 'no values here'));
    else for (const value of ticks(low, high, tall ? 6 : 4)) parts.push(s('line', { class: 'axis', x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }), s('text', { x: LEFT - 5, y: y(value) + 4, 'text-anchor': 'end' }, label(value)));
    const xs = shown.map(point => x(point.time)), broken = gaps(shown);
    if (band) {
      const edge = of => shown.map(point => at(of(point)));
      const lows = runs(xs, edge(band.low), broken), highs = runs(xs, edge(band.high), broken);
      highs.forEach((run, place) => parts.push(s('path', { class: 'band', d: `${path(run)}${path([...(lows[place] || [])].reverse()).replace('M', 'L')}Z` })));
    }
    for (const limit of limits) parts.push(s('line', { class: 'limit', x1: LEFT, x2: width - RIGHT, y1: y(limit.at), y2: y(limit.at) }));
    for (const mark of marks.filter(mark => mark.time >= begin && mark.time <= end)) parts.push(s('line', { class: mark.kind, x1: x(mark.time), x2: x(mark.time), y1: TOP, y2: height - BOTTOM }, s('title', {}, mark.name)));
    for (const line of lines) {
      if (line.kind === 'dots') shown.forEach((point, place) => { const value = at(line.of(point)); if (value !== null) parts.push(s('circle', { class: point.alert ? 'dot alert' : 'dot', cx: xs[place].toFixed(1), cy: value.toFixed(1), r: point.alert ? 3 : 2 })); });
      else for (const run of runs(xs, shown.map(point => at(line.of(point))), broken)) parts.push(s('path', { class: line.kind, d: path(run) }));
    }
    parts.push(s('text', { x: LEFT, y: height - 4 }, moment(begin, end)), s('text', { x: width - RIGHT, y: height - 4, 'text-anchor': 'end' }, moment(end, end)));
    const cursor = s('line', { class: 'cursor', y1: TOP, y2: height - BOTTOM, x1: -9, x2: -9 });
    const chosen = s('rect', { class: 'chosen', y: TOP, height: height - TOP - BOTTOM, x: -9, width: 0 });
    svg.replaceChildren(...parts, cursor, chosen);
    place = Math.min(place, shown.length - 1);
    view = { shown, xs, begin, end, scale, width, cursor, chosen };
    if (reading?.title === title) point(nearest(x(reading.time)));
    return view;
  };
  // A hand may be quicker than the first drawing, which waits for the next frame.
  const seen = () => view || draw();
  const point = next => {
    const { shown, xs, cursor } = seen();
    place = Math.min(shown.length - 1, Math.max(0, next));
    if (!shown[place]) return;
    cursor.setAttribute('x1', xs[place]); cursor.setAttribute('x2', xs[place]);
    output.textContent = `${moment(shown[place].time, to)}: ${tell(shown[place])}`;
    reading = { title, time: shown[place].time };
  };
  const nearest = x => { const { xs } = seen(); let best = 0; xs.forEach((other, index) => { if (Math.abs(other - x) < Math.abs(xs[best] - x)) best = index; }); return best; };
  const where = event => { const box = svg.getBoundingClientRect(), { width } = seen(); return Math.min(width - RIGHT, Math.max(LEFT, (event.clientX - box.left) / box.width * width)); };
  svg.onpointerdown = event => { if (event.button === 0 && event.pointerType !== 'touch') { grip = where(event); svg.setPointerCapture(event.pointerId); svg.classList.add('held'); } };
  svg.onpointermove = event => {
    const now = where(event), { chosen } = seen();
    if (grip !== null) { chosen.setAttribute('x', Math.min(grip, now)); chosen.setAttribute('width', Math.abs(now - grip)); }
    point(nearest(now));
  };
  svg.onpointerup = event => {
    const [a, b] = [grip ?? 0, where(event)].sort((one, other) => one - other), drawn = grip !== null && b - a > 6, { chosen, scale } = seen();
    grip = null;
    svg.classList.remove('held');
    chosen.setAttribute('width', 0);
    if (drawn) zoom(group(), [scale.time(a), scale.time(b)]);
  };
  svg.ondblclick = () => zoom(group(), null);
  svg.onkeydown = event => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key], closer = { '+': 0.25, '=': 0.25, '-': 1 }[event.key];
    if (by) { event.preventDefault(); point(place + by); }
    else if (event.key === 'Escape') zoom(group(), null);
    else if (closer) {
      const { shown, begin, end } = seen(), middle = shown[place]?.time ?? (begin + end) / 2, half = (end - begin) * closer;
      const stretch = [Math.max(from, middle - half), Math.min(to, middle + half)];
      zoom(group(), stretch[0] <= from && stretch[1] >= to ? null : stretch);
    }
  };
  // One that makes way for a new drawing of itself is not left.
  svg.onblur = svg.onpointerleave = () => setTimeout(() => { if (grip === null && svg.isConnected) { const { cursor } = seen(); reading = null; cursor.setAttribute('x1', -9); cursor.setAttribute('x2', -9); output.textContent = ''; } });
  figure.addEventListener('zoom', draw);
  // Its width is known once it lies in the page, and changes with it.
  new ResizeObserver(draw).observe(svg);
  return figure;
}

/** What lines and grounds mean: [class, words], each with a piece of it. */
export const legend = entries => h('div', { class: 'legend' }, entries.map(([kind, words]) => h('span', {}, s('svg', { class: 'sample', viewBox: '0 0 24 12', 'aria-hidden': 'true' }, kind.startsWith('dot') ? s('circle', { class: kind, cx: 12, cy: 6, r: 3 }) : ['band', 'episode', 'silence', 'h0', 'h1', 'h2', 'h3', 'h4', 'h5'].includes(kind) ? s('rect', { class: kind, width: 24, height: 12 }) : ['onset', 'model'].includes(kind) ? s('line', { class: kind, x1: 12, x2: 12, y1: 0, y2: 12 }) : s('line', { class: kind, x1: 0, x2: 24, y1: 6, y2: 6 })), words)));

/** −log10 of a p-value, from 0 to 12. */
export const rare = p => p > 0 ? Math.min(12, Math.max(0, -Math.log10(p))) : 12;
/** A p-value by its −log10. */
export const chance = rarity => rarity <= 0 ? '1' : Number.isInteger(rarity) ? `1e−${rarity}` : rarity > 3 ? (10 ** -rarity).toExponential(0).replace('-', '−') : (10 ** -rarity).toPrecision(1);

/** How strange, from 0 to 5, and in words. */
const LEVELS = [[1.5, 'usual'], [3, 'one in 30 or rarer'], [4.5, 'one in 1,000'], [6, 'one in 30,000'], [9, 'one in a million'], [99, 'never seen']];
export const level = rarity => LEVELS.findIndex(([below]) => rarity < below);
export const levels = LEVELS.map(([, words]) => words);

/** A key's bins as a row of squares. */
export function strip(key, bins, from, to, moment = clock, silentFrom = null) {
  const svg = s('svg', { viewBox: `0 0 ${bins.length} 1`, preserveAspectRatio: 'none', role: 'img' });
  let worst = 0, worstAt = 0;
  bins.forEach((rarity, place) => {
    if (rarity === null) return;
    if (rarity > worst) { worst = rarity; worstAt = place; }
    const time = from + (to - from) * place / bins.length;
    svg.append(s('rect', { class: `h${level(rarity)}`, x: place, y: 0, width: 1.02, height: 1 }, s('title', {}, `${key}, ${moment(time, to)}: ${levels[level(rarity)]} (p = ${chance(rarity)})`)));
  });
  if (silentFrom !== null) {
    const place = Math.min(bins.length - 0.5, Math.max(0, (silentFrom - from) / (to - from) * bins.length));
    svg.append(s('rect', { class: 'silence', x: place, y: 0.3, width: bins.length - place, height: 0.4 }, s('title', {}, `${key}: no records since ${moment(silentFrom, to)}`)));
  }
  svg.setAttribute('aria-label', `${key}: ${silentFrom !== null ? `no records since ${moment(silentFrom, to)}; ` : ''}${worst ? `strangest ${levels[level(worst)]}, at ${moment(from + (to - from) * worstAt / bins.length, to)}` : 'no records'}`);
  return svg;
}

/** A share as a bar. */
export const bar = share => s('svg', { class: 'bar', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, s('rect', { width: 100, height: 10 }), s('rect', { width: Math.max(1, share * 100), height: 10 }));
