//! Alerts of features that the records of a key cease to have, and have again.

use super::super::output::{self, Cause};
use super::super::prepare::{Step, Work};
use super::alerts::attribution;
use super::{EventEmitter, ScoredRecord};
use crate::alert::{Alert, AlertEvent, AlertKind, Attribution, Severity};
use crate::detect::absence::Turn;
use crate::model::trained::Explanation;
use crate::stream::EpisodeId;

impl EventEmitter<'_> {
    /// Looks which features a record lacks.
    pub(super) fn absences(&mut self, work: &mut Work<'_>, scored: &ScoredRecord<'_>, emit: bool) {
        let row = self.decoded.row(scored.step.record);
        let state = &mut work.slots[scored.slot].state;
        // Not those that were heard: the rhythm may be records ahead, to the end of the batch.
        let before = state.episodes.own.records;
        let place = (scored.reading.offset, scored.reading.time);
        for turn in state.absences.take(row, before, place, work.params) {
            if turn.began {
                self.went(work, scored, &turn, emit);
            } else {
                self.came_back(work, (scored.step, scored.slot), &turn, emit);
            }
        }
    }

    fn went(&mut self, work: &mut Work<'_>, scored: &ScoredRecord<'_>, turn: &Turn, emit: bool) {
        let allowed = self.admit(work, scored.step, scored.clock, emit);
        if !allowed {
            let state = &mut work.slots[scored.slot].state;
            state.absences.suppress(turn.after);
        }
        if !emit {
            return;
        }
        self.tally.opened += 1;
        if allowed {
            let shares: Vec<f64> = (0..self.columns.len())
                .map(|column| {
                    let gone = turn.columns.contains(&column);
                    f64::from(u8::from(gone)) / turn.columns.len() as f64
                })
                .collect();
            let explained = Explanation {
                shares,
                still: None,
                ..self.explained(work, scored)
            };
            let row = self.decoded.row(scored.step.record);
            let blamed = attribution(self.columns, row, &explained);
            let cause = self.cause(work, scored.step, scored.slot);
            let alert = self.absence_alert(cause, turn, (AlertEvent::Open, blamed));
            self.send(scored.step, alert);
        }
    }

    /// What went is back, or its key is forgotten.
    pub(super) fn came_back(
        &mut self,
        work: &Work<'_>,
        (step, slot): (&Step, usize),
        turn: &Turn,
        emit: bool,
    ) {
        if !emit {
            return;
        }
        self.tally.closed += 1;
        if !turn.suppressed {
            let cause = self.cause(work, step, slot);
            let alert = self.absence_alert(cause, turn, (AlertEvent::Close, Vec::new()));
            self.send(step, alert);
        }
    }

    fn absence_alert(
        &self,
        cause: Cause<'_>,
        turn: &Turn,
        (event, relevant_attribution): (AlertEvent, Vec<Attribution>),
    ) -> Alert {
        // The longest of that many runs.
        let p = 1.0 / (f64::from(turn.seen) + 1.0);
        let id = EpisodeId::of_absence(&self.params.detector, cause.at, turn.after);
        Alert {
            approx_anomaly_start_time: turn.since,
            severity: Severity::Medium,
            anomaly_score: turn.strangeness,
            peak_score: turn.strangeness,
            threshold: cause.params.silence_factor,
            anomaly_grade: 1.0 - p,
            confidence: 1.0 - p,
            records: u64::from(turn.records),
            relevant_attribution,
            ..output::alert(self.params, cause, (id, AlertKind::Silence, event), p)
        }
    }
}
