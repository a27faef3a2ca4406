//! Randomness as a value: one root seed in the configuration, and every random choice takes a named child of it.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A seed. The same seed gives the same stream on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of the named choice beneath this one. Different labels give unrelated streams.
    #[must_use]
    pub fn child(self, label: &str) -> Self {
        // FNV-1a over the label, then a SplitMix64 step so that near seeds are far apart.
        let hash = label
            .bytes()
            .fold(self.0 ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        Self(mix(hash))
    }

    /// The `n`-th seed beneath this one.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self(mix(self.0 ^ mix(n)))
    }

    /// Whether a label is among the one in `one_in`, a power of two, that this seed picks: those of a larger one are among those of a smaller one.
    #[must_use]
    pub fn picks(self, label: &str, one_in: u64) -> bool {
        one_in <= 1 || self.child(label).0 & (one_in - 1) == 0
    }

    /// A generator started from this seed.
    #[must_use]
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    #[test]
    fn children_differ_by_label_and_repeat() {
        let root = Seed(7);
        assert_eq!(root.child("train"), root.child("train"));
        assert_ne!(root.child("train"), root.child("gate"));
        assert_ne!(root.nth(0), root.nth(1));
        assert_eq!(
            root.child("a").rng().next_u64(),
            root.child("a").rng().next_u64()
        );
    }
}
