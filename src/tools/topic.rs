//! A stretch of the input topics as a table: what `--from` and `--to` name.

use std::sync::Arc;

use super::ToolError;
use super::table::{Places, Table};
use crate::config::Config;
use crate::port::Ranges;
use crate::record::decode::Decoder;
use crate::record::event;
use crate::record::problem;
use crate::record::schema::Schema;
use crate::record::{DecodedBatch, Key, Missing, RecordBatch};
use crate::stream::{Offset, Span};
use crate::time::Timestamp;

/// Records read at once: their bytes are forgotten when their numbers are known.
const CHUNK: i64 = 20_000;

/// Records that are looked at to find features.
const PEEK: usize = 200;

/// The rows while they are read.
#[derive(Debug, Default)]
struct Rows {
    table: Table,
    places: Places,
    /// By row: the newest Kafka timestamp of its partition so far, which never falls.
    clocks: Vec<Timestamp>,
}

impl Rows {
    /// Adds a batch of a partition, `part` among those read, whose clock stood at `clock` before.
    fn push(
        &mut self,
        batch: &RecordBatch,
        decoded: &DecodedBatch,
        part: usize,
        clock: &mut Timestamp,
    ) {
        for (i, raw) in batch.records().iter().enumerate() {
            *clock = raw.timestamp.max(*clock);
            let table = &mut self.table;
            table.values.extend_from_slice(decoded.row(i));
            match &decoded.outcomes[i] {
                Ok(found) => {
                    table.keys.push(found.key.clone());
                    table.times.push(found.time);
                    table.empty.push(false);
                }
                Err(_) => {
                    table.keys.push(Key("".into()));
                    table.times.push(raw.timestamp);
                    table.empty.push(true);
                }
            }
            self.places.rows.push((part, raw.offset));
            self.clocks.push(*clock);
        }
    }
}

/// The records of the configuration's topics with Kafka timestamps in `from .. to`, decoded as live; those of several partitions are put in the
/// order of these timestamps. What cannot be read is a row without values, and gets no score. `columns`: those of the model that will judge
/// them; without, `auto` features are found in the first records. `seen` is told how many records were read.
pub fn read<H: Ranges>(
    config: &Config,
    columns: Option<&[String]>,
    history: &mut H,
    (from, to): (Timestamp, Option<Timestamp>),
    seen: &dyn Fn(usize),
) -> Result<Table, ToolError> {
    let log = |error: H::Error| ToolError::Log(error.to_string());
    let spans = history.between(from, to).map_err(log)?;
    let name = format!(
        "{} from {}{}",
        config.input.topics.join(", "),
        from.rfc3339(),
        to.map_or_else(String::new, |to| format!(" to {}", to.rfc3339()))
    );
    let mut decoder: Option<Decoder> = None;
    let mut rows = Rows::default();
    for (part, span) in spans.iter().enumerate() {
        rows.places.parts.push(span.at.clone());
        let mut clock = Timestamp::MIN;
        let mut next = span.from;
        while next < span.to {
            let end = Offset((next.0 + CHUNK).min(span.to.0));
            let chunk = Span {
                at: span.at.clone(),
                from: next,
                to: end,
            };
            next = end;
            let batch = history.read(&chunk).map_err(log)?;
            if batch.is_empty() {
                continue;
            }
            let decoder = match &mut decoder {
                Some(decoder) => decoder,
                None => {
                    let values = batch.records().iter().take(PEEK);
                    let envelope = config.input.envelope;
                    let values: Vec<_> = values
                        .filter_map(|r| event::record(envelope, batch.value(r)?, &r.headers))
                        .collect();
                    let values: Vec<&[u8]> = values.iter().map(|value| &**value).collect();
                    decoder.insert(Decoder::new(Arc::new(schema(config, columns, &values)?)))
                }
            };
            let decoded = decoder.decode(&batch);
            rows.push(&batch, &decoded, part, &mut clock);
            seen(rows.clocks.len());
        }
    }
    let Some(decoder) = decoder else {
        return Err(ToolError::Asked(format!("{name}: there are no records")));
    };
    rows.places.spans = spans;
    Ok(Table {
        schema: config.input.schema(),
        ..rows.finish(name, decoder.schema())
    })
}

/// How records are read: as configured; `auto` features as the model has them, or as the records show.
fn schema(
    config: &Config,
    columns: Option<&[String]>,
    values: &[&[u8]],
) -> Result<Schema, ToolError> {
    let mut spec = config.input.schema();
    match columns {
        Some(columns) => spec.resolve_from_columns(columns),
        None if spec.is_auto() && !spec.resolve(values.iter().copied()) => {
            let problem = "the first records have no numeric field to take as a feature";
            return Err(ToolError::Asked(problem.to_owned()));
        }
        None => {}
    }
    let schema = spec
        .check()
        .map_err(|problems| ToolError::Asked(problem::listed(&problems)))?;
    match columns {
        Some(columns) if columns != schema.columns() => Err(ToolError::Asked(format!(
            "the model was made for the columns {}, but [input] has {}",
            columns.join(", "),
            schema.columns().join(", ")
        ))),
        _ => Ok(schema),
    }
}

impl Rows {
    /// In the order of time; within a partition, of offsets.
    fn finish(self, path: String, schema: &Schema) -> Table {
        let Self {
            table,
            places,
            clocks,
        } = self;
        let mut order: Vec<usize> = (0..clocks.len()).collect();
        order.sort_by_key(|&row| (clocks[row], places.rows[row]));
        let columns = schema.columns().len();
        let values = order
            .iter()
            .flat_map(|&row| &table.values[row * columns..(row + 1) * columns])
            .copied()
            .collect();
        Table {
            path,
            columns: schema.columns().to_vec(),
            missing: schema
                .missing()
                .iter()
                .map(|missing| match missing {
                    // Decoding has filled these in, or refused the record.
                    Missing::Constant(_) | Missing::DeadLetter => Missing::Mask,
                    other => *other,
                })
                .collect(),
            keys: order.iter().map(|&row| table.keys[row].clone()).collect(),
            times: order.iter().map(|&row| table.times[row]).collect(),
            values,
            empty: order.iter().map(|&row| table.empty[row]).collect(),
            places: Some(Places {
                rows: order.iter().map(|&row| places.rows[row]).collect(),
                ..places
            }),
            ..Table::default()
        }
    }
}
