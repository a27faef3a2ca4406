//! Alerts of keys that fall silent, and send again.

use super::super::output::AlertFields;
use super::super::prepare::{SilenceInfo, Step, Work};
use super::EventEmitter;
use crate::alert::{AlertEvent, AlertKind, Severity};
use crate::stream::EpisodeId;

impl EventEmitter<'_> {
    pub(super) fn silent(
        &mut self,
        work: &mut Work<'_>,
        step: &Step,
        (slot, info, allowed): (usize, SilenceInfo, bool),
        emit: bool,
    ) {
        work.slots[slot].state.silence_suppressed = !allowed;
        if !emit {
            return;
        }
        self.tally.opened += 1;
        if allowed {
            let fields = self.silence_fields(work, info, AlertEvent::Open);
            let cause = self.cause(work, step, slot);
            self.send(cause, fields);
        }
    }

    pub(super) fn spoke(
        &mut self,
        work: &mut Work<'_>,
        step: &Step,
        (slot, info): (usize, SilenceInfo),
        emit: bool,
    ) {
        let suppressed = std::mem::take(&mut work.slots[slot].state.silence_suppressed);
        if !emit {
            return;
        }
        self.tally.closed += 1;
        if !suppressed {
            let fields = self.silence_fields(work, info, AlertEvent::Close);
            let cause = self.cause(work, step, slot);
            self.send(cause, fields);
        }
    }

    pub(super) fn silence_fields(
        &self,
        work: &Work<'_>,
        info: SilenceInfo,
        event: AlertEvent,
    ) -> AlertFields {
        // The longest of that many gaps.
        let p = 1.0 / (info.records as f64 + 1.0);
        let detector = &self.params.detector;
        let id = EpisodeId::of_silence(detector, &work.base.at, info.silence.after);
        let mut fields = AlertFields::bare(id, AlertKind::Silence, event, p);
        fields.onset_time = info.silence.since;
        fields.severity = Severity::Medium;
        fields.score = info.strangeness;
        fields.peak_score = info.strangeness;
        fields.threshold = self.params.silence_factor;
        fields.grade = 1.0 - p;
        fields.confidence = 1.0 - p;
        fields
    }
}
