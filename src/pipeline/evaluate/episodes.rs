//! Episodes that open, are told of late, and end with their key; and what is noted of them for training.

use super::{EventEmitter, ScoredRecord};
use crate::alert::{Alert, AlertEvent};
use crate::detect::absence::Turn;
use crate::detect::episode::{Episode, Reading};
use crate::detect::feedback::Pattern;
use crate::pipeline::dismissed::worst;
use crate::pipeline::output;
use crate::pipeline::prepare::{SilenceInfo, Step, Work};
use crate::pipeline::state::Quarantined;
use crate::stream::EpisodeId;

impl EventEmitter<'_> {
    pub(super) fn opened(
        &mut self,
        work: &mut Work<'_>,
        scored: &ScoredRecord<'_>,
        (episode, outer): (Episode, Option<&Episode>),
        emit: bool,
    ) {
        let explained = self.explained(work, scored);
        let pattern = self.pattern(scored, &episode, &explained);
        let key = &work.slots[scored.slot].key.0;
        let held = work.dismissed_like(key, &pattern, pattern.worst);
        let allowed = held.is_none() && self.admit(work, scored.step, scored.clock, emit);
        if emit {
            self.tally.opened += 1;
            self.tally.held_back += u64::from(held.is_some());
        }
        self.note_opened(work, scored.slot, &episode, (pattern, held));
        let episodes = &mut work.slots[scored.slot].state.episodes;
        episodes.suppress(episode.onset, !allowed);
        if allowed && emit {
            let happened = (AlertEvent::Open, &episode, outer);
            self.alert_explained(work, scored, happened, explained);
        }
    }

    /// Emits episodes that a storm held back, once the storm is over and the faults are still there.
    pub(super) fn speak_up(&mut self, work: &mut Work<'_>, scored: &ScoredRecord<'_>, emit: bool) {
        if work.head.storm.since.is_some() {
            return;
        }
        let episodes = &work.slots[scored.slot].state.episodes;
        let due = |open: &&Episode| {
            open.suppressed && open.strength >= open.threshold && self.is_news(work, scored, open)
        };
        let Some(&waiting) = episodes.all_open().find(due) else {
            return;
        };
        let outer = episodes
            .own
            .open
            .filter(|outer| outer.onset != waiting.onset);
        // As many as may be emitted at a time, and no more: the others wait for their turn.
        if self.admit_quietly(work, scored.clock) {
            self.release(work, &waiting);
            let episodes = &mut work.slots[scored.slot].state.episodes;
            episodes.suppress(waiting.onset, false);
            self.alert(
                work,
                scored,
                (AlertEvent::Open, &waiting, outer.as_ref()),
                emit,
            );
        }
    }

    /// Ends what is open of a key that is being forgotten.
    pub(super) fn forget(&mut self, work: &mut Work<'_>, step: &Step, slot: usize, emit: bool) {
        let raw = &self.batch.records()[step.record];
        let reading = Reading {
            p: 1.0,
            by_model: None,
            score: 0.0,
            offset: raw.offset,
            time: raw.timestamp,
        };
        let state = &mut work.slots[slot].state;
        let drift = state.drift.forget();
        let silence = state.silence.take();
        let info = silence.map(|silence| SilenceInfo::new(silence, state, state.rhythm.last));
        let absent: Vec<Turn> = std::mem::take(&mut state.absences).open().collect();
        let inner = state.episodes.end_within();
        let outer = state.episodes.own.open.take();
        for (episode, outer) in inner
            .iter()
            .zip([outer.as_ref()])
            .chain(outer.iter().zip([None]))
        {
            self.note_closed(work, slot, episode);
            if emit {
                self.tally.closed += 1;
            }
            if emit && !episode.suppressed {
                let within = outer.map(|outer| self.id(work, outer));
                let cause = self.cause(work, step, slot);
                let closed = (AlertEvent::Close, episode);
                let alert = Alert {
                    within,
                    ..output::of_episode(self.params, work, cause, closed, &reading)
                };
                self.send(step, alert);
            }
        }
        if let Some(info) = info {
            self.spoke(work, step, (slot, info), emit);
        }
        for turn in absent {
            self.came_back(work, (step, slot), &turn, emit);
        }
        if let Some(turn) = drift {
            let cause = self.cause(work, step, slot);
            self.turned(cause, turn, emit);
        }
    }

    /// Notes a new episode for training to leave out.
    fn note_opened(
        &self,
        work: &mut Work<'_>,
        slot: usize,
        episode: &Episode,
        (pattern, held): (Pattern, Option<EpisodeId>),
    ) {
        let entry = Quarantined {
            key: work.slots[slot].key.0.as_ref().to_owned(),
            from: episode.onset,
            to: None,
            from_time: episode.onset_time,
            to_time: None,
            pattern: Some(pattern),
            held,
            ..Quarantined::nothing()
        };
        let id = self.id(work, episode);
        work.quarantine.insert(id, Some(entry));
    }

    /// Notes until when the fault of an episode that is over lasted.
    pub(super) fn note_closed(&self, work: &mut Work<'_>, slot: usize, episode: &Episode) {
        let id = self.id(work, episode);
        let known = work.quarantined(&id).cloned();
        let mut entry = known.unwrap_or_else(|| Quarantined {
            key: work.slots[slot].key.0.as_ref().to_owned(),
            from: episode.onset,
            from_time: episode.onset_time,
            ..Quarantined::nothing()
        });
        entry.to = Some(episode.last.offset.next());
        entry.to_time = Some(episode.last.time);
        if let Some(pattern) = &mut entry.pattern {
            pattern.grow(worst(episode));
        }
        work.quarantine.insert(id, Some(entry));
    }
}
