//! Episodes that are held back because somebody dismissed one like them.

use super::super::dismissed::worst;
use super::super::prepare::Work;
use super::alerts::attribution;
use super::{EventEmitter, ScoredRecord};
use crate::detect::episode::Episode;
use crate::detect::feedback::Pattern;
use crate::model::trained::Explanation;

impl EventEmitter<'_> {
    /// How an episode looks by the record at hand.
    pub(super) fn pattern(
        &self,
        scored: &ScoredRecord<'_>,
        episode: &Episode,
        explained: &Explanation,
    ) -> Pattern {
        let attribution = attribution(self.columns, scored.row, explained);
        Pattern::of(&attribution, worst(episode))
    }

    /// Whether what an open episode was held back for holds no more: it was taken back, or the episode is worse now, or a record that is extreme by
    /// itself looks otherwise.
    pub(super) fn is_news(
        &self,
        work: &Work<'_>,
        scored: &ScoredRecord<'_>,
        episode: &Episode,
    ) -> bool {
        let key = work.slots[scored.slot].key.0.as_ref();
        let id = self.id(work, episode);
        let held = work.quarantined(&id);
        let Some((like, opened)) = held.and_then(|n| Some((n.held.as_ref()?, n.pattern.as_ref()?)))
        else {
            return true;
        };
        let of_key = work.base.dismissed.get(key);
        if !of_key.is_some_and(|all| all.iter().any(|(known, _)| known == like)) {
            return true;
        }
        let extreme = scored.reading.p <= episode.peak_p.max(work.rule.p_value());
        let now = if extreme {
            &self.pattern(scored, episode, &self.explained(work, scored))
        } else {
            opened
        };
        // While what was strange leaves the window, its newest row is a normal one: it lies on the other side of what is expected.
        let leaves = self.params.window > 1 && scored.reading.p > episode.peak_p;
        let worst = worst(episode);
        !(work.dismissed_like(key, now, worst).is_some()
            || (leaves && work.dismissed_same_features(key, now, worst)))
    }

    /// Notes that the alerts of an episode are emitted after all.
    pub(super) fn release(&self, work: &mut Work<'_>, episode: &Episode) {
        let id = self.id(work, episode);
        if let Some(quarantined) = work
            .quarantined(&id)
            .filter(|quarantined| quarantined.held.is_some())
        {
            let mut quarantined = quarantined.clone();
            quarantined.held = None;
            work.quarantine.insert(id, Some(quarantined));
        }
    }
}
