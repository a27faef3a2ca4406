//! `anomalyd config init`: a configuration file proposed from records that there are.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use super::args::ConfigInitArgs;
use super::exit::Failure;
use super::output::print;
use super::outside::outside;
use crate::config::Config;
use crate::kafka::history::{HistoryTopics, KafkaHistory};
use crate::record::{RecordBatch, nonfinite, wire};
use crate::tools::propose::{Leaves, leaves, propose};
use crate::tools::proposed::{Names, file, spec};
use crate::tools::table::head;
use crate::tools::trial::{lines, trial};

/// Records that are looked at.
const RECORDS: usize = 1_000;

/// What is looked at: as leaves, and as records of a topic, where it is such.
type Sample = (Vec<Leaves>, RecordBatch);

/// Proposes, and writes it where it is asked to; never over a file that is there.
pub(super) fn run(config: &Config, arguments: &ConfigInitArgs) -> Result<(), Failure> {
    if let Some(out) = arguments.out.as_ref().filter(|out| out.exists()) {
        return Err(there(out));
    }
    let ((sample, batch), source, topic) = match (&arguments.from_topic, &arguments.from_file) {
        (Some(topic), _) => (
            of_topic(config, topic)?,
            format!("the topic {topic}"),
            topic.clone(),
        ),
        (None, Some(path)) => {
            let stem = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("records");
            let topic = stem.split('.').next().unwrap_or("records").to_owned();
            (of_file(path)?, path.display().to_string(), topic)
        }
        (None, None) => {
            return Err(Failure::Usage(
                "--from-topic or --from-file says what to look at".to_owned(),
            ));
        }
    };
    if sample.is_empty() {
        return Err(Failure::Usage(format!(
            "{source} has no record that is a JSON object or a row"
        )));
    }
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let topic: String = topic.chars().map(plain).collect();
    let names = Names {
        name: topic.rsplit('.').next().unwrap_or(&topic),
        brokers: &config.kafka.brokers,
        topic: &topic,
        source: &source,
    };
    let proposal = propose(&sample);
    let tried = trial(&spec(&proposal), &batch);
    let text = file(&proposal, Some(&tried), &names);
    let Some(out) = &arguments.out else {
        return print(&text);
    };
    let wrong = |error: std::io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => there(out),
        _ => Failure::Io(format!("{}: {error}", out.display())),
    };
    let mut made = File::create_new(out).map_err(wrong)?;
    io::Write::write_all(&mut made, text.as_bytes()).map_err(wrong)?;
    let unread = tried
        .unread_words()
        .map(|words| words + "\n")
        .unwrap_or_default();
    print(&format!(
        "written to {}: look it over, then `anomalyd validate --config {}`\n{unread}",
        out.display(),
        out.display()
    ))
}

fn there(out: &Path) -> Failure {
    Failure::Io(format!(
        "{} is there already and stays as it is: move it away, or name another file with --out",
        out.display()
    ))
}

fn of_topic(config: &Config, topic: &str) -> Result<Sample, Failure> {
    let (clock, watchdog) = outside(config)?;
    let topics = HistoryTopics {
        inputs: vec![topic.to_owned()],
        ..config.history_topics()
    };
    let mut history = KafkaHistory::new(&config.connection(), topics, (clock, watchdog))?;
    let batch = history.newest(RECORDS as i64)?;
    let values = batch
        .records()
        .iter()
        .filter_map(|record| batch.value(record));
    let parsed = values.filter_map(|value| leaves(&nonfinite::parse(wire::json(value)).ok()?));
    let all: Vec<Leaves> = parsed.collect();
    // As many of each partition.
    let apart = all.len().div_ceil(RECORDS).max(1);
    Ok((all.into_iter().step_by(apart).collect(), batch))
}

fn of_file(path: &Path) -> Result<Sample, Failure> {
    let wrong = |error: std::io::Error| Failure::Io(format!("{}: {error}", path.display()));
    let mut head = [0; 2];
    let gzipped = fs::File::open(path)
        .map_err(wrong)?
        .read(&mut head)
        .map_err(wrong)?
        == 2
        && head == [0x1f, 0x8b];
    let plain = File::open(path).map_err(wrong)?;
    let reader: Box<dyn Read> = if gzipped {
        Box::new(flate2::read::GzDecoder::new(plain))
    } else {
        Box::new(plain)
    };
    let mut text = Vec::new();
    for line in BufReader::new(reader).lines().take(RECORDS + 1) {
        text.extend_from_slice(line.map_err(wrong)?.as_bytes());
        text.push(b'\n');
    }
    let is_json = text.trim_ascii_start().starts_with(b"{");
    let batch = if is_json {
        lines(&text)
    } else {
        RecordBatch::default()
    };
    Ok((head::rows(&text, RECORDS), batch))
}
