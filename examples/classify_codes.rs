//! Which fault is it? An autoencoder that has only ever seen normal records tells that something is wrong; its code, which goes out with each
//! score under `output.emit_code = true` (and from `anomalyd score --code`), says enough of how it is wrong to train a classifier on a few
//! dozen labelled records.
//!
//!     cargo run --example classify_codes
//!
//! The classifier is linfa's: K-means finds a few centres in the codes of each class, and a record belongs to the class of the nearest one.
//! linfa-clustering is a dependency of anomalyd already; linfa-logistic or linfa-trees would take the same two arrays.

#![expect(clippy::print_stdout, reason = "an example tells what it found")]

use anomalyd::detect::Budget;
use anomalyd::model::card::ModelVersion;
use anomalyd::model::spec::ModelSpec;
use anomalyd::record::Key;
use anomalyd::seed::Seed;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use anomalyd::train::rows::PartitionRows;
use anomalyd::train::{self, Params, TrainJob};
use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_clustering::KMeans;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::Rng;

/// Sensors of a pump: load, flow, pressure, temperature, current, vibration.
const SENSORS: [&str; 6] = [
    "load",
    "flow",
    "pressure",
    "temperature",
    "current",
    "vibration",
];

/// What the labels say.
const CLASSES: [&str; 4] = ["normal", "clogged filter", "worn bearing", "leak"];

/// Centres for each class.
const CENTRES: usize = 4;

/// A record of the pump in the condition that `class` says.
fn record(class: usize, rng: &mut impl Rng) -> [f64; 6] {
    let mut noise = |spread: f64| spread * (rng.gen_range(-1.0..1.0) + rng.gen_range(-1.0..1.0));
    let load = 0.6 + noise(0.2);
    let severity = 1.0 + noise(0.3);
    let (mut flow, mut pressure) = (40.0 * load, 2.0 + 4.0 * load);
    let (mut temperature, mut current, mut vibration) =
        (30.0 + 25.0 * load, 10.0 * load, 0.5 + load);
    match class {
        1 => {
            flow -= 6.0 * severity;
            pressure += 1.2 * severity;
        }
        2 => {
            vibration += 0.8 * severity;
            temperature += 6.0 * severity;
            current += 0.6 * severity;
        }
        3 => {
            flow -= 4.0 * severity;
            pressure -= 1.0 * severity;
        }
        _ => {}
    }
    [
        load,
        flow + noise(0.8),
        pressure + noise(0.1),
        temperature + noise(1.0),
        current + noise(0.15),
        vibration + noise(0.1),
    ]
}

/// `n` records of each class, and their classes.
fn labelled(n: usize, seed: Seed) -> (Array2<f64>, Vec<usize>) {
    let mut rng = seed.rng();
    let classes: Vec<usize> = (0..n * CLASSES.len()).map(|i| i % CLASSES.len()).collect();
    let values: Vec<f64> = classes
        .iter()
        .flat_map(|&class| record(class, &mut rng))
        .collect();
    let records = Array2::from_shape_vec((classes.len(), SENSORS.len()), values);
    (records.unwrap_or_default(), classes)
}

/// The job of a daemon's training, on normal records.
fn job() -> TrainJob {
    let mut rows = PartitionRows::new(TopicPartition::new("plant.pumps", 0), SENSORS.len());
    let mut rng = Seed(1).rng();
    for i in 0..4000 {
        let place = (Timestamp(1000 * i), Offset(i));
        rows.push(&Key("P-17".into()), place.0, place.1, &record(0, &mut rng));
    }
    TrainJob {
        detector: "pumps".to_owned(),
        version: ModelVersion(1),
        created: Timestamp(0),
        columns: SENSORS.map(str::to_owned).to_vec(),
        fill_last: Vec::new(),
        spec: ModelSpec {
            kind: "autoencoder".to_owned(),
            window: 1,
            ..ModelSpec::default()
        }
        .with(|spec| spec.network.code = 4),
        schema: None,
        seed: Seed(2),
        rows: vec![rows],
        level_rows: Vec::new(),
        spans: Vec::new(),
        source: None,
        feedback: std::collections::BTreeMap::new(),
        maintenance: Vec::new(),
        exclusions: Vec::new(),
        budget: Budget::PerRecord(1e-3),
        episodes: anomalyd::train::evidence::EpisodeSettings::default(),
        champion: None,
        change: None,
        gaps: true,
        unsettled: std::collections::BTreeSet::new(),
        remake: None,
        params: Params::default(),
    }
}

/// A nearest-centre classifier on codes.
struct Classifier(Vec<Array2<f64>>);

impl Classifier {
    /// Finds the centres of each class.
    fn fit(
        codes: ArrayView2<'_, f64>,
        classes: &[usize],
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let mut centres = Vec::new();
        for class in 0..CLASSES.len() {
            let rows: Vec<usize> = (0..classes.len())
                .filter(|&i| classes[i] == class)
                .collect();
            let own = DatasetBase::from(codes.select(ndarray::Axis(0), &rows));
            let fitted = KMeans::params_with_rng(CENTRES, Seed(3).rng()).fit(&own)?;
            centres.push(fitted.centroids().clone());
        }
        Ok(Self(centres))
    }

    fn predict(&self, code: ArrayView1<'_, f64>) -> usize {
        let distance = |centres: &Array2<f64>| {
            let to = |centre: ArrayView1<'_, f64>| (&centre - &code).mapv(|d| d * d).sum();
            centres
                .rows()
                .into_iter()
                .map(to)
                .fold(f64::INFINITY, f64::min)
        };
        let distances: Vec<f64> = self.0.iter().map(distance).collect();
        let classes = 0..distances.len();
        classes
            .min_by(|&a, &b| distances[a].total_cmp(&distances[b]))
            .unwrap_or(0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let candidate = train::run(&job(), &|| false)?;
    let model = candidate.model;
    println!("an autoencoder of normal records: {}", candidate.verdict);

    // What the daemon would have put into the scores topic.
    let codes = |records: &Array2<f64>| {
        let codes = model.codes(records.view());
        codes
            .map(|codes| codes.mapv(f64::from))
            .ok_or("an autoencoder has a code")
    };
    let (records, classes) = labelled(40, Seed(4));
    let classifier = Classifier::fit(codes(&records)?.view(), &classes)?;

    let (records, classes) = labelled(500, Seed(5));
    let found: Vec<usize> = codes(&records)?
        .rows()
        .into_iter()
        .map(|code| classifier.predict(code))
        .collect();
    println!("40 labelled records of each class; on 500 others of each:");
    for (class, name) in CLASSES.iter().enumerate() {
        let of_class: Vec<usize> = (0..classes.len())
            .filter(|&i| classes[i] == class)
            .collect();
        let right = of_class.iter().filter(|&&i| found[i] == class).count();
        println!(
            "  {name:<15} {:>5.1} % recognised",
            100.0 * right as f64 / of_class.len() as f64
        );
    }
    Ok(())
}
