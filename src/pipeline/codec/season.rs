//! What is remembered of a single feature's season, as bytes.

use super::{Reader, Writer};
use crate::detect::seasonal::{Season, Seasons, TERMS, Tally};

impl Writer {
    pub(super) fn season(&mut self, season: &Season) {
        self.u64(season.seen);
        self.f64(season.origin);
        self.f64(season.largest);
        self.all(season.weights.len(), season.weights.iter());
        self.all(season.ignorance.len(), season.ignorance.iter());
        self.f64(season.drift);
        self.i64(season.since.0);
        for tally in season.tallies.iter().chain([&season.strange]) {
            self.u64(tally.total);
            self.u64(tally.until);
            self.u64(tally.cells.len() as u64);
            for (cell, count) in &tally.cells {
                self.i64(i64::from(*cell));
                self.u64(u64::from(*count));
            }
        }
        self.u64(season.waiting.len() as u64);
        for counted in &season.waiting {
            for number in counted {
                self.f64(*number);
            }
        }
        self.f64(season.held);
    }
}

impl Reader<'_> {
    fn tally(&mut self) -> Option<Tally> {
        let (total, until) = (self.u64()?, self.u64()?);
        let mut cells = Vec::new();
        for _ in 0..self.len(16)? {
            let cell = i32::try_from(self.i64()?).ok()?;
            cells.push((cell, u32::try_from(self.u64()?).ok()?));
        }
        Some(Tally {
            cells,
            total,
            until,
        })
    }
    /// The seasons that end an entry: none, that which judges, or that and the one that ranks.
    #[expect(clippy::option_option, reason = "unreadable, none, or one")]
    pub(super) fn seasons(&mut self) -> Option<Option<Box<Seasons>>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let judge = self.season()?;
        let ranking = if self.flag()? {
            Some(self.season()?)
        } else {
            None
        };
        Some(Some(Box::new(Seasons { judge, ranking })))
    }
    pub(super) fn season(&mut self) -> Option<Season> {
        let season = Season {
            seen: self.u64()?,
            origin: self.f64()?,
            largest: self.f64()?,
            weights: self.all()?,
            ignorance: self.all()?,
            drift: self.f64()?,
            since: self.time()?,
            tallies: [self.tally()?, self.tally()?],
            strange: self.tally()?,
            waiting: (0..self.len(24)?)
                .map(|_| Some([self.f64()?, self.f64()?, self.f64()?]))
                .collect::<Option<_>>()?,
            held: self.f64()?,
        };
        let shape = (season.weights.len(), season.ignorance.len());
        (shape == (0, 0) || shape == (TERMS, TERMS * TERMS)).then_some(season)
    }
}
