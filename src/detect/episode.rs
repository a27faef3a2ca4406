//! Episodes: one fault of one key, from open to close. A state machine over p-values; no I/O, no clock.
//!
//! Closed → open: the evidence of the key's records, gathered over several time scales ([`super::evidence`]), is stronger than the budget of
//! false openings allows ([`EvidenceLaw::threshold`]). One extreme record suffices; weak evidence that lasts does too.
//!
//! Open → closed: it is sure that the fault is over. Two hypotheses are compared, record by record: surprise −ln p is exponential with the mean
//! that the episode has, or with the usual mean of 1. Their log-likelihood ratio ln m − s (1 − 1/m), summed and never below 0, is Page's test
//! for a change ("Continuous Inspection Schemes", Biometrika 41, 1954), here of the change back. A strong fault is over after a few calm
//! records, a weak one after many: as many as it takes to know.

use std::sync::Arc;
use std::time::Duration;

use super::evidence::{Evidence, Place, Strongest, bounded};
use super::{Budget, Params};
use crate::alert::Severity;
use crate::model::card::RECORDS_PER_KEY_DAY;
use crate::model::trained::TrainedModel;
use crate::stats::bisect::crossing;
use crate::stats::evidence::EvidenceLaw;
use crate::stream::Offset;
use crate::time::Timestamp;

/// Bounds of the least mean surprise that an episode is taken to have. Lower could not be told from normal records, and single records do not count
/// for more.
const LEVEL_BOUNDS: (f64, f64) = (2.5, 20.0);

/// The share of the records between two false openings, as often as the budget allows them, that it may take to know that one of them is over; or a day.
const OVER_WITHIN: f64 = 0.1;

/// Records that an episode's mean surprise is reckoned from: at least, and at most.
const LEVEL_RECORDS: (u64, u64) = (10, 300);

/// How often an episode that soon follows another doubles the calm that it needs to close.
const DOUBLINGS_MAX: u32 = 5;

/// Judged records of a key from which on its own rate is known.
const RATE_RECORDS: u64 = 100;

/// A key's own rate of records counts up to this many times faster or slower than that of its model's other keys.
const RATE_FACTOR: f64 = 1000.0;

const DAY_MS: f64 = 86_400_000.0;

/// What the state machine decides by.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// How evidence of normal records is distributed.
    pub law: Arc<EvidenceLaw>,
    budget: Budget,
    /// Records a day of the keys that the model was trained on.
    records_per_key_day: f64,
    /// How many keys share a budget for all.
    keys: f64,
    /// Weaker evidence opens nothing, however rare records are.
    least: f64,
    /// The least mean surprise that an episode is taken to have.
    level_min: f64,
    close_evidence: f64,
    cooldown: Duration,
}

impl Rule {
    /// The rule of `params` under `law`, for `keys` keys that send `records_per_key_day` each.
    #[must_use]
    pub fn new(
        params: &Params,
        law: Arc<EvidenceLaw>,
        (records_per_key_day, keys): (f64, u64),
    ) -> Self {
        let mut rule = Self {
            least: law.threshold(super::BUDGET_MAX),
            level_min: LEVEL_BOUNDS.0,
            law,
            budget: params.budget,
            records_per_key_day,
            keys: keys.max(1) as f64,
            close_evidence: params.close_evidence,
            cooldown: params.cooldown,
        };
        rule.level_min = rule.held();
        rule
    }

    /// The least mean surprise m that an episode is taken to have, so that what is held open would open by itself: the mean surprise x that the
    /// longest time scale opens at is the one at which the two hypotheses, of means m and 1, are equally likely.
    fn held(&self) -> f64 {
        let longest = self.law.scales.len() - 1;
        if self.law.scales[longest] == 1 {
            return LEVEL_BOUNDS.0;
        }
        let threshold = self.law.threshold(self.per_record());
        let opens = rising(|x| self.law.strength(longest, x), threshold);
        rising(|m| m.ln() / (1.0 - 1.0 / m), opens).max(LEVEL_BOUNDS.0)
    }

    /// The same, with an episode that opened on normal records over within a day of them, or within a tenth of those between two that the budget allows, if that
    /// is longer: as many records as it takes to be sure at one a minute are days at one an hour. Normal records have a mean surprise of 1, and each speaks for the end
    /// with ln m − 1 + 1/m on average, if m is the mean that an episode is taken to have at least.
    fn soon_over(mut self) -> Self {
        let records = (OVER_WITHIN / self.per_record()).max(self.records_per_key_day);
        let wanted = self.close_evidence * self.law.dependence / records;
        let soon = rising(|m| m.ln() - 1.0 + 1.0 / m, wanted);
        self.level_min = self.level_min.max(soon);
        self
    }

    /// The rule for what `model` judges: by the law of evidence that it was trained with, if that is of the time scales of `params`. By an assumed one
    /// else, and without a model, and where the season of its key judges a single feature, too.
    #[must_use]
    pub fn of(params: &Params, model: Option<&TrainedModel>) -> Self {
        let Some(model) = model.filter(|of| !params.by_season(of.card.columns.len())) else {
            return Self::without_model(params, model);
        };
        let law = match &model.evidence {
            Some(law) if law.scales == params.time_scales => Arc::clone(law),
            _ => Arc::new(EvidenceLaw::assumed(&params.time_scales)),
        };
        Self::new(params, law, pace(model)).soon_over()
    }

    /// The rule for what is judged by a key's own past. `model` only tells how often keys send.
    #[must_use]
    pub fn without_model(params: &Params, model: Option<&TrainedModel>) -> Self {
        let law = Arc::new(EvidenceLaw::following(&params.time_scales));
        Self::new(params, law, model.map_or((RECORDS_PER_KEY_DAY, 1), pace)).soon_over()
    }

    /// False openings per record that the budget allows a key which sends `records_per_day`.
    fn allowed(&self, records_per_day: f64) -> f64 {
        self.budget.per_record(records_per_day, self.keys)
    }

    /// False openings per record that the budget allows a key like those the model was trained on.
    #[must_use]
    pub fn per_record(&self) -> f64 {
        self.allowed(self.records_per_key_day)
    }

    /// The p-value at which a single record opens an episode, of a key like those the model was trained on.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        (-self.law.threshold(self.per_record())).exp()
    }

    /// By what factor evidence of this strength is rarer among normal records than the budget allows.
    fn rarer(&self, strength: f64, allowed: f64) -> f64 {
        allowed / self.law.rate(strength).max(f64::MIN_POSITIVE)
    }

    /// How strange evidence is, from 0 at the threshold to 1 where it is ten thousand times rarer: log10 of that factor / 4, clipped.
    #[must_use]
    pub fn grade(&self, strength: f64) -> f64 {
        (self.rarer(strength, self.per_record()).log10() / 4.0).clamp(0.0, 1.0)
    }
}

/// Where a rising function reaches `wanted`, within [`LEVEL_BOUNDS`]: by bisection.
fn rising(function: impl Fn(f64) -> f64, wanted: f64) -> f64 {
    crossing((1.0 + 1e-9, LEVEL_BOUNDS.1), 60, |x| function(x) < wanted).1
}

/// How far apart two times are, in either direction: a clock that was ahead once must not make trouble recur for years.
fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

/// Records a day of one of the keys that a model was trained on, and how many keys there were.
#[must_use]
pub fn pace(model: &TrainedModel) -> (f64, u64) {
    let keys = model.card.rows.get("keys").copied().unwrap_or(1);
    (model.card.records_per_key_day, keys)
}

/// The severity of evidence that is rarer by this factor than the budget allows.
fn severity(rarer: f64) -> Severity {
    if rarer >= 1000.0 {
        Severity::Critical
    } else if rarer >= 100.0 {
        Severity::High
    } else if rarer >= 10.0 {
        Severity::Medium
    } else {
        Severity::Low
    }
}

/// What a record came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The probability that a normal record of the key scores as high.
    pub p: f64,
    /// The same by the model, whatever the key; `None` where what judged is the key's own.
    pub by_model: Option<f64>,
    /// Higher is stranger.
    pub score: f64,
    /// Where the record lies.
    pub offset: Offset,
    /// When it happened.
    pub time: Timestamp,
}

/// An open episode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// The offset of the record that it probably began with: names the episode.
    pub onset: Offset,
    /// When that record happened.
    pub onset_time: Timestamp,
    /// The largest score so far.
    pub peak_score: f64,
    /// The smallest p-value so far.
    pub peak_p: f64,
    /// The strength of the evidence now, and the largest so far, in nats.
    pub strength: f64,
    /// See [`Self::strength`].
    pub peak_strength: f64,
    /// The strength at which it opened, at least: what the budget asked for then.
    pub threshold: f64,
    /// The time scale, in records, whose evidence opened it.
    pub scale: u32,
    /// The severity last told.
    pub severity: Severity,
    /// Mean surprise of its last records, as far as it counts.
    pub level: f64,
    /// Records since the onset.
    pub records: u64,
    /// How sure it is that the fault is over: a log-likelihood ratio, in nats.
    pub calm: f64,
    /// The last record that spoke for the fault rather than for its end: where the fault ends, as far as is known.
    pub last: Place,
    /// Episodes of the key before it, each within the cooldown of the one before.
    pub recurred: u32,
    /// Its alert was suppressed, by a storm or because its like was dismissed: nobody knows of it yet.
    pub suppressed: bool,
}

/// Episodes that follow each other: the open one, and what may open the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EpisodeState {
    /// Records judged.
    pub records: u64,
    /// When the first of them happened.
    pub first: Timestamp,
    /// What they have gathered.
    pub evidence: Evidence,
    /// The open episode.
    pub open: Option<Episode>,
    /// When the last one closed, and how often it had recurred.
    pub closed: Option<(Timestamp, u32)>,
}

/// What a record did to the key's episodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// Nothing that needs telling.
    None,
    /// An episode began.
    Opened(Episode),
    /// The open episode got worse.
    Updated(Episode),
    /// The open episode ended.
    Closed(Episode),
}

impl EpisodeState {
    /// Records since the onset of the open episode; 0 if none is open.
    pub fn lasted(&self) -> u64 {
        self.open.map_or(0, |episode| episode.records)
    }

    /// Takes in one record.
    pub fn judge(&mut self, rule: &Rule, reading: Reading) -> Change {
        self.records += 1;
        if self.records == 1 {
            self.first = reading.time;
        }
        let place = Place {
            record: self.records,
            offset: reading.offset,
            time: reading.time,
        };
        let found = self.evidence.gather(&rule.law, reading.p, place);
        if self.open.is_some() {
            if reading.by_model.is_some() {
                self.evidence.stand_still();
            }
            return self.go_on(rule, reading, found);
        }
        if found.strength >= rule.least {
            let allowed = rule.allowed(self.records_per_day(rule, reading.time));
            let threshold = rule.law.threshold(allowed);
            if found.strength >= threshold {
                return self.begin(rule, reading, (found, threshold, allowed));
            }
        }
        if let Some(p) = reading.by_model {
            self.evidence.learn(p, self.records - 1);
        }
        Change::None
    }

    /// The strength of the evidence as it stands after the record at `now`, and what opens an episode, or opened the open one.
    #[must_use]
    pub fn standing(&self, rule: &Rule, now: Timestamp) -> (f64, f64) {
        let threshold = match &self.open {
            Some(open) => open.threshold,
            None => rule
                .law
                .threshold(rule.allowed(self.records_per_day(rule, now)))
                .max(rule.least),
        };
        (self.evidence.strongest(&rule.law).strength, threshold)
    }

    /// How many records the key sends a day, by its own clock once that has told enough.
    fn records_per_day(&self, rule: &Rule, now: Timestamp) -> f64 {
        let others = rule.records_per_key_day;
        let elapsed = now.0.saturating_sub(self.first.0) as f64;
        if self.records < RATE_RECORDS || elapsed <= 0.0 {
            return others;
        }
        let own = self.records as f64 * DAY_MS / elapsed;
        own.clamp(others / RATE_FACTOR, others * RATE_FACTOR)
    }

    fn begin(
        &mut self,
        rule: &Rule,
        reading: Reading,
        (found, threshold, allowed): (Strongest, f64, f64),
    ) -> Change {
        let onset = self.evidence.since[found.scale];
        let recurred = match self.closed.take() {
            Some((at, before)) if apart(reading.time, at) <= rule.cooldown => before + 1,
            _ => 0,
        };
        let episode = Episode {
            onset: onset.offset,
            onset_time: onset.time,
            peak_score: reading.score,
            peak_p: reading.p,
            strength: found.strength,
            peak_strength: found.strength,
            threshold,
            scale: rule.law.scales[found.scale],
            severity: severity(rule.rarer(found.strength, allowed)),
            level: self.evidence.highest(&rule.law),
            records: self.records - onset.record + 1,
            calm: 0.0,
            last: Place {
                record: self.records,
                offset: reading.offset,
                time: reading.time,
            },
            recurred,
            suppressed: false,
        };
        self.open = Some(episode);
        Change::Opened(episode)
    }

    fn go_on(&mut self, rule: &Rule, reading: Reading, found: Strongest) -> Change {
        let Some(episode) = self.open.as_mut() else {
            return Change::None;
        };
        episode.records += 1;
        episode.peak_score = episode.peak_score.max(reading.score);
        episode.peak_p = episode.peak_p.min(reading.p);
        episode.strength = found.strength;
        episode.peak_strength = episode.peak_strength.max(found.strength);
        let surprise = bounded(reading.p);
        let counted = episode.records.clamp(LEVEL_RECORDS.0, LEVEL_RECORDS.1);
        episode.level += (surprise - episode.level) / counted as f64;
        let mean = episode.level.max(rule.level_min);
        let calm = episode.calm + mean.ln() - surprise * (1.0 - 1.0 / mean);
        episode.calm = calm.max(0.0);
        if calm <= 0.0 {
            episode.last = Place {
                record: self.records,
                offset: reading.offset,
                time: reading.time,
            };
        }
        let doubled = f64::from(2_u32.pow(episode.recurred.min(DOUBLINGS_MAX)));
        if episode.calm >= rule.close_evidence * rule.law.dependence * doubled {
            let closed = *episode;
            self.open = None;
            self.closed = Some((reading.time, closed.recurred));
            self.evidence.reset();
            return Change::Closed(closed);
        }
        // As rare as when it opened is what the budget allowed then.
        let allowed = rule.law.rate(episode.threshold);
        let severity = severity(rule.rarer(episode.peak_strength, allowed));
        if severity > episode.severity {
            episode.severity = severity;
            return Change::Updated(*episode);
        }
        Change::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule_over(scales: &[u32], budget: f64) -> Rule {
        let params = Params {
            budget: Budget::PerRecord(budget),
            close_evidence: 3.0,
            cooldown: Duration::from_millis(5),
            ..Params::default()
        };
        Rule::new(&params, Arc::new(EvidenceLaw::assumed(scales)), (1.0, 1))
    }

    fn reading(offset: i64, p: f64) -> Reading {
        Reading {
            p,
            by_model: Some(p),
            score: 1.0 / p,
            offset: Offset(offset),
            time: Timestamp(offset),
        }
    }

    /// One record a millisecond with these p-values; the changes as (offset, letter, onset).
    fn run_by(rule: &Rule, p_values: &[f64]) -> Vec<(i64, char, i64)> {
        let mut state = EpisodeState::default();
        let mut found = Vec::new();
        for (offset, p) in (0_i64..).zip(p_values) {
            match state.judge(rule, reading(offset, *p)) {
                Change::None => {}
                Change::Opened(e) => found.push((offset, 'o', e.onset.0)),
                Change::Updated(e) => found.push((offset, 'u', e.onset.0)),
                Change::Closed(e) => found.push((offset, 'c', e.onset.0)),
            }
        }
        found
    }

    fn run(p_values: &[f64]) -> Vec<(i64, char, i64)> {
        run_by(&rule_over(&[1], 1e-2), p_values)
    }

    #[test]
    fn one_record_beyond_the_budget_opens_and_severity_updates() {
        assert_eq!(run(&[0.011, 0.5]), []);
        assert_eq!(run(&[0.5, 0.009]), [(1, 'o', 1)]);
        // A hundred times rarer is high, a thousand times critical; staying there is no news.
        let worse = run(&[0.9e-4, 0.9e-5, 0.9e-5]);
        assert_eq!(worse, [(0, 'o', 0), (1, 'u', 0)]);
        // Not a number opens nothing.
        assert_eq!(run(&[f64::NAN, f64::NAN, f64::NAN]), []);
    }

    #[test]
    fn evidence_stands_as_it_was_gathered_beside_what_opens_or_opened() {
        let rule = rule_over(&[1, 5, 30], 1e-4);
        let mut state = EpisodeState::default();
        let mut opened = 0;
        for (offset, p) in (0..).zip([0.5, 0.3, 1e-3, 1e-6, 1e-3, 0.5]) {
            let change = state.judge(&rule, reading(offset, p));
            let (strength, threshold) = state.standing(&rule, Timestamp(offset));
            let open = state.open.is_some();
            opened += i32::from(matches!(change, Change::Opened(_)));
            if let Some(open) = &state.open {
                assert_eq!((strength, threshold), (open.strength, open.threshold));
            }
            assert!(open || strength < threshold, "{strength} of {threshold}");
        }
        assert_eq!(opened, 1);
    }

    #[test]
    fn weak_evidence_that_lasts_opens_and_tells_where_it_began() {
        let rule = rule_over(&[1, 5, 30], 1e-4);
        let mut p_values = vec![0.4; 50];
        p_values.extend([0.01; 60]);
        let mut found = run_by(&rule, &p_values);
        found.retain(|(_, what, _)| *what != 'u');
        assert_eq!(found.len(), 1, "{found:?}");
        let (at, _, onset) = found[0];
        assert!(
            (55..90).contains(&at) && (50..60).contains(&onset),
            "{found:?}"
        );
        // None of these records would have opened by itself.
        assert_eq!(run_by(&rule_over(&[1], 1e-4), &p_values), []);
    }

    #[test]
    fn closing_asks_for_as_much_calm_as_it_takes_to_know() {
        let fault = |p: f64| {
            let mut p_values = vec![p; 100];
            p_values.extend([0.37; 100]);
            let closed = run(&p_values).into_iter().find(|(_, what, _)| *what == 'c');
            closed.map_or(1000, |(at, _, _)| at - 100)
        };
        let (strong, weak) = (fault(1e-8), fault(0.009));
        assert!(strong < 4 && weak > strong, "{strong} {weak}");
        assert!(weak < 10, "{weak}");
    }

    #[test]
    fn what_is_held_open_is_strange_enough_to_open() {
        // Where records are many and independent, weak faults are held; where little is known of long stretches, only strong ones are.
        let law = |k: f64| EvidenceLaw {
            independent: vec![1.0, k],
            ..EvidenceLaw::assumed(&[1, 300])
        };
        let params = Params {
            budget: Budget::PerRecord(1e-4),
            ..Params::default()
        };
        let held = |k: f64| Rule::new(&params, Arc::new(law(k)), (1.0, 1)).level_min;
        assert!((held(600.0) - LEVEL_BOUNDS.0).abs() < 1e-12);
        // k (x − 1 − ln x) = 9.21 at x = 2.36 for k = 18.4; ln m / (1 − 1/m) is that at m = 7.82.
        assert!((held(18.4) - 7.82).abs() < 0.05, "{}", held(18.4));
        assert!((held(1.0) - LEVEL_BOUNDS.1).abs() < 1e-6);
    }

    #[test]
    fn an_episode_of_normal_records_is_over_before_the_next_that_the_budget_allows() {
        let law = Arc::new(EvidenceLaw {
            dependence: 5.0,
            ..EvidenceLaw::assumed(&[1, 5, 30, 300])
        });
        // Ordinary records, but for one that is just strange enough.
        let lasts = |per_record: f64| {
            let wild = |i: u32| {
                if i == 50 {
                    0.8 * per_record
                } else {
                    f64::from(i % 97 + 1) / 98.0
                }
            };
            let calm: Vec<f64> = (0..2000).map(wild).collect();
            let params = Params {
                budget: Budget::PerRecord(per_record),
                ..Params::default()
            };
            let rule = Rule::new(&params, Arc::clone(&law), (1.0, 1));
            let length = |rule: &Rule| {
                let found = run_by(rule, &calm);
                let of = |what| found.iter().find(|(_, found, _)| *found == what);
                of('c').map_or(2000, |(at, _, _)| *at) - of('o').unwrap().0
            };
            (length(&rule), length(&rule.clone().soon_over()))
        };
        // A record an hour, one a week: half of all records would be in episodes.
        let (before, now) = lasts(1.0 / 168.0);
        assert!(before > 40 && now < 17, "{before} {now}");
        // A record a minute: nothing changes.
        let (before, now) = lasts(1.0 / 10_080.0);
        assert_eq!(before, now);
    }

    #[test]
    fn a_fault_that_wavers_around_its_mean_stays_open() {
        let wavering: Vec<f64> = (0..5000).map(|i| 1e-4 * 10_f64.powi(i % 7 - 3)).collect();
        let found = run_by(&rule_over(&[1, 5, 30, 300], 1e-3), &wavering);
        assert!(found.iter().all(|(_, what, _)| *what != 'c'), "{found:?}");
    }

    #[test]
    fn a_fault_that_comes_and_goes_is_soon_one_episode() {
        let params = Params {
            budget: Budget::PerRecord(1e-3),
            ..Params::default()
        };
        let law = Arc::new(EvidenceLaw::assumed(&[1, 5, 30, 300]));
        let rule = Rule::new(&params, law, (86_400_000.0, 1));
        let coming_and_going: Vec<f64> = (0..4000)
            .map(|i| if i / 20 % 2 == 0 { 0.5 } else { 1e-6 })
            .collect();
        let found = run_by(&rule, &coming_and_going);
        let opened = found.iter().filter(|(_, what, _)| *what == 'o').count();
        assert!((2..=5).contains(&opened), "{opened}");
        // Each has an id of its own, opens once and closes once.
        let mut onsets: Vec<i64> = found.iter().filter(|f| f.1 == 'o').map(|f| f.2).collect();
        onsets.dedup();
        assert_eq!(onsets.len(), opened);
    }

    #[test]
    fn a_key_spends_its_budget_by_its_own_rate() {
        let params = Params {
            budget: Budget::PerKeyDay(1.0),
            ..Params::default()
        };
        let law = Arc::new(EvidenceLaw::assumed(&[1]));
        // The model's keys send a record a second: p must be below 1/86,400.
        let rule = Rule::new(&params, law, (86_400.0, 1));
        assert!((rule.p_value() * 86_400.0 - 1.0).abs() < 1e-9);
        // This one sends one a minute, as it turns out: 1/1,440 is enough.
        let mut state = EpisodeState::default();
        for minute in 0..200 {
            assert_eq!(
                state.judge(&rule, reading(minute * 60_000, 0.5)),
                Change::None
            );
        }
        let change = state.judge(&rule, reading(200 * 60_000, 1.0 / 1_500.0));
        assert!(matches!(change, Change::Opened(_)));
    }

    #[test]
    fn severities_and_grades_by_hand() {
        assert_eq!(severity(9.9), Severity::Low);
        assert_eq!(severity(10.1), Severity::Medium);
        assert_eq!(severity(101.0), Severity::High);
        assert_eq!(severity(1e9), Severity::Critical);
        let rule = rule_over(&[1], 1e-2);
        assert!(rule.grade(0.5).abs() < 1e-12);
        assert!((rule.grade(-(1e-4_f64.ln())) - 0.5).abs() < 1e-9);
        assert!((rule.grade(700.0) - 1.0).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn opens_and_closes_alternate(p_values in proptest::collection::vec(1e-6..1.0_f64, 0..200)) {
            let mut open = false;
            for (_, what, _) in run_by(&rule_over(&[1, 5, 30], 1e-2), &p_values) {
                match what {
                    'o' => { prop_assert!(!open); open = true; }
                    'c' => { prop_assert!(open); open = false; }
                    _ => prop_assert!(open),
                }
            }
        }
    }
}
