//! Why a window is strange: which features are to blame, and what was expected of them.

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};

use super::{Filled, TrainedModel};
use crate::model::gaps::Line;
use crate::model::held::OfColumn;
use crate::model::judges::Beside;
use crate::seed::Seed;

/// The −ln p from which on nobody is surer of what is to blame.
const SURE: f64 = 30.0;

/// A feature is to blame from this share of the largest share on.
const BLAMED: f64 = 0.5;

/// The probability up to which a feature that stands still is said to: quantised values often repeat themselves.
const STILL: f64 = 0.01;

/// Why one window is strange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// Each of the D features' share in the score; none negative, sum 1.
    pub shares: Vec<f64>,
    /// What was expected of the newest record, D numbers in the features' own units; within an episode, had its features not been to blame.
    pub expected: Vec<f64>,
    /// A feature that stands still, and for how many records of the window: where that is rare, and surer to be strange than all else.
    pub still: Option<(usize, u32)>,
}

impl TrainedModel {
    /// Explains one window (`1 × (W · D)` raw values). An input that was not observed has no share.
    ///
    /// Of a window whose newest `faulty` records lie in an episode, a reconstruction would follow the fault. What is expected is what all else lets
    /// expect then: the values of the features that are to blame are taken for missing in those records.
    ///
    /// # Panics
    /// If it is not one window.
    pub fn explain(&self, window: ArrayView2<'_, f64>, faulty: u64) -> Explanation {
        assert_eq!(window.nrows(), 1, "one window is explained at a time");
        match self.type_of(window.row(0)) {
            Some(of) => self.explain_by_type(of, window, faulty),
            None => self.explain_as_one(window, faulty),
        }
    }

    /// [`Self::explain`] by the model of all, whatever types there are.
    pub(in crate::model) fn explain_as_one(
        &self,
        window: ArrayView2<'_, f64>,
        faulty: u64,
    ) -> Explanation {
        let columns = self.card.columns.len();
        let filled = self.fill(window);
        let measured = self.scaler.measured();
        let seen = |input: usize| {
            let (record, place) = (input / measured.len(), input % measured.len());
            !window[(0, record * columns + measured.column(place))].is_nan()
        };
        let mut shares = self.shares(&filled, &seen);
        let mut still = None;
        let gaps = filled.missing[0] > 0.0;
        let beside = self
            .judges
            .judge(self.scaler.transform(window).view(), gaps);
        if let (Some(judge), Some(peak)) = (&self.judges.sensors, beside.peaks.first()) {
            let records = filled.rows.ncols() / measured.len();
            let observed: Vec<bool> = (0..measured.len())
                .map(|place| (0..records).any(|record| seen(record * measured.len() + place)))
                .collect();
            let rows = self.beyond(window, &filled);
            let rows = rows.to_shape((records, measured.len()));
            let mut blame = rows.map_or_else(
                |_| vec![0.0; measured.len()],
                |rows| judge.blame(rows.view(), &observed),
            );
            normalise(&mut blame);
            let seeds = [Seed(0)];
            let score = self.model.score(filled.rows.view(), &seeds);
            let line = filled.lines.first().copied().unwrap_or(Line::SAME);
            let own = self.p_value(line.of(f64::from(score[0])), filled.missing[0]);
            // Each has a say by how sure it is.
            let sure = |p_value: f64| (-p_value.ln()).clamp(1e-3, SURE);
            let mut p_value = judge.p_value(peak.size, peak.missing);
            if let (Some(judge), Some(peak)) = (&self.judges.means, beside.means.first()) {
                p_value = p_value.min(judge.p_value(peak.size, peak.missing));
            }
            let (own, theirs) = (sure(own), sure(p_value));
            for (share, blame) in shares.iter_mut().zip(blame) {
                *share = (own * *share + theirs * blame) / (own + theirs);
            }
            let whole = own + theirs;
            still = blame_single(&mut shares, &beside, whole)
                .filter(|single| single.still > 0 && single.p <= STILL)
                .map(|single| (measured.column(single.column), single.still));
        }
        let expected = match self.without_blamed(window, &shares, faulty) {
            Some(without) => self.expected_newest(window, &self.fill(without.view())),
            None => self.expected_newest(window, &filled),
        };
        // What is context is never to blame.
        let mut whole = vec![0.0; columns];
        for (place, share) in shares.into_iter().enumerate() {
            whole[measured.column(place)] = share;
        }
        Explanation {
            shares: whole,
            expected: expected.into_iter().collect(),
            still,
        }
    }

    /// The window without the values of its newest `faulty` records of those measured columns that are to blame; `None` if there are none.
    fn without_blamed(
        &self,
        window: ArrayView2<'_, f64>,
        shares: &[f64],
        faulty: u64,
    ) -> Option<Array2<f64>> {
        let columns = self.card.columns.len();
        let records = window.ncols() / columns.max(1);
        let faulty = usize::try_from(faulty).unwrap_or(records).min(records);
        let most = shares.iter().copied().fold(0.0, f64::max);
        if faulty == 0 || most <= 0.0 {
            return None;
        }
        let mut without = window.to_owned();
        let measured = self.scaler.measured();
        for (place, share) in shares.iter().enumerate() {
            if *share >= BLAMED * most {
                for record in records - faulty..records {
                    without[(0, record * columns + measured.column(place))] = f64::NAN;
                }
            }
        }
        Some(without)
    }

    /// Explains one window of a key, W · D raw values, whose newest `faulty` records lie in an episode: what is expected is in the key's own units.
    pub fn explain_of(&self, key: &str, window: &[f64], faulty: u64) -> Explanation {
        let mut rows = window.to_vec();
        self.levels.apply(key, &mut rows);
        let view = ArrayView2::from_shape((1, rows.len()), &rows);
        let mut found = self.explain(view.unwrap_or_else(|_| unreachable!("one window")), faulty);
        self.levels.undo(key, &mut found.expected);
        found
    }

    /// What is expected of the newest record of one window of a key (W · D raw values), in the key's own units, D values; where the newest `faulty` records lie
    /// in an episode, as [`Self::explain_of`] says it.
    pub fn expected_of(&self, key: &str, window: &[f64], faulty: u64) -> Vec<f64> {
        if faulty > 0 {
            return self.explain_of(key, window, faulty).expected;
        }
        let mut rows = window.to_vec();
        self.levels.apply(key, &mut rows);
        let view = ArrayView2::from_shape((1, rows.len()), &rows);
        let found = self.expected(view.unwrap_or_else(|_| unreachable!("one window")));
        let mut expected: Vec<f64> = found.into_iter().collect();
        self.levels.undo(key, &mut expected);
        expected
    }

    /// The share of each measured column in the model's own score of one window.
    fn shares(&self, filled: &Filled, seen: &dyn Fn(usize) -> bool) -> Vec<f64> {
        let measured = self.scaler.measured().len();
        let contributions = self.model.contributions(filled.rows.view());
        let mut shares = vec![0.0; measured];
        for (input, &contribution) in contributions.iter().enumerate() {
            if seen(input) {
                let normal = f64::from(self.normal_contribution[input]);
                shares[input % measured] += f64::from(contribution.max(0.0)) / normal;
            }
        }
        normalise(&mut shares);
        shares
    }

    /// What is expected of the newest record of n windows (`n × D`), in the features' own units.
    pub fn expected(&self, windows: ArrayView2<'_, f64>) -> Array2<f64> {
        if self.types.is_empty() {
            self.expected_newest(windows, &self.fill(windows))
        } else {
            self.expected_by_type(windows)
        }
    }

    pub(super) fn expected_newest(
        &self,
        windows: ArrayView2<'_, f64>,
        filled: &Filled,
    ) -> Array2<f64> {
        let (columns, measured) = (self.card.columns.len(), self.scaler.measured().len());
        let newest_of = |width: usize, columns: usize| Slice::from(width - columns..width);
        let expected = self.model.expected(filled.rows.view());
        let newest = expected.slice_axis(Axis(1), newest_of(expected.ncols(), measured));
        let like = windows.slice_axis(Axis(1), newest_of(windows.ncols(), columns));
        let mut newest = self.scaler.inverse(newest, Some(like));
        if windows.ncols() > columns {
            let before = windows.slice_axis(Axis(1), newest_of(windows.ncols() - columns, columns));
            self.scaler.changes.stand(&mut newest, before);
        }
        newest
    }

    /// The scaled inputs of one window as they are beyond the bound, with what is missing as it was filled.
    fn beyond(&self, window: ArrayView2<'_, f64>, filled: &Filled) -> Array2<f32> {
        let mut rows = self.scaler.transform(window);
        let fill = |value: &mut f32, filled: &f32| {
            if value.is_nan() {
                *value = *filled;
            }
        };
        Zip::from(&mut rows).and(&filled.rows).for_each(fill);
        rows
    }
}

/// Makes `shares` sum to 1; equal shares where there is nothing to divide.
fn normalise(shares: &mut [f64]) {
    let sum: f64 = shares.iter().sum();
    let equal = 1.0 / shares.len().max(1) as f64;
    for share in shares.iter_mut() {
        *share = if sum > 0.0 && sum.is_finite() {
            *share / sum
        } else {
            equal
        };
    }
}

/// Lets a column that is strange by itself have its say in the shares of what others are so sure of, in nats. Answers it if it is the surest.
fn blame_single(shares: &mut [f64], beside: &Beside, others: f64) -> Option<OfColumn> {
    let single = *beside.single.first().filter(|single| single.p < 1.0)?;
    let sure = (-single.p.ln()).min(SURE);
    for (column, share) in shares.iter_mut().enumerate() {
        let blame = if column == single.column { sure } else { 0.0 };
        *share = (others * *share + blame) / (others + sure);
    }
    (sure > others).then_some(single)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{calibration, seeds};
    use super::*;
    use crate::model::levels::Levels;
    use ndarray::array;

    #[test]
    fn what_is_expected_of_a_key_is_in_its_own_units() {
        let mut model = TrainedModel::simple(1, &["a", "b"], 1, calibration());
        model.levels = Levels::of_one("k", &[100.0, 50.0], 2.0);
        // The second feature lies ten usual spreads off, twenty of the key's units.
        let explained = model.explain_of("k", &[100.0, 70.0], 0);
        assert_eq!(explained.expected, vec![100.0, 50.0]);
        assert_eq!(explained.shares, vec![0.0, 1.0]);
    }

    #[test]
    fn shares_are_normalised_by_what_is_normal_and_summed_over_the_window() {
        let mut model = TrainedModel::simple(1, &["a", "b"], 2, calibration());
        model.normal_contribution = vec![1.0, 4.0, 1.0, 4.0];
        // Squares 1, 4, 4, 16 over 1, 4, 1, 4: a = 1 + 4, b = 1 + 4.
        let explained = model.explain(array![[1.0, 2.0, 2.0, 4.0]].view(), 0);
        assert_eq!(explained.shares, vec![0.5, 0.5]);
        assert_eq!(explained.expected, vec![0.0, 0.0]);
    }

    #[test]
    fn expected_values_are_in_the_features_own_units() {
        let mut model = TrainedModel::simple(1, &["a", "b"], 1, calibration());
        model.scaler.centre = vec![20.0, -3.0];
        model.scaler.spread = vec![5.0, 2.0];
        let explained = model.explain(array![[30.0, -3.0]].view(), 0);
        assert_eq!(explained.expected, vec![20.0, -3.0]);
        assert_eq!(explained.shares, vec![1.0, 0.0]);
    }

    #[test]
    fn what_is_missing_has_no_share_and_nothing_at_all_is_not_strange() {
        let model = TrainedModel::simple(1, &["a", "b", "c"], 1, calibration());
        let explained = model.explain(array![[f64::NAN, 1.0, 1.0]].view(), 0);
        assert_eq!(explained.shares, vec![0.0, 0.5, 0.5]);
        let nothing = array![[f64::NAN, f64::NAN, f64::NAN]];
        assert_eq!(model.judge(nothing.view(), &seeds(1)).p_value, vec![1.0]);
        let sum: f64 = model.explain(nothing.view(), 0).shares.iter().sum();
        assert!((sum - 1.0).abs() < 1e-12);
    }
}
