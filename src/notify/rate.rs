//! How many messages an endpoint gets: a token bucket that holds as many as its limit.

use std::fmt;
use std::time::Duration;

/// So many messages in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages, at least one.
    pub messages: u32,
    /// In which time.
    pub per: Duration,
}

/// Units by name.
const UNITS: [(&str, u64); 4] = [
    ("second", 1),
    ("minute", 60),
    ("hour", 3_600),
    ("day", 86_400),
];

impl Rate {
    /// Reads `"30/minute"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (messages, unit) = text.split_once('/')?;
        let messages = messages.trim().parse().ok().filter(|count| *count > 0)?;
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
        Some(Self {
            messages,
            per: Duration::from_secs(*seconds),
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, seconds)| self.per.as_secs() == *seconds);
        write!(
            f,
            "{}/{}",
            self.messages,
            unit.map_or("second", |unit| unit.0)
        )
    }
}

/// The bucket of one endpoint. Time is that of a clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    tokens: f64,
    as_of: Duration,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Duration) -> Self {
        Self {
            rate,
            tokens: f64::from(rate.messages),
            as_of: now,
        }
    }

    /// How long until a message may go; zero: now.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        let gained = now.saturating_sub(self.as_of).as_secs_f64() / self.one().as_secs_f64();
        self.tokens = (self.tokens + gained).min(f64::from(self.rate.messages));
        self.as_of = self.as_of.max(now);
        // A nanosecond's rounding must not make a wait of none.
        let lacking = 1.0 - 1e-6 - self.tokens;
        if lacking <= 0.0 {
            return Duration::ZERO;
        }
        self.one()
            .mul_f64(lacking)
            .saturating_add(Duration::from_millis(1))
    }

    /// A message goes.
    pub(super) fn take(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    fn one(&self) -> Duration {
        self.rate.per / self.rate.messages.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_and_write() {
        for text in ["1/second", "30/minute", "1000/hour", "7/day"] {
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "30", "0/minute", "-1/minute", "1/week", "x/minute"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_bucket_holds_its_limit_and_fills_by_and_by() {
        let seconds = Duration::from_secs;
        let mut bucket = Bucket::new(Rate::parse("2/minute").unwrap(), seconds(100));
        for _ in 0..2 {
            assert_eq!(bucket.wait(seconds(100)), Duration::ZERO);
            bucket.take();
        }
        let wait = bucket.wait(seconds(110));
        assert!(
            (19.9..20.1).contains(&wait.as_secs_f64()),
            "10 s of 30 s are over: {wait:?}"
        );
        assert_eq!(bucket.wait(seconds(110) + wait), Duration::ZERO);
        bucket.take();
        assert!(!bucket.wait(seconds(131)).is_zero());
        // What was not used is kept up to the limit, and no further.
        assert_eq!(bucket.wait(seconds(10_000)), Duration::ZERO);
        bucket.take();
        bucket.take();
        assert!(!bucket.wait(seconds(10_000)).is_zero());
    }
}
