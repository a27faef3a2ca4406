//! What came of a backtest, in words.

use std::collections::BTreeSet;

use indicatif::HumanCount;

use super::budgets::{Labelled, Row, value};
use super::evaluate::Outcome;
use crate::alert::{Alert, AlertEvent, AlertKind};
use crate::stream::EpisodeId;
use crate::tools::ToolError;
use crate::tools::table::Table;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;
/// Rows of which a third can be learnt, and most be judged.
const ROWS_MIN: usize = 3;

/// Refuses what nothing can come of, and says what to do instead.
///
/// # Errors
/// A warm-up that leaves no row to judge, and labels that lie in it all.
pub fn check(table: &Table, warmup: usize) -> Result<(), ToolError> {
    let rows = table.len();
    let count = |n: usize| HumanCount(n as u64);
    if warmup >= rows {
        let third = (rows / 3).max(1);
        let advice = if rows < ROWS_MIN {
            "that are too few for a backtest".to_owned()
        } else {
            format!("--warmup {third} leaves most of them to judge")
        };
        return Err(ToolError::Asked(format!(
            "{}: the first {} rows are to be learnt from, but there are {}: none would be judged. {advice}",
            table.path,
            count(warmup),
            count(rows)
        )));
    }
    let Some(labels) = &table.labels else {
        return Ok(());
    };
    let first = labels.iter().position(|&label| label);
    let Some(first) = first.filter(|_| !labels[warmup..].contains(&true)) else {
        return Ok(());
    };
    let labelled = labels.iter().filter(|&&label| label).count();
    let instead = if first > 0 {
        format!("--warmup {first} ends before the first of them")
    } else {
        "leave --labels out, or give rows that are labelled later".to_owned()
    };
    Err(ToolError::Asked(format!(
        "{}: all {} labelled rows are among the first {}, which are learnt from and not judged: {instead}",
        table.path,
        count(labelled),
        count(warmup)
    )))
}

/// What was judged, and by which budgets.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What was replayed.
    pub table: &'a Table,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// Rows at the beginning that are not counted.
    pub warmup: usize,
    /// What budgets would have opened, the configured one among them.
    pub budgets: &'a [Row],
    /// Whether rows have times of their own.
    pub timed: bool,
}

/// The whole in one sentence: episodes, labelled faults, and what another budget would have come to.
#[must_use]
pub fn sentence(judged: Judged<'_>) -> String {
    let own = judged.budgets.iter().find(|row| row.configured);
    let labelled = own.and_then(|row| row.labelled);
    let mut text = format!(
        "{} in {}",
        many(opened(judged.outcome, judged.warmup), "episode"),
        length(judged)
    );
    // Budgets are tried on what opens by itself.
    match opens(judged.outcome, judged.warmup)
        .filter(|alert| alert.within.is_some())
        .count()
    {
        0 => {}
        inner => text += &format!(", {inner} of them on top of another"),
    }
    match gone_on(judged.outcome, judged.warmup) {
        0 => {}
        1 => text += ", beside one that had opened in the warm-up and went on",
        more => text += &format!(", beside {more} that had opened in the warm-up and went on"),
    }
    if let Some(found) = &labelled {
        text += &format!("; {}", against(found, judged.timed));
    }
    if let Some(other) = own.and_then(|own| other(own, judged.budgets)) {
        text += &format!(
            "; at {} it would have been ",
            value(&other.setting).trim_matches('"')
        );
        text += &match &other.labelled {
            Some(found) => format!(
                "{} of {} and {} false",
                found.found, found.faults, found.false_episodes
            ),
            None => many(other.episodes, "episode"),
        };
    }
    text
}

/// Episodes that somebody was told of after the warm-up.
#[must_use]
pub fn opened(outcome: &Outcome, warmup: usize) -> usize {
    opens(outcome, warmup).count()
}

/// Alerts that an episode opened, after the warm-up.
fn opens(outcome: &Outcome, warmup: usize) -> impl Iterator<Item = &Alert> {
    let alerts = outcome.alerts.iter();
    let opens = alerts.filter(move |(row, alert)| {
        *row >= warmup && alert.event == AlertEvent::Open && alert.kind != AlertKind::Storm
    });
    opens.map(|(_, alert)| alert)
}

/// Episodes that had opened in the warm-up and were told of after it: the report lists them, too.
fn gone_on(outcome: &Outcome, warmup: usize) -> usize {
    let told = || {
        let alerts = outcome.alerts.iter();
        alerts.filter(|(_, alert)| alert.kind != AlertKind::Storm)
    };
    let opened: BTreeSet<&EpisodeId> = told()
        .filter(|(row, alert)| *row >= warmup && alert.event == AlertEvent::Open)
        .map(|(_, alert)| &alert.id)
        .collect();
    let later = told().filter(|(row, _)| *row >= warmup);
    let others: BTreeSet<&EpisodeId> = later
        .map(|(_, alert)| &alert.id)
        .filter(|id| !opened.contains(id))
        .collect();
    others.len()
}

/// How long was judged: event time, or rows where there is none.
fn length(judged: Judged<'_>) -> String {
    let times = &judged.table.times[judged.warmup.min(judged.table.len())..];
    match (judged.timed, times.iter().min(), times.iter().max()) {
        (true, Some(from), Some(to)) => lasting(to.since(*from).as_secs_f64()),
        _ => many(times.len(), "record"),
    }
}

/// Episodes against labels.
pub(super) fn against(found: &Labelled, timed: bool) -> String {
    if found.faults == 0 {
        return "no row is labelled".to_owned();
    }
    let mut text = format!(
        "{} of {} found, {} false",
        found.found,
        many(found.faults, "labelled fault"),
        found.false_episodes
    );
    if found.found > 0 {
        text += ", median delay ";
        text += &if timed {
            lasting(found.delay_seconds)
        } else {
            many(found.delay_records.round() as usize, "record")
        };
    }
    text
}

/// The next larger budget that would have found more faults; else the smallest that would have found as many with fewer false episodes. Without labels, the
/// next larger one that would have opened more.
fn other<'a>(own: &Row, rows: &'a [Row]) -> Option<&'a Row> {
    let shown = || rows.iter().filter(|row| !row.configured && row.in_table);
    let Some(mine) = own.labelled.filter(|found| found.faults > 0) else {
        let more = shown().filter(|row| row.episodes > own.episodes);
        return more.min_by_key(|row| row.episodes);
    };
    let theirs = |row: &Row| {
        row.labelled
            .map(|found| (found.found, found.false_episodes))
    };
    let better = shown().filter(|row| theirs(row).is_some_and(|(found, _)| found > mine.found));
    let quieter = shown().filter(|row| {
        theirs(row).is_some_and(|(found, wrong)| found == mine.found && wrong < mine.false_episodes)
    });
    better
        .min_by_key(|row| theirs(row).map(|(_, wrong)| wrong))
        .or_else(|| quieter.min_by_key(|row| theirs(row).map(|(_, wrong)| wrong)))
}

/// What was trained on the way, in a line.
#[must_use]
pub fn trainings(outcome: &Outcome) -> String {
    let models = &outcome.models;
    let Some(last) = models.last() else {
        return "no model was trained: no row came after the warm-up".to_owned();
    };
    let promoted = models.iter().filter(|trained| trained.promoted).count();
    let failed = models
        .iter()
        .filter(|trained| trained.model.is_none())
        .count();
    let refused = models.len() - promoted - failed;
    let mut text = format!(
        "{} on the way: {promoted} took over, {refused} refused",
        many(models.len(), "training")
    );
    if failed > 0 {
        text += &format!(", {failed} without a model");
    }
    text + &format!(
        "; the last, before row {}: {}",
        HumanCount(last.row as u64),
        last.verdict
    )
}

/// Seconds as people say them.
#[must_use]
pub fn lasting(seconds: f64) -> String {
    let of = |unit: f64, name: &str| many((seconds / unit).round() as usize, name);
    match seconds {
        ..90.0 => of(1.0, "second"),
        ..5_400.0 => of(MINUTE, "minute"),
        ..172_800.0 => of(HOUR, "hour"),
        _ => of(DAY, "day"),
    }
}

/// A count with its word.
#[must_use]
pub fn many(count: usize, word: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {word}{plural}", HumanCount(count as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(setting: &str, (found, wrong): (usize, usize), configured: bool) -> Row {
        Row {
            setting: setting.to_owned(),
            configured,
            in_table: true,
            episodes: found + wrong,
            labelled: Some(Labelled {
                faults: 4,
                found,
                false_episodes: wrong,
                delay_records: 3.0,
                delay_seconds: 720.0,
            }),
            spans: Vec::new(),
        }
    }

    #[test]
    fn the_sentence_names_the_budget_that_would_have_done_better() {
        let rows = [
            row("1/month", (2, 1), true),
            row("1/week", (3, 5), false),
            row("1/day", (4, 60), false),
        ];
        let table = Table {
            keys: vec![crate::record::Key("".into()); 3],
            times: [0, 86_400_000, 15 * 86_400_000]
                .map(crate::time::Timestamp)
                .to_vec(),
            ..Table::default()
        };
        let judged = Judged {
            table: &table,
            outcome: &Outcome::default(),
            warmup: 1,
            budgets: &rows,
            timed: true,
        };
        assert_eq!(
            sentence(judged),
            "0 episodes in 14 days; 2 of 4 labelled faults found, 1 false, median delay 12 minutes; at 1/week it would have been 3 of 4 and 5 false"
        );
        // One that opened in the warm-up and closes after it is listed by the report.
        let alert = |event: &str| -> crate::alert::Alert {
            serde_json::from_value(serde_json::json!({
                "schema": 1, "id": "d/t/0/0", "event": event, "kind": "score", "detector": "d", "key": "k",
                "data_time": "2026-01-01T00:00:00Z", "approx_anomaly_start_time": "2026-01-01T00:00:00Z",
                "anomaly_score": 9.0, "peak_score": 9.0, "anomaly_grade": 1.0, "confidence": 1.0, "severity": "high",
                "p_value": 1e-9, "threshold": 2.0, "records": 1, "model_version": 0,
                "evidence": 20.7, "evidence_threshold": 9.2, "evidence_records": 1, "relevant_attribution": [],
                "input": {"topic": "t", "partition": 0, "offset": 0},
            }))
            .unwrap()
        };
        let outcome = Outcome {
            alerts: vec![(0, alert("open")), (2, alert("close"))],
            ..Outcome::default()
        };
        let before = Judged {
            outcome: &outcome,
            ..judged
        };
        let said =
            "0 episodes in 14 days, beside one that had opened in the warm-up and went on; 2 of 4";
        assert!(sentence(before).starts_with(said), "{}", sentence(before));
        let mut inner = alert("open");
        inner.within = Some(inner.id.clone());
        let alerts = vec![(2, alert("open")), (2, inner)];
        let (outcome, others) = (&Outcome { alerts, ..outcome }, judged);
        let said = sentence(Judged { outcome, ..others });
        let wanted = "2 episodes in 14 days, 1 of them on top of another; 2 of 4";
        assert!(said.starts_with(wanted), "{said}");
        // Where nothing finds more, the one that is as good and quieter.
        let rows = [row("1/day", (3, 9), true), row("1/week", (3, 5), false)];
        let judged = Judged {
            budgets: &rows,
            timed: false,
            ..judged
        };
        assert_eq!(
            sentence(judged),
            "0 episodes in 2 records; 3 of 4 labelled faults found, 9 false, median delay 3 records; at 1/week it would have been 3 of 4 and 5 false"
        );
    }

    #[test]
    fn what_nothing_can_come_of_is_refused_with_what_to_do() {
        let table = |labels: Vec<bool>| Table {
            path: "pump.csv".to_owned(),
            keys: vec![crate::record::Key("".into()); labels.len()],
            labels: Some(labels),
            ..Table::default()
        };
        let said = |labels: &[bool], warmup: usize| {
            check(&table(labels.to_vec()), warmup)
                .err()
                .map(|e| e.to_string())
        };
        let labels = [false, false, true, false, false, false];
        assert_eq!(said(&labels, 2), None);
        assert!(said(&labels, 6).is_some_and(|text| text.contains("--warmup 2 ")));
        assert!(
            said(&labels[..2], 500).is_some_and(|text| text.ends_with("too few for a backtest"))
        );
        assert!(said(&labels, 3).is_some_and(|text| text.contains("--warmup 2 ends before")));
        assert!(
            said(&[true, false, false], 1).is_some_and(|text| text.contains("leave --labels out"))
        );
        assert_eq!(said(&[false, false, false], 1), None);
    }
}
