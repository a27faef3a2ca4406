//! Types of keys: which keys of a topic send the same features.
//!
//! A feature belongs to a key that sends it in a twentieth of its records. Keys with the same features are of a type; types that share half of all they send
//! are one, so that a sensor which some machines lack makes no type. A type needs windows enough to be fitted and calibrated by itself: what has not, and
//! what a record of no type brings, is left to the model of all.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayView2;

use super::job::TrainJob;
use super::split::Window;
use crate::model::trained::types::{ALIKE, alike};

/// The share of a key's records from which on it sends a feature.
const SENDS: f64 = 0.05;

/// Keys that send the same features.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OfType {
    /// Which columns, ascending; those of context are everybody's.
    pub columns: Vec<usize>,
    /// Which keys.
    pub keys: Keys,
}

impl OfType {
    /// Whether a window is of one of its keys.
    pub fn has(&self, window: &Window) -> bool {
        self.keys.contains(&window.key())
    }
}

/// A set of columns.
type Features = BTreeSet<usize>;

/// A set of keys: partition and number there.
type Keys = BTreeSet<(usize, u32)>;

/// The types of keys among these windows, whose newest records are `newest` (`n × D` raw values), those with the most first: types that have enough among the
/// first `fitted`, which are learnt from. None where all keys send much the same features.
pub(super) fn find(
    job: &TrainJob,
    (among, fitted): (&[Window], usize),
    newest: ArrayView2<'_, f64>,
) -> Vec<OfType> {
    let context = job.context_columns();
    let types = joined(same_features(job, among, newest));
    if types.len() < 2 {
        return Vec::new();
    }
    let whole = |(features, keys): (Features, Keys)| OfType {
        columns: features
            .into_iter()
            .chain(context.all())
            .collect::<Features>()
            .into_iter()
            .collect(),
        keys,
    };
    let enough = |of: &OfType| {
        let theirs = among[..fitted]
            .iter()
            .filter(|window| of.has(window))
            .count();
        theirs >= job.params.rows_min
    };
    types.into_iter().map(whole).filter(enough).collect()
}

/// Keys by the features that they send, those with the most windows first.
fn same_features(
    job: &TrainJob,
    among: &[Window],
    newest: ArrayView2<'_, f64>,
) -> Vec<(Features, Keys)> {
    let context = job.context_columns();
    let measured: Vec<usize> = (0..job.columns.len())
        .filter(|&at| !context.has(at))
        .collect();
    let mut counts: BTreeMap<(usize, u32), (Vec<usize>, usize)> = BTreeMap::new();
    for (window, row) in among.iter().zip(newest.rows()) {
        let of_key = counts.entry(window.key());
        let (observed, records) = of_key.or_insert_with(|| (vec![0; measured.len()], 0));
        *records += 1;
        for (count, &column) in observed.iter_mut().zip(&measured) {
            *count += usize::from(!row[column].is_nan());
        }
    }
    let mut keys_of: BTreeMap<Features, (Keys, usize)> = BTreeMap::new();
    for (key, (observed, records)) in counts {
        let sends = |count: usize| count > 0 && count as f64 >= SENDS * records as f64;
        let sent = observed
            .iter()
            .zip(&measured)
            .filter(|(count, _)| sends(**count));
        let features: Features = sent.map(|(_, column)| *column).collect();
        if !features.is_empty() {
            let (keys, windows) = keys_of.entry(features).or_default();
            keys.insert(key);
            *windows += records;
        }
    }
    let mut keys_of: Vec<_> = keys_of.into_iter().collect();
    keys_of.sort_by_key(|(_, (_, windows))| std::cmp::Reverse(*windows));
    keys_of
        .into_iter()
        .map(|(features, (keys, _))| (features, keys))
        .collect()
}

/// The same, with those joined to the first before them that are like them.
fn joined(sets: Vec<(Features, Keys)>) -> Vec<(Features, Keys)> {
    let mut types: Vec<(Features, Keys)> = Vec::new();
    for (features, keys) in sets {
        let near = |(ours, _): &&mut (Features, Keys)| {
            alike(
                ours.intersection(&features).count(),
                ours.union(&features).count(),
            ) >= ALIKE
        };
        if let Some((ours, theirs)) = types.iter_mut().find(near) {
            ours.extend(features);
            theirs.extend(keys);
        } else {
            types.push((features, keys));
        }
    }
    types
}

/// The types, and last of all the keys of none, with all columns. None where there are no types.
pub(super) fn and_others(
    job: &TrainJob,
    among: &[Window],
    newest: ArrayView2<'_, f64>,
) -> Vec<OfType> {
    let mut types = find(job, (among, among.len()), newest);
    if types.is_empty() {
        return types;
    }
    let typed = |key: &(usize, u32)| types.iter().any(|of| of.keys.contains(key));
    let keys = among.iter().map(Window::key);
    let keys: Keys = keys.filter(|key| !typed(key)).collect();
    if !keys.is_empty() {
        types.push(OfType {
            columns: (0..job.columns.len()).collect(),
            keys,
        });
    }
    types
}
