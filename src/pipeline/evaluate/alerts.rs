//! Alerts of episodes: which features are to blame, and what was expected of them.

use super::{EventEmitter, ScoredRecord, judged};
use crate::alert::{Alert, AlertEvent, Attribution};
use crate::detect::cold::{ColdStart, ROWS_MAX};
use crate::detect::episode::Episode;
use crate::model::trained::Explanation;
use crate::pipeline::Column;
use crate::pipeline::output;
use crate::pipeline::prepare::{Step, Work};
use crate::stats::evidence::surprise;
use crate::stream::EpisodeId;

/// Records after which p-values of a season are half as trusty as they will be.
const SEASON_RECORDS: f64 = 1000.0;

impl EventEmitter<'_> {
    pub(super) fn alert(
        &mut self,
        work: &Work<'_>,
        scored: &ScoredRecord<'_>,
        (event, episode, outer): (AlertEvent, &Episode, Option<&Episode>),
        emit: bool,
    ) {
        if emit {
            let explained = self.explained(work, scored);
            self.alert_explained(work, scored, (event, episode, outer), explained);
        }
    }

    pub(super) fn alert_explained(
        &mut self,
        work: &Work<'_>,
        scored: &ScoredRecord<'_>,
        (event, episode, outer): (AlertEvent, &Episode, Option<&Episode>),
        mut explained: Explanation,
    ) {
        let cause = self.cause(work, scored.step, scored.slot).judged_as(scored);
        let happened = (event, episode);
        let mut alert = output::of_episode(self.params, work, cause, happened, &scored.reading);
        if let Some(outer) = outer {
            alert.within = Some(self.id(work, outer));
            alert.anomaly_grade = work.own_rule.grade(episode.strength);
        }
        let state = &work.slots[scored.slot].state;
        if scored.season.is_some() {
            let seen = (state.season.as_ref()).map_or(0, |seasons| seasons.judge.seen) as f64;
            alert.confidence = seen / (seen + SEASON_RECORDS);
        } else if let Some(model) = &work.model {
            // Scores are emitted on the scale of complete windows, whatever is missing: so is the threshold.
            alert.threshold = model.threshold(work.rule.p_value());
            alert.confidence = model.confidence(scored.window);
        } else {
            alert.threshold = ColdStart::threshold(self.columns.len(), work.own_rule.p_value());
            let rows = state.cold.seen as f64;
            alert.confidence = 0.5 * rows / (rows + ROWS_MAX as f64);
        }
        if scored.single {
            alert.threshold = surprise(work.rule.p_value());
        }
        if event == AlertEvent::Close
            && let Some(began) = self.shares_at_opening(work, &alert.id)
        {
            explained.shares = began;
        }
        alert.relevant_attribution = attribution(self.columns, scored.row, &explained);
        self.send(scored.step, alert);
    }

    /// The features' shares when the episode opened, as far as they are remembered: the record that closes it is an ordinary one, and says nothing
    /// of what it was.
    fn shares_at_opening(&self, work: &Work<'_>, id: &EpisodeId) -> Option<Vec<f64>> {
        let shares = work.quarantined(id)?.pattern.as_ref()?.by_feature();
        let share = |column: &Column| shares.get(column.name.as_str()).copied().unwrap_or(0.0);
        (!shares.is_empty()).then(|| self.columns.iter().map(share).collect())
    }

    /// The shares of the features in a record's score, and what was expected of them.
    pub(super) fn explained(&self, work: &Work<'_>, scored: &ScoredRecord<'_>) -> Explanation {
        if let Some(season) = &scored.season {
            Explanation {
                shares: vec![1.0],
                expected: vec![season.expected],
                ..Explanation::default()
            }
        } else if let Some(model) = &work.model {
            let slot = &work.slots[scored.slot];
            let faulty = slot.state.episodes.own.lasted();
            model.explain_of(&slot.key.0, scored.window, faulty)
        } else {
            let row = judged(self.columns, scored.row);
            let (shares, expected) = work.slots[scored.slot].state.cold.explain(&row);
            Explanation {
                shares,
                expected,
                ..Explanation::default()
            }
        }
    }

    /// Sends an alert that a record caused.
    pub(super) fn send(&mut self, step: &Step, alert: Alert) {
        self.alerted
            .push(self.batch.records()[step.record].timestamp);
        self.outbox.alerts.push(alert);
    }
}

/// Shares by feature, the largest first; equal ones in the features' order. What was not observed and is not to blame is left out, and so is what nothing was
/// expected of: other keys may send it. Context is never to blame.
pub(super) fn attribution(
    columns: &[Column],
    row: &[f64],
    explained: &Explanation,
) -> Vec<Attribution> {
    let mut all: Vec<Attribution> = columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.context)
        .map(|(index, column)| Attribution {
            feature: column.name.clone(),
            share: explained.shares[index],
            actual: Some(row[index]).filter(|value| !value.is_nan()),
            expected: explained.expected[index],
            still: explained
                .still
                .and_then(|(column, records)| (column == index).then_some(records)),
        })
        .collect();
    all.retain(|of| of.share > 0.0 || (of.actual.is_some() && !of.expected.is_nan()));
    all.sort_by(|a, b| b.share.total_cmp(&a.share));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Missing;
    use crate::record::schema::ContextColumns;

    #[test]
    fn what_other_keys_send_is_not_told() {
        let names = ["current", "flow", "heat", "speed"].map(str::to_owned);
        let missing = vec![Missing::Mask; 4];
        let columns = Column::list(&names, &missing, &ContextColumns::default());
        let explained = Explanation {
            shares: vec![0.3, 0.0, 0.7, 0.0],
            expected: vec![1.0, f64::NAN, 2.0, 3.0],
            still: None,
        };
        let by_hour = ContextColumns {
            calendar: Some(3),
            ..ContextColumns::default()
        };
        let timed = Column::list(&names, &missing, &by_hour);
        let told = attribution(&timed, &[5.0, f64::NAN, 9.0, 492_393.5], &explained);
        let told: Vec<&str> = told.iter().map(|of| of.feature.as_str()).collect();
        assert_eq!(told, ["heat", "current"]);
        // Flow is sent by others; a speed was expected, but did not come.
        let told = |row: [f64; 4]| -> Vec<String> {
            let told = attribution(&columns, &row, &explained);
            told.into_iter().map(|of| of.feature).collect()
        };
        assert_eq!(told([5.0, f64::NAN, 9.0, f64::NAN]), ["heat", "current"]);
        assert_eq!(
            told([5.0, 1.0, f64::NAN, 3.0]),
            ["heat", "current", "speed"]
        );
    }
}
