//! What is done to every value of every record: scaled, compressed beyond the bound, cut off.

use crate::simd::{BLOCK, Loop, block, block_mut, blocks, wide};

/// Bound of all values before they are compressed: far beyond anything meaningful, yet its square is still an f32.
const FARTHEST: f64 = 1e9;

/// A unit as f32, as far as numbers go; NaN stays NaN.
#[inline(always)]
pub fn within(unit: f64) -> f32 {
    let unit = if unit < -FARTHEST { -FARTHEST } else { unit };
    let unit = if unit > FARTHEST { FARTHEST } else { unit };
    unit as f32
}

/// Scales records, one after another.
pub struct ScaleAll<'a> {
    pub records: &'a [f64],
    pub scaled: &'a mut [f32],
    pub centre: &'a [f64],
    pub spread: &'a [f64],
}

impl Loop for ScaleAll<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self {
            records,
            scaled,
            centre,
            spread,
        } = self;
        let columns = centre.len();
        let records = records.chunks_exact(columns);
        for (record, scaled) in records.zip(scaled.chunks_exact_mut(columns)) {
            scale(record, scaled, (centre, spread));
        }
    }
}

/// Scales one record.
#[inline(always)]
fn scale(record: &[f64], scaled: &mut [f32], (centre, spread): (&[f64], &[f64])) {
    if record.len() < BLOCK {
        let units = centre.iter().zip(spread);
        for ((scaled, value), (centre, spread)) in scaled.iter_mut().zip(record).zip(units) {
            *scaled = within((value - centre) / spread);
        }
        return;
    }
    for from in blocks(record.len()) {
        let (record, centre, spread) = (
            block(record, from),
            block(centre, from),
            block(spread, from),
        );
        let scaled = block_mut(scaled, from);
        for lane in 0..BLOCK {
            scaled[lane] = within((record[lane] - centre[lane]) / spread[lane]);
        }
    }
}

/// Values beyond the bound: bound · (1 + ln(|z| / bound)). Nearly always there are none, and one look over all tells.
pub fn compress(values: &mut [f32], bound: f32) {
    if wide(Beyond { values, bound }) == 0 {
        return;
    }
    for value in values {
        *value = compressed(*value, bound);
    }
}

/// How many values lie beyond the bound.
struct Beyond<'a> {
    pub values: &'a [f32],
    bound: f32,
}

impl Loop for Beyond<'_> {
    type Output = u32;

    #[inline(always)]
    fn run(self) -> u32 {
        let Self { values, bound } = self;
        let each = values.iter();
        each.fold(0, |count, value| count + u32::from(value.abs() > bound))
    }
}

/// One scaled value, by its logarithm beyond the bound.
fn compressed(value: f32, bound: f32) -> f32 {
    if value.abs() > bound {
        (bound * (1.0 + (value.abs() / bound).ln())).copysign(value)
    } else {
        value
    }
}

/// Undoes [`compress`].
pub fn expanded(value: f64, bound: f32) -> f64 {
    let bound = f64::from(bound);
    if bound > 0.0 && value.abs() > bound {
        (bound * (value.abs() / bound - 1.0).exp()).copysign(value)
    } else {
        value
    }
}

/// Cuts records of M columns, one after another, off at each one's bound.
pub struct CutOff<'a> {
    pub values: &'a mut [f32],
    pub bounds: &'a [f32],
}

impl Loop for CutOff<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let columns = self.bounds.len();
        for record in self.values.chunks_exact_mut(columns) {
            if columns < BLOCK {
                for (value, bound) in record.iter_mut().zip(self.bounds) {
                    *value = value.clamp(-bound, *bound);
                }
                continue;
            }
            for from in blocks(columns) {
                let bounds = block(self.bounds, from);
                for (value, bound) in block_mut(record, from).iter_mut().zip(bounds) {
                    *value = value.clamp(-bound, *bound);
                }
            }
        }
    }
}
