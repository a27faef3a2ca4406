//! Episodes of a backtest as the report's cards: what caused each in words, and the course of what strayed most.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::budgets::by_key;
use super::input::ReportInput;
use super::report::{EpisodeRow, Feature, Point, Trace};
use crate::alert::{Alert, AlertEvent, AlertKind};
use crate::detect::windowing::{self, LateRecords};
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::service::words;
use crate::stream::{EpisodeId, Offset};
use crate::tools::table::Table;

/// Episodes that have a card; the worst are kept.
pub(super) const CARDS_MAX: usize = 60;
/// Features whose course a card shows, and the least share of one.
const COLUMNS_MAX: usize = 4;
const SHARE_MIN: f64 = 0.02;
/// Records that a card shows before and after an episode, and points at most.
const AROUND: (usize, usize) = (20, 80);
const POINTS_MAX: usize = 140;
/// Records that tell how far a feature usually is from what is expected of it: as many, and no fewer.
const CALM: (usize, usize) = (20, 400);
/// The standard deviation of normal values by their mean distance from the middle.
const SPREAD_BY_DISTANCE: f64 = 1.2533;
/// Records that are looked through for the last value that there was.
const LOOK_BACK: usize = 100;

/// The models that judged, by version.
pub(super) type Models<'a> = BTreeMap<ModelVersion, &'a Arc<TrainedModel>>;

/// All models that were made on the way.
pub(super) fn models(input: ReportInput<'_>) -> Models<'_> {
    let all = input.outcome.models.iter();
    all.filter_map(|trained| trained.model.as_ref())
        .map(|model| (model.card.version, model))
        .collect()
}

/// Episodes that were told of after the warm-up, in the order in which they opened. `strengths`: of the evidence at each row.
pub(super) fn episodes(input: ReportInput<'_>, strengths: &[f64]) -> Vec<EpisodeRow> {
    let view = View::new(input, strengths);
    let mut found = view.gathered();
    for (episode, worst) in &mut found {
        view.complete(episode, worst);
    }
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|&a, &b| {
        let p = |at: usize| found[at].0.p_value;
        p(a).total_cmp(&p(b)).then(a.cmp(&b))
    });
    for at in order.into_iter().take(CARDS_MAX) {
        let (episode, worst) = &mut found[at];
        episode.card = true;
        episode.trace = view.trace(episode, worst);
    }
    found.into_iter().map(|(episode, _)| episode).collect()
}

/// What cards are made from.
struct View<'a> {
    input: ReportInput<'a>,
    table: &'a Table,
    strengths: &'a [f64],
    models: Models<'a>,
    /// The rows of each key.
    rows: BTreeMap<&'a str, Vec<usize>>,
    /// Which rows came too late, and are in no window.
    late: Vec<bool>,
    /// How far each column usually is from what is expected.
    spreads: Vec<Option<f64>>,
}

impl<'a> View<'a> {
    fn new(input: ReportInput<'a>, strengths: &'a [f64]) -> Self {
        let mut view = Self {
            input,
            table: input.table,
            strengths,
            models: models(input),
            rows: by_key(input.table),
            late: late_rows(input),
            spreads: Vec::new(),
        };
        view.spreads = view.spreads();
        view
    }

    /// One row an episode, with the alert that tells most of it.
    fn gathered(&self) -> Vec<(EpisodeRow, &'a Alert)> {
        let table = self.table;
        let mut found: Vec<(EpisodeRow, &Alert)> = Vec::new();
        let mut place: BTreeMap<&EpisodeId, usize> = BTreeMap::new();
        let alerts = self.input.outcome.alerts.iter();
        for (row, alert) in alerts.filter(|(_, alert)| alert.kind != AlertKind::Storm) {
            let at = match place.get(&alert.id) {
                Some(&at) => at,
                None if *row < self.input.warmup => continue,
                None => {
                    place.insert(&alert.id, found.len());
                    found.push((opened(table, alert, *row), alert));
                    found.len() - 1
                }
            };
            let (episode, worst) = &mut found[at];
            episode.severity = episode.severity.max(alert.severity);
            let closes = alert.event == AlertEvent::Close;
            if !closes && words::tells_more(alert, worst) {
                *worst = alert;
            }
            episode.p_value = episode.p_value.min(alert.p_value);
            // An episode that opens again after a close has the same id.
            episode.to = if closes {
                (row + 1).max(episode.from + 1)
            } else {
                table.len()
            };
        }
        found
    }

    /// What the rows of an episode say of it, and its cause.
    fn complete(&self, episode: &mut EpisodeRow, worst: &Alert) {
        let spread = |feature: &str| self.spread(feature);
        episode.cause = words::cause(worst, spread);
        let parts = worst.relevant_attribution.iter().take(8);
        let feature = |part: &crate::alert::Attribution| Feature {
            name: part.feature.clone(),
            share: part.share,
            actual: part.actual,
            expected: part.expected,
            spreads: part.actual.and_then(|actual| {
                words::spreads(actual, part.expected, self.spread(&part.feature))
            }),
        };
        episode.features = parts.map(feature).collect();
        let rows = self.rows.get(episode.key.as_str());
        let rows = rows.map_or(&[][..], Vec::as_slice);
        let span = rows.partition_point(|&row| row < episode.from)
            ..rows.partition_point(|&row| row < episode.to);
        let own: Vec<usize> = rows[span]
            .iter()
            .copied()
            .filter(|&row| !self.table.empty[row])
            .collect();
        episode.records = own.len();
        if let Some(labels) = &self.table.labels {
            episode.labelled = Some(own.iter().any(|&row| labels[row]));
        }
        // Alerts do not tell of every record: the rarest of all is among the rows.
        if episode.kind == AlertKind::Score {
            let p_values = own.iter().map(|&row| self.input.outcome.lines[row].p_value);
            episode.p_value = p_values.fold(episode.p_value, f64::min);
        }
    }

    fn spread(&self, feature: &str) -> Option<f64> {
        let at = self.table.columns.iter().position(|name| name == feature)?;
        *self.spreads.get(at)?
    }

    /// The mean distance of calm records from what was expected of them, as a standard deviation.
    fn spreads(&self) -> Vec<Option<f64>> {
        let lines = &self.input.outcome.lines;
        let calm = |row: &usize| {
            let labelled = self
                .table
                .labels
                .as_ref()
                .is_some_and(|labels| labels[*row]);
            lines[*row].judged && !lines[*row].alert && !labelled
        };
        let all: usize = self.rows.values().map(Vec::len).sum();
        let apart = (all / CALM.1).max(1);
        let mut sums = vec![(0.0, 0_usize); self.table.columns.len()];
        for rows in self.rows.values() {
            for at in (0..rows.len()).filter(|at| rows[*at] % apart == 0 && calm(&rows[*at])) {
                let Some(expected) = self.expected(rows, at, 0) else {
                    continue;
                };
                for ((sum, seen), (actual, expected)) in sums
                    .iter_mut()
                    .zip(self.table.row(rows[at]).iter().zip(expected))
                {
                    let distance = (actual - expected).abs();
                    if distance.is_finite() {
                        *sum += distance;
                        *seen += 1;
                    }
                }
            }
        }
        let spread = |(sum, seen): (f64, usize)| {
            (seen >= CALM.0).then(|| SPREAD_BY_DISTANCE * sum / seen as f64)
        };
        sums.into_iter().map(spread).collect()
    }

    /// What was expected of the record in place `at` of a key's rows, the newest `faulty` of which lie in an episode: by the model that judged it, or by its season.
    fn expected(&self, rows: &[usize], at: usize, faulty: usize) -> Option<Vec<f64>> {
        let row = rows[at];
        if let Some(&expected) = self.input.outcome.expected.get(&row) {
            return Some(vec![expected]);
        }
        let version = self.input.outcome.lines[row].scored_by.version()?;
        let model = self.models.get(&version)?;
        let columns = self.table.columns.len();
        let length = model.width() / columns.max(1);
        // What came too late is in no window.
        let timely = rows[..=at].iter().rev().filter(|&&row| !self.late[row]);
        let newest: Vec<&[f64]> = timely
            .take(length + LOOK_BACK)
            .map(|&row| self.table.row(row))
            .collect();
        let window = window(&newest, length, &self.table.fill_last())?;
        let key = self.table.keys[row].as_str();
        let expected = model.expected_of(key, &window, faulty as u64);
        (expected.len() == columns).then_some(expected)
    }

    /// The places of a key's rows that a card shows: those that it is about are among them.
    fn telling(&self, rows: &[usize], shown: Range<usize>) -> Vec<usize> {
        let lines = &self.input.outcome.lines;
        let strength = |at: usize| self.strengths.get(rows[at]).copied().unwrap_or(f64::NAN);
        let mut places = rarest(shown.clone(), POINTS_MAX, |at| lines[rows[at]].p_value);
        places.extend(shown.clone().find(|&at| lines[rows[at]].alert));
        let seen = shown.filter(|&at| strength(at).is_finite());
        places.extend(seen.max_by(|&a, &b| strength(a).total_cmp(&strength(b))));
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The course of what strayed most, from before the episode until after it. None of a silence.
    fn trace(&self, episode: &EpisodeRow, worst: &Alert) -> Option<Trace> {
        let rows = self.rows.get(episode.key.as_str())?;
        let columns: Vec<usize> = episode
            .features
            .iter()
            .filter(|feature| feature.share >= SHARE_MIN)
            .filter_map(|part| {
                self.table
                    .columns
                    .iter()
                    .position(|name| *name == part.name)
            })
            .take(COLUMNS_MAX)
            .collect();
        let (from, to) = (
            rows.partition_point(|&row| row < episode.from),
            rows.partition_point(|&row| row < episode.to),
        );
        if episode.kind != AlertKind::Score || to <= from {
            return None;
        }
        let around = (to - from).clamp(AROUND.0, AROUND.1);
        let shown = from.saturating_sub(around)..(to + around).min(rows.len());
        let point = |at: usize| {
            let row = rows[at];
            let faulty = if (from..to).contains(&at) {
                at + 1 - from
            } else {
                0
            };
            let expected = self.expected(rows, at, faulty);
            let of = |column: &usize| expected.as_ref().map_or(f64::NAN, |all| all[*column]);
            Point {
                row,
                alert: self.input.outcome.lines[row].alert,
                strength: self.strengths.get(row).copied().unwrap_or(f64::NAN),
                values: columns.iter().map(|&at| self.table.row(row)[at]).collect(),
                expected: columns.iter().map(of).collect(),
            }
        };
        Some(Trace {
            threshold: worst.evidence_threshold,
            spreads: columns.iter().map(|&at| self.spreads[at]).collect(),
            points: self.telling(rows, shown).into_iter().map(point).collect(),
            columns: columns
                .iter()
                .map(|&at| self.table.columns[at].clone())
                .collect(),
        })
    }
}

/// Places among `shown`, at most about so many: of each stretch the one that is rarest.
fn rarest(shown: Range<usize>, most: usize, p_value: impl Fn(usize) -> f64) -> Vec<usize> {
    let apart = shown.len().div_ceil(most).max(1);
    let stretches = shown.clone().step_by(apart);
    let rarest = |from: usize| {
        let stretch = from..(from + apart).min(shown.end);
        stretch.min_by(|&a, &b| p_value(a).total_cmp(&p_value(b)))
    };
    stretches.filter_map(rarest).collect()
}

/// The window of a key's latest records, the newest first, as scoring filled it: `fills` have the last value where one is missing. `None` if there are too few.
fn window(newest: &[&[f64]], length: usize, fills: &[usize]) -> Option<Vec<f64>> {
    let before = newest.len().checked_sub(length)?;
    let mut last = vec![f64::NAN; newest.first()?.len()];
    let mut window = Vec::with_capacity(length * last.len());
    for (place, record) in newest.iter().rev().enumerate() {
        let mut record = record.to_vec();
        windowing::fill_last(fills.iter().copied(), &mut last, &mut record);
        if place >= before {
            window.extend(record);
        }
    }
    Some(window)
}

/// Which rows came too late beside others of their key.
fn late_rows(input: ReportInput<'_>) -> Vec<bool> {
    let table = input.table;
    let Some(bound) = input.config.detect.late_after else {
        return vec![false; table.len()];
    };
    let mut numbers: FxHashMap<&str, usize> = FxHashMap::default();
    let mut partitions: BTreeMap<usize, LateRecords> = BTreeMap::new();
    let late = |row: usize| {
        let next = numbers.len();
        let key = *numbers.entry(table.keys[row].as_str()).or_insert(next);
        let (part, offset) = match &table.places {
            Some(places) => places.rows[row],
            None => (0, Offset(row as i64)),
        };
        let records = partitions
            .entry(part)
            .or_insert_with(|| LateRecords::new(bound, input.config.model.window));
        records.is_late(key, offset, table.times[row])
    };
    (0..table.len()).map(late).collect()
}

/// An episode of which an alert tells for the first time.
fn opened(table: &Table, alert: &Alert, row: usize) -> EpisodeRow {
    EpisodeRow {
        key: alert.key.0.to_string(),
        from: onset(table, alert, row),
        to: table.len(),
        records: 0,
        kind: alert.kind,
        severity: alert.severity,
        p_value: alert.p_value,
        cause: String::new(),
        features: Vec::new(),
        labelled: None,
        card: false,
        trace: None,
    }
}

/// The row that an episode's id names, at or before the one that opened it.
fn onset(table: &Table, alert: &Alert, opened: usize) -> usize {
    let Some(offset) = alert.id.onset() else {
        return opened;
    };
    match &table.places {
        None => usize::try_from(offset.0).unwrap_or(0).min(opened),
        Some(places) => {
            let part = places.rows[opened].0;
            let at = (0..=opened).rfind(|&row| places.rows[row] == (part, offset));
            at.unwrap_or(opened)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_the_latest_records_in_their_order_with_last_values_from_before_it() {
        let nan = f64::NAN;
        let newest: [&[f64]; 4] = [&[nan, nan], &[3.0, 30.0], &[nan, 20.0], &[1.0, 10.0]];
        let found = window(&newest, 3, &[0]).unwrap();
        assert_eq!(found[..5], [1.0, 20.0, 3.0, 30.0, 3.0]);
        assert!(found[5].is_nan());
        assert_eq!(window(&newest[..2], 3, &[0]), None);
        assert_eq!(window(&[], 0, &[]), None);
    }

    #[test]
    fn a_long_course_is_thinned_to_what_is_rarest() {
        let p_value = |at: usize| if at == 1234 { 1e-9 } else { 0.5 };
        let found = rarest(1000..3000, 140, p_value);
        assert!(found.len() <= 140 && found.contains(&1234), "{found:?}");
        assert!(found.windows(2).all(|pair| pair[1] - pair[0] < 30));
        assert_eq!(rarest(5..9, 140, p_value), [5, 6, 7, 8]);
    }
}
