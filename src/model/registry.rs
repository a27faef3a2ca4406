//! Every kind by its name, as `model.kind` takes it.

use super::ensemble::{self, auto};
use super::kind::{KindEntry, Kinds, Trait};
use super::kinds::{self, boxed};

/// All kinds: those that stand by themselves, then those that are made of them.
pub static KINDS: Kinds = Kinds(&[kinds::ENTRIES, COMBINED]);

const COMBINED: &[KindEntry] = &[
    // Several kinds together.
    KindEntry {
        name: "ensemble",
        traits: &[Trait::Combines],
        fit: |spec, data, seed, monitor| boxed(ensemble::Ensemble::fit(spec, data, seed, monitor)),
        load: |from| boxed(ensemble::Ensemble::load(from)),
    },
    // The pool that is chosen and combined without labels: the default.
    KindEntry {
        name: "auto",
        traits: &[Trait::Combines],
        fit: |spec, data, seed, monitor| boxed(auto::Auto::fit(spec, data, seed, monitor)),
        load: |from| boxed(auto::Auto::load(from)),
    },
];
