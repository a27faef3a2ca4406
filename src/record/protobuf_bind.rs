//! Where the fields of a Protobuf message go: for each that is asked for a target, found once for a schema.
//!
//! A value may come twice, the last one counts, and a message that comes twice is both together; so what is read goes to slots first, and to the row at
//! the end. What lies within a field has slots side by side: so all of it can be forgotten at once.

use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::protobuf_schema::{Field, Files, Kind, Meaning, MessageId, Root, Scalar};
use super::schema::{Schema, Use};

/// Places in a writer's schema that one of ours leads to at most.
const STEPS_MAX: usize = 200_000;

/// A value that was read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Slot {
    /// None yet.
    #[default]
    Missing,
    Whole(i64),
    Unsigned(u64),
    Float(f32),
    Double(f64),
    Bool(bool),
    /// From where to where in the value; offsets are below 4 GiB, as Kafka's messages are.
    Bytes(u32, u32),
    /// A value of an enum: which enum, and its number.
    Name(u32, i32),
    /// Seconds and nanoseconds: since 1970, or of a duration.
    Time(i64, i32),
    Duration(i64, i32),
    /// Elements so far.
    Count(u32),
    /// Something that the field at this node cannot be.
    Wrong,
}

/// What a scalar is that was not written.
pub(super) fn zero(kind: Scalar) -> Slot {
    match kind {
        Scalar::Double => Slot::Double(0.0),
        Scalar::Float => Slot::Float(0.0),
        Scalar::Uint(_) | Scalar::Fixed32 | Scalar::Fixed64 => Slot::Unsigned(0),
        Scalar::Int(_) | Scalar::Sint | Scalar::Sfixed32 | Scalar::Sfixed64 => Slot::Whole(0),
        Scalar::Bool => Slot::Bool(false),
        Scalar::Bytes => Slot::Bytes(0, 0),
        Scalar::Enum(of) => Slot::Name(of as u32, 0),
    }
}

/// What to do with a field.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub what: What,
    /// What lies within it.
    pub slots: Range<usize>,
    /// What the others of its `oneof` have: forgotten when it comes.
    pub others: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Nobody asks for it, but for others of its `oneof`.
    Nothing,
    Scalar(Scalar),
    /// A message that is a value: a wrapper.
    Wrapper(Scalar),
    Timestamp,
    Duration,
    /// Numbers, at most so many: the first slot counts.
    Array(Scalar, usize),
    Message(Parts),
    /// Entries by their keys, which are written so.
    Map(Scalar, FxHashMap<Box<str>, Target>),
    Wrong,
}

/// A message whose fields are asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub fields: FxHashMap<u32, Target>,
    /// Slots of fields that are 0 when they are not written, and what they are then.
    pub zeros: Vec<(usize, Slot)>,
}

/// What a slot is given to.
#[derive(Clone, Debug)]
pub(super) enum Give {
    /// The field at this node; whether its text matters.
    Field(usize, bool),
    /// An array at this node: the first column, and how many.
    Array(usize, (usize, usize)),
    /// Nothing: the field at this node cannot be this.
    Wrong(usize, &'static str),
}

/// A message with where its fields go.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub files: Arc<Files>,
    pub root: Parts,
    /// Each with its slot.
    pub gives: Vec<(usize, Give)>,
    /// How many slots there are.
    pub slots: usize,
}

impl Bound {
    /// Finds out where the fields of a message go.
    pub fn new(root: &Root, schema: &Schema) -> Result<Self, String> {
        let mut binder = Binder {
            files: &root.files,
            schema,
            gives: Vec::new(),
            slots: 0,
            steps: 0,
        };
        let parts = binder.parts(root.message, 0)?;
        Ok(Self {
            gives: binder.gives,
            slots: binder.slots,
            files: Arc::clone(&root.files),
            root: parts,
        })
    }
}

struct Binder<'a> {
    files: &'a Files,
    schema: &'a Schema,
    gives: Vec<(usize, Give)>,
    slots: usize,
    steps: usize,
}

impl Binder<'_> {
    /// The fields of a message that the children of `node` ask for. Ends, for fields within each other are as deep as our own schema's.
    fn parts(&mut self, message: MessageId, node: usize) -> Result<Parts, String> {
        let (files, schema) = (self.files, self.schema);
        let mut parts = Parts::default();
        let fields = &files.messages[message].fields;
        for field in fields {
            self.steps += 1;
            if STEPS_MAX < self.steps {
                return Err("has too many places for the fields that are asked for".to_owned());
            }
            let Some(child) = schema.nodes[node].children.get(&*field.name).copied() else {
                continue;
            };
            let target = self.target(field, child)?;
            if let (What::Scalar(kind), false) = (&target.what, field.presence) {
                parts.zeros.push((target.slots.start, zero(*kind)));
            }
            parts.fields.insert(field.number, target);
        }
        one_of(fields, &mut parts);
        Ok(parts)
    }

    /// Takes so many slots, the first of which is given on.
    fn take(&mut self, slots: usize, give: Give) {
        self.gives.push((self.slots, give));
        self.slots += slots;
    }

    fn target(&mut self, field: &Field, node: usize) -> Result<Target, String> {
        let from = self.slots;
        let what = match field.kind {
            Kind::Message(of) if self.files.messages[of].meaning == Meaning::Entry => {
                self.map(of, node)?
            }
            Kind::Scalar(kind) if field.repeated => self.array(kind, node),
            _ if field.repeated => self.wrong(node, "must not be an array"),
            kind => self.single(kind, node)?,
        };
        Ok(Target {
            what,
            slots: from..self.slots,
            others: Vec::new(),
        })
    }

    fn wrong(&mut self, node: usize, problem: &'static str) -> What {
        self.take(1, Give::Wrong(node, problem));
        What::Wrong
    }

    fn single(&mut self, kind: Kind, node: usize) -> Result<What, String> {
        let field = &self.schema.nodes[node];
        let text = |used: &Use| !matches!(used, Use::Column(_) | Use::Array(..));
        let give = Give::Field(node, field.uses.iter().any(text));
        Ok(match kind {
            Kind::Scalar(kind) => {
                self.take(1, give);
                What::Scalar(kind)
            }
            Kind::Message(of) if !field.children.is_empty() => What::Message(self.parts(of, node)?),
            Kind::Message(of) => {
                let what = match self.files.messages[of].meaning {
                    Meaning::Timestamp => What::Timestamp,
                    Meaning::Duration => What::Duration,
                    Meaning::Wrapper(kind) => What::Wrapper(kind),
                    Meaning::Plain | Meaning::Entry => {
                        return Ok(self.wrong(node, "must not be a message"));
                    }
                };
                self.take(1, give);
                what
            }
            Kind::Group => self.wrong(node, "must not be a group"),
        })
    }

    fn array(&mut self, kind: Scalar, node: usize) -> What {
        match self.schema.nodes[node].uses[..] {
            [Use::Array(first, len)] if !matches!(kind, Scalar::Bytes | Scalar::Enum(_)) => {
                self.take(1 + len, Give::Array(node, (first, len)));
                What::Array(kind, len)
            }
            [Use::Array(..)] => self.wrong(node, "must be an array of numbers"),
            _ => self.wrong(node, "must not be an array"),
        }
    }

    fn map(&mut self, entry: MessageId, node: usize) -> Result<What, String> {
        let (files, schema) = (self.files, self.schema);
        let fields = &files.messages[entry].fields;
        let numbered = |number: u32| fields.iter().find(|field| field.number == number);
        let (Some(key), Some(value)) = (numbered(1), numbered(2)) else {
            return Err("has a map whose entries have no key or no value".to_owned());
        };
        let Kind::Scalar(key) = key.kind else {
            return Err("has a map whose keys are messages".to_owned());
        };
        let children = &schema.nodes[node].children;
        if children.is_empty() {
            return Ok(self.wrong(node, "must not be a map"));
        }
        // In the order of nodes, so that the first problem is the same every time.
        let mut children: Vec<(&Box<str>, &usize)> = children.iter().collect();
        children.sort_unstable_by_key(|(_, child)| **child);
        let mut targets = FxHashMap::default();
        for (name, child) in children {
            targets.insert(name.clone(), self.target(value, *child)?);
        }
        Ok(What::Map(key, targets))
    }
}

/// Whatever comes of a `oneof`, the others are forgotten: those that nobody asks for matter, too.
fn one_of(fields: &[Field], parts: &mut Parts) {
    for field in fields.iter().filter(|field| field.one_of.is_some()) {
        let others: Vec<Range<usize>> = fields
            .iter()
            .filter(|other| other.one_of == field.one_of && other.number != field.number)
            .filter_map(|other| parts.fields.get(&other.number))
            .map(|target| target.slots.clone())
            .filter(|slots| !slots.is_empty())
            .collect();
        if others.is_empty() {
            continue;
        }
        let target = parts.fields.entry(field.number);
        let target = target.or_insert_with(|| Target {
            what: What::Nothing,
            slots: 0..0,
            others: Vec::new(),
        });
        target.others = others;
    }
}
