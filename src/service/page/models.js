// The page of the models: which came from which, what was kept out and why, and what the gate found.
import { fill, h, many, when } from './dom.js';
import { ask, buttons, episodeLink } from './tools.js';
import { SAID, keyName } from './episodes.js';

export function models(root) {
  const top = h('section'), line = h('section'), list = h('div', { class: 'charts wide' });
  root.append(top, line, list);
  const again = () => dispatchEvent(new Event('refresh'));
  fill(top, 0, () => [h('h1', {}, 'Models'), h('p', { class: 'dim' }, 'A new model is made at intervals, when keys drift, or when asked. The gate tries it on records it has not seen, and on faults that it puts into them, before it may judge.'), buttons([['Train now', 'retrain', 'main'], ['Back to the one before', 'models/rollback']], again)]);
  return async status => {
    let found;
    try { found = await ask('models'); } catch (error) { line.hidden = true; fill(list, error.message, () => h('section', {}, h('p', { class: 'bad' }, error.message))); return; }
    line.hidden = !found.models.length;
    fill(line, found.models.map(model => [model.version, model.in_use, model.promoted]), () => lineage(found.models));
    fill(list, [found, status.training_waits], () => found.models.length ? found.models.map(model => modelCard(model, found.models, again)) : h('section', {}, h('p', {}, status.training_waits || 'There is no model yet: the first is trained when there are enough records.')));
  };
}

const state = model => model.in_use ? ['good', 'in use'] : model.promoted ? ['dim', 'was accepted'] : ['bad', 'refused'];

/** The models in the order they were made in: those that judged one after the other, with those that were refused between them. */
function lineage(models) {
  const oldest = [...models].reverse();
  return [h('h2', {}, 'One after the other'), h('ol', { class: 'lineage' }, oldest.map(model => h('li', {}, h('a', { href: `#model-${model.version}`, class: `pill ${state(model)[0]}` }, `${model.version}${model.in_use ? ', in use' : model.promoted ? '' : ', refused'}`)))),
    h('p', { class: 'dim small' }, 'The oldest first. One that was refused never judged: the one before it went on.')];
}

/** Which model judged before it, by the order they were made in. */
function before(model, models) {
  const earlier = models.filter(other => other.promoted && other.version < model.version);
  const last = earlier.reduce((newest, other) => newest && newest.version > other.version ? newest : other, null);
  if (!last) return 'none: it is the first';
  return [h('a', { href: `#model-${last.version}` }, `model ${last.version}`), model.promoted ? ', whose place it took' : ', which it should have replaced'];
}

const KINDS = { pca: 'principal components', gmm: 'a mixture of Gaussians', robust_z: 'robust z-scores', ecod: 'ECOD', hbos: 'histograms', iforest: 'an isolation forest', knn: 'nearest neighbours', linkage: 'linkage', autoencoder: 'an autoencoder', vae: 'a variational autoencoder', gan: 'a GAN’s discriminator', forecast: 'a forecast', auto: 'a pool of simple models' };

/** Members in words: kinds, and over how many records of a key. */
function members(names) {
  const by = new Map();
  for (const name of names) {
    const [kind, ...options] = name.split(':');
    const last = options.find(option => option.startsWith('last='));
    if (!by.has(kind)) by.set(kind, new Set());
    if (last) by.get(kind).add(last.slice(5));
  }
  return [...by].map(([kind, over]) => `${KINDS[kind] || kind}${over.size ? over.size === 1 && over.has('1') ? ' of the last record' : ` over the last ${[...over].join(', ')} records` : ''}`).join('; ');
}

/** What was read of each partition. */
function stretches(read) {
  const by = {};
  for (const { at, from, to } of read) (by[`${at.topic}[${at.partition}]`] ||= []).push([from, to]);
  return Object.entries(by).map(([name, all]) => `${name} from offset ${Math.min(...all.map(part => part[0]))} to ${Math.max(...all.map(part => part[1]))}${all.length > 1 ? `, in ${all.length} stretches` : ''}`).join('; ') || 'a file';
}

/** The gate's decision in a sentence. */
function verdict(model) {
  if (model.verdict === 'promoted') return 'Accepted: nothing speaks against it.';
  if (model.verdict === 'not tried') return 'Nothing: it was not tried.';
  return `${model.promoted ? 'Accepted' : 'Refused'}${model.verdict.replace(/^(promoted|rejected)/, '')}.`;
}

function keptOut(model) {
  const out = model.kept_out;
  const kept = [out.episodes && many(out.episodes, 'episode'), out.suspects && `${many(out.suspects, 'stretch', 'stretches')} that stood out before any model judged`, out.maintenance && `${many(out.maintenance, 'stretch', 'stretches')} of maintenance`].filter(Boolean);
  const text = `${kept.length ? `${kept.join(', ')}: they may be faults, which must not be learnt` : 'nothing'}${out.let_in ? `; ${many(out.let_in, 'episode')} let in, because somebody said so` : ''}${out.accepted ? `; ${many(out.accepted, 'episode')} of the first days learnt, for together they are more than a fault may be` : ''}${out.waived ? '; what was flagged before there was a model was learnt all the same, for it was too much' : ''}`;
  const lost = out.unlearnt.keys ? h('p', {}, `Nothing was left to learn from ${many(out.unlearnt.keys, 'key')}: all that they sent is kept out. What is their new normal, or was nothing, can be said on the pages of their episodes: `, out.unlearnt.named.map((key, at) => [at ? ', ' : '', keyName(key)]), out.unlearnt.named.length < out.unlearnt.keys ? ' …' : '') : null;
  const why = entry => entry.suspect ? `stood out before any model judged${entry.features.length ? `, by ${entry.features.join(', ')}` : ''}` : `an episode${entry.open ? ' that was not over' : ''}`;
  const item = entry => h('li', {}, keyName(entry.key), ': ', entry.suspect ? why(entry) : h('a', { href: episodeLink(entry.id) }, why(entry)), entry.feedback ? `; somebody said: ${SAID[entry.feedback]}` : '', entry.let_in ? '; let in' : '');
  return [text, lost, out.named.length ? h('details', {}, h('summary', {}, 'One by one'), h('ul', {}, out.named.map(item))) : null];
}

function modelCard(model, models, again) {
  const rows = name => model.rows[name] || 0, [kind, words] = state(model);
  return h('section', { id: `model-${model.version}`, tabindex: -1 }, h('div', { class: 'row' }, h('h2', { class: 'grow' }, `Model ${model.version}: ${KINDS[model.kind] || model.kind} (${model.kind})`), h('span', { class: `pill ${kind}` }, words)),
    h('dl', {}, h('dt', {}, 'The gate said'), h('dd', {}, verdict(model)), h('dt', {}, 'Before it'), h('dd', {}, before(model, models)),
      h('dt', {}, 'Trained'), h('dd', {}, when(model.created), ` on ${rows('fit')} windows of ${rows('read')} records read: ${stretches(model.read)}`),
      h('dt', {}, 'Kept out'), h('dd', {}, keptOut(model)),
      model.members.length ? [h('dt', {}, 'Made of'), h('dd', { title: model.members.join(', ') }, members(model.members))] : null,
      h('dt', {}, 'Features'), h('dd', {}, model.columns.slice(0, 16).join(', ') + (model.columns.length > 16 ? ` and ${model.columns.length - 16} more` : '')),
      model.unobserved.length ? [h('dt', {}, 'Not judged'), h('dd', {}, `${model.unobserved.join(', ')}: in none of the records that it was trained on`)] : null,
      model.counters.length ? [h('dt', {}, 'That count'), h('dd', {}, `${model.counters.join(', ')}: judged by what they count from one record to the next`)] : null,
      model.hourly.length ? [h('dt', {}, 'That follow the hour'), h('dd', {}, `${model.hourly.join(', ')}: ${model.calendar ? 'judged by what they were like at that hour of other days' : '[input.calendar] would judge them by it'}`)] : null,
      model.types.length ? [h('dt', {}, 'Types of keys'), h('dd', {}, `each with a model of its own features: ${model.types.map(of => `${of.features.slice(0, 8).join(', ')}${of.features.length > 8 ? ' …' : ''} (${many(of.keys, 'key')})`).join('; ')}`)] : null),
    model.findings.length ? h('details', { open: model.in_use }, h('summary', {}, 'What it finds, and what it does not'), h('ul', {}, model.findings.map(text => h('li', {}, text)))) : null,
    model.in_use ? null : buttons([[`Use model ${model.version}`, `models/${model.version}/promote`]], again));
}
