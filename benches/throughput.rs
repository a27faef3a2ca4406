//! How much of what Kafka and decoding allow is left when the daemon does its whole job, exactly once: `anomalyd run` as a process of its own,
//! beside a process that only consumes and decodes the same records, in one run on one machine.
//!
//! Records are flat JSON objects of 38 numbers, 571 bytes, 28 keys, 4 partitions. What counts is records per CPU second of the process (the broker
//! shares the machine, so wall time says little), and their ratio. What a process costs once, however long it runs, is measured apart and left
//! out on both sides: of the daemon the CPU time until it is ready, on an empty topic; of the other that until it has its first record. Both
//! fetch alike, by the same settings of the consumer, and decode batches of the daemon's largest size; only the daemon looks at headers.
//!
//! Then alert latency: records at a fixed rate, now and then one with a fault, and the time from its Kafka timestamp until a `read_committed`
//! reader has the alert.
//!
//! Run: `make bench-kafka`, or `cargo bench --bench throughput`; it needs Kafka as the tests do. Settings by environment:
//! `THROUGHPUT_RECORDS` (1000000), `THROUGHPUT_RATE` (35000 a second, 0 leaves latency out), `THROUGHPUT_SECONDS` (30),
//! `THROUGHPUT_MODELS` ("autoencoder:1 pca:1 auto:10": kind and window).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, waits and reads clock and environment"
)]

#[expect(dead_code, reason = "shared with the tests")]
#[path = "../tests/kafka/cluster.rs"]
mod cluster;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anomalyd::kafka::settings::Connection;
use anomalyd::model::trained::TrainedModel;
use anomalyd::port::ModelStore as _;
use anomalyd::record::decode::Decoder;
use anomalyd::record::schema::SchemaSpec;
use anomalyd::record::{DecodedBatch, RecordBatch};
use anomalyd::seed::Seed;
use anomalyd::store::DirectoryStore;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::TopicPartitionList;

const PARTITIONS: i32 = 4;
const NUMBERS: usize = 38;
const KEYS: usize = 28;
/// As `batch.records_max`.
const BATCH: usize = 10_000;
/// Tells the child process what to consume: brokers, topic, records.
const CHILD: &str = "THROUGHPUT_CHILD";

fn main() {
    if let Ok(task) = std::env::var(CHILD) {
        return consume_and_decode(&task);
    }
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let setting =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let number =
        |name: &str, default: &str| -> usize { setting(name, default).parse().expect("a number") };
    let records = number("THROUGHPUT_RECORDS", "1000000");
    let input = cluster::unique("throughput");
    cluster::create_topic(brokers, &input, PARTITIONS, &[]);
    let mut rows = Rows::new(0);
    cluster::produce(
        brokers,
        &input,
        (0..records).map(|n| {
            let (key, value) = rows.next_record(n, false);
            let partition = (n % KEYS) as i32 % PARTITIONS;
            (Some(partition), Some(key), Some(value), None)
        }),
    );
    let folder = tempfile::tempdir().expect("a folder");
    write_history(&folder.path().join("history.csv"));

    println!(
        "{records} records of {} bytes, {PARTITIONS} partitions, one worker",
        Rows::new(0).next_record(0, false).1.len()
    );
    println!(
        "{:<28}{:>9}{:>12}{:>16}{:>8}",
        "", "start s", "CPU s", "records/CPU s", "ratio"
    );
    // Alone before and after each model, so that what else the machine does weighs on both.
    let line = |name: &str, (start, cpu): (f64, f64), alone: f64| {
        let rate = records as f64 / cpu;
        println!(
            "{name:<28}{start:>9.2}{cpu:>12.2}{rate:>16.0}{:>8.2}",
            alone / cpu
        );
    };
    let mut before = cpu_of_consuming(brokers, &input, records);
    line("consume + decode alone", before, before.1);
    let models = setting("THROUGHPUT_MODELS", "autoencoder:1 pca:1 auto:10");
    let mut first = None;
    for model in models.split_whitespace() {
        let (kind, window) = model.split_once(':').expect("kind:window");
        let setup = Setup::new(brokers, &input, folder.path(), (kind, window));
        let cpu = setup.cpu_of_running(records);
        let after = cpu_of_consuming(brokers, &input, records);
        let name = format!("run, {kind}, window {window}");
        line(&name, cpu, f64::midpoint(before.1, after.1));
        line("consume + decode alone", after, after.1);
        before = after;
        first.get_or_insert(setup);
    }
    let rate = number("THROUGHPUT_RATE", "35000");
    if let Some(setup) = first.filter(|_| rate > 0) {
        setup.latency(rate, number("THROUGHPUT_SECONDS", "30"));
    }
}

/// Seeded records: three hidden causes, 38 sensors that follow them, noise.
struct Rows {
    rng: ChaCha8Rng,
    gains: Vec<[f64; 3]>,
}

impl Rows {
    fn new(stream: u64) -> Self {
        // The same plant for every stream of records.
        let mut plant = Seed(7).child("plant").rng();
        let gains = (0..NUMBERS).map(|_| [0; 3].map(|_| plant.gen_range(-1.0..1.0)));
        Self {
            gains: gains.collect(),
            rng: Seed(7).child("records").nth(stream).rng(),
        }
    }

    fn numbers(&mut self, n: usize, faulty: bool) -> Vec<f64> {
        let phase = n as f64 / 5_000.0;
        let causes = [
            phase.sin(),
            (phase * 2.7).cos(),
            self.rng.gen_range(-1.0..1.0),
        ];
        let mut numbers: Vec<f64> = self
            .gains
            .iter()
            .map(|gains| {
                let clean: f64 = gains
                    .iter()
                    .zip(causes)
                    .map(|(gain, cause)| gain * cause)
                    .sum();
                5.0 + clean + self.rng.gen_range(-0.1..0.1)
            })
            .collect();
        if faulty {
            numbers[n % NUMBERS] = 9.5;
        }
        numbers
    }

    /// Key and value of record `n`.
    fn next_record(&mut self, n: usize, faulty: bool) -> (Vec<u8>, Vec<u8>) {
        let mut text = String::with_capacity(600);
        for (at, number) in self.numbers(n, faulty).iter().enumerate() {
            let comma = if at == 0 { '{' } else { ',' };
            write!(
                text,
                "{comma}\"f{at:02}\":{:.6}",
                number.clamp(0.0, 9.999_999)
            )
            .unwrap();
        }
        text.push('}');
        (
            format!("machine-{}", n % KEYS).into_bytes(),
            text.into_bytes(),
        )
    }
}

fn write_history(path: &Path) {
    let mut rows = Rows::new(1);
    let names: Vec<String> = (0..NUMBERS).map(|at| format!("f{at:02}")).collect();
    let mut text = names.join(",") + "\n";
    // As a key's records follow each other, and over many cycles: what comes is as ordinary as it.
    for n in (0..20_000).map(|n| n * KEYS) {
        let cells: Vec<String> = rows
            .numbers(n, false)
            .iter()
            .map(|v| format!("{v:.6}"))
            .collect();
        text += &(cells.join(",") + "\n");
    }
    std::fs::write(path, text).unwrap();
}

/// The child: what the daemon would have to do even if it had no model and told nobody.
fn consume_and_decode(task: &str) {
    let [brokers, topic, records]: [&str; 3] =
        task.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let records: usize = records.parse().unwrap();
    let connection = Connection {
        brokers: brokers.to_owned(),
        group: format!("{topic}-alone"),
        properties: std::collections::BTreeMap::new(),
        tokens: None,
        schemas: None,
    };
    let consumer: BaseConsumer = connection.member(0).create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, rdkafka::Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let names: Vec<String> = (0..NUMBERS).map(|at| format!("f{at:02}")).collect();
    let spec = serde_json::json!({ "features": names }).to_string();
    let spec: SchemaSpec = serde_json::from_str(&spec).unwrap();
    let mut decoder = Decoder::new(Arc::new(spec.check().unwrap()));
    let (mut batch, mut decoded) = (RecordBatch::default(), DecodedBatch::default());
    let places: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|p| TopicPartition::new(topic, p))
        .collect();
    let mut done = 0;
    while done < records {
        let message = consumer
            .poll(Duration::from_secs(30))
            .expect("records")
            .unwrap();
        let place = (
            Offset(message.offset()),
            Timestamp(message.timestamp().to_millis().unwrap_or(0)),
        );
        let at = &places[message.partition() as usize];
        batch.push(at, place, message.key(), message.payload(), Vec::new());
        if done + batch.len() == 1 {
            // Its CPU time is read here, and again when all is done.
            println!("first");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        if batch.len() == BATCH || done + batch.len() == records {
            decoder.decode_into(&batch, &mut decoded);
            assert!(decoded.outcomes.iter().all(Result::is_ok));
            done += batch.len();
            batch.clear();
        }
    }
    // The process lives until its CPU time has been read.
    println!("done");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// CPU time until the first record, and from there on.
fn cpu_of_consuming(brokers: &str, topic: &str, records: usize) -> (f64, f64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, format!("{brokers} {topic} {records}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut cpu_at = |child: &mut Child, word: &str| {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line.trim(), word);
        let cpu = cpu_seconds(child);
        writeln!(child.stdin.as_mut().unwrap()).unwrap();
        cpu
    };
    let first = cpu_at(&mut child, "first");
    let done = cpu_at(&mut child, "done");
    child.wait().unwrap();
    (first, done - first)
}

/// CPU time of a process so far, user and system.
fn cpu_seconds(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("Linux");
    // The name may contain anything: fields count from its closing parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    let ticks: f64 = fields[12].parse::<f64>().unwrap() + fields[13].parse::<f64>().unwrap();
    // USER_HZ is 100 on every Linux there is.
    ticks / 100.0
}

/// A daemon with a trained model and topics of its own.
struct Setup {
    brokers: String,
    input: String,
    folder: std::path::PathBuf,
    name: String,
    model: String,
    /// Where its metrics are.
    port: u16,
}

impl Setup {
    fn new(brokers: &str, input: &str, folder: &Path, (kind, window): (&str, &str)) -> Self {
        let setup = Self {
            brokers: brokers.to_owned(),
            input: input.to_owned(),
            folder: folder.to_owned(),
            name: cluster::unique(kind),
            model: format!("kind = \"{kind}\"\nwindow = {window}"),
            port: TcpListener::bind("127.0.0.1:0")
                .and_then(|free| free.local_addr())
                .unwrap()
                .port(),
        };
        let model = folder.join(format!("{}.safetensors", setup.name));
        std::fs::write(setup.config_path(), setup.config(input)).unwrap();
        let trained = Command::new(env!("CARGO_BIN_EXE_anomalyd"))
            .args(["train", "--config"])
            .arg(setup.config_path())
            .arg("--input")
            .arg(folder.join("history.csv"))
            .arg("--model")
            .arg(&model)
            .output()
            .unwrap();
        assert!(
            trained.status.success(),
            "{}",
            String::from_utf8_lossy(&trained.stderr)
        );
        let model = TrainedModel::from_bytes(&std::fs::read(model).unwrap()).unwrap();
        DirectoryStore::open(&folder.join("models"), &setup.name, 10)
            .unwrap()
            .save(&model, true)
            .unwrap();
        setup
    }

    fn config_path(&self) -> std::path::PathBuf {
        self.folder.join(format!("{}.toml", self.name))
    }

    fn config(&self, input: &str) -> String {
        let names: Vec<String> = (0..NUMBERS).map(|at| format!("\"f{at:02}\"")).collect();
        format!(
            "name = \"{name}\"\nlog.level = \"warn\"\nhttp.listen = \"127.0.0.1:{port}\"\n\
             [kafka]\nbrokers = \"{brokers}\"\n\
             [input]\ntopics = [\"{input}\"]\ngroup = \"{name}-{input}\"\nstart = \"earliest\"\nfeatures = [{names}]\n\
             [output]\nalerts = \"{name}.alerts\"\ndead_letters = \"{name}.dead\"\nstate = \"{name}.state\"\n\
             [models]\ndirectory = \"{models}\"\n\
             [training]\ninterval = \"3650d\"\n\
             [alerts]\nstorm_opens_max = 0\n\
             [model]\n{model}\n",
            name = self.name,
            port = self.port,
            brokers = self.brokers,
            names = names.join(", "),
            models = self.folder.join("models").display(),
            model = self.model,
        )
    }

    fn start(&self, input: &str) -> Child {
        std::fs::write(self.config_path(), self.config(input)).unwrap();
        let run = |command: &[&str]| {
            let mut process = Command::new(env!("CARGO_BIN_EXE_anomalyd"));
            process
                .args(command)
                .arg("--config")
                .arg(self.config_path());
            process
        };
        let made = run(&["topics", "create"]).output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        run(&["run"]).spawn().unwrap()
    }

    /// CPU time until it is ready, and what all records cost beyond that.
    fn cpu_of_running(&self, records: usize) -> (f64, f64) {
        let start = self.cpu_of_starting();
        let mut child = self.start(&self.input);
        let group = format!("{}-{}", self.name, self.input);
        cluster::wait_for("all records scored", Duration::from_secs(600), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the daemon ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(200));
            let done = cluster::committed(&self.brokers, &group, &self.input, PARTITIONS);
            done.iter().map(|offset| (*offset).max(0)).sum::<i64>() >= records as i64
        });
        let cpu = cpu_seconds(&child);
        self.print_stages();
        end(&mut child);
        (start, cpu - start)
    }

    fn cpu_of_starting(&self) -> f64 {
        let empty = cluster::unique("empty");
        cluster::create_topic(&self.brokers, &empty, PARTITIONS, &[]);
        let mut child = self.start(&empty);
        cluster::wait_for("a daemon that is ready", Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(50));
            self.get("/readyz")
                .is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        let cpu = cpu_seconds(&child);
        end(&mut child);
        cpu
    }

    /// What the daemon answers over HTTP, if it does.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// What the daemon says itself of the time that a batch takes.
    fn print_stages(&self) {
        let text = self.get("/metrics").unwrap();
        let total = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('{'))
            });
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        let batches = total("anomalyd_decode_seconds_count").max(1.0);
        let mean = |name: &str| 1000.0 * total(&format!("anomalyd_{name}_seconds_sum")) / batches;
        println!(
            "  {batches:.0} batches of {:.0} records: decode {:.2} ms, score {:.2} ms, publish {:.2} ms each; {:.0} alerts",
            total("anomalyd_records_consumed_total") / batches,
            mean("decode"),
            mean("score"),
            mean("publish"),
            total("anomalyd_alerts_total"),
        );
    }

    /// Alerts of single faulty records while records come at a fixed rate.
    fn latency(&self, rate: usize, seconds: usize) {
        let input = cluster::unique("latency");
        cluster::create_topic(&self.brokers, &input, PARTITIONS, &[]);
        let mut child = self.start(&input);
        let alerts = format!("{}.alerts", self.name);
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "latency-reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "latest")
            .set("fetch.wait.max.ms", "5")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let metadata = reader
            .fetch_metadata(Some(&alerts), Duration::from_secs(20))
            .unwrap();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(&alerts, partition.id(), rdkafka::Offset::End)
                .unwrap();
        }
        reader.assign(&list).unwrap();
        let brokers = self.brokers.clone();
        let feeder = std::thread::spawn(move || feed(&brokers, &input, rate, seconds));
        let mut waits = Vec::new();
        let quiet = Duration::from_secs(3);
        let mut last = Instant::now() + Duration::from_secs(15);
        while Instant::now() < last + quiet || !feeder.is_finished() {
            let Some(message) = reader.poll(Duration::from_millis(50)) else {
                continue;
            };
            let now = millis();
            let message = message.unwrap();
            let alert: serde_json::Value =
                serde_json::from_slice(message.payload().unwrap()).unwrap();
            last = Instant::now();
            if alert["event"] == "open" && alert["kind"] == "score" {
                let at: jiff::Timestamp = alert["data_time"].as_str().unwrap().parse().unwrap();
                waits.push(now - at.as_millisecond());
            }
        }
        let (sent, faults, late) = feeder.join().unwrap();
        self.print_stages();
        end(&mut child);
        waits.sort_unstable();
        let quantile = |q: f64| {
            waits
                .get(((waits.len() as f64 - 1.0) * q) as usize)
                .copied()
                .unwrap_or(-1)
        };
        println!(
            "\nalert latency, record's timestamp to committed alert at a reader: {} alerts of {faults} faults among {sent} records at {rate}/s \
             (feeder at most {late} ms behind)\n  p50 {} ms   p90 {} ms   p99 {} ms   max {} ms",
            waits.len(),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(1.0)
        );
    }
}

fn millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}

/// Records at `rate`, one in 2,000 of them faulty, each fault on a key that had none; how many of both, and how far behind it fell.
fn feed(brokers: &str, input: &str, rate: usize, seconds: usize) -> (usize, usize, u128) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "2")
        .set("compression.type", "lz4")
        .create()
        .unwrap();
    // Made before, so that the clock is all there is to wait for.
    let mut rows = Rows::new(2);
    let values: Vec<Vec<u8>> = (0..20_000).map(|n| rows.next_record(n, false).1).collect();
    let strange: Vec<Vec<u8>> = (0..100).map(|n| rows.next_record(n, true).1).collect();
    let (total, mut faults, mut behind) = (rate * seconds, 0, 0);
    let begun = Instant::now();
    for n in 0..total {
        // Keys of a few seconds each, so that every fault opens an episode of its own.
        let faulty = n % 2_000 == 1_999 && n > rate * 10;
        let key = if faulty {
            faults += 1;
            format!("faulty-{faults}")
        } else {
            format!("machine-{}", n % KEYS)
        };
        let value = if faulty {
            &strange[faults % 100]
        } else {
            &values[n % 20_000]
        };
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        if n % 35 == 0 {
            // Asleep until then: a feeder that spins takes the CPU that is measured.
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            producer.poll(Duration::ZERO);
            behind = behind.max(begun.elapsed().saturating_sub(due).as_millis());
        }
        let mut record = BaseRecord::to(input)
            .key(&key)
            .payload(value)
            .partition((n as i32) % PARTITIONS);
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    (total, faults, behind)
}

fn end(child: &mut Child) {
    let told = Command::new("kill")
        .arg("-TERM")
        .arg(child.id().to_string())
        .status();
    assert!(told.unwrap().success());
    assert!(child.wait().unwrap().success());
}
