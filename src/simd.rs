//! Plain loops in the widest vectors that the processor has. The same additions in the same order: the same bits on every processor.

pub mod product;

use std::borrow::Cow;

use ndarray::ArrayView1;
use pulp::{Arch, NullaryFnOnce};

/// A loop over plain numbers.
pub trait Loop {
    /// What it finds.
    type Output;

    /// The loop. To be `#[inline(always)]`, as everything it calls: what is not inlined stays as it is, closures that are handed in among it.
    fn run(self) -> Self::Output;
}

/// Runs a loop in code that is compiled once more for processors with AVX2, and for such with AVX-512. It is the compiler that makes vectors of it, and it neither reorders nor
/// fuses what is added and multiplied, so no bit depends on which was taken.
#[inline]
pub fn wide<L: Loop>(work: L) -> L::Output {
    Arch::new().dispatch(Dispatched(work))
}

struct Dispatched<L>(L);

impl<L: Loop> NullaryFnOnce for Dispatched<L> {
    type Output = L::Output;

    #[inline(always)]
    fn call(self) -> L::Output {
        self.0.run()
    }
}

/// Values of a block, for which the compiler needs one vector where there is AVX2, and two elsewhere.
pub const BLOCK: usize = 8;

/// Where blocks of [`BLOCK`] values begin that cover `len` of them, at least as many: the last lies over part of the one before, so that there is no
/// rest to do one by one.
#[inline(always)]
pub fn blocks(len: usize) -> impl Iterator<Item = usize> {
    let last = (!len.is_multiple_of(BLOCK)).then(|| len - BLOCK);
    (0..len / BLOCK).map(|block| block * BLOCK).chain(last)
}

/// The block of `values` that begins at `from`.
#[inline(always)]
pub fn block<T>(values: &[T], from: usize) -> &[T; BLOCK] {
    values[from..]
        .first_chunk()
        .unwrap_or_else(|| unreachable!("blocks lie within"))
}

/// The same, to write to.
#[inline(always)]
pub fn block_mut<T>(values: &mut [T], from: usize) -> &mut [T; BLOCK] {
    values[from..]
        .first_chunk_mut()
        .unwrap_or_else(|| unreachable!("blocks lie within"))
}

/// A row as a plain slice, copied where it does not lie in one piece.
pub fn slice_of(row: ArrayView1<'_, f32>) -> Cow<'_, [f32]> {
    row.to_slice()
        .map_or_else(|| Cow::Owned(row.to_vec()), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_everything() {
        assert_eq!(blocks(8).collect::<Vec<_>>(), [0]);
        assert_eq!(blocks(16).collect::<Vec<_>>(), [0, 8]);
        assert_eq!(blocks(21).collect::<Vec<_>>(), [0, 8, 13]);
    }

    #[derive(Clone, Copy)]
    struct Sums<'a>(&'a [f32]);

    impl Loop for Sums<'_> {
        type Output = [u32; 7];

        #[inline(always)]
        fn run(self) -> [u32; 7] {
            let mut sums = [0.0_f32; 7];
            for row in self.0.chunks_exact(7) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value * value + 0.1;
                }
            }
            sums.map(f32::to_bits)
        }
    }

    #[test]
    fn wide_loops_give_the_same_bits() {
        let values: Vec<f32> = (0_u16..1001).map(|i| (f32::from(i) * 0.37).sin()).collect();
        let sums = Sums(&values);
        assert_eq!(wide(sums), sums.run());
    }
}
