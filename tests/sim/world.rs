//! What the simulated records, models and parameters are: a function of the seed.

use std::sync::Arc;
use std::time::Duration;

use anomalyd::detect::{AlertParams, Budget, Params};
use anomalyd::kafka::start_offset::Start;
use anomalyd::model::trained::TrainedModel;
use anomalyd::pipeline::Column;
use anomalyd::record::{DecodeError, Decoded, DecodedBatch, Key, Missing, RecordBatch};
use anomalyd::seed::Seed;
use anomalyd::stats::calibration::Calibration;
use anomalyd::stream::TopicPartition;
use anomalyd::time::Timestamp;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Names of the two features.
const COLUMNS: [&str; 2] = ["x", "y"];
/// What the clock shows: after every record.
pub const NOW: Timestamp = Timestamp(10_000_000);

/// A record of the input.
#[derive(Clone, Debug)]
pub struct Input {
    pub offset: i64,
    pub timestamp: Timestamp,
    pub value: Vec<u8>,
}

#[derive(Debug)]
pub struct World {
    pub partitions: Vec<TopicPartition>,
    /// One log a partition. Offsets have holes, as transaction markers leave them.
    pub logs: Vec<Vec<Input>>,
    /// Versions 1, 2, …
    pub models: Vec<Arc<TrainedModel>>,
    pub params: Arc<Params>,
    /// What alerts may be due by, one time or another.
    pub alerts: Vec<AlertParams>,
    pub columns: Arc<[Column]>,
    /// Where the group begins.
    pub start: Start,
    /// How many partitions there are at first; the others are added later.
    pub first_partitions: usize,
    /// Whether retention deletes records that were not read yet, or must be replayed.
    pub deletes: bool,
    /// Whether the group's offsets expire once.
    pub expires: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Seed(seed).child("world").rng();
        let partitions: Vec<_> = (0..3).map(|p| TopicPartition::new("in", p)).collect();
        let logs = partitions.iter().map(|_| log(&mut rng)).collect();
        let params = Params {
            detector: "sim".into(),
            budget: Budget::PerRecord(0.02),
            time_scales: vec![1, 3, 8],
            close_evidence: 1.5,
            cooldown: Duration::from_millis(rng.gen_range(0..60)),
            cold_start_records: 5,
            silence_factor: if rng.gen_bool(0.7) { 1.5 } else { 0.0 },
            silence_min: Duration::from_millis(60),
            late_after: Some(Duration::from_millis(200)),
            storm_opens_max: rng.gen_range(0..4),
            storm_window: Duration::from_millis(150),
            window: rng.gen_range(1..3),
            snapshot_records: rng.gen_range(3..40),
            // Room for a handful of keys: batches are divided.
            snapshot_bytes: if rng.gen_bool(0.4) { 4096 } else { 16 << 20 },
            keys_max: rng.gen_range(3..8),
            quarantine_keep: Duration::from_millis(400),
            emit_scores: true,
            ..Params::default()
        };
        assert_eq!(params.check(), Vec::new());
        let columns = columns(&mut rng);
        let models = models(&mut rng);
        let alerts = alerts(params.alerts(), seed);
        Self {
            partitions,
            logs,
            models,
            params: Arc::new(params),
            alerts,
            columns,
            start: if rng.gen_bool(0.5) {
                Start::Earliest
            } else {
                Start::Latest
            },
            first_partitions: rng.gen_range(1..=3),
            deletes: rng.gen_bool(0.3),
            expires: rng.gen_bool(0.3),
        }
    }
}

/// What `first` may be changed to, and back.
fn alerts(first: AlertParams, seed: u64) -> Vec<AlertParams> {
    let mut rng = Seed(seed).child("alerts").rng();
    let mut other = || AlertParams {
        budget: Budget::PerRecord(10_f64.powf(rng.gen_range(-4.0..-1.0))),
        cooldown: Duration::from_millis(rng.gen_range(0..60)),
        silence_factor: [0.0, 1.5, 3.0][rng.gen_range(0..3)],
        storm_opens_max: rng.gen_range(0..4),
    };
    vec![first, other(), other()]
}

fn columns(rng: &mut ChaCha8Rng) -> Arc<[Column]> {
    let last = rng.gen_bool(0.5);
    let missing = |index: usize| {
        if last && index == 0 {
            Missing::Last
        } else {
            Missing::Mask
        }
    };
    COLUMNS
        .iter()
        .enumerate()
        .map(|(index, name)| Column {
            name: (*name).to_owned(),
            missing: missing(index),
            context: false,
        })
        .collect()
}

/// Models that nobody trained.
fn models(rng: &mut ChaCha8Rng) -> Vec<Arc<TrainedModel>> {
    (1..=4)
        .map(|version| {
            let width = 0.5 + f64::from(u32::try_from(version).unwrap()) * 0.4;
            let scores: Vec<f64> = (0..600)
                .map(|_| {
                    let (a, b): (f64, f64) = (rng.r#gen(), rng.r#gen());
                    width * (a * a + b * b)
                })
                .collect();
            let window = rng.gen_range(1..4);
            Arc::new(TrainedModel::simple(
                version,
                &COLUMNS,
                window,
                Calibration::fit(&scores),
            ))
        })
        .collect()
}

/// The records of a partition: keys that come and go, spikes, faults that last, bad and late records, wrong clocks.
fn log(rng: &mut ChaCha8Rng) -> Vec<Input> {
    let keys = rng.gen_range(3..9_usize);
    let mut asleep = vec![0_i64; keys];
    let mut faulty = vec![0_u32; keys];
    let (mut offset, mut time) = (rng.gen_range(0..5_i64), 1000_i64);
    // Some clocks are wrong, one more than others; where producers set Kafka's timestamp, it is, too.
    let wrong: Vec<i64> = (0..keys)
        .map(|_| match rng.gen_range(0..12) {
            0 => rng.gen_range(-90_000..90_000),
            1 => 900_000,
            _ => 0,
        })
        .collect();
    let by_producer = rng.gen_bool(0.5);
    let mut records = Vec::new();
    for _ in 0..rng.gen_range(60..140) {
        offset += if rng.gen_bool(0.05) { 3 } else { 1 };
        time += rng.gen_range(0..12);
        let key = rng.gen_range(0..keys);
        if rng.gen_bool(0.02) {
            asleep[key] = time + rng.gen_range(100..600);
        }
        if rng.gen_bool(0.02) {
            faulty[key] = rng.gen_range(1..8);
        }
        let key = (0..keys)
            .map(|i| (key + i) % keys)
            .find(|k| asleep[*k] <= time)
            .unwrap_or(key);
        let size = if faulty[key] > 0 {
            faulty[key] -= 1;
            rng.gen_range(2.0..9.0)
        } else {
            1.0
        };
        let mut number = || -> String {
            if rng.gen_bool(0.06) {
                "-".to_owned()
            } else {
                format!("{}", size * rng.gen_range(-1.0..1.0))
            }
        };
        let (x, y) = (number(), number());
        let late = if rng.gen_bool(0.03) {
            rng.gen_range(150..400)
        } else {
            rng.gen_range(0..10)
        };
        let blip = if rng.gen_bool(0.01) { 70_000 } else { 0 };
        let shows = (time - late + wrong[key] + blip).max(1);
        let value = if rng.gen_bool(0.03) {
            format!("bad {}", rng.r#gen::<u32>())
        } else {
            format!("k{key} {shows} {x} {y}")
        };
        let kafka = if by_producer { shows } else { time };
        records.push(Input {
            offset,
            timestamp: Timestamp(kafka - rng.gen_range(0..5)),
            value: value.into_bytes(),
        });
    }
    records
}

/// A model fitted to what was read: retraining, in the smallest. `None` where that is too little.
pub fn retrain(version: u64, window: usize, records: &[&Input]) -> Option<TrainedModel> {
    let number = |text: &str| text.parse::<f64>().ok();
    let scores: Vec<f64> = records
        .iter()
        .filter_map(|input| {
            let text = std::str::from_utf8(&input.value).ok()?;
            let mut parts = text.split(' ').skip(2).map(number);
            let (x, y) = (parts.next()??, parts.next()??);
            Some(f64::midpoint(x * x, y * y))
        })
        .collect();
    let enough = scores.len() >= 30;
    let calibration = enough.then(|| Calibration::fit(&scores))?;
    Some(TrainedModel::simple(version, &COLUMNS, window, calibration))
}

/// The decoder: `key time x y`, `-` for missing.
pub fn decode(batch: &RecordBatch, into: &mut DecodedBatch) {
    into.columns = 2;
    into.values.clear();
    into.outcomes.clear();
    for raw in batch.records() {
        let text = std::str::from_utf8(batch.value(raw).unwrap()).unwrap();
        let parts: Vec<&str> = text.split(' ').collect();
        if let [key, time, x, y] = parts[..] {
            let number = |text: &str| text.parse().unwrap_or(f64::NAN);
            into.values.extend([number(x), number(y)]);
            into.outcomes.push(Ok(Decoded {
                key: Key(Arc::from(key)),
                time: Timestamp(time.parse().unwrap()),
            }));
        } else {
            into.values.extend([f64::NAN; 2]);
            into.outcomes
                .push(Err(DecodeError::Syntax(text.to_owned())));
        }
    }
}
