//! What stands beside the model, whatever its kind: the judges of single columns, of the newest record and of the window's means, and of columns that
//! stand still. Each says how strange a window is by itself; the p-value is what all of them let expect together.

use ndarray::{ArrayView1, ArrayView2};

use super::held::{Held, Still};
use super::sensors::{self, Sensors};

/// The judges beside a model.
#[derive(Debug, Default)]
pub struct Judges {
    /// Judges each column of the newest record; `None`: there are too many columns, or too few records to calibrate it on.
    pub sensors: Option<Sensors>,
    /// The same for the means of the window's columns: an offset that is small beside a single record's noise, but lasts. `None` of single records.
    pub means: Option<Sensors>,
    /// Looks for columns that stand still; `None` for windows that are too short.
    pub held: Option<Held>,
}

/// What they say of n windows.
#[derive(Debug, Default)]
pub struct Beside {
    /// Of newest records; n, or none where no sensors judge.
    pub peaks: Vec<Peak>,
    /// The same of means.
    pub means: Vec<Peak>,
    /// n, or none where nobody looks.
    pub still: Vec<Still>,
}

/// What [`Sensors`] say of the newest record of a window, or of its means.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// The largest residual; NaN if nothing was observed.
    pub size: f64,
    /// The share of the record's columns that was missing.
    pub missing: f64,
}

impl Beside {
    /// Adds what they say of further windows.
    pub fn extend(&mut self, other: Self) {
        self.peaks.extend(other.peaks);
        self.means.extend(other.means);
        self.still.extend(other.still);
    }
}

impl Judges {
    /// What they say of scaled windows, `n × (W · M)` each of them in one piece, as they are beyond the bound; NaN where `gaps` are.
    pub fn judge(&self, rows: ArrayView2<'_, f32>, gaps: bool) -> Beside {
        let peaks = self.sensors.as_ref().map_or_else(Vec::new, |judge| {
            peaks_of(judge, sensors::newest(rows, judge.columns()), gaps)
        });
        let means = self.means.as_ref().map_or_else(Vec::new, |judge| {
            let means = sensors::means(rows, judge.columns());
            peaks_of(judge, means.view(), gaps)
        });
        Beside {
            peaks,
            means,
            still: self.standing_still(rows),
        }
    }

    /// For each scaled window the column that stands still the most strangely; empty where nobody looks.
    pub fn standing_still(&self, rows: ArrayView2<'_, f32>) -> Vec<Still> {
        let judge = self.held.as_ref();
        let all = judge.map(|held| rows.rows().into_iter().map(|row| held.judge(row)));
        all.map_or_else(Vec::new, Iterator::collect)
    }

    /// The p-value of window `at`, of which the model's own is `p_value`.
    pub fn together(&self, mut p_value: f64, said: &Beside, at: usize) -> f64 {
        for (judge, peaks) in [(&self.sensors, &said.peaks), (&self.means, &said.means)] {
            if let (Some(judge), Some(peak)) = (judge, peaks.get(at)) {
                p_value = judge.beside(p_value, peak.size, peak.missing);
            }
        }
        match said.still.get(at).filter(|still| still.p < 1.0) {
            Some(still) => sensors::together(p_value, still.p),
            None => p_value,
        }
    }
}

/// What a judge says of n records of M columns.
fn peaks_of(judge: &Sensors, records: ArrayView2<'_, f32>, gaps: bool) -> Vec<Peak> {
    let sizes = judge.peaks(records, gaps).into_iter().zip(records.rows());
    let missing = |record: ArrayView1<'_, f32>| {
        let missing = record.iter().filter(|value| value.is_nan()).count();
        missing as f64 / record.len() as f64
    };
    sizes
        .map(|(size, record)| Peak {
            size,
            missing: if gaps { missing(record) } else { 0.0 },
        })
        .collect()
}
