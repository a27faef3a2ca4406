//! How finely the calendar is told apart.

use crate::record::calendar::Hour;

/// The codes of [`Grain::Part`].
pub const PARTS: std::ops::Range<u16> = 300..348;

/// How finely the calendar is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// The hour of the week.
    Week,
    /// The hour of a working day, a Saturday, a Sunday.
    Kind,
    /// The hour of a working day, of a day of the weekend.
    Part,
    /// The hour of the day.
    Day,
    /// Not at all.
    Any,
}

impl Grain {
    /// The finest first.
    pub const ALL: [Self; 5] = [Self::Week, Self::Kind, Self::Part, Self::Day, Self::Any];

    /// The place of [`Self::Any`] in [`Self::ALL`].
    pub const ANY: usize = Self::ALL.len() - 1;

    /// A number that no other hour of no other grain has.
    pub fn code(self, at: Hour) -> u16 {
        let of_day = |first: u16, day: u16| first + 24 * day + at.hour;
        match self {
            Self::Week => of_day(0, at.weekday),
            Self::Kind => of_day(200, at.weekday.saturating_sub(4)),
            Self::Part => of_day(PARTS.start, at.part() as u16),
            Self::Day => of_day(400, 0),
            Self::Any => 500,
        }
    }
}
