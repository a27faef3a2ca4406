//! Storms: more episodes than are emitted one by one.

use std::sync::Arc;

use super::super::output;
use super::super::prepare::{Step, Work};
use super::super::state::Storm;
use super::{EventEmitter, ScoredRecord};
use crate::alert::{Alert, AlertEvent, AlertKind, Severity};
use crate::detect::Params;
use crate::detect::clock::Moment;
use crate::record::Key;
use crate::stream::{EpisodeId, Offset};
use crate::time::Timestamp;

impl EventEmitter<'_> {
    /// Whether one more episode may be emitted; more than the limit are a storm, of which one alert is emitted.
    pub(super) fn admit(
        &mut self,
        work: &mut Work<'_>,
        step: &Step,
        clock: Moment,
        emit: bool,
    ) -> bool {
        if self.admit_quietly(work, clock) {
            return true;
        }
        let clock = clock.stream;
        let storm = &mut work.head.storm;
        storm.opens += 1;
        storm.suppressed += 1;
        let begins = storm.since.is_none();
        let offset = self.batch.records()[step.record].offset;
        let since = *storm.since.get_or_insert((offset, clock));
        if emit {
            self.tally.suppressed += 1;
        }
        if begins && emit {
            self.storm_alert(work, step, since, AlertEvent::Open);
        }
        false
    }

    /// Whether there is room for one more episode that a storm held back and counted. Those for which there is none go on waiting: they are
    /// no new storm.
    pub(super) fn admit_quietly(&self, work: &mut Work<'_>, clock: Moment) -> bool {
        if work.params.storm_opens_max == 0 {
            return true;
        }
        let storm = &mut work.head.storm;
        let stretch = stretch(self.params, clock.elapsed);
        if stretch != storm.stretch {
            (storm.stretch, storm.opens) = (stretch, 0);
        }
        let room = storm.opens < work.params.storm_opens_max;
        storm.opens += u32::from(room);
        room
    }

    pub(super) fn end_storm(&mut self, work: &mut Work<'_>, scored: &ScoredRecord<'_>, emit: bool) {
        let storm = work.head.storm;
        let Some(since) = storm.since else { return };
        let stretch = stretch(self.params, scored.clock.elapsed);
        if stretch == storm.stretch {
            return;
        }
        if emit {
            self.storm_alert(work, scored.step, since, AlertEvent::Close);
        }
        work.head.storm = Storm {
            stretch,
            ..Default::default()
        };
    }

    fn storm_alert(
        &mut self,
        work: &Work<'_>,
        step: &Step,
        since: (Offset, Timestamp),
        event: AlertEvent,
    ) {
        let id = EpisodeId::of_storm(&self.params.detector, &work.base.at, since.0);
        let what = (id, AlertKind::Storm, event);
        let mut cause = self.cause(work, step, 0);
        cause.key = Key(Arc::from("*"));
        let (opens, closing) = (work.head.storm.opens, event == AlertEvent::Close);
        let alert = Alert {
            approx_anomaly_start_time: since.1,
            severity: Severity::High,
            anomaly_score: f64::from(opens),
            peak_score: f64::from(opens),
            threshold: f64::from(work.params.storm_opens_max),
            suppressed: closing.then_some(work.head.storm.suppressed),
            ..output::alert(self.params, cause, what, work.rule.p_value())
        };
        self.send(step, alert);
    }
}

/// The number of the stretch of elapsed time that `clock` lies in.
fn stretch(params: &Params, clock: Timestamp) -> i64 {
    let length = i64::try_from(params.storm_window.as_millis()).unwrap_or(i64::MAX);
    clock.0.div_euclid(length.max(1))
}
