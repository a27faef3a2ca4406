//! Every kind by its name, as `model.kind` takes it.

use super::ensemble::{self, auto};
use super::kind::{KindEntry, Kinds, Trait};
use super::kinds;

/// All kinds: those that stand by themselves, then those that are made of them.
pub static KINDS: Kinds = Kinds(&[kinds::ENTRIES, COMBINED]);

const COMBINED: &[KindEntry] = &[
    // Several kinds together.
    KindEntry::of::<ensemble::Ensemble>("ensemble", &[Trait::Combines]),
    // The pool that is chosen and combined without labels: the default.
    KindEntry::of::<auto::Auto>("auto", &[Trait::Combines]),
];
