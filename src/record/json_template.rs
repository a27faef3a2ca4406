//! The fast way to read JSON: a producer's records all look alike, so the bytes between their values are learnt from one record and
//! from then on compared; only the values are read, in place.
//!
//! A template takes a record only if nothing but scalar values differs from the record it was learnt from, which serde_json took; so it takes
//! nothing that `json` refuses. Whatever differs (order, whitespace, an escape, an array's length) and whatever is not plainly good
//! goes to `json`, which decides. Several templates live at once, the latest used first.

use std::collections::VecDeque;

use super::nonfinite;
use super::number::{self, Shape};
use super::row::{Row, Scalar};
use super::schema::{Schema, Use};

/// Templates remembered at most; the one used longest ago is forgotten first.
const TEMPLATES_MAX: usize = 8;

/// Records longer than this are not learnt from.
const BYTES_MAX: usize = 1 << 16;

/// Records with more values than this are not learnt from.
const SLOTS_MAX: usize = 8_192;

/// A number that was written otherwise than the one before it is a pattern again at every so many records.
const SHAPE_EVERY: usize = 16;

/// So many templates forgotten without ever having been used, and learning pauses.
const USELESS_MAX: u32 = TEMPLATES_MAX as u32;

/// Records that the first pause lasts. Each pause is twice as long as the one before, until a learnt template is used.
const PAUSE_MIN: u64 = 1_000;

/// Records that a pause lasts at most.
const PAUSE_MAX: u64 = 64_000;

/// The templates of the records seen lately.
#[derive(Clone, Debug)]
pub(super) struct JsonTemplates {
    /// The latest used first.
    known: VecDeque<JsonTemplate>,
    /// Templates forgotten unused since one was used for the first time.
    useless: u32,
    /// Records still to pass before anything is learnt again.
    pause: u64,
    /// How long the next pause will be.
    next_pause: u64,
}

impl Default for JsonTemplates {
    fn default() -> Self {
        Self {
            known: VecDeque::new(),
            useless: 0,
            pause: 0,
            next_pause: PAUSE_MIN,
        }
    }
}

impl JsonTemplates {
    /// Reads a record by one of the templates. False if none fits, or if there is anything to complain of; the row is then empty.
    pub fn read(&mut self, text: &[u8], row: &mut Row<'_>) -> bool {
        for at in 0..self.known.len() {
            if self.known[at].read(text, row).is_none() {
                row.clear();
                continue;
            }
            if !std::mem::replace(&mut self.known[at].used, true) {
                self.useless = 0;
                self.next_pause = PAUSE_MIN;
            }
            if at > 0
                && let Some(template) = self.known.remove(at)
            {
                self.known.push_front(template);
            }
            return true;
        }
        false
    }

    /// Learns the template of a record that no template fitted and that `json` has read without complaint.
    pub fn learn(&mut self, text: &[u8], schema: &Schema) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some(template) = JsonTemplate::learn(text, schema) else {
            return;
        };
        if self.known.len() == TEMPLATES_MAX
            && let Some(forgotten) = self.known.pop_back()
            && !forgotten.used
        {
            self.useless += 1;
            if self.useless >= USELESS_MAX {
                self.useless = 0;
                self.pause = self.next_pause;
                self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
            }
        }
        self.known.push_front(template);
    }
}

/// What a value is read for.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A feature's column, and nothing else.
    Column(usize),
    /// The same, where a text is the number.
    Text(usize),
    /// Another field that the schema names: its node.
    Field(usize),
    /// A field that it does not name.
    Skip,
}

/// A value's place: the bytes before it, back to the value before that.
#[derive(Clone, Debug)]
struct Slot {
    before: Literal,
    what: What,
    /// How the last number was written, where that is short.
    shape: Option<Shape>,
}

/// The bytes of a record around its values.
#[derive(Clone, Debug)]
struct JsonTemplate {
    slots: Box<[Slot]>,
    /// The bytes after the last value.
    tail: Box<[u8]>,
    /// Whether it ever fitted a record.
    used: bool,
    /// How often it was tried.
    reads: u32,
}

impl JsonTemplate {
    /// Reads a record into an empty row; `None` if it does not fit, or is not plainly good. The row may then be half filled.
    fn read(&mut self, text: &[u8], row: &mut Row<'_>) -> Option<()> {
        let schema = row.schema;
        let mut at = 0;
        self.reads = self.reads.wrapping_add(1);
        for (place, slot) in self.slots.iter_mut().enumerate() {
            at = slot.before.after(text, at)?;
            at = match slot.what {
                What::Column(column) => {
                    let alike = slot.shape.and_then(|shape| shape.scan(text, at));
                    if let Some((value, end)) = alike {
                        row.number(column, value);
                        end
                    } else if let Some((value, end)) = number::scan(text, at) {
                        // Of numbers that are written now so, now so, the last one tells nothing: it is seldom tried.
                        let due = (self.reads as usize + place).is_multiple_of(SHAPE_EVERY);
                        slot.shape = due.then(|| Shape::of(text, (at, end))).flatten();
                        row.number(column, value);
                        end
                    } else {
                        let (value, end) = scalar(text, at)?;
                        match value {
                            Scalar::Null => {}
                            Scalar::Bool(value) => row.number(column, f64::from(u8::from(value))),
                            Scalar::Number(..) | Scalar::Text(_) => return None,
                        }
                        end
                    }
                }
                What::Text(column) => {
                    let (Scalar::Text(value), end) = scalar(text, at)? else {
                        return None;
                    };
                    row.text(column, value).then_some(end)?
                }
                What::Field(node) => {
                    let (value, end) = scalar(text, at)?;
                    row.take(&schema.nodes[node], value).ok()?;
                    end
                }
                What::Skip => scalar(text, at)?.1,
            };
        }
        if text[at..] != *self.tail {
            return None;
        }
        row.finish().ok()
    }

    /// The template of a record that `json` has taken; `None` if it is better not learnt.
    fn learn(text: &[u8], schema: &Schema) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut learner = Learner {
            text,
            schema,
            at: 0,
            literal: 0,
            slots: Vec::new(),
        };
        learner.space();
        learner.object(Some(0))?;
        learner.space();
        (learner.at == text.len()).then(|| Self {
            slots: learner.slots.into(),
            tail: text[learner.literal..].into(),
            used: false,
            reads: 0,
        })
    }
}

/// The scalar that begins at `at`, and the place after it: any number, a string of valid UTF-8 without escapes, or a word; numbers that JSON has not
/// are null.
fn scalar(text: &[u8], at: usize) -> Option<(Scalar<'_>, usize)> {
    let rest = text.get(at..)?;
    match rest.first()? {
        b'"' => {
            let inner = &rest[1..];
            let len = inner
                .iter()
                .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
            let string = std::str::from_utf8(&inner[..len]).ok()?;
            (inner[len] == b'"').then_some((Scalar::Text(string), at + len + 2))
        }
        b'n' => rest.starts_with(b"null").then_some((Scalar::Null, at + 4)),
        b't' => rest
            .starts_with(b"true")
            .then_some((Scalar::Bool(true), at + 4)),
        b'f' => rest
            .starts_with(b"false")
            .then_some((Scalar::Bool(false), at + 5)),
        b'N' | b'I' => nonfinite::at_head(rest).map(|length| (Scalar::Null, at + length)),
        b'-' if rest.get(1) == Some(&b'I') => {
            nonfinite::at_head(rest).map(|length| (Scalar::Null, at + length))
        }
        _ => {
            let (value, end) = number::scan(text, at)?;
            let written = std::str::from_utf8(&text[at..end]).ok()?;
            Some((Scalar::Number(value, written), end))
        }
    }
}

/// Bytes to compare. Short ones (nearly all) are compared as one number.
#[derive(Clone, Debug)]
struct Literal {
    /// The first 16 bytes, zeros after the end.
    head: u128,
    /// Ones where `head` has bytes.
    mask: u128,
    bytes: Box<[u8]>,
}

impl Literal {
    fn new(bytes: &[u8]) -> Self {
        let mut head = [0; 16];
        let mut mask = [0; 16];
        for (at, byte) in bytes.iter().take(16).enumerate() {
            head[at] = *byte;
            mask[at] = 0xff;
        }
        Self {
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            bytes: bytes.into(),
        }
    }

    /// The place after these bytes, if they are at `at`.
    #[inline]
    fn after(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = text.get(at..)?;
        let same = match rest.first_chunk::<16>() {
            Some(chunk) if self.bytes.len() <= 16 => {
                u128::from_le_bytes(*chunk) & self.mask == self.head
            }
            _ => rest.starts_with(&self.bytes),
        };
        same.then_some(at + self.bytes.len())
    }
}

/// Walks a record that is known to be good JSON, not nested too deep, and cuts it at its values.
struct Learner<'t> {
    text: &'t [u8],
    schema: &'t Schema,
    at: usize,
    /// Where the bytes since the last value begin.
    literal: usize,
    slots: Vec<Slot>,
}

impl Learner<'_> {
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// Steps over `byte` and the space around it, if it is next.
    fn step(&mut self, byte: u8) -> bool {
        self.space();
        let next = self.text.get(self.at) == Some(&byte);
        if next {
            self.at += 1;
            self.space();
        }
        next
    }

    /// Learns an object, the one at `node` if the schema names it.
    fn object(&mut self, node: Option<usize>) -> Option<()> {
        if !self.step(b'{') {
            return None;
        }
        while !self.step(b'}') {
            let (Scalar::Text(name), end) = scalar(self.text, self.at)? else {
                return None;
            };
            self.at = end;
            if !self.step(b':') {
                return None;
            }
            let child = node.and_then(|node| self.schema.nodes[node].children.get(name));
            self.value(child.copied())?;
            self.step(b',');
        }
        Some(())
    }

    /// Learns a value, that of the field at `node` if the schema names it.
    fn value(&mut self, node: Option<usize>) -> Option<()> {
        let uses = node.map_or(&[][..], |node| &self.schema.nodes[node].uses);
        match (self.text.get(self.at)?, uses) {
            (b'{', _) => self.object(node),
            (b'[', [Use::Array(first, _)]) => self.array(Some(*first)),
            (b'[', _) => self.array(None),
            (b'"', [Use::Column(column)]) => self.slot(What::Text(*column)),
            (_, [Use::Column(column)]) => self.slot(What::Column(*column)),
            _ => self.slot(node.map_or(What::Skip, What::Field)),
        }
    }

    /// Learns an array, whose elements go to the columns from `first` on if it is the schema's.
    fn array(&mut self, first: Option<usize>) -> Option<()> {
        if !self.step(b'[') {
            return None;
        }
        let mut count = 0;
        while !self.step(b']') {
            match first {
                Some(first) => self.slot(What::Column(first + count))?,
                None => self.value(None)?,
            }
            count += 1;
            self.step(b',');
        }
        Some(())
    }

    /// Ends the bytes before a scalar and steps over it.
    fn slot(&mut self, what: What) -> Option<()> {
        if self.slots.len() == SLOTS_MAX {
            return None;
        }
        let (_, end) = scalar(self.text, self.at)?;
        self.slots.push(Slot {
            before: Literal::new(&self.text[self.literal..self.at]),
            what,
            shape: None,
        });
        self.at = end;
        self.literal = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::super::decode::Decoder;
    use super::super::row::Given;
    use super::super::row::Parts;
    use super::super::schema::SchemaSpec;
    use super::super::{DecodeError, Decoded, wire};
    use super::*;
    use crate::time::Timestamp;

    const FLAT: &str = r#"{"features":["a","b.c","on"],"key":["id"],"timestamp":"t",
        "categories":{"mode":["x","1"]},"missing_for":{"on":"dead_letter"}}"#;
    const ARRAY: &str = r#"{"features":{"array":"v","len":3},"key":["id"],"missing":7}"#;

    fn schema(spec: &str) -> Arc<Schema> {
        let spec: SchemaSpec = serde_json::from_str(spec).expect(spec);
        Arc::new(spec.check().expect("a valid schema"))
    }

    /// Whether the templates read `text`; learns it if not.
    fn hit(templates: &mut JsonTemplates, schema: &Schema, text: &str) -> bool {
        let mut values = vec![0.0; schema.columns().len()];
        let mut parts = Parts::default();
        let hit = templates.read(
            text.as_bytes(),
            &mut Row::new(schema, &mut values, &mut parts, Given::default()),
        );
        if !hit {
            templates.learn(text.as_bytes(), schema);
        }
        hit
    }

    const LEARNT: &str = r#"{"id":"m1","t":1700000000,"a":1,"b":{"c":2,"d":[{},[1,"é"]]},"on":true,"mode":"x","z":"q"}"#;

    #[test]
    fn values_of_any_scalar_kind_and_length_fit() {
        for text in [
            LEARNT,
            r#"{"id":"","t":"2023-11-14T22:13:20Z","a":-1.5e-7,"b":{"c":null,"d":[{},[true,null]]},"on":0,"mode":1,"z":1e999}"#,
            r#"{"id":"m1","t":1700000000,"a":NaN,"b":{"c":-Infinity,"d":[{},[Infinity,"é"]]},"on":true,"mode":NaN,"z":NaN}"#,
            r#"{"id":12,"t":1700000000123456789,"a":false,"b":{"c":0.1,"d":[{},["ü",-0]]},"on":1,"mode":null,"z":false}"#,
        ] {
            let schema = schema(FLAT);
            let mut templates = JsonTemplates::default();
            assert!(!hit(&mut templates, &schema, LEARNT));
            assert!(hit(&mut templates, &schema, text), "{text}");
        }
    }

    #[test]
    fn whatever_differs_or_is_not_plainly_good_does_not_fit() {
        let schema = schema(FLAT);
        let mut templates = JsonTemplates::default();
        assert!(!hit(&mut templates, &schema, LEARNT));
        for (from, to) in [
            (r#""a":1"#, r#""a":01"#),
            (r#""a":1"#, r#""a":+1"#),
            (r#""a":1"#, r#""a":1."#),
            (r#""a":1"#, r#""a":.5"#),
            (r#""a":1"#, r#""a":1e"#),
            (r#""a":1"#, r#""a":inf"#),
            (r#""a":1"#, r#""a":nan"#),
            (r#""a":1"#, r#""a":"1""#),
            (r#""a":1"#, r#""a": 1"#),
            (r#""a":1"#, r#""a":1 "#),
            (r#""a":1"#, r#""a":"#),
            (r#""a":1"#, r#""A":1"#),
            (r#""a":1"#, r#""a":nul"#),
            (r#""a":1,"#, ""),
            (r#""id":"m1""#, r#""id":"m\u0031""#),
            (r#""id":"m1""#, r#""id":true"#),
            (r#""t":1700000000"#, r#""t":"noon""#),
            (r#""on":true"#, r#""on":null"#),
            (r#""z":"q""#, r#""z":[]"#),
            (r#""z":"q""#, r#""z":"\n""#),
            (r#""z":"q"}"#, r#""z":"q"} "#),
            (r#""z":"q"}"#, r#""z":"q"}}"#),
            (r#""z":"q"}"#, r#""z":"q""#),
            (r#""z":"q"}"#, r#""z":"q"#),
        ] {
            assert!(LEARNT.contains(from), "{from}");
            let text = LEARNT.replace(from, to);
            let mut values = [0.0; 5];
            let mut parts = Parts::default();
            let mut row = Row::new(&schema, &mut values, &mut parts, Given::default());
            assert!(!templates.read(text.as_bytes(), &mut row), "{text}");
            assert!(values.iter().all(|value| value.is_nan()), "{text}");
        }
    }

    #[test]
    fn numbers_in_texts_are_read_by_templates_too() {
        let schema = schema(r#"{"features":["a","b"]}"#);
        let mut templates = JsonTemplates::default();
        assert!(!hit(&mut templates, &schema, r#"{"a":"1.5","b":2}"#));
        for text in [r#"{"a":"-20","b":3}"#, r#"{"a":"","b":3}"#] {
            assert!(hit(&mut templates, &schema, text), "{text}");
        }
        // What is no number is left to whoever can say so.
        assert!(!hit(&mut templates, &schema, r#"{"a":"off","b":3}"#));
    }

    #[test]
    fn several_templates_live_at_once_and_the_oldest_is_forgotten() {
        let schema = schema(r#"{"features":["a"]}"#);
        let text = |n: usize| format!(r#"{{"x{n}":0,"a":{n}}}"#);
        let mut templates = JsonTemplates::default();
        for n in 0..TEMPLATES_MAX {
            assert!(!hit(&mut templates, &schema, &text(n)));
        }
        for n in 0..TEMPLATES_MAX {
            assert!(hit(&mut templates, &schema, &text(n)));
        }
        // 0 is used again, so 1 is the one used longest ago.
        assert!(hit(&mut templates, &schema, &text(0)));
        assert!(!hit(&mut templates, &schema, &text(TEMPLATES_MAX)));
        assert_eq!(templates.known.len(), TEMPLATES_MAX);
        assert!(hit(&mut templates, &schema, &text(0)));
        assert!(!hit(&mut templates, &schema, &text(1)));
    }

    #[test]
    fn learning_pauses_while_no_template_repeats() {
        let schema = schema(r#"{"features":["a"]}"#);
        let text = |n: u64| format!(r#"{{"x{n}":0,"a":1}}"#);
        let mut templates = JsonTemplates::default();
        let learnt = 2 * TEMPLATES_MAX as u64;
        for n in 0..learnt {
            assert!(!hit(&mut templates, &schema, &text(n)));
        }
        assert_eq!(templates.pause, PAUSE_MIN);
        for n in learnt..learnt + PAUSE_MIN {
            assert!(!hit(&mut templates, &schema, &text(n)));
        }
        assert!(
            hit(&mut templates, &schema, &text(learnt - 1)),
            "kept while pausing"
        );
        assert!(!hit(&mut templates, &schema, "{\"a\":1}"));
        assert!(hit(&mut templates, &schema, "{\"a\":2}"), "learns again");
    }

    #[test]
    fn huge_records_are_not_learnt() {
        let schema = schema(r#"{"features":["a"]}"#);
        let mut templates = JsonTemplates::default();
        for filler in [
            format!("\"{}\"", "x".repeat(BYTES_MAX)),
            format!("[0{}]", ",0".repeat(SLOTS_MAX)),
        ] {
            let text = format!(r#"{{"a":1,"x":{filler}}}"#);
            assert!(!hit(&mut templates, &schema, &text));
            assert!(templates.known.is_empty());
        }
    }

    fn number_text() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
            1 => "[0-9]{15,22}(\\.[0-9]{1,18})?",
            2 => "\"[ +-]?[0-9]{0,4}(\\.[0-9]{1,4})?\"",
            1 => Just("\"NaN\"".to_owned()),
            1 => Just("null".to_owned()),
            1 => Just("true".to_owned()),
            2 => "NaN|-?Infinity",
        ]
    }

    fn string_text() -> impl Strategy<Value = String> {
        prop_oneof![6 => "\"[a-zé/ ]{0,12}\"", 1 => Just("\"\\u00e9\\n\"".to_owned()), 1 => number_text()]
    }

    fn time_text() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "\"2024-0[1-9]-1[0-9]T0[0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z\"",
            4 => "1[67][0-9]{8}(\\.[0-9]{1,6})?",
            2 => "\"1[67][0-9]{5,11}(\\.[0-9]{1,6})?\"",
            1 => string_text(),
        ]
    }

    /// Records of several shapes, most of them good; the same shapes come again with other values.
    fn record() -> impl Strategy<Value = Vec<u8>> {
        let numbers = proptest::collection::vec(number_text(), 6);
        (0..8_u8, numbers, string_text(), time_text(), string_text()).prop_map(
            |(shape, n, id, t, mode)| {
                let [a, c, on, x, y, z] = &n[..] else { unreachable!("six numbers") };
                let text = match shape {
                    0 => format!(r#"{{"id":{id},"t":{t},"a":{a},"b":{{"c":{c}}},"on":{on},"mode":{mode},"v":[{x},{y},{z}]}}"#),
                    1 => format!(r#"{{"v":[{x},{y},{z}],"mode":{mode},"on":{on},"b":{{"d":{x},"c":{c}}},"a":{a},"t":{t},"id":{id}}}"#),
                    2 => format!(r#"{{ "id": {id}, "t": {t}, "a": {a}, "b": {{ "c": {c} }}, "on": {on}, "v": [ {x}, {y}, {z} ] }}"#),
                    3 => format!(r#"{{"id":{id},"t":{t},"a":{a},"b":null,"on":{on},"extra":{{"deep":[[{x}],{{}},{mode}]}},"v":[{y}]}}"#),
                    4 => format!(r#"{{"id":{id},"t":{t},"a":{a},"on":{on},"v":null}}"#),
                    5 => format!(r#"{{"id":{id},"v":[{x},{y},{z}]}}"#),
                    6 => format!(r#"{{"id":{id},"t":{t},"a":{a},"a":{x},"on":{on},"v":[{x},{y},{z}],"extra":1,"extra":2}}"#),
                    _ => format!("{{\"id\":{id},\"t\":{t},\"a\":{a},\n\t\"on\":{on},\"v\":[{x},{y},{z}]}}\n"),
                };
                text.into_bytes()
            },
        )
    }

    /// One change to a record's bytes.
    #[derive(Clone, Debug)]
    enum Change {
        Flip(Index, u8),
        Insert(Index, u8),
        Replace(Index, u8),
        Delete(Index, usize),
        Swap(Index, Index),
        Repeat(Index, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let telling = proptest::sample::select(
            b"{}[]\",:\\0123456789.eE+-ntfuNI \t\n\r\x00\x1f\x7f\x80\xc3\xff".to_vec(),
        );
        prop_oneof![
            (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
            (any::<Index>(), telling.clone()).prop_map(|(at, byte)| Change::Insert(at, byte)),
            (any::<Index>(), telling).prop_map(|(at, byte)| Change::Replace(at, byte)),
            (any::<Index>(), 1..5_usize).prop_map(|(at, len)| Change::Delete(at, len)),
            (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Swap(a, b)),
            (any::<Index>(), 1..9_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
        ]
    }

    fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
        for change in changes {
            let len = bytes.len();
            if len == 0 {
                break;
            }
            match change {
                Change::Flip(at, mask) => bytes[at.index(len)] ^= mask,
                Change::Insert(at, byte) => bytes.insert(at.index(len), *byte),
                Change::Replace(at, byte) => bytes[at.index(len)] = *byte,
                Change::Delete(at, count) => {
                    let from = at.index(len);
                    bytes.drain(from..(from + count).min(len));
                }
                Change::Swap(a, b) => bytes.swap(a.index(len), b.index(len)),
                Change::Repeat(at, count) => {
                    let from = at.index(len);
                    let piece = bytes[from..(from + count).min(len)].to_vec();
                    bytes.splice(from..from, piece);
                }
            }
        }
        bytes
    }

    fn outcome(decoder: &mut Decoder, value: &[u8]) -> (Result<Decoded, DecodeError>, Vec<u64>) {
        let mut row = vec![0.0; decoder.schema().columns().len()];
        let outcome = decoder.decode_one(Some(b"k"), Some(value), Timestamp(1), &mut row);
        (outcome, row.iter().map(|value| value.to_bits()).collect())
    }

    fn is_json_object(value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|text| {
            text.trim_start().starts_with('{')
                && nonfinite::parse::<serde::de::IgnoredAny>(value).is_ok()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// Good records of several shapes and changed ones, interleaved: with and without templates, every outcome and every bit is the same.
        #[test]
        fn both_ways_agree_on_every_input(
            records in proptest::collection::vec((record(), proptest::collection::vec(change(), 0..3)), 1..24),
            array in any::<bool>(),
        ) {
            let schema = schema(if array { ARRAY } else { FLAT });
            let mut fast = Decoder::new(Arc::clone(&schema));
            let mut slow = Decoder::without_templates(schema);
            for (good, changes) in &records {
                // The good one first, so that its template is known when the changed one comes, and how its numbers are written.
                for _ in 0..SHAPE_EVERY {
                    prop_assert_eq!(outcome(&mut fast, good), outcome(&mut slow, good));
                }
                for value in [good.clone(), changed(good.clone(), changes), good.clone()] {
                    let (fast, slow) = (outcome(&mut fast, &value), outcome(&mut slow, &value));
                    prop_assert_eq!(&fast, &slow, "{}", String::from_utf8_lossy(&value));
                    // A change may put the id of a schema before it.
                    prop_assert!(fast.0.is_err() || is_json_object(wire::json(&value)));
                }
            }
        }

        /// Whatever one template takes after a change of bytes, serde_json takes too, with null for numbers that it has not: the law that keeps a template honest on its own.
        #[test]
        fn a_template_takes_nothing_that_the_other_way_refuses(
            good in record(),
            changes in proptest::collection::vec(change(), 1..4),
        ) {
            let schema = schema(ARRAY);
            let value = changed(good.clone(), &changes);
            if is_json_object(&good) && let Some(mut template) = JsonTemplate::learn(&good, &schema) {
                let mut values = vec![0.0; schema.columns().len()];
                let mut parts = Parts::default();
                // Until it knows how the numbers are written.
                for _ in 0..SHAPE_EVERY {
                    let _ = template.read(&good, &mut Row::new(&schema, &mut values, &mut parts, Given::default()));
                }
                let taken = template.read(&value, &mut Row::new(&schema, &mut values, &mut parts, Given::default()));
                prop_assert!(taken.is_none() || is_json_object(&value), "{}", String::from_utf8_lossy(&value));
            }
        }

        /// The numbers of a row are those that serde_json itself reads, bit for bit.
        #[test]
        fn numbers_are_serde_json_s_bit_for_bit(texts in proptest::collection::vec("-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", 3)) {
            let value = format!(r#"{{"id":"m","v":[{}]}}"#, texts.join(","));
            let expected: Vec<u64> = texts
                .iter()
                .map(|text| serde_json::from_str::<f64>(text).map_or(7.0, f64::from).to_bits())
                .collect();
            let mut decoder = Decoder::new(schema(ARRAY));
            for _ in 0..2 * SHAPE_EVERY {
                let (decoded, row) = outcome(&mut decoder, value.as_bytes());
                prop_assert!(decoded.is_ok());
                prop_assert_eq!(&row, &expected, "{}", value);
            }
        }
    }
}
