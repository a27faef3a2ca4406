//! Types of keys: pumps and boilers in one topic, which send features of their own.
//!
//! Where no record has all features, one model of all has mostly gaps to look at, and one calibration mixes what is ordinary for each. So each type
//! has a model of its own features, fitted and calibrated on its own keys; the model of all judges what belongs to no type.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis};

use super::{Explanation, Judged, KeyType, TrainedModel};
use crate::seed::Seed;
use crate::stats::evidence::surprise;

/// The share of the features that a window and a type send, either of them, that both send: at least this is of the type.
pub const ALIKE: f64 = 0.5;

/// How alike two sets of features are: Jaccard's index, 1 where they are equal; 0 if both are empty.
pub fn alike(both: usize, either: usize) -> f64 {
    both as f64 / either.max(1) as f64
}

impl KeyType {
    /// The columns of n windows (`n × (W · D)`) that this type sends.
    fn columns_of(&self, windows: ArrayView2<'_, f64>, columns: usize) -> Array2<f64> {
        let records = 0..windows.ncols() / columns;
        let inputs: Vec<usize> = records
            .flat_map(|record| self.columns.iter().map(move |at| record * columns + at))
            .collect();
        windows.select(Axis(1), &inputs)
    }

    /// What is said of this type's columns, one number each, as it is of all, with `other` for those that it does not send.
    fn among_all(&self, said: &[f64], columns: usize, other: f64) -> Vec<f64> {
        let mut all = vec![other; columns];
        for (&column, said) in self.columns.iter().zip(said) {
            all[column] = *said;
        }
        all
    }
}

impl TrainedModel {
    /// The score from which on records are as rare as `p`.
    pub fn threshold(&self, p: f64) -> f64 {
        if self.types.is_empty() {
            self.calibration.full.threshold(p)
        } else {
            surprise(p)
        }
    }

    /// How much the p-value of a window (W · D raw values) can be relied on, in [0, 1].
    pub fn confidence(&self, window: &[f64]) -> f64 {
        if let Some(of) = self.type_of(window.into()) {
            return of.model.calibration.full.confidence();
        }
        let missing = window.iter().filter(|value| value.is_nan()).count();
        let missing = missing as f64 / window.len().max(1) as f64;
        self.calibration.at(missing).confidence()
    }

    /// The type that a window (W · D raw values) is of: that which sends most nearly the features that were observed in it.
    pub fn type_of(&self, window: ArrayView1<'_, f64>) -> Option<&KeyType> {
        self.place_of_type(window).map(|at| &self.types[at])
    }

    fn place_of_type(&self, window: ArrayView1<'_, f64>) -> Option<usize> {
        let columns = self.card.columns.len();
        let measured = self.scaler.measured();
        let observed: Vec<bool> = (0..measured.len())
            .map(|place| {
                let records = (measured.column(place)..window.len()).step_by(columns);
                records.into_iter().any(|input| !window[input].is_nan())
            })
            .collect();
        let count = observed.iter().filter(|observed| **observed).count();
        if count == 0 {
            return None;
        }
        let mut best = None;
        for (at, of) in self.types.iter().enumerate() {
            let (mut both, mut sent) = (0, 0);
            for (place, observed) in observed.iter().enumerate() {
                let sends = of.columns.binary_search(&measured.column(place)).is_ok();
                sent += usize::from(sends);
                both += usize::from(sends && *observed);
            }
            let alike = alike(both, sent + count - both);
            let belongs = alike >= ALIKE || both == count;
            if belongs && best.is_none_or(|(_, most)| alike > most) {
                best = Some((at, alike));
            }
        }
        best.map(|(at, _)| at)
    }

    /// The rows of n windows (`n × (W · D)`) by the type that they are of; those of none last. None without rows.
    fn rows_by_type(&self, windows: ArrayView2<'_, f64>) -> Vec<(Option<&KeyType>, Vec<usize>)> {
        let types = self.types.iter().map(Some).chain([None]);
        let mut all: Vec<_> = types.map(|of| (of, Vec::new())).collect();
        for (row, window) in windows.rows().into_iter().enumerate() {
            let at = self.place_of_type(window).unwrap_or(self.types.len());
            all[at].1.push(row);
        }
        all.retain(|(_, rows)| !rows.is_empty());
        all
    }

    /// [`Self::judge`] where there are types: each window by the model of its type. The score is −ln p: types are compared by nothing else.
    pub(super) fn judge_by_type(&self, windows: ArrayView2<'_, f64>, seeds: &[Seed]) -> Judged {
        let mut judged = Judged {
            score: vec![0.0; windows.nrows()],
            p_value: vec![1.0; windows.nrows()],
            surprise: Vec::new(),
        };
        for (of, rows) in self.rows_by_type(windows) {
            let theirs = windows.select(Axis(0), &rows);
            let seeds: Vec<Seed> = rows.iter().map(|&row| seeds[row]).collect();
            let found = match of {
                Some(of) => {
                    let columns = of.columns_of(theirs.view(), self.card.columns.len());
                    of.model.judge(columns.view(), &seeds)
                }
                None => self.judge_as_one(theirs.view(), &seeds),
            };
            for (row, p) in rows.into_iter().zip(found.p_value) {
                judged.p_value[row] = p;
                judged.score[row] = surprise(p);
            }
        }
        judged
    }

    /// [`Self::explain`] of a window of a type: what others send has no share, and nothing is expected of it.
    pub(super) fn explain_by_type(
        &self,
        of: &KeyType,
        window: ArrayView2<'_, f64>,
        faulty: u64,
    ) -> Explanation {
        let columns = self.card.columns.len();
        let theirs = of.columns_of(window, columns);
        let found = of.model.explain(theirs.view(), faulty);
        let still = found.still;
        Explanation {
            shares: of.among_all(&found.shares, columns, 0.0),
            expected: of.among_all(&found.expected, columns, f64::NAN),
            still: still.map(|(column, records)| (of.columns[column], records)),
        }
    }

    /// [`Self::expected`] of n windows where there are types; NaN where a type does not send a column.
    pub(super) fn expected_by_type(&self, windows: ArrayView2<'_, f64>) -> Array2<f64> {
        let columns = self.card.columns.len();
        let mut expected = Array2::from_elem((windows.nrows(), columns), f64::NAN);
        for (of, rows) in self.rows_by_type(windows) {
            let theirs = windows.select(Axis(0), &rows);
            let found = match of {
                Some(of) => of
                    .model
                    .expected(of.columns_of(theirs.view(), columns).view()),
                None => self.expected_newest(theirs.view(), &self.fill(theirs.view())),
            };
            let sent = |place: usize| of.map_or(place, |of| of.columns[place]);
            for ((at, place), value) in found.indexed_iter() {
                expected[(rows[at], sent(place))] = *value;
            }
        }
        expected
    }
}
