//! Records to replay: real ones where the data sets are at hand, and seeded ones everywhere else.

use std::path::{Path, PathBuf};

use anomalyd::seed::Seed;
use anomalyd::tools::table::{Roles, Table};
use rand::Rng;

use crate::cluster::Record;

/// Machines with a record each a second.
#[derive(Debug)]
pub struct Plant {
    /// Where the records come from.
    pub source: String,
    /// Names of the features.
    pub features: Vec<String>,
    /// For each machine its rows.
    machines: Vec<Vec<Vec<f64>>>,
    /// Of the first record, in milliseconds since 1970.
    began: i64,
}

/// Three features that move together, with a fault now and then after `calm` rows.
pub fn seeded(machines: usize, rows: usize, calm: usize) -> Plant {
    let machine = |number: usize| {
        let mut random = Seed(23).child("plant").nth(number as u64).rng();
        let mut fault = 0;
        (0..rows)
            .map(|row| {
                if calm < row && fault == 0 && random.gen_bool(0.01) {
                    fault = 12;
                }
                let off = if fault > 0 { 6.0 } else { 0.0 };
                fault = usize::max(fault, 1) - 1;
                let load = (row as f64 / 40.0 + number as f64).sin();
                let mut noise = || 0.1 * (random.r#gen::<f64>() + random.r#gen::<f64>() - 1.0);
                vec![
                    50.0 + 5.0 * load + noise(),
                    20.0 + 2.0 * load + noise() + off,
                    1.0 - 0.3 * load + noise(),
                ]
            })
            .collect()
    };
    Plant {
        source: "seeded rows".to_owned(),
        features: ["temperature", "flow", "current"].map(str::to_owned).into(),
        machines: (0..machines).map(machine).collect(),
        began: began(rows),
    }
}

/// SKAB's valve experiments, each a machine, if they are at hand.
pub fn skab(machines: usize, rows: usize) -> Option<Plant> {
    let shared = std::env::var_os("QUALITY_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let roles = Roles {
        timestamp: Some("datetime".to_owned()),
        labels: Some("anomaly".to_owned()),
        ignore: vec!["changepoint".to_owned()],
        ..Roles::default()
    };
    let mut features = Vec::new();
    let mut read = |number: usize| {
        let file = shared.join(format!("data/skab/skab-valve1-{number}.csv.gz"));
        let table = Table::read(&file, &roles).ok()?;
        features.clone_from(&table.columns);
        let found = (0..table.len().min(rows)).map(|row| table.row(row).to_vec());
        Some(found.collect())
    };
    let machines: Option<Vec<Vec<Vec<f64>>>> = (0..machines).map(&mut read).collect();
    Some(Plant {
        machines: machines?,
        source: "SKAB's valve1".to_owned(),
        features,
        began: began(rows),
    })
}

/// Long enough ago that the last row is in the past: brokers and alerts cut times that are in the future.
#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn began(rows: usize) -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64);
    now - (rows as i64 + 60) * 1000
}

impl Plant {
    /// The records of rows `from..to` of all machines, in time order, spread over `partitions` by machine.
    pub fn records(&self, from: usize, to: usize, partitions: usize) -> Vec<Record> {
        let mut records = Vec::new();
        for row in from..to {
            for (number, rows) in self.machines.iter().enumerate() {
                let Some(values) = rows.get(row) else {
                    continue;
                };
                let object: serde_json::Map<String, serde_json::Value> = self
                    .features
                    .iter()
                    .cloned()
                    .zip(values.iter().map(|value| (*value).into()))
                    .collect();
                let value = serde_json::to_vec(&object).expect("JSON");
                records.push((
                    Some((number % partitions) as i32),
                    Some(format!("machine-{number}").into_bytes()),
                    Some(value),
                    Some(self.began + row as i64 * 1000),
                ));
            }
        }
        records
    }
}
