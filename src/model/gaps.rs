//! Scores of windows with gaps, on the scale of complete ones.
//!
//! What is missing is filled in with what is expected, so that a score with gaps is lower, or for some columns higher, and wider or narrower than
//! one without. Held-out windows are scored once more with inputs taken away: each column by itself, several columns, and single inputs by
//! their share. The median and the 98 % quantile of the same windows with and without gaps say how to bring one to the other; the p-value is
//! then that of a complete window, whose tail rests on all that was held out.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::Rng;
use rand::seq::index;
use serde::{Deserialize, Serialize};

use crate::seed::Seed;
use crate::stats::order::quantile_sorted;

/// Shares of single inputs missing that are looked at; those between take the nearest.
const SCATTERED: [f64; 8] = [0.02, 0.06, 0.12, 0.2, 0.3, 0.45, 0.65, 0.85];

/// Shares of columns missing altogether that are looked at, where there are too many columns to look at each number.
const SEVERAL: [f64; 8] = [0.02, 0.06, 0.12, 0.2, 0.3, 0.45, 0.65, 0.85];

/// Columns up to which each number of missing ones is looked at.
const COUNTED_MAX: usize = 12;

/// Windows that are scored again, over all ways and for each at least and at most.
const WINDOWS: usize = 60_000;
const WINDOWS_EACH: (usize, usize) = (300, 2000);

/// Complete windows below which nothing is said.
const COMPLETE_MIN: usize = 100;

/// The quantiles that are brought together.
const QUANTILES: (f64, f64) = (0.5, 0.98);

/// A way of missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// This measured column, in all of the window.
    Column(usize),
    /// So many columns, in all of the window.
    Columns(usize),
    /// A share of single inputs, by its place in a list.
    Inputs(usize),
}

/// Scores of the same windows by one way: complete, and with gaps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pairs {
    complete: Vec<f64>,
    gappy: Vec<f64>,
}

impl Pairs {
    /// Adds those of other windows.
    pub fn extend(&mut self, other: &Self) {
        self.complete.extend_from_slice(&other.complete);
        self.gappy.extend_from_slice(&other.gappy);
    }
}

/// Brings scores to those of complete windows: at + slope · score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    at: f64,
    slope: f64,
}

impl Line {
    /// What changes nothing.
    pub const SAME: Self = Self {
        at: 0.0,
        slope: 1.0,
    };

    /// A score on the scale of complete windows.
    pub fn of(self, score: f64) -> f64 {
        self.at + self.slope * score
    }

    /// First `other`, then this.
    fn after(self, other: Self) -> Self {
        Self {
            at: self.at + self.slope * other.at,
            slope: self.slope * other.slope,
        }
    }

    fn fit(pairs: &Pairs) -> Self {
        let ends = |scores: &[f64]| {
            let mut sorted: Vec<f64> = scores.iter().copied().filter(|s| s.is_finite()).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let middle = quantile_sorted(&sorted, QUANTILES.0);
            (middle, quantile_sorted(&sorted, QUANTILES.1) - middle)
        };
        let ((middle, width), (gappy, narrow)) = (ends(&pairs.complete), ends(&pairs.gappy));
        // Where gaps leave nothing that varies, nothing is strange by varying.
        let slope = if narrow > 1e-3 * width {
            width / narrow
        } else {
            1.0
        };
        let line = Self {
            at: middle - slope * gappy,
            slope,
        };
        if line.at.is_finite() && line.slope.is_finite() {
            line
        } else {
            Self::SAME
        }
    }
}

/// How windows with gaps are brought to the scale of complete ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// Ascending by way; none: scores stay as they are.
    lines: Vec<(Way, Line)>,
}

impl Gaps {
    /// Learns from pairs by way.
    pub fn fit(pairs: &[(Way, Pairs)]) -> Self {
        let enough = pairs
            .iter()
            .filter(|(_, pairs)| pairs.complete.len() >= COMPLETE_MIN);
        let mut lines: Vec<(Way, Line)> = enough
            .map(|(way, pairs)| (*way, Line::fit(pairs)))
            .collect();
        lines.sort_by_key(|(way, _)| *way);
        Self { lines }
    }

    fn line(&self, way: Way) -> Line {
        let found = self.lines.binary_search_by_key(&way, |(way, _)| *way);
        found.map_or(Line::SAME, |place| self.lines[place].1)
    }

    /// The line for a window, `W · M` scaled inputs of which some are NaN.
    pub fn line_of(&self, window: ArrayView1<'_, f32>, columns: usize) -> Line {
        let width = window.len();
        let gone: Vec<usize> = (0..columns)
            .filter(|&column| {
                (column..width)
                    .step_by(columns)
                    .all(|input| window[input].is_nan())
            })
            .collect();
        let left = width - gone.len() * width / columns;
        let missing = window.iter().filter(|value| value.is_nan()).count();
        let scattered = missing - (width - left);
        let dead = match gone[..] {
            [] => Line::SAME,
            [column] => self.line(Way::Column(column)),
            _ => self.line(Way::Columns(number(gone.len(), columns))),
        };
        if scattered == 0 || left == 0 {
            return dead;
        }
        let share = scattered as f64 / left as f64;
        dead.after(self.line(Way::Inputs(nearest(&SCATTERED, share))))
    }
}

/// The ways that windows of so many inputs and columns can miss some.
pub fn ways(width: usize, columns: usize) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    if columns > 1 {
        ways.extend((0..columns).map(Way::Column));
        let mut numbers: Vec<usize> = (2..columns).map(|gone| number(gone, columns)).collect();
        numbers.dedup();
        ways.extend(numbers.into_iter().map(Way::Columns));
    }
    if width > columns {
        ways.extend((0..SCATTERED.len()).map(Way::Inputs));
    }
    ways
}

/// The windows of `held_out` without gaps that are scored again for each of so many ways, where so many models share the work.
pub fn chosen(complete: &[usize], ways: usize, models: usize) -> Vec<usize> {
    if complete.len() * models < COMPLETE_MIN {
        return Vec::new();
    }
    let each = (WINDOWS / ways.max(1)).clamp(WINDOWS_EACH.0, WINDOWS_EACH.1);
    let each = each.div_ceil(models.max(1));
    let step = complete.len().div_ceil(each).max(1);
    complete.iter().copied().step_by(step).collect()
}

/// Scores of windows as they are, `complete`, and as `score` has them when raw inputs (`n × (W · D)`, whose measured columns are `measured`) are
/// taken away.
pub fn pairs(
    (way, windows): (Way, ArrayView2<'_, f64>),
    (columns, measured): (usize, &[usize]),
    complete: &[f64],
    seed: Seed,
    score: impl Fn(ArrayView2<'_, f64>) -> Vec<f64>,
) -> Pairs {
    let mut rows = windows.to_owned();
    take_away(&mut rows, way, (columns, measured), seed);
    Pairs {
        complete: complete.to_vec(),
        gappy: score(rows.view()),
    }
}

fn take_away(rows: &mut Array2<f64>, way: Way, (columns, measured): (usize, &[usize]), seed: Seed) {
    let mut rng = seed.child("gaps").child(&format!("{way:?}")).rng();
    let records = rows.ncols() / columns;
    for mut row in rows.rows_mut() {
        let gone: Vec<usize> = match way {
            Way::Column(place) => vec![place],
            Way::Columns(number) => {
                let few = counts(number, measured.len());
                let gone = rng.gen_range(few.0..=few.1);
                index::sample(&mut rng, measured.len(), gone).into_vec()
            }
            Way::Inputs(_) => Vec::new(),
        };
        for record in 0..records {
            for &place in &gone {
                row[record * columns + measured[place]] = f64::NAN;
            }
        }
        if let Way::Inputs(place) = way {
            let inputs = records * measured.len();
            let gone = (SCATTERED[place] * inputs as f64).round() as usize;
            let gone = gone.clamp(1, inputs - 1);
            for input in index::sample(&mut rng, inputs, gone) {
                let (record, place) = (input / measured.len(), input % measured.len());
                row[record * columns + measured[place]] = f64::NAN;
            }
        }
    }
}

/// The number that stands for `gone` columns of so many.
fn number(gone: usize, columns: usize) -> usize {
    if columns <= COUNTED_MAX {
        return gone;
    }
    nearest(&SEVERAL, gone as f64 / columns as f64)
}

/// From how many to how many columns a number stands for.
fn counts(wanted: usize, columns: usize) -> (usize, usize) {
    let all = (2..columns).filter(|&gone| number(gone, columns) == wanted);
    let few = all.clone().min().unwrap_or(1);
    (few, all.max().unwrap_or(few))
}

fn nearest(shares: &[f64], share: f64) -> usize {
    let far = |place: usize| (shares[place].ln() - share.ln()).abs();
    (0..shares.len())
        .min_by(|&a, &b| far(a).total_cmp(&far(b)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_line_brings_quantiles_together() {
        let complete: Vec<f64> = (0..1000).map(|i| f64::from(i) / 100.0).collect();
        let gappy: Vec<f64> = complete.iter().map(|score| 0.5 * score - 1.0).collect();
        let line = Line::fit(&Pairs {
            complete: complete.clone(),
            gappy: gappy.clone(),
        });
        assert!((line.of(gappy[900]) - complete[900]).abs() < 1e-9);
        assert_eq!(
            Line::fit(&Pairs {
                complete,
                gappy: vec![3.0; 1000]
            })
            .slope
            .to_bits(),
            1.0_f64.to_bits()
        );
    }

    #[test]
    fn ways_by_hand() {
        assert_eq!(
            ways(3, 3),
            [
                Way::Column(0),
                Way::Column(1),
                Way::Column(2),
                Way::Columns(2)
            ]
        );
        assert_eq!(ways(10, 1).len(), SCATTERED.len());
        assert_eq!(ways(1, 1), []);
        // 2 of 100 are the first share, 3 too; 4 are nearer to 0.06.
        assert_eq!(counts(0, 100), (2, 3));
        let lines = Gaps {
            lines: vec![
                (
                    Way::Column(1),
                    Line {
                        at: 1.0,
                        slope: 1.0,
                    },
                ),
                (
                    Way::Columns(2),
                    Line {
                        at: 2.0,
                        slope: 1.0,
                    },
                ),
                (
                    Way::Inputs(4),
                    Line {
                        at: 0.0,
                        slope: 3.0,
                    },
                ),
            ],
        };
        let nan = f32::NAN;
        let of = |window: ndarray::Array1<f32>| lines.line_of(window.view(), 3).of(1.0);
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-12, "{found}");
        close(of(array![0.0, nan, 0.0, 0.0, nan, 0.0]), 2.0);
        close(of(array![nan, nan, 0.0, nan, nan, 0.0]), 3.0);
        // One of four left is nearest to 0.3; then the column.
        close(of(array![nan, nan, 0.0, 0.0, nan, 0.0]), 4.0);
    }

    #[test]
    fn what_is_taken_away_is_of_its_way() {
        let measured = [0, 2, 3];
        let gaps = |way| {
            let mut rows = Array2::zeros((50, 8));
            take_away(&mut rows, way, (4, &measured), Seed(1));
            rows
        };
        let missing = |rows: &Array2<f64>| rows.iter().filter(|v| v.is_nan()).count();
        let column = gaps(Way::Column(1));
        assert!(missing(&column) == 100 && column[[7, 2]].is_nan() && column[[7, 6]].is_nan());
        assert_eq!(missing(&gaps(Way::Columns(2))), 200);
        let inputs = gaps(Way::Inputs(4));
        assert_eq!(missing(&inputs), 100);
        assert!(inputs.column(1).iter().all(|value| !value.is_nan()));
    }
}
