//! What is emitted as fields, in the order and by the numbers of docs/schemas: said once, for all binary formats.
//!
//! Words such as `open` go out as text, not as enums: a word that is added later is then new to a reader, and neither an error (Avro) nor a number without a
//! name (Protobuf).

use crate::alert::{Alert, Attribution, Drift, InputRef, Score, ScoredBy};
use crate::stream::EpisodeId;
use crate::time::Timestamp;

/// Something that has fields.
pub(super) trait Fields {
    /// Writes them, in order.
    fn write<S: Sink>(&self, to: &mut S);
}

/// What fields are written to. A number is the field's in Protobuf.
pub(super) trait Sink: Sized {
    fn flag(&mut self, number: u32, value: bool);
    fn whole(&mut self, number: u32, value: i64);
    fn count(&mut self, number: u32, value: u64);
    fn double(&mut self, number: u32, value: f64);
    fn text(&mut self, number: u32, value: &str);
    fn time(&mut self, number: u32, value: Timestamp);
    fn part(&mut self, number: u32, value: &impl Fields);
    fn parts(&mut self, number: u32, values: &[impl Fields]);
    /// Numbers that may be left out altogether.
    fn floats(&mut self, number: u32, values: Option<&[f32]>);
    /// A field that may be left out.
    fn optional<T>(&mut self, number: u32, value: Option<T>, write: impl FnOnce(&mut Self, u32, T));
}

impl Fields for Alert {
    fn write<S: Sink>(&self, to: &mut S) {
        to.count(1, self.schema.into());
        to.text(2, self.id.as_str());
        to.text(3, self.event.name());
        to.text(4, self.kind.name());
        to.text(5, &self.detector);
        to.text(6, &self.key.0);
        to.time(7, self.data_time);
        to.time(8, self.approx_anomaly_start_time);
        to.optional(9, self.end_time, S::time);
        to.double(10, self.anomaly_score);
        to.double(11, self.peak_score);
        to.double(12, self.anomaly_grade);
        to.double(13, self.confidence);
        to.text(14, self.severity.name());
        to.double(15, self.p_value);
        to.double(16, self.threshold);
        to.count(17, self.records);
        to.double(18, self.evidence);
        to.double(19, self.evidence_threshold);
        to.count(20, self.evidence_records);
        to.parts(21, &self.relevant_attribution);
        to.optional(22, self.suppressed, S::count);
        to.optional(23, self.within.as_ref().map(EpisodeId::as_str), S::text);
        to.flag(24, self.abandoned);
        to.optional(25, self.url.as_deref(), S::text);
        scored_by(to, (26, 27), self.scored_by);
        to.part(28, &self.input);
    }
}

impl Fields for Attribution {
    fn write<S: Sink>(&self, to: &mut S) {
        to.text(1, &self.feature);
        to.double(2, self.share);
        to.optional(3, self.actual, S::double);
        to.double(4, self.expected);
        to.optional(5, self.still.map(u64::from), S::count);
    }
}

impl Fields for InputRef {
    fn write<S: Sink>(&self, to: &mut S) {
        to.text(1, &self.at.topic);
        to.whole(2, self.at.partition.0.into());
        to.whole(3, self.offset.0);
    }
}

impl Fields for Drift {
    fn write<S: Sink>(&self, to: &mut S) {
        to.count(1, self.schema.into());
        to.text(2, self.id.as_str());
        to.text(3, self.event.name());
        to.text(4, &self.detector);
        to.text(5, &self.key.0);
        to.time(6, self.data_time);
        to.time(7, self.approx_drift_start_time);
        to.double(8, self.level);
        to.double(9, self.usual_level);
        scored_by(to, (10, 11), self.scored_by);
        to.part(12, &self.input);
    }
}

impl Fields for Score {
    fn write<S: Sink>(&self, to: &mut S) {
        to.text(1, &self.detector);
        to.text(2, &self.key.0);
        to.time(3, self.time);
        to.double(4, self.score);
        to.double(5, self.p_value);
        to.flag(6, self.alert);
        to.flag(7, self.warming_up);
        scored_by(to, (8, 9), self.scored_by);
        to.part(10, &self.input);
        to.floats(11, self.code.as_deref());
    }
}

/// `model_version` and `seasonal`, as in JSON.
fn scored_by<S: Sink>(to: &mut S, (version, seasonal): (u32, u32), by: ScoredBy) {
    to.count(version, by.version().unwrap_or_default().0);
    to.flag(seasonal, by == ScoredBy::Seasonal);
}
