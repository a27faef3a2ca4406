// What the report draws: keys over time with the episodes of the chosen budget, and the course of each card.
const data = JSON.parse(document.getElementById('data').textContent);
zone.timeZone = 'UTC';
const moment = data.timed ? clock : row => `row ${Math.round(row)}`;
const lanes = document.getElementById('lanes'), rate = document.getElementById('rate');

/** Goes to a card, and lets the keyboard go on from there. */
const goTo = card => event => { event.preventDefault(); const found = document.getElementById(`e${card}`); history.replaceState(null, '', `#e${card}`); found.scrollIntoView(); found.focus({ preventScroll: true }); };

/** Episodes of a key under its strip: those with a card lead there. */
function marks(lane, at, budget) {
  const svg = s('svg', { class: 'marks', viewBox: '0 0 1000 10', preserveAspectRatio: 'none' });
  const x = place => (place - data.from) / Math.max(1, data.to - data.from) * 1000;
  const box = (kind, from, to, title) => s('rect', { class: kind, x: x(from).toFixed(1), width: Math.max(4, x(to) - x(from)).toFixed(1), y: kind === 'opened' ? 3 : 0, height: kind === 'opened' ? 7 : 10 }, s('title', {}, title));
  for (const [from, to] of lane.labels) svg.append(box('labelled', from, to, `${lane.key}: labelled, ${moment(from, data.to)} to ${moment(to, data.to)}`));
  for (const [key, from, to, card] of budget ? budget.spans : []) {
    if (key !== at) continue;
    const title = `${lane.key}: an episode, ${moment(from, data.to)} to ${moment(to, data.to)}`;
    const mark = box('opened', from, to, title);
    svg.append(card < 0 ? mark : s('a', { href: `#e${card}`, 'aria-label': title, onclick: goTo(card) }, mark));
  }
  return svg;
}

function drawLanes(budget) {
  const grid = lanes.querySelector('.strip');
  const times = h('div', { class: 'times' }, [0, 0.5, 1].map(share => h('span', {}, moment(data.from + (data.to - data.from) * share, data.to))));
  grid.replaceChildren(h('span'), times, h('span', { class: 'last' }, 'rarest'), ...data.lanes.flatMap((lane, at) => {
    const most = Math.max(0, ...lane.bins.filter(bin => bin !== null));
    return [h('span', { title: lane.key }, lane.key || 'all rows'), h('div', {}, strip(lane.key || 'all rows', lane.bins, data.from, data.to, moment), marks(lane, at, budget)), h('span', { class: 'last' }, `p ${chance(Math.round(most))}`)];
  }));
}

/** Shows what a budget would have opened: in words, in the lanes, and which cards would be there. */
function choose(budget) {
  const said = document.getElementById('said');
  said.replaceChildren(h('b', {}, budget.setting), `${budget.configured ? ' (configured)' : ''}: ${budget.words}`);
  drawLanes(budget);
  const open = new Set(budget.spans.map(span => span[3]));
  for (const card of document.querySelectorAll('.card')) card.classList.toggle('gone', !budget.configured && !open.has(Number(card.id.slice(1))));
  const without = budget.configured ? [] : budget.spans.filter(span => span[3] < 0);
  const others = document.getElementById('others');
  others.hidden = budget.configured;
  others.textContent = budget.configured ? '' : `${without.length ? `Beside those with a card ${many(without.length, 'episode')} would have opened: ${without.slice(0, 12).map(span => `${span[0] < 0 ? '' : `${data.lanes[span[0]].key} `}${moment(span[1], data.to)}`).join(', ')}${without.length > 12 ? ' and so on' : ''}. ` : ''}Cards of episodes that this budget would not have opened are faint.`;
}

/** A card's features over what was expected of them, and the evidence below. */
function drawCard(place, course) {
  const points = course.points.map(([time, alert, strength, values, expected]) => ({ time, alert, strength, values, expected }));
  const from = points[0].time, to = points.at(-1).time, marks = [{ time: course.onset, kind: 'onset', name: 'it began about here' }];
  const feature = (column, at) => {
    const spread = course.spreads[at], expected = point => point.expected[at], actual = point => point.values[at];
    const edge = by => point => expected(point) === null ? null : expected(point) + by * spread;
    return chart({ title: column, points, from, to, marks, moment, band: spread ? { low: edge(-3), high: edge(3) } : null, lines: [{ of: expected, kind: 'expected' }, { of: actual, kind: 'actual' }], tell: point => `${number(actual(point))}${expected(point) === null ? '' : `, expected ${number(expected(point))}`}` });
  };
  const evidence = chart({ title: 'Evidence', points, from, to, marks, moment, limits: course.threshold ? [{ at: course.threshold, kind: 'limit' }] : [], lines: [{ of: point => point.strength, kind: 'actual' }, { of: point => point.alert ? point.strength : null, kind: 'dots' }], tell: point => `${number(point.strength)} of ${number(course.threshold)}` });
  place.classList.add('together');
  place.append(...course.columns.map(feature), evidence, h('p', { class: 'dim small' }, 'Full line: what was measured. Dashed blue: what was expected, with three usual spreads around it. Red: where it began, and the evidence that the budget asks for. Drag over a chart, or press + and − on it, to look closer; Escape or a double click shows all.'));
}

if (data.lanes.length) {
  lanes.hidden = false;
  lanes.querySelector('.legend').append(...levels.map((words, at) => h('span', {}, s('svg', { viewBox: '0 0 1 1', 'aria-hidden': 'true' }, s('rect', { class: `h${at}`, width: 1, height: 1 })), words)), h('span', {}, s('svg', { viewBox: '0 0 1 1', 'aria-hidden': 'true' }, s('rect', { class: 'opened', width: 1, height: 1 })), 'episode'), data.lanes.some(lane => lane.labels.length) ? h('span', {}, s('svg', { viewBox: '0 0 1 1', 'aria-hidden': 'true' }, s('rect', { class: 'labelled', width: 1, height: 1 })), 'labelled') : '');
  if (data.keys > data.lanes.length) lanes.append(h('p', { class: 'dim small' }, `${data.lanes.length} of ${data.keys} keys.`));
}
if (rate) {
  rate.parentElement.hidden = false;
  rate.oninput = () => { const budget = data.budgets[rate.value]; rate.setAttribute('aria-valuetext', `${budget.setting}: ${budget.words}`); choose(budget); };
  rate.oninput();
} else drawLanes(null);
for (const place of document.querySelectorAll('[data-card]')) drawCard(place, data.cards[place.dataset.card]);
document.getElementById('main').dataset.drawn = 'yes';
