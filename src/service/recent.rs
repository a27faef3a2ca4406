//! The last records of each key with what was expected of them, as far as memory allows: what the page and the API draw.
//!
//! Bounded in bytes. Where they are too many, the longest traces lose their oldest records first, so that a key that sends a lot does not push
//! others out; of too many keys those go that were seen longest ago. Nothing here reaches an output of the pipeline.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::alert::{InputRef, ScoredBy};
use crate::pipeline::Watched;

/// Bytes that are kept at most.
const BYTES_MAX: usize = 16 << 20;
/// Keys of which something is kept at most.
const KEYS_MAX: usize = 10_000;
/// What a key takes beside its records: name twice, map and ring.
const KEY_BYTES: usize = 160;
/// p-values below this are drawn as if they were this: 12 in powers of ten.
const RAREST: f64 = 1e-12;
/// A record with a larger p-value is a calm one: it says how far records usually are from what is expected.
const CALM: f64 = 0.01;
/// Calm records that say it, the latest weighing most ...
const USUAL_MEMORY: f64 = 200.0;
/// ... and those without which nothing is said.
const USUAL_MIN: f64 = 20.0;
/// The standard deviation of normal values by their mean distance from the middle.
const SPREAD_BY_DISTANCE: f64 = 1.2533;

/// A judged record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where it lies in the log.
    #[serde(skip)]
    pub input: InputRef,
    /// Event time in milliseconds since 1970.
    pub time: i64,
    /// The probability that a normal record scores as high.
    pub p_value: f64,
    /// Higher is stranger.
    pub score: f64,
    /// How strong the evidence of the key's records up to this one is, in nats ...
    pub evidence: f32,
    /// ... and what opens an episode, or opened the open one.
    pub evidence_threshold: f32,
    /// Whether the record lies in an open episode.
    pub alert: bool,
    /// Whether it was too early to judge.
    pub warming_up: bool,
    /// What the score is by: `model_version` and `seasonal`.
    #[serde(flatten)]
    pub scored_by: ScoredBy,
    /// Its values in the columns' order, null where missing; empty where they were not kept.
    pub values: Box<[f32]>,
    /// What was expected of them.
    pub expected: Box<[f32]>,
}

impl Point {
    fn of(seen: &Watched) -> Self {
        let kept = |values: &[f64]| values.iter().map(|value| *value as f32).collect();
        Self {
            input: seen.input.clone(),
            time: seen.time.0,
            p_value: seen.p_value,
            score: seen.score,
            evidence: seen.evidence as f32,
            evidence_threshold: seen.evidence_threshold as f32,
            alert: seen.alert,
            warming_up: seen.warming_up,
            scored_by: seen.scored_by,
            values: kept(&seen.row),
            expected: kept(&seen.expected),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + 4 * (self.values.len() + self.expected.len())
    }
}

/// How far a feature usually is from what is expected of it.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    records: f64,
    distance: f64,
}

impl Usual {
    fn learn(&mut self, distance: f64) {
        self.records = (self.records + 1.0).min(USUAL_MEMORY);
        self.distance += (distance - self.distance) / self.records;
    }

    fn spread(self) -> Option<f64> {
        (self.records >= USUAL_MIN).then_some(self.distance * SPREAD_BY_DISTANCE)
    }
}

/// The last records of a key.
#[derive(Debug, Default)]
struct Trace {
    points: VecDeque<Point>,
    bytes: usize,
}

impl Trace {
    fn last(&self) -> i64 {
        self.points.back().map_or(i64::MIN, |point| point.time)
    }

    fn shorten(&mut self, most: usize) {
        while self.bytes > most
            && let Some(point) = self.points.pop_front()
        {
            self.bytes -= point.bytes();
        }
    }
}

/// The last records of all keys.
#[derive(Debug)]
pub struct Recent {
    max: usize,
    bytes: usize,
    columns: Vec<String>,
    traces: BTreeMap<Arc<str>, Trace>,
    usual: Vec<Usual>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::with_bytes(BYTES_MAX)
    }
}

/// A key's last records.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The key.
    pub key: String,
    /// The features, in the order of `values` and `expected`.
    pub columns: Vec<String>,
    /// How far each feature usually is from what is expected of it, over all keys; null until that is known.
    pub spreads: Vec<Option<f64>>,
    /// When the oldest record of the key that is remembered happened, in milliseconds since 1970: earlier ones lie in the input.
    pub remembered_from: i64,
    /// The records, the oldest first: where there are many, the rarest of each stretch of them.
    pub points: Vec<Point>,
}

/// What is wrong with a key, the more of it is gone the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Its records are strange.
    Strange,
    /// Its records lack features.
    Absence,
    /// It sends no records.
    Silence,
}

/// What of a key is shown over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    /// The key.
    pub key: String,
    /// Event time of its last record, in milliseconds since 1970.
    pub last: i64,
    /// What is wrong with it by the open episodes that somebody was told of, `strange`, `absence` or `silence`; null without one.
    pub open: Option<Trouble>,
    /// How strange its records were, bin after bin: the largest −log10 of their p-values, from 0 to 12; null without records.
    pub bins: Vec<Option<f32>>,
}

impl Strip {
    fn strangest(&self) -> f32 {
        self.bins.iter().flatten().copied().fold(0.0, f32::max)
    }
}

/// Keys over time: those with an open episode first, then the strangest.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Keys that there are.
    pub keys_total: usize,
    /// Keys that fit the search.
    pub keys_found: usize,
    /// When the first bin begins, in milliseconds since 1970 ...
    pub from: i64,
    /// ... and the last one ends.
    pub to: i64,
    /// When the oldest record that is remembered happened, of whatever key.
    pub remembered_from: i64,
    /// Those shown.
    pub keys: Vec<Strip>,
}

/// Which keys are shown over time.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Text that a key must have, in whatever case; all have the empty one.
    pub search: &'a str,
    /// Keys at most.
    pub most: usize,
    /// Milliseconds of event time.
    pub span: i64,
    /// Into so many bins.
    pub bins: usize,
}

impl Recent {
    /// Keeps so many bytes at most.
    #[must_use]
    pub fn with_bytes(max: usize) -> Self {
        Self {
            max,
            bytes: 0,
            columns: Vec::new(),
            traces: BTreeMap::new(),
            usual: Vec::new(),
        }
    }

    /// What the features are called, in the order of a record's values.
    pub fn name_columns(&mut self, columns: &[String]) {
        columns.clone_into(&mut self.columns);
        self.usual = vec![Usual::default(); columns.len()];
    }

    /// What the features are called; none while that is not known.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Takes in a judged record.
    pub fn take(&mut self, seen: &Watched) {
        if !seen.alert && !seen.warming_up && seen.p_value > CALM {
            for (usual, (value, expected)) in self
                .usual
                .iter_mut()
                .zip(seen.row.iter().zip(&seen.expected))
            {
                let distance = (value - expected).abs();
                if distance.is_finite() {
                    usual.learn(distance);
                }
            }
        }
        let point = Point::of(seen);
        if !self.traces.contains_key(&*seen.key.0) {
            let bytes = KEY_BYTES + seen.key.0.len();
            self.traces
                .insert(Arc::clone(&seen.key.0), Trace::default());
            self.bytes += bytes;
        }
        if let Some(trace) = self.traces.get_mut(&*seen.key.0) {
            trace.bytes += point.bytes();
            self.bytes += point.bytes();
            trace.points.push_back(point);
        }
        if self.bytes > self.max || self.traces.len() > KEYS_MAX {
            self.make_room();
        }
    }

    /// Forgets until a quarter is free, so that it is not to be done for each record.
    fn make_room(&mut self) {
        let mut last: Vec<(i64, Arc<str>)> = self
            .traces
            .iter()
            .map(|(key, trace)| (trace.last(), Arc::clone(key)))
            .collect();
        last.sort_unstable();
        let names = |traces: &BTreeMap<Arc<str>, Trace>| -> usize {
            traces.keys().map(|key| KEY_BYTES + key.len()).sum()
        };
        let (mut named, room) = (names(&self.traces), self.max / 4 * 3);
        for (_, key) in last {
            if self.traces.len() <= KEYS_MAX / 4 * 3 && named <= room / 2 {
                break;
            }
            self.traces.remove(&key);
            named -= KEY_BYTES + key.len();
        }
        let each = fair(
            self.traces.values().map(|trace| trace.bytes).collect(),
            room.saturating_sub(named),
        );
        for trace in self.traces.values_mut() {
            trace.shorten(each);
        }
        self.bytes = named + self.traces.values().map(|trace| trace.bytes).sum::<usize>();
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How far a feature usually is from what is expected of it; `None` while that is not known.
    #[must_use]
    pub fn spread(&self, feature: &str) -> Option<f64> {
        let place = self.columns.iter().position(|column| column == feature)?;
        self.usual.get(place)?.spread()
    }

    /// All records that are remembered, of one key or of all, with their keys.
    pub fn points<'r>(
        &'r self,
        key: Option<&'r str>,
    ) -> impl Iterator<Item = (&'r str, &'r Point)> {
        let traces = self.traces.iter();
        let wanted = traces.filter(move |(name, _)| key.is_none_or(|key| ***name == *key));
        wanted.flat_map(|(name, trace)| trace.points.iter().map(move |point| (&**name, point)))
    }

    /// Where the oldest record of a key lies that is remembered.
    #[must_use]
    pub fn oldest(&self, key: &str) -> Option<InputRef> {
        let trace = self.traces.get(key)?;
        // Where the key comes from now, in case the topic got more partitions.
        let at = &trace.points.back()?.input.at;
        let here = trace.points.iter().map(|point| &point.input);
        here.filter(|input| input.at == *at)
            .min_by_key(|input| input.offset)
            .cloned()
    }

    /// At most `most` records of a key between two times; `None` of a key that nothing is known of.
    #[must_use]
    pub fn series(&self, key: &str, (from, to): (i64, i64), most: usize) -> Option<Series> {
        let trace = self.traces.get(key)?;
        let within = |point: &&Point| from <= point.time && point.time <= to;
        let mut points: Vec<&Point> = trace.points.iter().filter(within).collect();
        points.sort_by_key(|point| point.time);
        let points = thinned(&points, most).into_iter().cloned().collect();
        let times = trace.points.iter().map(|point| point.time);
        Some(Series {
            remembered_from: times.min().unwrap_or_default(),
            key: key.to_owned(),
            columns: self.columns.clone(),
            spreads: self.usual.iter().map(|usual| usual.spread()).collect(),
            points,
        })
    }

    /// Keys over time: those with an open episode first, which are in `open`, then the strangest.
    #[must_use]
    pub fn overview(&self, wanted: Wanted<'_>, open: &BTreeMap<&str, Trouble>) -> Overview {
        let to = self.newest().unwrap_or_default();
        let from = to.saturating_sub(wanted.span);
        let search = wanted.search.to_lowercase();
        let found = |key: &str| key.to_lowercase().contains(&search);
        let mut keys: Vec<Strip> = self
            .traces
            .iter()
            .filter(|(key, _)| found(key))
            .map(|(key, trace)| Strip {
                open: open.get(&**key).copied(),
                ..strip(key, trace, (from, to), wanted.bins)
            })
            .collect();
        let keys_found = keys.len();
        keys.sort_by(|a, b| {
            (b.open.is_some().cmp(&a.open.is_some()))
                .then_with(|| b.strangest().total_cmp(&a.strangest()))
                .then_with(|| a.key.cmp(&b.key))
        });
        keys.truncate(wanted.most);
        let first = |trace: &Trace| trace.points.front().map(|point| point.time);
        Overview {
            remembered_from: self.traces.values().filter_map(first).min().unwrap_or(to),
            keys_total: self.traces.len(),
            keys_found,
            from,
            to,
            keys,
        }
    }

    /// The time by the records: that of nine of ten keys' last ones, of three and more never the latest, so that one clock that is ahead hides nothing.
    /// `None` without any.
    #[must_use]
    pub fn newest(&self) -> Option<i64> {
        let mut last: Vec<i64> = self.traces.values().map(Trace::last).collect();
        last.sort_unstable();
        let ahead = usize::from(last.len() >= 3) + 1;
        let place = (last.len() * 9 / 10).min(last.len().saturating_sub(ahead));
        last.get(place).copied()
    }
}

/// At most `most` of some records, from all over them: of each stretch the rarest one, and the last one that says what was expected.
fn thinned<'p>(points: &[&'p Point], most: usize) -> Vec<&'p Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretches = (most / 2).max(1);
    let mut kept = Vec::with_capacity(most);
    for stretch in 0..stretches {
        let [from, to] = [stretch, stretch + 1].map(|at| points.len() * at / stretches);
        let stretch = &points[from..to];
        let by_rarity =
            |(_, a): &(usize, &&Point), (_, b): &(usize, &&Point)| a.p_value.total_cmp(&b.p_value);
        let Some((rarest, _)) = stretch.iter().enumerate().min_by(by_rarity) else {
            continue;
        };
        let explained = stretch.iter().rposition(|point| !point.values.is_empty());
        let explained = explained.unwrap_or(rarest);
        kept.push(stretch[rarest.min(explained)]);
        if rarest != explained {
            kept.push(stretch[rarest.max(explained)]);
        }
    }
    kept.truncate(most);
    kept
}

/// What each may have at most so that all fit into `room`: those that need less leave the rest to the others.
fn fair(mut sizes: Vec<usize>, mut room: usize) -> usize {
    sizes.sort_unstable();
    for (place, size) in sizes.iter().enumerate() {
        let each = room / (sizes.len() - place);
        if each < *size {
            return each;
        }
        room -= size;
    }
    usize::MAX
}

/// How strange a p-value is: −log10, from 0 to 12.
fn strangeness(p: f64) -> f32 {
    p.clamp(RAREST, 1.0).log10().abs() as f32
}

fn strip(key: &str, trace: &Trace, (from, to): (i64, i64), bins: usize) -> Strip {
    let mut strip = vec![None; bins];
    let span = (to - from).max(1) as f64;
    for point in &trace.points {
        if point.warming_up || point.time < from || to < point.time {
            continue;
        }
        let bin = ((point.time - from) as f64 / span * bins as f64) as usize;
        if let Some(bin) = strip.get_mut(bin.min(bins.saturating_sub(1))) {
            let strange = (strangeness(point.p_value) * 10.0).round() / 10.0;
            *bin = Some(bin.map_or(strange, |before: f32| before.max(strange)));
        }
    }
    Strip {
        key: key.to_owned(),
        last: trace.last(),
        open: None,
        bins: strip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Key;
    use crate::stream::{Offset, TopicPartition};
    use crate::time::Timestamp;

    fn seen(key: &str, time: i64, p_value: f64) -> Watched {
        Watched {
            key: Key(Arc::from(key)),
            time: Timestamp(time),
            p_value,
            evidence: 0.0,
            evidence_threshold: 9.0,
            alert: p_value < 1e-6,
            by_model: None,
            warming_up: false,
            record: 0,
            input: InputRef {
                at: TopicPartition::new("t", 0),
                offset: Offset(time),
            },
            score: 1.0,
            scored_by: ScoredBy::ColdStart,
            window: Vec::new(),
            row: vec![61.0, f64::NAN],
            expected: vec![49.0, 1.0],
        }
    }

    fn named() -> Recent {
        let mut recent = Recent::default();
        recent.name_columns(&["a".to_owned(), "b".to_owned()]);
        recent
    }

    #[test]
    fn a_key_that_sends_a_lot_pushes_no_other_out_and_bytes_are_bounded() {
        let mut recent = Recent::with_bytes(100_000);
        for quiet in 0..10 {
            recent.take(&seen(&format!("quiet {quiet}"), quiet, 0.5));
        }
        for time in 0..20_000 {
            recent.take(&seen("loud", 100 + time, 0.5));
            assert!(recent.bytes() <= 100_000);
        }
        let len = |key: &str| {
            recent
                .series(key, (0, i64::MAX), 100_000)
                .map(|s| s.points.len())
        };
        assert!((0..10).all(|quiet| len(&format!("quiet {quiet}")) == Some(1)));
        assert!(len("loud").unwrap() > 500, "{:?}", len("loud"));
        let last = recent.series("loud", (20_097, i64::MAX), 100_000).unwrap();
        let times: Vec<i64> = last.points.iter().map(|point| point.time).collect();
        assert_eq!(times, [20_097, 20_098, 20_099]);
        assert_eq!(len("nobody"), None);
    }

    #[test]
    fn of_many_records_the_rarest_of_each_stretch_are_shown_and_some_that_say_what_was_expected() {
        let mut recent = named();
        for time in 0..1000 {
            let mut record = seen("k", time, if time == 517 { 1e-9 } else { 0.5 });
            if time % 10 != 3 {
                record.row = Vec::new();
                record.expected = Vec::new();
            }
            recent.take(&record);
        }
        let all = recent.series("k", (0, i64::MAX), 1000).unwrap();
        assert_eq!(all.points.len(), 1000);
        let few = recent.series("k", (0, i64::MAX), 40).unwrap();
        let times: Vec<i64> = few.points.iter().map(|point| point.time).collect();
        assert!(times.is_sorted() && times.len() <= 40, "{times:?}");
        assert!(times.contains(&517) && times[0] < 50 && times[times.len() - 1] >= 950);
        let explained = |point: &&Point| !point.values.is_empty();
        assert_eq!(few.points.iter().filter(explained).count(), 20);
        assert_eq!((few.remembered_from, all.remembered_from), (0, 0));
        assert!(
            recent
                .series("k", (0, i64::MAX), 0)
                .unwrap()
                .points
                .is_empty()
        );
    }

    #[test]
    fn one_clock_that_is_ahead_is_not_the_time_of_all() {
        for keys in [3, 5, 10, 40] {
            let mut recent = named();
            for key in 0..keys {
                let ahead = if key == 1 { 7_200_000 } else { 0 };
                recent.take(&seen(&format!("k{key}"), 1000 + key + ahead, 0.5));
            }
            let newest = recent.newest().unwrap();
            assert!((1000..1100).contains(&newest), "{keys} keys: {newest}");
        }
        assert_eq!(named().newest(), None);
    }

    #[test]
    fn what_some_do_not_need_is_left_to_the_others() {
        assert_eq!(fair(vec![10, 1_000, 20], 130), 100);
        assert_eq!(fair(vec![60, 50], 100), 50);
        assert_eq!(fair(vec![1, 2], 100), usize::MAX);
        assert_eq!(fair(Vec::new(), 0), usize::MAX);
    }

    #[test]
    fn of_too_many_keys_those_seen_longest_ago_go() {
        let mut recent = Recent::default();
        for key in 0..30_000_i64 {
            recent.take(&seen(&format!("{key}"), key, 0.5));
            assert!(recent.traces.len() <= KEYS_MAX);
        }
        assert!(recent.series("29999", (0, i64::MAX), 1).is_some());
        assert!(recent.series("0", (0, i64::MAX), 1).is_none());
        // Names alone are bounded, too.
        let mut recent = Recent::with_bytes(50_000);
        for key in 0..2_000_i64 {
            recent.take(&seen(&format!("{key:0100}"), key, 0.5));
            assert!(recent.bytes() <= 50_000);
        }
    }

    #[test]
    fn a_spread_is_learnt_from_calm_records_alone() {
        let mut recent = named();
        for time in 0..10 {
            recent.take(&seen("k", time, 0.5));
        }
        assert_eq!(recent.spread("a"), None);
        for time in 10..30 {
            recent.take(&seen("k", time, 0.5));
        }
        let spread = recent.spread("a").unwrap();
        assert!((spread - 12.0 * SPREAD_BY_DISTANCE).abs() < 1e-9);
        for time in 30..300 {
            let mut wild = seen("k", time, 1e-9);
            wild.row[0] = 1e6;
            recent.take(&wild);
        }
        assert_eq!(recent.spread("a"), Some(spread));
        // A feature that was never there, and one that is none.
        assert_eq!((recent.spread("b"), recent.spread("c")), (None, None));
        let series = recent.series("k", (0, i64::MAX), 1).unwrap();
        assert_eq!(series.spreads, [Some(spread), None]);
        let point = serde_json::to_value(&series.points[0]).unwrap();
        assert_eq!(point["values"], serde_json::json!([1e6, null]));
    }

    #[test]
    fn the_strangest_key_comes_first_in_its_bins_and_search_finds_it() {
        let mut recent = named();
        for time in 0..=100 {
            recent.take(&seen("Calm", time, 0.5));
            recent.take(&seen("wild", time, if time == 75 { 1e-30 } else { 0.5 }));
        }
        // A clock that is ahead moves nothing.
        for key in 0..18 {
            recent.take(&seen(&format!("x{key}"), 100, 0.5));
        }
        recent.take(&seen("ahead", 1_000_000, 0.5));
        let wanted = |search| Wanted {
            search,
            most: 2,
            span: 100,
            bins: 10,
        };
        let none = BTreeMap::new();
        let all = recent.overview(wanted(""), &none);
        assert_eq!(
            (all.keys_total, all.keys_found, all.keys.len()),
            (21, 21, 2)
        );
        assert_eq!((all.from, all.to, all.remembered_from), (0, 100, 0));
        assert_eq!(all.keys[0].key, "wild");
        let bins: Vec<f32> = all.keys[0].bins.iter().map(|bin| bin.unwrap()).collect();
        assert_eq!(bins, [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 12.0, 0.3, 0.3]);
        let found = recent.overview(wanted("CAL"), &none);
        assert_eq!((found.keys_found, found.keys[0].key.as_str()), (1, "Calm"));
        assert_eq!(Recent::default().overview(wanted(""), &none).keys_total, 0);
        // One that says nothing has nothing strange to show: that it is silent brings it to the top.
        let silent = BTreeMap::from([("x7", Trouble::Silence)]);
        let first = &recent.overview(wanted(""), &silent).keys[0];
        assert_eq!(
            (first.key.as_str(), first.open),
            ("x7", Some(Trouble::Silence))
        );
    }
}
