//! Windows, and which of them are used for what: a split by time.

use std::collections::BTreeMap;

use crate::model::card::Usage;
use crate::model::spec::ModelSpec;
use crate::stream::Offset;
use crate::time::Timestamp;

/// Neighbours that stay together where windows are too many, at least.
const NEIGHBOURS_MIN: usize = 128;

/// Share of the fitted windows that only validate.
pub(super) const VALIDATION_SHARE: f64 = 0.15;

/// W records of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) run: usize,
    /// The place of its oldest record in the run.
    pub(super) first: usize,
    /// The number of its key in the partition.
    pub(super) key: u32,
    pub(super) oldest: Timestamp,
    pub(super) newest: Timestamp,
    /// Tells windows of the same time apart, in a fixed order.
    pub(super) place: (usize, Offset),
}

impl Window {
    /// Its run, and its number among that run's windows.
    pub fn place_in_run(&self) -> (usize, usize) {
        (self.run, self.first)
    }

    /// Orders windows by time, and those of the same time in a fixed order.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (self.newest, self.place)
    }

    /// Which run of neighbours it lies in: records of one key that follow each other.
    pub(super) fn run(&self) -> usize {
        self.run
    }

    /// Where in the run it begins.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Tells keys apart: the number of the partition, and of the key in it.
    pub(super) fn key(&self) -> (usize, u32) {
        (self.place.0, self.key)
    }

    /// When its newest record happened.
    pub(super) fn newest(&self) -> Timestamp {
        self.newest
    }
}

/// Whose each window is, by numbers that tell keys apart.
pub(super) fn keys_of(windows: &[Window]) -> Vec<usize> {
    let mut known = BTreeMap::new();
    let number = |window: &Window| {
        let next = known.len();
        *known.entry(window.key()).or_insert(next)
    };
    windows.iter().map(number).collect()
}

/// The windows by use, each oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    /// All that training sees but for calibration and gate: the next two, and what was dropped between them.
    pub fitted: Vec<Window>,
    /// Weights are fitted on these ...
    pub train: Vec<Window>,
    /// ... watched by these ...
    pub validation: Vec<Window>,
    /// ... calibrated on these ...
    pub calibrate: Vec<Window>,
    /// ... and tried on these.
    pub gate: Vec<Window>,
}

impl Split {
    /// Cuts by time: fitted first, gated last. A window that reaches back over a cut is dropped, so that no record is on both sides.
    pub fn of(windows: &[Window], usage: &Usage, spec: &ModelSpec) -> Split {
        let n = windows.len();
        let gate = (n as f64 * usage.gate_share.clamp(0.0, 0.5)) as usize;
        let calibrate = (n as f64 * usage.calibrate_share.clamp(0.0, 0.5)) as usize;
        let fitted = n - gate - calibrate;
        let (train, validation) = validated(&windows[..fitted], spec, usage);
        Split {
            fitted: windows[..fitted].to_vec(),
            train,
            validation,
            calibrate: purged(&windows[fitted..fitted + calibrate]),
            gate: purged(&windows[fitted + calibrate..]),
        }
    }
}

impl Split {
    /// The same of some keys only.
    pub fn only(&self, ours: impl Fn(&Window) -> bool) -> Self {
        Self {
            fitted: only(&self.fitted, &ours),
            train: only(&self.train, &ours),
            validation: only(&self.validation, &ours),
            calibrate: only(&self.calibrate, &ours),
            gate: only(&self.gate, &ours),
        }
    }
}

/// Those of the windows that are `ours`.
pub(super) fn only(windows: &[Window], ours: &impl Fn(&Window) -> bool) -> Vec<Window> {
    windows.iter().filter(|w| ours(w)).copied().collect()
}

/// At most `most` of the windows, in whole stretches of neighbours of one run, spread evenly over time, the latest among them. In order.
pub(super) fn neighbours(windows: &[Window], most: usize, length: usize) -> Vec<Window> {
    let stretch = NEIGHBOURS_MIN.max(8 * length);
    let mut stretches: BTreeMap<(usize, usize), Vec<Window>> = BTreeMap::new();
    for window in windows {
        let place = (window.run, window.first / stretch);
        stretches.entry(place).or_default().push(*window);
    }
    let mut stretches: Vec<Vec<Window>> = stretches.into_values().collect();
    stretches.sort_by_key(|stretch| stretch.last().map(|w| (w.newest, w.place)));
    let wanted = (stretches.len() * most)
        .div_ceil(windows.len().max(1))
        .max(1);
    let step = stretches.len() as f64 / wanted as f64;
    let mut kept: Vec<Window> = Vec::new();
    for i in 0..wanted {
        let stretch = &stretches[stretches.len() - 1 - (i as f64 * step) as usize];
        let room = (most - kept.len()).min(stretch.len());
        kept.extend(&stretch[stretch.len() - room..]);
    }
    kept.sort_by_key(|window| (window.newest, window.place));
    kept
}

/// Windows that are fitted on, and later ones that validate. Across folds, windows validate only for kinds that need it: the others learn
/// from every one.
pub(super) fn validated(
    windows: &[Window],
    spec: &ModelSpec,
    usage: &Usage,
) -> (Vec<Window>, Vec<Window>) {
    if usage.folds > 0 && !spec.validates() {
        return (windows.to_vec(), Vec::new());
    }
    let train = windows.len() - (windows.len() as f64 * VALIDATION_SHARE) as usize;
    (windows[..train].to_vec(), purged(&windows[train..]))
}

/// Contiguous folds of windows in order of time, each with the windows that share no record with it; with all others where that would
/// leave next to nothing.
pub(super) fn folds(windows: &[Window], folds: usize, length: usize) -> Vec<Fold> {
    let n = windows.len();
    (0..folds)
        .map(|i| {
            let (from, to) = (i * n / folds, (i + 1) * n / folds);
            let mut held: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
            for window in &windows[from..to] {
                let range = held
                    .entry(window.run)
                    .or_insert((window.first, window.first));
                range.0 = range.0.min(window.first);
                range.1 = range.1.max(window.first);
            }
            let apart = |window: &Window| {
                held.get(&window.run).is_none_or(|&(low, high)| {
                    window.first + length <= low || high + length <= window.first
                })
            };
            let others = || windows[..from].iter().chain(&windows[to..]).copied();
            let rest: Vec<Window> = others().filter(apart).collect();
            let enough = rest.len() * 2 >= n - (to - from);
            Fold {
                held_out: windows[from..to].to_vec(),
                rest: if enough { rest } else { others().collect() },
            }
        })
        .collect()
}

/// Windows of one fold, and those that its model is fitted on.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    /// Scored by a model that has not seen them.
    pub held_out: Vec<Window>,
    /// The others.
    pub rest: Vec<Window>,
}

impl Fold {
    /// The same of some keys only.
    pub fn only(&self, ours: impl Fn(&Window) -> bool) -> Self {
        Self {
            held_out: only(&self.held_out, &ours),
            rest: only(&self.rest, &ours),
        }
    }
}

/// The windows that lie wholly within the stretch; all of them where that would leave next to nothing.
fn purged(windows: &[Window]) -> Vec<Window> {
    let Some(begin) = windows.first().map(|window| window.newest) else {
        return Vec::new();
    };
    let within: Vec<Window> = windows
        .iter()
        .filter(|w| begin <= w.oldest)
        .copied()
        .collect();
    if within.len() * 2 < windows.len() {
        windows.to_vec()
    } else {
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(run: usize, first: usize) -> Window {
        Window {
            run,
            first,
            key: 0,
            oldest: Timestamp(first as i64),
            newest: Timestamp(first as i64),
            place: (run, Offset(first as i64)),
        }
    }

    #[test]
    fn of_too_many_windows_whole_stretches_of_neighbours_are_kept() {
        // Two runs side by side.
        let windows: Vec<Window> = (0..20_000).map(|i| window(i % 2, i / 2)).collect();
        let kept = neighbours(&windows, 3000, 10);
        assert!((2800..=3000).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap().first, 9999);
        let mut of_run: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for window in &kept {
            of_run.entry(window.run).or_default().push(window.first);
        }
        for firsts in of_run.values() {
            let next = firsts.windows(2).filter(|pair| pair[0] + 1 == pair[1]);
            assert!(next.count() > firsts.len() * 19 / 20);
            // Over all of the time.
            assert!(firsts[0] < 1500, "{}", firsts[0]);
        }
    }

    proptest! {
        #[test]
        fn every_window_is_held_out_once_by_windows_that_share_no_record_with_it(
            runs in proptest::collection::vec(0usize..150, 1..4), length in 1usize..12,
        ) {
            let mut windows: Vec<Window> = runs.iter().enumerate()
                .flat_map(|(run, &n)| (0..n).map(move |first| window(run, first)))
                .collect();
            windows.sort_by_key(|window| (window.newest, window.place));
            let folds = folds(&windows, 4, length);
            let id = |w: &Window| (w.run, w.first);
            let held: Vec<_> = folds.iter().flat_map(|fold| fold.held_out.iter().map(id)).collect();
            prop_assert_eq!(held, windows.iter().map(id).collect::<Vec<_>>());
            for fold in &folds {
                let gap = fold.rest.len() + fold.held_out.len() < windows.len();
                for a in &fold.rest {
                    for b in &fold.held_out {
                        prop_assert!(id(a) != id(b));
                        prop_assert!(!gap || a.run != b.run || a.first.abs_diff(b.first) >= length);
                    }
                }
                prop_assert!(2 * (fold.rest.len() + fold.held_out.len()) >= windows.len());
            }
        }

        #[test]
        fn a_gap_is_no_wider_than_the_window(n in 200usize..400, length in 1usize..12) {
            let windows: Vec<Window> = (0..n).map(|first| window(0, first)).collect();
            for (i, fold) in folds(&windows, 4, length).iter().enumerate() {
                let sides = if i == 0 || i == 3 { 1 } else { 2 };
                prop_assert_eq!(fold.rest.len(), n - fold.held_out.len() - sides * (length - 1));
            }
        }
    }
}
