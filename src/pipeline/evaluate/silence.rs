//! What is told of keys that fall silent, and speak again.

use super::super::message::AlertFields;
use super::super::prepare::{Quiet, Step, Work};
use super::super::state::episode_id;
use super::EventEmitter;
use crate::alert::{AlertEvent, AlertKind, Severity};

impl EventEmitter<'_> {
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
            let fields = self.silence_fields(work, quiet, AlertEvent::Open);
            let cause = self.cause(work, step, slot);
            self.send(cause, fields);
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
            let fields = self.silence_fields(work, quiet, AlertEvent::Close);
            let cause = self.cause(work, step, slot);
            self.send(cause, fields);
        }
    }

    pub(super) fn silence_fields(
        &self,
        work: &Work<'_>,
        quiet: Quiet,
        event: AlertEvent,
    ) -> AlertFields {
        // The longest of that many gaps.
        let p = 1.0 / (quiet.records as f64 + 1.0);
        let mut fields = AlertFields::bare(AlertKind::Silence, event, p);
        let onset = episode_id(self.params, &work.base.at, quiet.silence.after);
        fields.id = format!("{onset}-silence");
        fields.onset_time = quiet.silence.since;
        fields.severity = Severity::Medium;
        fields.score = quiet.strangeness;
        fields.peak_score = quiet.strangeness;
        fields.threshold = self.params.silence_factor;
        fields.grade = 1.0 - p;
        fields.confidence = 1.0 - p;
        fields
    }
}
