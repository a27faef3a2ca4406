// Episodes in words, as lists of all pages have them.
import { h, many, span, when } from './dom.js';
import { episodeLink, keyLink } from './tools.js';

export const SAID = { false_positive: 'a false alarm', true_positive: 'a fault', new_normal: 'the new normal' };
export const place = input => `${input.topic}[${input.partition}] at offset ${input.offset}`;
export const lasted = (episode, now) => {
  const ms = Math.max(0, (episode.ended ? Date.parse(episode.ended) : now) - Date.parse(episode.since));
  return episode.ended && ms < 1000 ? 'a moment' : span(ms);
};
/** Now, by the records: a plant that is replayed, or a producer that is behind, has a time of its own. */
export const nowBy = status => Math.min(Date.now(), status.newest ?? Date.now());
/** Whether it is of features that records lack, and not of a key without records. */
export const isAbsence = episode => episode.kind === 'silence' && episode.id.endsWith('-absence');
/** What kind of trouble it is, in a word. */
export const trouble = episode => isAbsence(episode) ? 'feature missing' : { silence: 'silent', storm: 'storm' }[episode.kind] ?? null;

export function severity(episode) {
  if (episode.suppressed) return h('span', { class: 'pill dim' }, episode.suppressed === 'dismissed' ? 'like one that was dismissed' : 'held back in a storm');
  return h('span', { class: `pill ${episode.ended ? 'dim' : episode.severity}` }, episode.ended ? `${episode.severity}, over` : episode.severity);
}

/** How strong a word for severity is. */
export const STRENGTH = { low: 'as rare among normal records as your budget of false alarms allows, or up to ten times rarer', medium: 'at least ten times rarer among normal records than your budget of false alarms allows', high: 'at least a hundred times rarer among normal records than your budget of false alarms allows', critical: 'at least a thousand times rarer among normal records than your budget of false alarms allows' };

function item(episode, { now, own }) {
  // An episode ends with its last strange record; normal ones after it show that it is over.
  const until = episode.ended ? ' until it was sure that it is over' : '';
  const records = episode.kind === 'score' && episode.records && episode.input ? `${many(episode.records, 'record')}${until}, the last alert of ${place(episode.input)}; ` : '';
  const what = trouble(episode);
  return h('li', {}, h('div', { class: 'row' }, severity(episode), what ? h('span', { class: 'pill dim' }, what) : null,
    h('a', { class: 'grow cause', href: episodeLink(episode.id) }, own ? null : h('b', {}, `${keyText(episode.key)}: `), `${episode.cause}, for ${lasted(episode, now)}`)),
  h('p', { class: 'dim small' }, records, 'since ', when(episode.since), episode.within ? ['; on top of ', h('a', { href: episodeLink(episode.within) }, 'an episode that has lasted')] : '',
    episode.likeness ? `; ${Math.round(episode.likeness * 100)} % alike` : '', episode.feedback ? `; somebody said: ${SAID[episode.feedback]}` : ''));
}

/** A list of episodes. `own`: all are of the key that the page is about. */
export const episodeList = (episodes, now, own = false) => h('ul', { class: 'plain' }, episodes.map(episode => item(episode, { now, own })));
export const keyText = key => key || '(empty)';
export const keyName = key => h('a', { href: keyLink(key) }, keyText(key));
