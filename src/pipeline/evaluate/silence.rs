//! What is told of keys that fall silent, and speak again.

use super::super::message::Facts;
use super::super::prepare::{Quiet, Step, Work};
use super::super::state::episode_id;
use super::Telling;
use crate::alert::{AlertEvent, AlertKind, Severity};

impl Telling<'_> {
    pub(super) fn silent(
        &mut self,
        work: &mut Work<'_>,
        step: &Step,
        (slot, quiet, allowed): (usize, Quiet, bool),
        emit: bool,
    ) {
        work.slots[slot].state.silence_muted = !allowed;
        if !emit {
            return;
        }
        self.tally.opened += 1;
        if allowed {
            let facts = self.silence_facts(work, quiet, AlertEvent::Open);
            let cause = self.cause(work, step, slot);
            self.send(cause, facts);
        }
    }

    pub(super) fn spoke(
        &mut self,
        work: &mut Work<'_>,
        step: &Step,
        (slot, quiet): (usize, Quiet),
        emit: bool,
    ) {
        let muted = std::mem::take(&mut work.slots[slot].state.silence_muted);
        if !emit {
            return;
        }
        self.tally.closed += 1;
        if !muted {
            let facts = self.silence_facts(work, quiet, AlertEvent::Close);
            let cause = self.cause(work, step, slot);
            self.send(cause, facts);
        }
    }

    pub(super) fn silence_facts(&self, work: &Work<'_>, quiet: Quiet, event: AlertEvent) -> Facts {
        // The longest of that many gaps.
        let p = 1.0 / (quiet.records as f64 + 1.0);
        let mut facts = Facts::bare(AlertKind::Silence, event, p);
        let onset = episode_id(self.params, &work.base.at, quiet.silence.after);
        facts.id = format!("{onset}-silence");
        facts.onset_time = quiet.silence.since;
        facts.severity = Severity::Medium;
        facts.score = quiet.strangeness;
        facts.peak_score = quiet.strangeness;
        facts.threshold = self.params.silence_factor;
        facts.grade = 1.0 - p;
        facts.confidence = 1.0 - p;
        facts
    }
}
