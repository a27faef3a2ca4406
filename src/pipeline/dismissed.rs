//! What somebody called a false alarm, as a partition remembers it: more of the same is held back.
//!
//! That somebody said so reaches a partition between two batches, and the next carries a snapshot that has it: replay begins after it, so it judges as
//! the live run did.

use std::sync::Arc;

use super::prepare::Work;
use super::state::{Dismissed, PartitionState, Quarantined};
use crate::detect::Params;
use crate::detect::episode::Episode;
use crate::detect::feedback::{PATTERNS_MAX, Pattern, Worst};
use crate::model::card::{Feedback, Said};
use crate::record::Key;
use crate::stream::EpisodeId;

impl PartitionState {
    /// Takes in what was said of its episodes. While it replays nothing may change: then it does so when it has caught up.
    pub fn hear(&mut self, said: &Said, params: &Params) {
        self.unheard = self.replaying();
        if self.unheard {
            return;
        }
        let called = |id: &EpisodeId, what| said.get(id) == Some(&what);
        let dismissed = |id: &EpisodeId| called(id, Feedback::FalsePositive);
        let ids = |is_changed: &dyn Fn(&EpisodeId, &Quarantined) -> bool| -> Vec<EpisodeId> {
            let all = self.quarantine.iter();
            let changed = all.filter(|(id, quarantined)| is_changed(id, quarantined));
            changed.map(|(id, _)| id.clone()).collect()
        };
        let normal = ids(&|id, known| known.normal != called(id, Feedback::NewNormal));
        let changed = ids(&|id, known| known.dismissed != dismissed(id));
        self.begin_anew(&normal, params);
        for id in &changed {
            let worst = self.worst(id, params);
            if let Some(quarantined) = self.quarantine.get_mut(id) {
                quarantined.dismissed = !quarantined.dismissed;
                if let (Some(pattern), Some(worst)) = (&mut quarantined.pattern, worst) {
                    pattern.grow(worst);
                }
            }
        }
        if !changed.is_empty() {
            self.unsaved = true;
            self.remember_dismissed();
        }
    }

    /// Notes of which episodes it is heard, or taken back, that they are the new normal. While one is open, its key's season waits for it to end: it begins at
    /// the level that is normal now.
    fn begin_anew(&mut self, ids: &[EpisodeId], params: &Params) {
        for id in ids {
            let is_open = self.worst(id, params).is_some();
            let Some(quarantined) = self.quarantine.get_mut(id) else {
                continue;
            };
            quarantined.normal = !quarantined.normal;
            self.unsaved = true;
            if !(is_open && quarantined.normal) {
                continue;
            }
            if let Some(entry) = self.keys.get_mut(quarantined.key.as_str())
                && let Some(season) = &mut entry.state.season
            {
                season.begin_anew(entry.state.newest);
                entry.dirty = true;
            }
        }
    }

    /// How bad an episode that is still open got.
    fn worst(&self, id: &EpisodeId, params: &Params) -> Option<Worst> {
        let key = self.quarantine.get(id)?.key.as_str();
        let episodes = &self.keys.get(key)?.state.episodes;
        let is_it = |onset| EpisodeId::new(&params.detector, &self.at, onset) == *id;
        let mut open = episodes.all_open();
        Some(worst(open.find(|open| is_it(open.onset))?))
    }

    /// Works out anew what is held back.
    pub fn remember_dismissed(&mut self) {
        let mut found: Vec<(&EpisodeId, &Quarantined)> = self.quarantine.iter().collect();
        found.retain(|(_, quarantined)| quarantined.dismissed);
        found.sort_by_key(|(_, quarantined)| std::cmp::Reverse(quarantined.from));
        let mut dismissed = Dismissed::new();
        for (id, quarantined) in found {
            let of_key = dismissed.entry(quarantined.key.clone()).or_default();
            if let Some(pattern) = quarantined
                .pattern
                .as_ref()
                .filter(|_| of_key.len() < PATTERNS_MAX)
            {
                of_key.push((id.clone(), pattern.clone()));
            }
        }
        self.dismissed = dismissed;
    }

    /// Whether an episode's entry is remembered for longer than training needs it: what is like it is held back, or it is open. The log may know an end that is still to
    /// come: it is as of the latest commit, and a group that lost its offsets goes on from the state's.
    pub fn holds(&self, id: &EpisodeId, quarantined: &Quarantined) -> bool {
        let of_key = self.dismissed.get(&quarantined.key);
        let dismissed = quarantined.dismissed
            && of_key.is_some_and(|all| all.iter().any(|(known, _)| known == id));
        let key = self.keys.get(&Key(Arc::from(quarantined.key.as_str())));
        let is_it = |open: &Episode| open.onset == quarantined.from;
        dismissed || key.is_some_and(|entry| entry.state.episodes.all_open().any(is_it))
    }
}

/// How bad an episode got.
pub(super) fn worst(episode: &Episode) -> Worst {
    Worst::of(episode.peak_strength, episode.peak_p)
}

impl Work<'_> {
    /// The dismissed episode of a key that this one is like, and no worse than.
    pub fn dismissed_like(&self, key: &str, pattern: &Pattern, worst: Worst) -> Option<EpisodeId> {
        let of_key = self.base.dismissed.get(key)?;
        let like = |known: &&(EpisodeId, Pattern)| {
            known.1.is_like(pattern) && !known.1.is_less_than(worst)
        };
        of_key.iter().find(like).map(|(id, _)| id.clone())
    }

    /// Whether a dismissed episode of a key is of the same features, in whatever direction, and was as bad.
    pub fn dismissed_same_features(&self, key: &str, pattern: &Pattern, worst: Worst) -> bool {
        let (of_key, pattern) = (self.base.dismissed.get(key), pattern.unsigned());
        let same = |(_, known): &(EpisodeId, Pattern)| {
            known.unsigned().is_like(&pattern) && !known.is_less_than(worst)
        };
        of_key.is_some_and(|known| known.iter().any(same))
    }

    /// An episode in the quarantine.
    pub fn quarantined(&self, id: &EpisodeId) -> Option<&Quarantined> {
        match self.quarantine.get(id) {
            Some(quarantined) => quarantined.as_ref(),
            None => self.base.quarantine.get(id),
        }
    }
}
