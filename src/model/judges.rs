//! What stands beside the model, whatever its kind: the judges of single columns, of the newest record and of the window's means, of columns that
//! stand still, and of values beyond all that were. Each says how strange a window is by itself; the p-value is what all of them let expect together.

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Slice};

use super::edges::Edges;
use super::held::{Held, OfColumn};
use super::rest::Resting;
use super::sensors::{self, Sensors};
use super::tensors::{ModelFileError, Tensors};

/// The judges beside a model.
#[derive(Debug, Default)]
pub struct Judges {
    /// Judges each column of the newest record; `None`: there are too many columns, or too few records to calibrate it on.
    pub sensors: Option<Sensors>,
    /// The same for the means of the window's columns: an offset that is small beside a single record's noise, but lasts. `None` of single records.
    pub means: Option<Sensors>,
    /// Looks for columns that stand still; `None` for windows that are too short.
    pub held: Option<Held>,
    /// Looks for columns that leave the value they rest at more often than they did; `None` where none rests.
    pub rest: Option<Resting>,
    /// Looks for values beyond all that a column ever took; `None` where too little was fitted on.
    pub edges: Option<Edges>,
}

/// What they say of n windows.
#[derive(Debug, Default)]
pub struct Beside {
    /// Of newest records; n, or none where no sensors judge.
    pub peaks: Vec<Peak>,
    /// The same of means.
    pub means: Vec<Peak>,
    /// Of columns that stand still or lie beyond their edges; n, or none where nobody looks.
    pub single: Vec<OfColumn>,
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
        self.single.extend(other.single);
    }
}

impl Judges {
    /// What they say of scaled windows, `n × (W · M)` each of them in one piece, as they are beyond the bound; NaN where `gaps` are.
    pub fn judge(&self, rows: ArrayView2<'_, f32>, gaps: bool) -> Beside {
        let peaks = self.sensors.as_ref().map_or_else(Vec::new, |judge| {
            peaks_of(judge, sensors::newest(rows, judge.columns()), gaps)
        });
        let means = self.means.as_ref().map_or_else(Vec::new, |judge| {
            let means = means_of(self.sensors.as_ref(), rows, judge.columns());
            peaks_of(judge, means.view(), gaps)
        });
        Beside {
            peaks,
            means,
            single: self.single_columns(rows),
        }
    }

    /// For each scaled window the column that stands still, leaves its rest, or lies beyond all that it ever was, the most strangely; empty where nobody
    /// looks.
    pub fn single_columns(&self, rows: ArrayView2<'_, f32>) -> Vec<OfColumn> {
        if self.held.is_none() && self.rest.is_none() && self.edges.is_none() {
            return Vec::new();
        }
        let judge = |row: ArrayView1<'_, f32>| {
            let still = self.held.as_ref().map(|held| held.judge(row));
            let beyond = self.edges.as_ref().map(|edges| {
                let older = row.len() - edges.columns();
                edges.judge(row.slice_axis(Axis(0), Slice::from(older..)))
            });
            let off = self.rest.as_ref().map(|rest| rest.judge(row));
            let all = still.into_iter().chain(off).chain(beyond);
            all.min_by(|a, b| a.p.total_cmp(&b.p))
                .unwrap_or(OfColumn::NOTHING)
        };
        rows.rows().into_iter().map(judge).collect()
    }

    /// Writes them.
    pub fn save(&self, to: &mut Tensors) {
        if let Some(sensors) = &self.sensors {
            sensors.save(to);
        }
        if let Some(means) = &self.means {
            let mut inner = Tensors::default();
            means.save(&mut inner);
            to.nest("means.", inner);
        }
        to.set("held", &self.held);
        to.set("rest", &self.rest);
        to.set("edges", &self.edges);
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If a part is absent, or its numbers cannot be used.
    pub fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let judges = Self {
            sensors: Sensors::load(from)?,
            means: Sensors::load(&from.nested("means."))?,
            held: from.get("held")?,
            rest: from.get("rest")?,
            edges: from.get("edges")?,
        };
        let unsound = [
            (
                "held",
                judges.held.as_ref().is_some_and(|held| !held.is_sound()),
            ),
            (
                "rest",
                judges.rest.as_ref().is_some_and(|rest| !rest.is_sound()),
            ),
            (
                "edges",
                judges.edges.as_ref().is_some_and(|edges| !edges.is_sound()),
            ),
        ];
        match unsound.iter().find(|(_, unsound)| *unsound) {
            Some((name, _)) => Err(ModelFileError::Invalid(format!(
                "`{name}` has numbers that cannot be used"
            ))),
            None => Ok(judges),
        }
    }

    /// The p-value of window `at`, of which the model's own is `p_value`.
    pub fn together(&self, mut p_value: f64, said: &Beside, at: usize) -> f64 {
        for (judge, peaks) in [(&self.sensors, &said.peaks), (&self.means, &said.means)] {
            if let (Some(judge), Some(peak)) = (judge, peaks.get(at)) {
                p_value = judge.beside(p_value, peak.size, peak.missing);
            }
        }
        match said.single.get(at).filter(|single| single.p < 1.0) {
            Some(single) => sensors::together(p_value, single.p),
            None => p_value,
        }
    }
}

/// The means of windows, `n × M` of `n × (W · M)`; NaN where nothing was observed of a column. What was missing of a record counts as what `sensors` let the others expect
/// there: that draws a mean towards what is usual, and no window has a wilder one for its gaps. Without them, a window that was observed in part has no means.
pub fn means_of(
    sensors: Option<&Sensors>,
    rows: ArrayView2<'_, f32>,
    columns: usize,
) -> Array2<f32> {
    let mut means = sensors::means(rows, columns);
    let Some(sensors) = sensors.filter(|sensors| sensors.fills()) else {
        return means;
    };
    let gappy = (0..rows.nrows()).filter(|&row| means.row(row).iter().any(|mean| mean.is_nan()));
    let gappy: Vec<usize> = gappy.collect();
    if gappy.is_empty() {
        return means;
    }
    let mut filled = rows.select(Axis(0), &gappy);
    sensors.fill(&mut filled);
    let filled = sensors::means(filled.view(), columns);
    for (&row, filled) in gappy.iter().zip(filled.rows()) {
        for (column, (mean, filled)) in means.row_mut(row).iter_mut().zip(filled).enumerate() {
            let mut values = rows.row(row).into_iter().skip(column).step_by(columns);
            if values.any(|value| !value.is_nan()) {
                *mean = *filled;
            }
        }
    }
    means
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
