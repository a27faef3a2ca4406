//! Faults put into held-out windows: what the gate tries a model on, since there are no labels.

use ndarray::{Array2, ArrayView1, Axis};
use rand::Rng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::seed::Seed;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A feature is shifted by 2 to 6 spreads.
    Offset,
    /// A feature moves away, record by record, up to 2 to 6 spreads.
    Drift,
    /// A feature stays where it was (with windows of one record: where it was at another time).
    Stuck,
    /// A feature becomes noisy, by 2 to 4 spreads.
    Noise,
    /// A feature follows another time's course: each by itself is normal, together they are not.
    Decouple,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Offset,
        Self::Drift,
        Self::Stuck,
        Self::Noise,
        Self::Decouple,
    ];

    /// The name in the card's measures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offset => "offset",
            Self::Drift => "drift",
            Self::Stuck => "stuck",
            Self::Noise => "noise",
            Self::Decouple => "decouple",
        }
    }
}

/// Those of the `windows` (`m × (W · D)` raw values, oldest record first) that `bases` numbers, each with one fault in one or two features,
/// which lasts to its newest record. `spread` has D numbers, the features' normal spreads; those with 0 are not struck, and where all are,
/// there are no windows.
///
/// # Panics
/// If a base is none of the windows.
pub fn inject(
    fault: Fault,
    windows: &Array2<f64>,
    bases: &[usize],
    spread: &[f64],
    seed: Seed,
) -> Array2<f64> {
    let (m, width, columns) = (windows.nrows(), windows.ncols(), spread.len());
    let measured: Vec<usize> = (0..columns)
        .filter(|&column| spread[column] > 0.0)
        .collect();
    if m == 0 || measured.is_empty() {
        return Array2::zeros((0, width));
    }
    let mut out = windows.select(Axis(0), bases);
    let mut rng = seed.child("inject").child(fault.name()).rng();
    for mut row in out.rows_mut() {
        let records = width / columns;
        // A fault that began in the last record of a long window has hardly begun; half of the window at least is struck.
        let struck = rng.gen_range(records.div_ceil(2)..=records);
        let mut donor = rng.gen_range(0..m);
        // A sensor that the window has nothing of, perhaps because its key has none, cannot go wrong in it.
        let sends = |row: ArrayView1<'_, f64>, column: usize| {
            (0..records).any(|r| !row[r * columns + column].is_nan())
        };
        let observed: Vec<usize> = measured
            .iter()
            .copied()
            .filter(|&column| sends(row.view(), column))
            .collect();
        for place in index::sample(&mut rng, observed.len(), rng_count(observed.len())) {
            let column = observed[place];
            for _ in 0..DONORS {
                if sends(windows.row(donor), column) {
                    break;
                }
                donor = rng.gen_range(0..m);
            }
            let mut track: Vec<f64> = (0..records).map(|r| row[r * columns + column]).collect();
            let other: Vec<f64> = (0..records)
                .map(|r| windows[(donor, r * columns + column)])
                .collect();
            strike(
                fault,
                &mut track[records - struck..],
                &other,
                spread[column],
                &mut rng,
            );
            for (r, value) in track.into_iter().enumerate() {
                row[r * columns + column] = value;
            }
        }
    }
    out
}

/// How many windows are asked for a feature's course at most: those of other keys may not have it.
const DONORS: usize = 20;

/// How many features a fault touches: one in ten, at least one.
fn rng_count(columns: usize) -> usize {
    columns.div_ceil(10)
}

/// Puts a fault into the struck records of one feature. `other` is the feature's course in another window.
fn strike(fault: Fault, track: &mut [f64], other: &[f64], spread: f64, rng: &mut ChaCha8Rng) {
    let sign = if rng.gen_bool(0.5) { 1.0 } else { -1.0 };
    let size = spread * rng.gen_range(2.0..6.0);
    let length = track.len();
    match fault {
        Fault::Offset => track.iter_mut().for_each(|value| *value += sign * size),
        Fault::Drift => {
            for (i, value) in track.iter_mut().enumerate() {
                *value += sign * size * (i + 1) as f64 / length as f64;
            }
        }
        Fault::Stuck if length == 1 => track[0] = other[other.len() - 1],
        Fault::Stuck => {
            let held = track[0];
            track.fill(held);
        }
        Fault::Noise => {
            for value in track {
                let normal: f64 = StandardNormal.sample(rng);
                *value += spread * rng.gen_range(2.0..4.0) * normal;
            }
        }
        Fault::Decouple => track.copy_from_slice(&other[other.len() - length..]),
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "a struck value is copied, not computed")]
mod tests {
    use super::*;

    const BASES: [usize; 10] = [0, 5, 10, 15, 20, 25, 30, 35, 40, 45];

    fn windows() -> Array2<f64> {
        // Two records of two features; the value tells window, record and feature apart.
        Array2::from_shape_fn((50, 4), |(i, j)| 100.0 * i as f64 + j as f64)
    }

    /// Faulty windows beside the windows they were made from, which the untouched feature tells.
    fn pairs(fault: Fault) -> Vec<(Vec<f64>, Vec<f64>, usize)> {
        let windows = windows();
        inject(fault, &windows, &BASES, &[1.0, 1.0], Seed(5))
            .rows()
            .into_iter()
            .map(|row| {
                let row = row.to_vec();
                let whole = windows.rows().into_iter().map(|w| w.to_vec());
                let (same, column) = whole
                    .flat_map(|w| [(w.clone(), 0), (w, 1)])
                    .find(|(w, column)| {
                        w[1 - column] == row[1 - column] && w[3 - column] == row[3 - column]
                    })
                    .unwrap();
                (row, same, column)
            })
            .collect()
    }

    #[test]
    fn each_fault_does_what_it_says_to_one_feature() {
        for (faulty, whole, column) in pairs(Fault::Offset) {
            let shift = (faulty[2 + column] - whole[2 + column]).abs();
            assert!((2.0..=6.0).contains(&shift), "{shift}");
        }
        for (faulty, whole, column) in pairs(Fault::Drift) {
            let (early, late) = (
                faulty[column] - whole[column],
                faulty[2 + column] - whole[2 + column],
            );
            assert!(
                early.abs() < 1e-9 || (late - 2.0 * early).abs() < 1e-9,
                "{early} {late}"
            );
        }
        for (faulty, whole, column) in pairs(Fault::Stuck) {
            let held = faulty[2 + column] == faulty[column];
            // Struck in the last record alone there is nothing before it to hold: another time's value.
            assert!(held || faulty[column] == whole[column]);
        }
        for (faulty, _, column) in pairs(Fault::Decouple) {
            assert_eq!(faulty[2 + column] % 100.0, (2 + column) as f64);
        }
    }

    #[test]
    fn what_a_window_has_nothing_of_does_not_go_wrong() {
        // Every other window sends the first feature only, the others the second only.
        let lacks = |i: usize, j: usize| i % 2 == j % 2;
        let windows = Array2::from_shape_fn((50, 4), |(i, j)| {
            let value = 100.0 * i as f64 + j as f64;
            if lacks(i, j) { f64::NAN } else { value }
        });
        for fault in Fault::ALL {
            let faulty = inject(fault, &windows, &BASES, &[1.0, 1.0], Seed(5));
            let mut struck = 0;
            for (row, &base) in faulty.rows().into_iter().zip(&BASES) {
                let kept = |j: usize| row[j].is_nan() == lacks(base, j);
                assert!((0..4).all(kept), "{fault:?} {row}");
                let both = row.iter().zip(windows.row(base));
                struck += usize::from(both.into_iter().any(|(a, b)| (a - b).abs() > 0.0));
            }
            // A window may be asked for a course of its own.
            assert!(struck >= 8, "{fault:?}: {struck} of 10");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let windows = windows();
        for fault in Fault::ALL {
            let once = inject(fault, &windows, &BASES, &[1.0, 2.0], Seed(1));
            assert_eq!(once, inject(fault, &windows, &BASES, &[1.0, 2.0], Seed(1)));
            assert_ne!(once, inject(fault, &windows, &BASES, &[1.0, 2.0], Seed(2)));
        }
        let none = inject(
            Fault::Noise,
            &Array2::zeros((0, 4)),
            &[],
            &[1.0; 2],
            Seed(1),
        );
        assert_eq!(none.nrows(), 0);
    }
}
