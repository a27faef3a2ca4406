//! Streams of simulated machines, as tables.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::record::calendar::{self, Calendar, CalendarSpec};
use crate::record::{Key, Missing};
use crate::seed::Seed;
use crate::time::Timestamp;
use crate::tools::table::{Table, with_hours};

/// Features of a machine.
pub const FEATURES: usize = 6;

/// The feature that faults strike.
pub const STRUCK: usize = 2;

/// How much of the common factor stays from one record to the next, and of each feature's own part.
const STAYS: (f64, f64) = (0.9, 0.5);

/// Share of a feature's variance that the common factor makes.
const COMMON: f64 = 0.6;

pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// Six features with mean 0 and spread 1, each correlated by 0.6 with each other, that remember their past.
#[derive(Debug)]
pub struct Machine {
    rng: ChaCha8Rng,
    factor: f64,
    own: [f64; FEATURES],
}

impl Machine {
    pub fn new(seed: Seed) -> Self {
        let mut rng = seed.rng();
        Self {
            factor: normal(&mut rng),
            own: std::array::from_fn(|_| normal(&mut rng)),
            rng,
        }
    }

    /// The next record.
    pub fn next(&mut self) -> [f64; FEATURES] {
        let rng = &mut self.rng;
        let mut on = |x: f64, stays: f64| stays * x + (1.0 - stays * stays).sqrt() * normal(rng);
        self.factor = on(self.factor, STAYS.0);
        for own in &mut self.own {
            *own = on(*own, STAYS.1);
        }
        let (common, rest) = (COMMON.sqrt(), (1.0 - COMMON).sqrt());
        self.own.map(|own| common * self.factor + rest * own)
    }
}

/// What is wrong with [`STRUCK`].
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is higher by so many spreads.
    Offset(f64),
    /// It stays where it was.
    Stuck,
    /// It has noise of so many spreads on top.
    Noise(f64),
}

impl Fault {
    pub const LASTING: [Self; 4] = [
        Self::Offset(2.0),
        Self::Offset(1.5),
        Self::Stuck,
        Self::Noise(1.0),
    ];

    /// `record` with the fault; `held` is what the feature was when it began.
    pub fn strike(
        self,
        record: &mut [f64; FEATURES],
        held: &mut Option<f64>,
        rng: &mut ChaCha8Rng,
    ) {
        let value = &mut record[STRUCK];
        match self {
            Self::Offset(spreads) => *value += spreads,
            Self::Stuck => *value = *held.get_or_insert(*value),
            Self::Noise(spreads) => *value += spreads * normal(rng),
        }
    }
}

/// Rows in the making.
#[derive(Debug)]
pub struct Rows {
    pub table: Table,
}

impl Rows {
    pub fn new(columns: usize) -> Self {
        Self {
            table: Table {
                path: "simulated".to_owned(),
                columns: (0..columns).map(|c| format!("f{c}")).collect(),
                missing: vec![Missing::Mask; columns],
                ..Table::default()
            },
        }
    }

    pub fn push(&mut self, key: &str, time: i64, values: &[f64]) {
        self.table.keys.push(Key(key.into()));
        self.table.times.push(Timestamp(time));
        self.table.values.extend_from_slice(values);
        self.table.empty.push(values.iter().all(|v| v.is_nan()));
    }
}

/// Machines that send a record every `step` milliseconds, `records` each. Those of key 0 numbered `struck` have the fault.
pub fn machines(
    keys: usize,
    (records, step): (usize, i64),
    (fault, struck): (Fault, std::ops::Range<usize>),
    seed: Seed,
) -> Table {
    let mut machines: Vec<Machine> = (0..keys as u64)
        .map(|key| Machine::new(seed.child("machine").nth(key)))
        .collect();
    let mut rng = seed.child("fault").rng();
    let (mut rows, mut held) = (Rows::new(FEATURES), None);
    for i in 0..records {
        for (key, machine) in machines.iter_mut().enumerate() {
            let mut record = machine.next();
            if key == 0 && struck.contains(&i) {
                fault.strike(&mut record, &mut held, &mut rng);
            }
            rows.push(&format!("m{key}"), i as i64 * step + key as i64, &record);
        }
    }
    rows.table
}

fn in_utc() -> CalendarSpec {
    CalendarSpec {
        utc_offset: "Z".to_owned(),
        holidays: Vec::new(),
    }
}

/// The calendar of Greenwich.
pub fn utc() -> Calendar {
    in_utc().check().unwrap().unwrap()
}

/// The same rows, with that calendar.
pub fn timed(mut table: Table) -> Table {
    table.values = with_hours(&table.values, table.columns.len(), &table.times, &utc());
    table.columns.push(calendar::COLUMN.to_owned());
    table.missing.push(Missing::Mask);
    table.schema.calendar = Some(in_utc());
    table
}
