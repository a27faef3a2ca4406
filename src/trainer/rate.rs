//! How long it will take until there are enough records, by how fast they have come so far.

use std::time::Duration;

/// Nothing is said before this long was watched.
const WATCHED_MIN: Duration = Duration::from_secs(10);

/// How many records there were when it was first looked, and when that was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate(Option<(Duration, u64)>);

impl Rate {
    /// How long it takes until there are `needed`, in words, now that there are `held`; `None` while that cannot be told.
    pub(super) fn left(&mut self, now: Duration, held: u64, needed: u64) -> Option<String> {
        let (since, first) = *self.0.get_or_insert((now, held));
        let watched = now.saturating_sub(since);
        if held < first {
            // Retention takes more than comes.
            self.0 = Some((now, held));
        }
        let came = held.saturating_sub(first);
        if watched < WATCHED_MIN || came == 0 {
            return None;
        }
        let left = watched.as_secs_f64() / came as f64 * needed.saturating_sub(held) as f64;
        Some(in_words(left))
    }
}

/// Seconds as people say them, roughly.
fn in_words(seconds: f64) -> String {
    let (count, unit) = match seconds {
        ..60.0 => return "less than a minute".to_owned(),
        ..5_400.0 => (seconds / 60.0, "minute"),
        ..172_800.0 => (seconds / 3_600.0, "hour"),
        _ => (seconds / 86_400.0, "day"),
    };
    let count = count.round().max(1.0);
    let plural = if count > 1.0 { "s" } else { "" };
    format!("about {count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_so_far_says_how_long_the_rest_takes() {
        let second = Duration::from_secs;
        let mut rate = Rate::default();
        assert_eq!(rate.left(second(5), 100, 1000), None);
        assert_eq!(rate.left(second(14), 190, 1000), None);
        // Ten a second, and 600 to come.
        let left = |rate: &mut Rate, now, held, needed| rate.left(second(now), held, needed);
        assert_eq!(left(&mut rate, 35, 400, 1000).unwrap(), "about 1 minute");
        assert_eq!(left(&mut rate, 35, 400, 900).unwrap(), "less than a minute");
        assert_eq!(left(&mut rate, 35, 400, 100_000).unwrap(), "about 3 hours");
        // Nothing comes, or what is there goes: nobody knows.
        assert_eq!(left(&mut rate, 1000, 100, 1000), None);
        assert_eq!(left(&mut rate, 1100, 50, 1000), None);
    }
}
