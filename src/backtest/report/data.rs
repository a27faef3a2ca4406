//! What the report's script reads: keys over time, the episodes of each budget, the course of each card.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::chart::surprise;
use super::html::put;
use super::{Report, Trace, budgets};
use crate::record::Key;
use crate::stats::metrics::segments;

/// Keys that have a lane; those with the strangest records are kept.
const LANES_MAX: usize = 40;
/// Stretches of a lane.
const BINS: usize = 96;
/// Episodes of one budget that are drawn.
const SPANS_MAX: usize = 1_000;
/// Digits that a chart can show.
const DIGITS: i32 = 5;

/// A key's records over time.
struct Lane {
    /// The rarest of each stretch, −log10 of its p-value; none without records.
    bins: Vec<Option<f64>>,
    labels: Vec<[i64; 2]>,
}

impl Report {
    pub(super) fn lanes(&self, out: &mut String) {
        put(
            out,
            format_args!(
                "<section id=\"lanes\" hidden><h2>Keys over time, the strangest first</h2><div class=\"strip\"></div><div class=\"legend\"></div><p class=\"dim small\">{}</p></section>",
                if self.times.is_empty() {
                    "Across: rows of the input. Blank: warming up, or no records."
                } else {
                    "All times are UTC. Blank: warming up, or no records."
                }
            ),
        );
    }

    /// JSON, with nothing in it that could end its element.
    pub(super) fn data(&self) -> String {
        let (from, to) = self.across();
        let (names, lanes) = self.all_lanes();
        let by_name: BTreeMap<&str, usize> = names
            .iter()
            .enumerate()
            .map(|(at, name)| (*name, at))
            .collect();
        let cards: Vec<_> = self
            .episodes
            .iter()
            .filter(|episode| episode.card)
            .collect();
        let card_of = |key: &str, onset: usize, last: usize| {
            let mut each = cards.iter();
            let found =
                each.position(|card| card.key == key && card.from <= last && onset < card.to);
            found.map_or(-1, |at| at as i64)
        };
        let budgets = self.budgets.iter().map(|budget| {
            let spans = budget.row.spans.iter().take(SPANS_MAX).map(|span| {
                let key = self.keys[span.opened].as_str();
                let lane = by_name.get(key).map_or(-1, |&at| at as i64);
                json!([
                    lane,
                    self.places[span.onset],
                    self.places[span.last],
                    card_of(key, span.onset, span.last)
                ])
            });
            json!({
                "setting": budgets::line(&budget.row),
                "configured": budget.row.configured,
                "words": budget.words,
                "spans": spans.collect::<Vec<Value>>(),
            })
        });
        let lanes = names.iter().zip(&lanes).map(|(name, lane)| {
            let bins = lane.bins.iter().map(|bin| bin.map_or(Value::Null, digits));
            json!({"key": name, "bins": bins.collect::<Vec<Value>>(), "labels": lane.labels})
        });
        let keys: std::collections::BTreeSet<&str> = self.keys.iter().map(Key::as_str).collect();
        let data = json!({
            "timed": !self.times.is_empty(),
            "from": from,
            "to": to,
            "keys": keys.len(),
            "lanes": lanes.collect::<Vec<Value>>(),
            "budgets": budgets.collect::<Vec<Value>>(),
            "cards": cards.iter().map(|card| self.course(card.from, card.trace.as_ref())).collect::<Vec<Value>>(),
        });
        data.to_string().replace('<', "\\u003c")
    }

    fn across(&self) -> (i64, i64) {
        let places = self.places.iter().copied();
        (places.clone().min().unwrap_or(0), places.max().unwrap_or(1))
    }

    /// The strangest keys and their lanes.
    fn all_lanes(&self) -> (Vec<&str>, Vec<Lane>) {
        let (from, to) = self.across();
        let bin = |row: usize| {
            let share = (self.places[row] - from) as f64 / (to - from).max(1) as f64;
            ((share * BINS as f64) as usize).min(BINS - 1)
        };
        let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (row, key) in self.keys.iter().enumerate() {
            rows.entry(key.as_str()).or_default().push(row);
        }
        let mut all: Vec<(&str, f64, Lane)> = Vec::new();
        for (key, rows) in rows {
            let mut bins: Vec<Option<f64>> = vec![None; BINS];
            for &row in rows.iter().filter(|&&row| !self.warming_up[row]) {
                let seen = &mut bins[bin(row)];
                *seen = Some(seen.unwrap_or(0.0).max(surprise(self.p_values[row])));
            }
            let most = bins.iter().flatten().copied().fold(0.0, f64::max);
            let labels = if self.labels.is_empty() {
                Vec::new()
            } else {
                let own: Vec<bool> = rows.iter().map(|&row| self.labels[row]).collect();
                let all = segments(&own).into_iter();
                all.map(|(from, to)| [self.places[rows[from]], self.places[rows[to]]])
                    .collect()
            };
            all.push((key, most, Lane { bins, labels }));
        }
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(LANES_MAX);
        all.into_iter().map(|(key, _, lane)| (key, lane)).unzip()
    }

    /// A card's course; null if it has none.
    fn course(&self, onset: usize, trace: Option<&Trace>) -> Value {
        let Some(trace) = trace else {
            return Value::Null;
        };
        let numbers = |all: &[f64]| {
            all.iter()
                .map(|&value| digits(value))
                .collect::<Vec<Value>>()
        };
        let points = trace.points.iter().map(|point| {
            json!([
                self.places[point.row],
                u8::from(point.alert),
                digits(point.strength),
                numbers(&point.values),
                numbers(&point.expected)
            ])
        });
        json!({
            "onset": self.places[onset],
            "columns": trace.columns,
            "spreads": trace.spreads.iter().map(|spread| spread.map_or(Value::Null, digits)).collect::<Vec<Value>>(),
            "threshold": digits(trace.threshold),
            "points": points.collect::<Vec<Value>>(),
        })
    }
}

/// A number with as many digits as a chart can show; null of what is none.
fn digits(value: f64) -> Value {
    if !value.is_finite() {
        return Value::Null;
    }
    if value == 0.0 {
        return json!(0);
    }
    let power = DIGITS - 1 - value.abs().log10().floor() as i32;
    let rounded: f64 = format!("{value:.*e}", (DIGITS - 1) as usize)
        .parse()
        .unwrap_or(value);
    if power <= 0 || rounded.fract() == 0.0 && rounded.abs() < 1e9 {
        json!(rounded as i64)
    } else {
        json!(rounded)
    }
}
