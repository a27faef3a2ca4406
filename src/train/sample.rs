//! Which records to read: long stretches, because windows need neighbours, spread evenly over the history.

use rand::Rng;

use crate::seed::Seed;
use crate::stream::{Offset, Span};

/// Stretches that a sample is made of, at most.
const STRETCHES: u64 = 16;

/// Records of a stretch, at least: many keys share a partition, and each needs whole windows.
const STRETCH_MIN: u64 = 1000;

/// The spans to read: all of `available` if they hold at most `rows_max` records, else one stretch at a random place of each of a number
/// of equal parts of the history. In order, none overlapping; the latest records are always among them.
pub fn choose(available: &[Span], rows_max: u64, seed: Seed) -> Vec<Span> {
    let total: u64 = available.iter().map(Span::len).sum();
    if total <= rows_max {
        return available
            .iter()
            .filter(|span| !span.is_empty())
            .cloned()
            .collect();
    }
    let mut rng = seed.child("sample").rng();
    let mut chosen = Vec::new();
    for span in available.iter().filter(|span| !span.is_empty()) {
        // Each partition's share, by its size.
        let share = (u128::from(rows_max) * u128::from(span.len()) / u128::from(total)) as u64;
        let share = share.max(1);
        let parts = (share / STRETCH_MIN).clamp(1, STRETCHES);
        let (part, stretch) = (span.len() / parts, share / parts);
        for i in 0..parts {
            let from = span.from.0 + (i * part) as i64;
            let slack = part.saturating_sub(stretch);
            let skip = if i + 1 == parts {
                span.len() - i * part - stretch
            } else {
                rng.gen_range(0..=slack)
            };
            let from = Offset(from + skip as i64);
            chosen.push(Span {
                at: span.at.clone(),
                from,
                to: Offset(from.0 + stretch as i64),
            });
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::TopicPartition;
    use proptest::prelude::*;

    fn span(partition: i32, from: i64, to: i64) -> Span {
        Span {
            at: TopicPartition::new("t", partition),
            from: Offset(from),
            to: Offset(to),
        }
    }

    #[test]
    fn little_is_read_whole() {
        let spans = [span(0, 5, 105), span(1, 0, 0)];
        assert_eq!(choose(&spans, 100, Seed(1)), [span(0, 5, 105)]);
    }

    proptest! {
        #[test]
        fn much_is_sampled_within_bounds(
            sizes in proptest::collection::vec(0i64..200_000, 1..5), rows_max in 100u64..30_000, seed in any::<u64>(),
        ) {
            let spans: Vec<Span> = sizes.iter().zip(0..).map(|(&n, p)| span(p, 7, 7 + n)).collect();
            let chosen = choose(&spans, rows_max, Seed(seed));
            let read: u64 = chosen.iter().map(Span::len).sum();
            prop_assert!(read <= rows_max + spans.len() as u64);
            prop_assert_eq!(&chosen, &choose(&spans, rows_max, Seed(seed)));
            for pair in chosen.windows(2) {
                prop_assert!(pair[0].at != pair[1].at || pair[0].to <= pair[1].from, "{pair:?}");
            }
            for stretch in &chosen {
                let whole = spans.iter().find(|span| span.at == stretch.at).unwrap();
                prop_assert!(whole.from <= stretch.from && stretch.to <= whole.to);
            }
            // The latest record of each partition is read.
            for whole in spans.iter().filter(|span| !span.is_empty()) {
                prop_assert!(chosen.iter().any(|s| s.at == whole.at && s.to == whole.to));
            }
        }
    }
}
