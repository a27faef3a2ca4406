//! What a training run is asked for: rows, settings, and why there may be no model.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::evidence::EpisodeSettings;
use super::rows::PartitionRows;
use super::sample::Wanted;
use crate::detect::Budget;
use crate::model::FitError;
use crate::model::card::{
    Card, Exclusion, Maintenance, ModelVersion, Said, Stretch, Suspect, Usage,
};
use crate::model::gate_report::Change;
use crate::model::spec::{Combine, ModelSpec};
use crate::model::trained::TrainedModel;
use crate::record::schema::{ContextColumns, SchemaSpec};
use crate::seed::Seed;
use crate::time::Timestamp;

/// Records of a window that the gate's baseline looks at.
const BASELINE_RECORDS: usize = 10;

/// Records that are read for each window that may be used: of many keys, the windows are then of several times as many keys and hours.
const READ_FACTOR: u64 = 4;

/// Numbers that are read besides, at most: 80 MB.
const READ_NUMBERS_MAX: u64 = 10_000_000;

/// Folds that calibrate where no windows are held back for it.
pub(super) const FOLDS: usize = 4;

/// How training uses its rows, and what the gate asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Windows below which there is no training.
    pub rows_min: usize,
    /// Windows that are used at most; more are thinned evenly.
    pub rows_max: usize,
    /// Records of the key kept out before and after an episode.
    pub guard: u64,
    /// Share of the windows, the ones before the gate's, that only calibrate. In [0, 0.5].
    pub calibrate_share: f64,
    /// Share of the windows, the latest, that the gate tries. In [0, 0.5]. With none, the windows that validate are tried.
    pub gate_share: f64,
    /// With fewer windows than this, none are held back to calibrate: out-of-fold scores do. 0: never; `usize::MAX`: always.
    pub cross_below: usize,
    /// How much of the champion's or the baseline's recall of injected faults a challenger may lack.
    pub recall_tolerance: f64,
    /// A detector that knows its process for less than this is young: it has seen too little of its days to say that what lasts is a fault.
    pub young: Duration,
    /// The alert rate on held-out records may be this many times the budget, beyond chance.
    pub alert_rate_factor: f64,
    /// Records older than the newest of their key by more than this are left out, as they are not scored: `input.late_after`.
    pub late_after: Option<Duration>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            rows_min: 500,
            rows_max: 20_000,
            guard: 20,
            calibrate_share: 0.15,
            gate_share: 0.15,
            cross_below: 0,
            recall_tolerance: 0.05,
            young: Duration::from_secs(3 * 86_400),
            alert_rate_factor: 3.0,
            late_after: None,
        }
    }
}

impl Params {
    /// How a model of this many windows comes to be.
    pub(super) fn usage(&self, windows: usize) -> Usage {
        let cross = windows < self.cross_below;
        Usage {
            rows_max: self.rows_max as u64,
            guard: self.guard,
            calibrate_share: if cross { 0.0 } else { self.calibrate_share },
            gate_share: self.gate_share,
            folds: if cross { FOLDS as u64 } else { 0 },
            late_after_ms: self.late_after.map(|bound| bound.as_millis() as u64),
        }
    }

    /// The same, with rows used as they were for the model of `card`.
    #[must_use]
    pub fn again(self, card: &Card) -> Self {
        let Some(usage) = card.usage else { return self };
        Self {
            rows_max: usize::try_from(usage.rows_max).unwrap_or(usize::MAX),
            guard: usage.guard,
            calibrate_share: usage.calibrate_share,
            gate_share: usage.gate_share,
            cross_below: if usage.folds > 0 { usize::MAX } else { 0 },
            late_after: usage.late_after_ms.map(Duration::from_millis),
            ..self
        }
    }
}

/// How the models of a detector are trained: what all its runs have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainSettings {
    /// The detector.
    pub detector: String,
    /// What to fit.
    pub spec: ModelSpec,
    /// How records are read, as configured: goes into the card.
    pub schema: Option<SchemaSpec>,
    /// What the configuration keeps out.
    pub maintenance: Vec<Maintenance>,
    /// The false-alarm budget, which the gate holds the alert rate against.
    pub budget: Budget,
    /// How evidence gathers and episodes close.
    pub episodes: EpisodeSettings,
    /// How rows are used, and what the gate asks for.
    pub params: Params,
    /// The root of all randomness: each version has its child.
    pub seed: Seed,
}

impl TrainSettings {
    /// The seed of one version's training.
    #[must_use]
    pub fn seed_of(&self, version: ModelVersion) -> Seed {
        self.seed.child("train").nth(version.0)
    }

    /// What to read of a history, of records of so many columns.
    #[must_use]
    pub fn wanted(&self, columns: usize) -> Wanted {
        let rows_max = self.params.rows_max as u64;
        let more = (READ_FACTOR * rows_max).min(READ_NUMBERS_MAX / columns.max(1) as u64);
        Wanted {
            rows_max: rows_max.max(more),
            rows_min: self.params.rows_min as u64,
            window: self.spec.window as u64,
            columns,
        }
    }
}

/// What a run read.
#[derive(Clone, Debug, Default)]
pub struct TrainData {
    /// Names of the D feature columns.
    pub columns: Vec<String>,
    /// Columns under the policy `last`.
    pub fill_last: Vec<usize>,
    /// Records, a part a partition.
    pub rows: Vec<PartitionRows>,
    /// A few records of every key, where `rows` has only some keys: what levels are learnt from.
    pub level_rows: Vec<PartitionRows>,
    /// The spans they were read from. Empty for a file.
    pub spans: Vec<Stretch>,
    /// The file they were read from: name and sha256.
    pub source: Option<String>,
}

/// Everything that a training run depends on.
#[derive(Clone, Debug)]
pub struct TrainJob {
    /// The detector.
    pub detector: String,
    /// The number of the model to be.
    pub version: ModelVersion,
    /// Goes into the card; changes nothing else.
    pub created: Timestamp,
    /// Names of the D feature columns.
    pub columns: Vec<String>,
    /// Columns under the policy `last`: a missing value takes the key's last one, as it does live.
    pub fill_last: Vec<usize>,
    /// What to fit.
    pub spec: ModelSpec,
    /// How records were read: goes into the card, so that they can be read so again.
    pub schema: Option<SchemaSpec>,
    /// The root of this run's randomness.
    pub seed: Seed,
    /// What was read, a part a partition.
    pub rows: Vec<PartitionRows>,
    /// A few records of every key, where `rows` has only some keys: what levels are learnt from.
    pub level_rows: Vec<PartitionRows>,
    /// The spans it was read from; windows do not cross from one to another. Empty for a file.
    pub spans: Vec<Stretch>,
    /// The file it was read from: name and sha256.
    pub source: Option<String>,
    /// What to keep out, without guard bands.
    pub exclusions: Vec<Exclusion>,
    /// What somebody said of episodes and suspects.
    pub feedback: Said,
    /// What the configuration keeps out.
    pub maintenance: Vec<Maintenance>,
    /// The false-alarm budget, which the gate holds the alert rate against.
    pub budget: Budget,
    /// How evidence gathers and episodes close.
    pub episodes: EpisodeSettings,
    /// The model in use.
    pub champion: Option<Arc<TrainedModel>>,
    /// What the last model before this one was rejected for, if only for earlier records.
    pub change: Option<Change>,
    /// Whether what gaps make of scores is calibrated: not of a model that only says how many faults are found.
    pub gaps: bool,
    /// Keys whose older records were moved to a new level that less than a day tells of: what was remembered of them does not count.
    pub unsettled: BTreeSet<String>,
    /// Make again the model of this card: its verdict and measures are taken over instead of asking the gate.
    pub remake: Option<Card>,
    /// How rows are used.
    pub params: Params,
}

impl TrainJob {
    /// A run by `settings`, made at `created`, on what was read. Nothing is kept out but maintenance, and there is no model in use.
    #[must_use]
    pub fn new(
        settings: &TrainSettings,
        (version, created): (ModelVersion, Timestamp),
        data: TrainData,
    ) -> Self {
        Self {
            detector: settings.detector.clone(),
            version,
            created,
            columns: data.columns,
            fill_last: data.fill_last,
            spec: settings.spec.clone(),
            schema: settings.schema.clone(),
            seed: settings.seed_of(version),
            rows: data.rows,
            level_rows: data.level_rows,
            spans: data.spans,
            source: data.source,
            exclusions: Vec::new(),
            feedback: Said::new(),
            maintenance: settings.maintenance.clone(),
            budget: settings.budget,
            episodes: settings.episodes.clone(),
            champion: None,
            change: None,
            gaps: true,
            unsettled: BTreeSet::new(),
            remake: None,
            params: settings.params,
        }
    }

    /// The run that makes the model of `card` again, from what it was made from; `settings` say what a card does not.
    #[must_use]
    pub fn again(card: &Card, settings: &TrainSettings, data: TrainData) -> Self {
        let settings = TrainSettings {
            detector: card.detector.clone(),
            spec: card.spec.clone(),
            schema: card.schema.clone(),
            maintenance: card.maintenance.clone(),
            params: settings.params.again(card),
            ..settings.clone()
        };
        Self {
            seed: card.seed,
            exclusions: card.exclusions.clone(),
            remake: Some(card.clone()),
            ..Self::new(&settings, (card.version, card.created), data)
        }
    }

    /// Which columns are context.
    pub(super) fn context_columns(&self) -> ContextColumns {
        let known = self.schema.as_ref();
        known.map_or_else(ContextColumns::default, |schema| {
            schema.context_columns(&self.columns)
        })
    }

    /// The same of some columns only, without the rows and what was read: for the model of a type of keys.
    pub(super) fn of_columns(&self, columns: &[usize]) -> Self {
        let columns: Vec<String> = columns.iter().map(|&at| self.columns[at].clone()).collect();
        Self {
            seed: self.seed.child("type").child(&columns.join("\n")),
            columns,
            fill_last: Vec::new(),
            spans: Vec::new(),
            source: None,
            exclusions: Vec::new(),
            feedback: Said::new(),
            maintenance: Vec::new(),
            ..self.with(self.spec.clone(), self.gaps)
        }
    }

    /// The same with principal components, without the rows: the line that the gate draws. Of long windows they are those of the newest records,
    /// as in the pool: the whole of one has more inputs than a covariance is known of. `gaps`: whether it may judge windows with gaps.
    pub(super) fn plain(&self, gaps: bool) -> Self {
        let mut spec = self.spec.clone();
        if spec.window > BASELINE_RECORDS {
            "ensemble".clone_into(&mut spec.kind);
            spec.ensemble.members = vec![format!("pca:last={BASELINE_RECORDS}")];
            spec.ensemble.combine = Combine::Quantile;
        } else {
            "pca".clone_into(&mut spec.kind);
        }
        self.with(spec, gaps)
    }

    /// The suspects that the model in use knows of, with what somebody said of them; of a model that is made again, those of its card.
    pub(super) fn known_suspects(&self) -> Vec<Suspect> {
        if let Some(card) = &self.remake {
            return card.suspects.clone();
        }
        let mut suspects = match &self.champion {
            Some(champion) => champion.card.suspects.clone(),
            None => Vec::new(),
        };
        for suspect in &mut suspects {
            let exclusion = &mut suspect.exclusion;
            exclusion.feedback = self.feedback.get(&exclusion.because).copied();
        }
        suspects
    }

    /// The same on records that were moved to new levels, which less than a day tells of for some keys.
    pub(super) fn moved(
        &self,
        [rows, level_rows]: [Vec<PartitionRows>; 2],
        unsettled: BTreeSet<String>,
    ) -> Self {
        Self {
            rows,
            level_rows,
            unsettled,
            change: self.change,
            remake: self.remake.clone(),
            ..self.with(self.spec.clone(), self.gaps)
        }
    }

    /// The same without the rows, to fit something else on windows that were made of them.
    fn with(&self, spec: ModelSpec, gaps: bool) -> Self {
        Self {
            spec,
            rows: Vec::new(),
            level_rows: Vec::new(),
            detector: self.detector.clone(),
            version: self.version,
            created: self.created,
            columns: self.columns.clone(),
            fill_last: self.fill_last.clone(),
            schema: self.schema.clone(),
            seed: self.seed,
            spans: self.spans.clone(),
            source: self.source.clone(),
            exclusions: self.exclusions.clone(),
            feedback: self.feedback.clone(),
            maintenance: self.maintenance.clone(),
            budget: self.budget,
            episodes: self.episodes.clone(),
            champion: self.champion.clone(),
            change: None,
            gaps,
            unsettled: BTreeSet::new(),
            remake: None,
            params: self.params,
        }
    }
}

/// Why there is no candidate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Too little is left to learn from.
    #[error(
        "training needs at least {needed} windows, but has {windows} ({rows} records read, {excluded} kept out)"
    )]
    TooFewRows {
        /// Windows needed.
        needed: usize,
        /// Windows there are.
        windows: usize,
        /// Records read.
        rows: usize,
        /// Records kept out, guard bands included.
        excluded: usize,
    },
    /// Nothing varies.
    #[error(
        "all {columns} features are constant or missing over {rows} records: there is nothing to learn"
    )]
    Constant {
        /// D.
        columns: usize,
        /// Records looked at.
        rows: usize,
    },
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The fit failed or was cancelled.
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl TrainError {
    /// Whether it was `stop` that ended the run.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Fit(FitError::Cancelled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{EpisodeId, Offset, TopicPartition};

    #[test]
    fn what_a_card_says_is_asked_for_again_and_not_what_is_configured() {
        let settings = TrainSettings {
            detector: "configured".to_owned(),
            spec: ModelSpec::default(),
            schema: None,
            maintenance: Vec::new(),
            budget: Budget::PerRecord(1e-3),
            episodes: EpisodeSettings::default(),
            params: Params::default(),
            seed: Seed(1),
        };
        let at = TopicPartition::new("t", 0);
        let card = Card {
            version: ModelVersion(7),
            created: Timestamp(70),
            detector: "then".to_owned(),
            spec: ModelSpec {
                window: 3,
                ..ModelSpec::default()
            },
            schema: Some(SchemaSpec::default()),
            seed: Seed(77),
            exclusions: vec![Exclusion {
                at: at.clone(),
                key: "k".to_owned(),
                from: Offset(1),
                to: Some(Offset(2)),
                because: EpisodeId::new("then", &at, Offset(1)),
                feedback: None,
            }],
            maintenance: vec![Maintenance {
                key: None,
                from: Timestamp(1),
                to: Timestamp(2),
            }],
            usage: Some(Usage {
                rows_max: 11,
                guard: 12,
                calibrate_share: 0.0,
                gate_share: 0.2,
                folds: 4,
                late_after_ms: Some(5000),
            }),
            ..Card::blank()
        };
        let job = TrainJob::again(&card, &settings, TrainData::default());
        assert_eq!((job.version, job.created), (card.version, card.created));
        assert_eq!((&job.detector, &job.spec), (&card.detector, &card.spec));
        assert_eq!((&job.schema, job.seed), (&card.schema, card.seed));
        assert_eq!(job.exclusions, card.exclusions);
        assert_eq!(job.maintenance, card.maintenance);
        assert_eq!(Some(job.params.usage(100)), card.usage);
        assert_eq!(job.remake.as_ref(), Some(&card));
        // A run that makes a new one asks for none of this.
        let new = (ModelVersion(2), Timestamp(3));
        let job = TrainJob::new(&settings, new, TrainData::default());
        assert_eq!(job.seed, settings.seed.child("train").nth(2));
        assert!(job.exclusions.is_empty() && job.remake.is_none());
    }
}
