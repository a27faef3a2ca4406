//! The fast way to read JSON: a producer's records all look alike, so the bytes between their values are learnt from one record and
//! from then on compared; only the values are read, in place.
//!
//! A layout takes a record only if nothing but scalar values differs from the record it was learnt from, which serde_json took; so it takes
//! nothing that serde_json refuses. Whatever differs (order, whitespace, an escape, an array's length) and whatever is not plainly good
//! goes to `json`, which decides. Several layouts live at once, the latest used first.

use std::collections::VecDeque;

use super::number;
use super::row::{Row, Scalar};
use super::schema::{Schema, Use};

/// Layouts remembered at most; the one used longest ago is forgotten first.
const LAYOUTS_MAX: usize = 8;

/// Records longer than this are not learnt from.
const BYTES_MAX: usize = 1 << 16;

/// Records with more values than this are not learnt from.
const SLOTS_MAX: usize = 8_192;

/// So many layouts forgotten without ever having been used, and learning pauses.
const USELESS_MAX: u32 = LAYOUTS_MAX as u32;

/// Records that the first pause lasts. Each pause is twice as long as the one before, until a learnt layout is used.
const PAUSE_MIN: u64 = 1_000;

/// Records that a pause lasts at most.
const PAUSE_MAX: u64 = 64_000;

/// The layouts of the records seen lately.
#[derive(Clone, Debug)]
pub(super) struct Layouts {
    /// The latest used first.
    layouts: VecDeque<Layout>,
    /// Layouts forgotten unused since one was used for the first time.
    useless: u32,
    /// Records still to pass before anything is learnt again.
    pause: u64,
    /// How long the next pause will be.
    next_pause: u64,
}

impl Default for Layouts {
    fn default() -> Self {
        Self {
            layouts: VecDeque::new(),
            useless: 0,
            pause: 0,
            next_pause: PAUSE_MIN,
        }
    }
}

impl Layouts {
    /// Reads a record by one of the layouts. False if none fits, or if there is anything to complain of; the row is then empty.
    pub fn read(&mut self, text: &[u8], row: &mut Row<'_>) -> bool {
        for at in 0..self.layouts.len() {
            if self.layouts[at].read(text, row).is_none() {
                row.clear();
                continue;
            }
            if !std::mem::replace(&mut self.layouts[at].used, true) {
                self.useless = 0;
                self.next_pause = PAUSE_MIN;
            }
            if at > 0
                && let Some(layout) = self.layouts.remove(at)
            {
                self.layouts.push_front(layout);
            }
            return true;
        }
        false
    }

    /// Learns the layout of a record that no layout fitted and that `json` has read without complaint.
    pub fn learn(&mut self, text: &[u8], schema: &Schema) {
        if self.pause > 0 {
            self.pause -= 1;
            return;
        }
        let Some(layout) = Layout::learn(text, schema) else {
            return;
        };
        if self.layouts.len() == LAYOUTS_MAX
            && let Some(forgotten) = self.layouts.pop_back()
            && !forgotten.used
        {
            self.useless += 1;
            if self.useless >= USELESS_MAX {
                self.useless = 0;
                self.pause = self.next_pause;
                self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
            }
        }
        self.layouts.push_front(layout);
    }
}

/// What a value is read for.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A feature's column, and nothing else.
    Column(usize),
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
}

/// The bytes of a record around its values.
#[derive(Clone, Debug)]
struct Layout {
    slots: Box<[Slot]>,
    /// The bytes after the last value.
    tail: Box<[u8]>,
    /// Whether it ever fitted a record.
    used: bool,
}

impl Layout {
    /// Reads a record into an empty row; `None` if it does not fit, or is not plainly good. The row may then be half filled.
    fn read(&self, text: &[u8], row: &mut Row<'_>) -> Option<()> {
        let schema = row.schema;
        let mut at = 0;
        for slot in &self.slots {
            at = slot.before.after(text, at)?;
            at = match slot.what {
                What::Column(column) => {
                    if let Some((value, end)) = number::scan(text, at) {
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

    /// The layout of a record that `json` has taken; `None` if it is better not learnt.
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
        })
    }
}

/// The scalar that begins at `at`, and the place after it: any number, a string of valid UTF-8 without escapes, or a word.
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
        });
        self.at = end;
        self.literal = end;
        Some(())
    }
}
