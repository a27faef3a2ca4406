//! A model in its setting: scaler, model, calibration and card together turn windows of raw values into p-values and reasons.
//!
//! The only way to score: the daemon, `score`, `backtest` and training itself all call [`TrainedModel::judge`], so that replay equals live.

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use std::sync::Arc;

use super::Model;
use super::card::{Card, ModelVersion};
use super::chunks::CHUNK;
use super::gaps::{Gaps, Line};
use super::held::OfColumn;
use super::judges::{Beside, Judges, means_of};
use super::levels::Levels;
use super::reservoir::Reservoir;
use super::scale::Scaler;
use super::scale::changes::Changes;
use super::sensors::{self, Sensors};
use super::spec::{ModelSpec, Scaling};
use crate::model::kinds::robust_z::RobustZ;
use crate::seed::Seed;
use crate::simd::{Loop, wide};
use crate::stats::calibration::{Calibration, CalibrationSet};
use crate::stats::evidence::EvidenceLaw;

mod explain;
mod strips;
pub mod types;

pub use explain::Explanation;
pub use strips::{Strips, WindowAt};

/// How often a missing input is replaced by what the model expects in its place, beginning at the centre of its column.
const FILL_ROUNDS: usize = 3;

/// A model that can judge windows of raw records. Immutable once made; shared as `Arc`.
#[derive(Debug)]
pub struct TrainedModel {
    /// What it was made from: version, columns, settings.
    pub card: Card,
    /// Brings what is usual for a key to what is usual for all. Windows that are judged have been brought there.
    pub levels: Levels,
    /// Brings the D columns to a common scale.
    pub scaler: Scaler,
    /// The model, on W · M scaled inputs.
    pub model: Model,
    /// What judges beside the model, whatever its kind.
    pub judges: Judges,
    /// From scores to p-values.
    pub calibration: CalibrationSet,
    /// From scores of windows with gaps to those of complete ones.
    pub gaps: Gaps,
    /// Mean of [`super::Kind::contributions`] over held-out normal rows, one number an input (W · M), none 0: what attribution divides by,
    /// so that a feature that is always hard to predict is not always blamed.
    pub normal_contribution: Vec<f32>,
    /// How evidence of normal records gathers, as held-out sequences showed it; none where there were none.
    pub evidence: Option<Arc<EvidenceLaw>>,
    /// Windows that this model and those before it were accepted on, for the gate of those after it.
    pub reservoir: Reservoir,
    /// Types of keys that have a model of their own; none where all send much the same features.
    pub types: Vec<KeyType>,
}

/// Keys that send the same features.
#[derive(Debug)]
pub struct KeyType {
    /// Which of the D columns they send, ascending, those of context among them.
    pub columns: Vec<usize>,
    /// The model of these columns, for windows that the levels of the model of all have been applied to.
    pub model: TrainedModel,
}

/// What was found about n windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Higher is stranger; n numbers. Those of windows with missing inputs are brought to the scale of complete ones.
    pub score: Vec<f64>,
    /// The probability that a normal record scores as high; n numbers in (0, 1].
    pub p_value: Vec<f64>,
    /// How much of a surprise each newest record is ([`super::Kind::surprise`]); n, or none of kinds that do not forecast.
    pub surprise: Vec<f64>,
}

/// The model's own scores, the fraction of inputs that was missing behind each, and what is said beside it.
#[derive(Default)]
struct RawScores {
    scores: Vec<f64>,
    surprise: Vec<f64>,
    missing: Vec<f64>,
    lines: Vec<Line>,
    beside: Beside,
}

/// Scaled windows without gaps, and where the gaps were.
struct Filled {
    /// `n × (W · M)`, finite.
    rows: Array2<f32>,
    /// Fraction of inputs missing, n numbers.
    missing: Vec<f64>,
    /// What brings a score to that of a complete window, n, or none where nothing is missing.
    lines: Vec<Line>,
}

impl RawScores {
    /// Adds the model's own of windows, each in one piece.
    fn add(&mut self, model: &Model, rows: ArrayView2<'_, f32>, seeds: &[Seed]) {
        let wide = |scores: Array1<f32>| scores.into_iter().map(f64::from);
        if let Some(surprise) = model.surprise(rows) {
            self.surprise.extend(wide(surprise));
        }
        let scores = if model.takes_rows_apart() || rows.is_standard_layout() {
            model.score(rows, seeds)
        } else {
            model.score(rows.to_owned().view(), seeds)
        };
        self.scores.extend(wide(scores));
    }

    /// Those of complete windows at these places.
    fn picked(&self, places: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        fn those<T: Copy>(said: &[T], places: impl Iterator<Item = usize>) -> Vec<T> {
            places.filter_map(|at| said.get(at).copied()).collect()
        }
        Self {
            scores: those(&self.scores, places.clone()),
            surprise: those(&self.surprise, places.clone()),
            missing: vec![0.0; places.len()],
            lines: Vec::new(),
            beside: Beside {
                peaks: those(&self.beside.peaks, places.clone()),
                means: those(&self.beside.means, places.clone()),
                single: those(&self.beside.single, places),
            },
        }
    }
}

impl TrainedModel {
    /// A model by robust z-scores over unscaled columns, calibrated as given: for tests and examples, not trained on anything.
    pub fn simple(version: u64, columns: &[&str], window: usize, calibration: Calibration) -> Self {
        let width = window * columns.len();
        let spec = ModelSpec {
            kind: "robust_z".to_owned(),
            window,
            scale: Scaling::None,
            clip: 0.0,
            ..ModelSpec::default()
        };
        let card = Card {
            version: ModelVersion(version),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            spec,
            ..Card::blank()
        };
        let scaler = Scaler {
            centre: vec![0.0; columns.len()],
            spread: vec![1.0; columns.len()],
            clip: 0.0,
            bounds: vec![0.0; columns.len()],
            ranks: Vec::new(),
            context: None,
            changes: Changes::default(),
            sparse: Vec::new(),
        };
        let model = Model::new("robust_z", Box::new(RobustZ::new(width)));
        Self {
            calibration: CalibrationSet::uniform(calibration),
            ..Self::uncalibrated(card, scaler, model)
        }
    }

    /// What was fitted, with nothing beside it, and no scores to tell what is normal.
    pub fn uncalibrated(card: Card, scaler: Scaler, model: Model) -> Self {
        Self {
            card,
            levels: Levels::default(),
            scaler,
            judges: Judges::default(),
            calibration: CalibrationSet::uniform(Calibration::fit(&[])),
            gaps: Gaps::default(),
            normal_contribution: vec![1.0; model.width()],
            evidence: None,
            reservoir: Reservoir::default(),
            types: Vec::new(),
            model,
        }
    }

    /// W · D: the numbers of a window.
    pub fn width(&self) -> usize {
        self.card.spec.window * self.card.columns.len()
    }

    /// W · M: the inputs of the model, those of a window that are measured.
    pub fn inputs(&self) -> usize {
        self.card.spec.window * self.scaler.measured().len()
    }

    /// Judges n windows of raw values, `n × (W · D)`, NaN where a feature was not observed. `seeds` has one seed a row, made from the
    /// record's place, so that replay gives the same bits. A window of which nothing was observed has p-value 1.
    ///
    /// # Panics
    /// If there is not one seed a window.
    pub fn judge(&self, windows: ArrayView2<'_, f64>, seeds: &[Seed]) -> Judged {
        assert_eq!(windows.nrows(), seeds.len(), "one seed a window");
        if self.types.is_empty() {
            self.judge_as_one(windows, seeds)
        } else {
            self.judge_by_type(windows, seeds)
        }
    }

    /// [`Self::judge`] by the model of all, whatever types there are.
    pub(in crate::model) fn judge_as_one(
        &self,
        windows: ArrayView2<'_, f64>,
        seeds: &[Seed],
    ) -> Judged {
        self.judged(self.raw(windows, seeds, true))
    }

    /// The model's own scores of n windows, and the fraction of each window's inputs that was missing: what calibrations are fitted on.
    pub fn raw_scores(&self, windows: ArrayView2<'_, f64>, seeds: &[Seed]) -> (Vec<f64>, Vec<f64>) {
        let RawScores {
            scores, missing, ..
        } = self.raw(windows, seeds, false);
        (scores, missing)
    }

    /// The size of each measured column's residual in the newest record of n windows, `n × M`, NaN where it was not observed, and in their means:
    /// what the calibrations of [`Judges::sensors`] and [`Judges::means`] are fitted on. Empty without these.
    pub fn sizes(&self, windows: ArrayView2<'_, f64>) -> [Array2<f32>; 2] {
        let none = || Array2::zeros((0, 0));
        let newest = self.judges.sensors.as_ref().map_or_else(none, |sensors| {
            if self.scaler.changes.is_empty() {
                let older = windows.ncols() - self.card.columns.len();
                let newest = windows.split_at(Axis(1), older).1;
                return sensors.sizes(self.scaler.transform(newest).view());
            }
            let rows = self.scaler.transform(windows);
            sensors.sizes(sensors::newest(rows.view(), sensors.columns()))
        });
        let means = self.judges.means.as_ref().map_or_else(none, |judge| {
            let rows = self.scaler.transform(windows);
            let sensors = self.judges.sensors.as_ref();
            judge.sizes(means_of(sensors, rows.view(), judge.columns()).view())
        });
        [newest, means]
    }

    /// The model's own scores, and where asked for what the judges beside it say.
    fn raw(&self, windows: ArrayView2<'_, f64>, seeds: &[Seed], judges: bool) -> RawScores {
        let mut raw = RawScores::default();
        // In pieces that stay in the cache, from scaling to the score, whatever the kind and however wide the window.
        let pieces = windows.axis_chunks_iter(Axis(0), CHUNK);
        for (piece, seeds) in pieces.zip(seeds.chunks(CHUNK)) {
            let rows = self.scaler.transform(piece);
            self.add_scores(rows, seeds, judges, &mut raw);
        }
        raw
    }

    /// Adds those of scaled windows, `n × (W · M)`.
    fn add_scores(&self, rows: Array2<f32>, seeds: &[Seed], judges: bool, raw: &mut RawScores) {
        let gaps = has_gaps(&rows);
        if judges {
            raw.beside.extend(self.judges.judge(rows.view(), gaps));
        }
        let filled = self.filled(rows, gaps);
        raw.add(&self.model, filled.rows.view(), seeds);
        if !filled.lines.is_empty() {
            // Those before had no gaps.
            raw.lines.resize(raw.missing.len(), Line::SAME);
            raw.lines.extend(filled.lines);
        }
        raw.missing.extend(filled.missing);
    }

    /// What raw scores mean.
    fn judged(&self, raw: RawScores) -> Judged {
        let mut judged = Judged {
            score: raw.scores,
            surprise: raw.surprise,
            p_value: Vec::with_capacity(raw.missing.len()),
        };
        for (at, (score, missing)) in judged.score.iter_mut().zip(raw.missing).enumerate() {
            let line = raw.lines.get(at).copied().unwrap_or(Line::SAME);
            *score = line.of(*score);
            let own = self.p_value(*score, missing);
            let together = self.judges.together(own, &raw.beside, at);
            judged.p_value.push(together);
        }
        judged
    }

    /// For each of n windows, `n × (W · D)` raw values, what [`Judges::single_columns`] says.
    pub fn single_columns(&self, windows: ArrayView2<'_, f64>) -> Vec<OfColumn> {
        self.judges
            .single_columns(self.scaler.transform(windows).view())
    }

    /// The model's code of n windows (`n × code`), for kinds that have one.
    pub fn codes(&self, windows: ArrayView2<'_, f64>) -> Option<Array2<f32>> {
        self.model.code(self.fill(windows).rows.view())
    }

    /// The p-value of a score on the scale of complete windows: 1 where nothing was observed.
    fn p_value(&self, score: f64, missing: f64) -> f64 {
        if missing >= 1.0 {
            1.0
        } else {
            self.calibration.full.p_value(score)
        }
    }

    /// Scales windows and fills what is missing with what the model expects there.
    fn fill(&self, windows: ArrayView2<'_, f64>) -> Filled {
        assert_eq!(windows.ncols(), self.width(), "windows are W · D wide");
        let rows = self.scaler.transform(windows);
        let gaps = has_gaps(&rows);
        self.filled(rows, gaps)
    }

    /// Fills what is missing of scaled windows with what the model expects there.
    fn filled(&self, mut rows: Array2<f32>, gaps: bool) -> Filled {
        self.cut_off(&mut rows);
        if !gaps {
            let missing = vec![0.0; rows.nrows()];
            return Filled {
                rows,
                missing,
                lines: Vec::new(),
            };
        }
        let measured = self.scaler.measured().len();
        let missing: Vec<f64> = rows
            .rows()
            .into_iter()
            .map(|row| {
                row.iter().filter(|value| value.is_nan()).count() as f64 / row.len().max(1) as f64
            })
            .collect();
        let gappy: Vec<usize> = (0..rows.nrows()).filter(|&i| missing[i] > 0.0).collect();
        let mut lines = vec![Line::SAME; rows.nrows()];
        for &row in &gappy {
            lines[row] = self.gaps.line_of(rows.row(row), measured);
        }
        if !gappy.is_empty() {
            let mut part = rows.select(Axis(0), &gappy);
            self.fill_gaps(&mut part);
            for (from, &to) in gappy.iter().enumerate() {
                rows.row_mut(to).assign(&part.row(from));
            }
        }
        Filled {
            rows,
            missing,
            lines,
        }
    }

    /// Cuts scaled values off at the bound: what a kind sees. How far beyond it they lie, the judges of sensors say; where there are none, the kind
    /// sees all of it.
    fn cut_off(&self, rows: &mut Array2<f32>) {
        if self.judges.sensors.is_some() {
            self.scaler.cut_off(rows);
        }
    }

    /// Replaces NaN in scaled rows: by what the other columns let expect at that moment, then by what the model expects, a few times over.
    fn fill_gaps(&self, rows: &mut Array2<f32>) {
        let gaps = rows.mapv(f32::is_nan);
        if let Some(judge) = &self.judges.sensors {
            judge.fill(rows);
        }
        rows.mapv_inplace(|value| if value.is_nan() { 0.0 } else { value });
        // What columns say of each other is all there is within a record; a window has a course, too.
        let alone =
            self.judges.sensors.as_ref().is_some_and(Sensors::fills) && self.card.spec.window == 1;
        if alone || !self.model.reconstructs() {
            return;
        }
        for _ in 0..FILL_ROUNDS {
            let expected = self.model.expected(rows.view());
            Zip::from(&mut *rows)
                .and(&gaps)
                .and(&expected)
                .for_each(|value, &gap, &expected| {
                    if gap && expected.is_finite() {
                        *value = expected;
                    }
                });
        }
    }
}

/// How many values are missing.
struct CountGaps<'a> {
    values: &'a [f32],
}

impl Loop for CountGaps<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let Self { values } = self;
        let each = values.iter();
        each.fold(0, |gaps, value| gaps + u32::from(value.is_nan()))
    }
}

/// Nearly always nothing is missing, and one look over all tells faster than one over each.
fn has_gaps(rows: &Array2<f32>) -> bool {
    let values = rows.as_slice_memory_order();
    values.map_or_else(
        || rows.iter().any(|value| value.is_nan()),
        |values| wide(CountGaps { values }) > 0,
    )
}

#[cfg(test)]
pub(in crate::model) mod tests {
    use super::*;
    use ndarray::{Slice, array};

    pub fn calibration() -> Calibration {
        let scores: Vec<f64> = (0..1000).map(|i| f64::from(i) / 100.0).collect();
        Calibration::fit(&scores)
    }

    pub fn seeds(n: usize) -> Vec<Seed> {
        (0..n as u64).map(Seed).collect()
    }

    #[test]
    fn scores_are_the_models_and_p_values_fall_as_they_rise() {
        let model = TrainedModel::simple(3, &["a", "b"], 1, calibration());
        let judged = model.judge(array![[0.0, 0.0], [1.0, 2.0], [6.0, 6.0]].view(), &seeds(3));
        assert_eq!(judged.score, vec![0.0, 2.5, 36.0]);
        assert!(judged.p_value[0] > judged.p_value[1] && judged.p_value[1] > judged.p_value[2]);
        assert!(judged.p_value.iter().all(|p| 0.0 < *p && *p <= 1.0));
    }

    #[test]
    fn a_windows_verdict_does_not_depend_on_its_batch() {
        let model = TrainedModel::simple(1, &["a", "b"], 2, calibration());
        let rows = array![
            [0.1, -0.4, 2.0, f64::NAN],
            [0.3, 0.7, -1.0, 0.2],
            [f64::NAN, 0.7, f64::NAN, 0.2]
        ];
        let together = model.judge(rows.view(), &seeds(3));
        for i in 0..3 {
            let alone = model.judge(
                rows.slice_axis(Axis(0), Slice::from(i..=i)),
                &seeds(3)[i..=i],
            );
            assert_eq!(alone.score[0].to_bits(), together.score[i].to_bits());
            assert_eq!(alone.p_value[0].to_bits(), together.p_value[i].to_bits());
        }
    }

    #[test]
    fn windows_in_strips_are_judged_as_windows_by_themselves() {
        let model = TrainedModel::simple(1, &["a", "b"], 2, calibration());
        let (first, second) = ([0.1, -0.4, 2.0, f64::NAN, 0.3, 0.7], [5.0, 1.0, -1.0, 0.2]);
        let at = |strip, end| WindowAt { strip, end };
        let strips = Strips {
            strips: &[&first, &second],
            windows: &[at(0, 2), at(1, 2), at(0, 3)],
        };
        let apart = array![
            [0.1, -0.4, 2.0, f64::NAN],
            [5.0, 1.0, -1.0, 0.2],
            [2.0, f64::NAN, 0.3, 0.7]
        ];
        let expected = model.judge(apart.view(), &seeds(3));
        assert_eq!(model.judge_strips(strips, &seeds(3)), expected);
    }
}
