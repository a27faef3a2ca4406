//! Alerts of keys that fall silent, and send again.

use super::super::output::{self, Cause};
use super::super::prepare::{SilenceInfo, Step, Work};
use super::EventEmitter;
use crate::alert::{Alert, AlertEvent, AlertKind, Severity};
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
            let cause = self.cause(work, step, slot);
            let alert = self.silence_alert(cause, info, AlertEvent::Open);
            self.send(step, alert);
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
            let cause = self.cause(work, step, slot);
            let alert = self.silence_alert(cause, info, AlertEvent::Close);
            self.send(step, alert);
        }
    }

    fn silence_alert(&self, cause: Cause<'_>, info: SilenceInfo, event: AlertEvent) -> Alert {
        // The longest of that many gaps.
        let p = 1.0 / (info.records as f64 + 1.0);
        let id = EpisodeId::of_silence(&self.params.detector, cause.at, info.silence.after);
        Alert {
            approx_anomaly_start_time: info.silence.since,
            severity: Severity::Medium,
            anomaly_score: info.strangeness,
            peak_score: info.strangeness,
            threshold: cause.params.silence_factor,
            anomaly_grade: 1.0 - p,
            confidence: 1.0 - p,
            ..output::alert(self.params, cause, (id, AlertKind::Silence, event), p)
        }
    }
}
