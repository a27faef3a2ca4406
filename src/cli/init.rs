//! `anomalyd config init`: a configuration file proposed from records that there are.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::args::ConfigInitArgs;
use super::exit::Failure;
use super::output::print;
use super::outside::outside;
use crate::config::secret::HIDDEN;
use crate::config::{Config, Setting};
use crate::kafka::history::{HistoryTopics, KafkaHistory};
use crate::record::schema::{Format, SchemaSpec};
use crate::record::{RecordBatch, whole};
use crate::tools::looks::looks;
use crate::tools::propose::{Leaves, propose};
use crate::tools::proposed::{Names, file, spec};
use crate::tools::table::head;
use crate::tools::trial::{Trial, lines, trial};

/// Records that are looked at.
const RECORDS: usize = 1_000;

/// What is looked at.
struct Sample {
    records: Vec<Leaves>,
    /// The same as records of a topic, where they are such.
    batch: RecordBatch,
    /// How they are written.
    written: SchemaSpec,
    /// Why one of the others cannot be read.
    why: Option<String>,
}

/// Proposes, and writes it where it is asked to; never over a file that is there.
pub(super) fn run(config: &Config, arguments: &ConfigInitArgs) -> Result<(), Failure> {
    if let Some(out) = arguments.out.as_ref().filter(|out| out.exists()) {
        return Err(there(out));
    }
    let (sample, source, topic) = match (&arguments.from_topic, &arguments.from_file) {
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
    let Sample {
        records: sample,
        batch,
        written,
        why,
    } = sample;
    if sample.is_empty() {
        return Err(Failure::Usage(nothing(&source, &written, &batch, why)));
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
        given: (&given(config, "input."), &given(config, "registry.")),
    };
    let proposal = propose(&sample);
    let tried = trial(&spec(&proposal, &written), &batch);
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
    let said = said(&tried);
    print(&format!(
        "written to {}: look it over, then `anomalyd validate --config {}`\n{said}",
        out.display(),
        out.display()
    ))
}

/// What is to be said of the records that the proposal was tried on, a line each.
fn said(tried: &Trial) -> String {
    let said = [tried.unread_words(), tried.spread_words()];
    said.into_iter()
        .flatten()
        .map(|words| words + "\n")
        .collect()
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
    let batch = history.sample(RECORDS as i64)?;
    let written = config.input.schema();
    let (all, why) = whole::all(&written, &batch);
    // As many of each partition.
    let apart = all.len().div_ceil(RECORDS).max(1);
    Ok(Sample {
        records: all.into_iter().step_by(apart).collect(),
        batch,
        written,
        why,
    })
}

/// Why there is nothing to propose from, and what to do.
fn nothing(source: &str, written: &SchemaSpec, batch: &RecordBatch, why: Option<String>) -> String {
    let why = why.unwrap_or_default();
    match written.format {
        _ if why.is_empty() => format!("{source} has no records to look at"),
        Format::F32 => format!(
            "{source}: records of \"f32\" are numbers without names: say in `input.features` how they are called, in their order"
        ),
        Format::Json => format!(
            "{source} has no record that is a JSON object: {}",
            looks(batch).unwrap_or(why)
        ),
        _ => format!(
            "{source} has no record that can be read as `input.format` says: the first {why}"
        ),
    }
}

/// The settings that somebody gave of how records are written, as lines of their section.
fn given(config: &Config, section: &str) -> Vec<String> {
    const WRITTEN: [&str; 6] = [
        "input.format",
        "input.envelope",
        "input.csv.",
        "input.avro.",
        "input.protobuf.",
        "registry.",
    ];
    let settings = config.settings().into_iter().filter(|setting| {
        setting.origin != "default"
            && setting.key.starts_with(section)
            && WRITTEN.iter().any(|key| setting.key.starts_with(key))
    });
    let line = |setting: Setting| {
        let name = &setting.key[section.len()..];
        match config.reference(&setting.key) {
            Some(reference) => format!("{name} = {}", Value::from(reference)),
            None if setting.value.contains(HIDDEN) => {
                format!("# {name} = \"...\"   # as you gave it, which is not written down")
            }
            None => format!("{name} = {}", setting.value),
        }
    };
    settings.map(line).collect()
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
    Ok(Sample {
        records: head::rows(&text, RECORDS),
        batch,
        written: SchemaSpec::default(),
        why: Some("is no row".to_owned()).filter(|_| !text.trim_ascii().is_empty()),
    })
}
