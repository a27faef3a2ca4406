//! What is usual for each key of a fleet: machines of one kind whose values lie elsewhere, or spread wider, than the others'.
//!
//! A model is shared by all keys. Where keys are unlike, each is counted from its own centre in its own spreads before anything else looks at its
//! records, so that one model fits all of them. How unlike they are is measured as in a meta-analysis: Cochran's Q says whether centres lie
//! further apart than each one's own uncertainty explains, and how much of a difference is kept follows from the variance between
//! keys (DerSimonian and Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7, 1986; shrunk as by Efron and Morris, JASA
//! 70, 1975). The same for the logarithms of spreads. Where keys are alike, nothing is done, and a key that lies apart by itself stays
//! strange: a tenth of the keys have no say in how unlike they are.
//!
//! Centres and spreads are medians over blocks of a key's time, which a fault in three of eight blocks does not move; how far blocks lie apart
//! is their uncertainty, so that what changes with time passes for no level.

use std::collections::BTreeMap;

use ndarray::{ArrayView2, CowArray, Ix2};

use super::tensors::{ModelFileError, Tensors};
use crate::record::schema::ContextColumns;
use crate::stats::order::{MAD_TO_SIGMA, median};

/// Rows of a key from which on it may have a level of its own.
pub const ROWS_MIN: usize = 20;

/// Blocks of time of a key's rows, at most, and rows of a block, at least.
const BLOCKS: usize = 8;
const BLOCK_MIN: usize = 5;

/// The variance of a median of independent numbers beside that of their mean: π / 2.
const OF_MEDIAN: f64 = std::f64::consts::FRAC_PI_2;

/// The share of keys, those furthest out, that have no say in how unlike keys are.
const TRIMMED: f64 = 0.1;

/// Standard deviations of Q above its mean from which on keys are unlike.
const UNLIKE: f64 = 3.0;

/// The least spread of a key, as a share of what is usual: what rests under one key is not infinitely strict there.
const SPREAD_MIN: f64 = 0.05;

/// How a key's values are brought to those that are usual for all: shared + (value − centre) · ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The key's own centres, D numbers.
    centre: Vec<f64>,
    /// The usual spread over the key's, D numbers; above 0.
    ratio: Vec<f64>,
}

/// The levels of a fleet's keys; none where keys are alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// The usual centre of each of D columns; 0 of those that are as they are.
    shared: Vec<f64>,
    of_key: BTreeMap<String, Level>,
    /// Of keys that are not known: the usual centre, and a spread over all keys.
    unknown: Option<Level>,
}

impl Levels {
    /// Learns from rows of raw values, `n × D`, those of each key in order of time. Context stays as it is.
    pub fn fit<K: AsRef<str> + Ord>(
        rows: ArrayView2<'_, f64>,
        of_key: &BTreeMap<K, Vec<usize>>,
        context: &ContextColumns,
    ) -> Self {
        let columns = rows.ncols();
        let keys: Vec<(&K, &Vec<usize>)> = of_key
            .iter()
            .filter(|(_, rows)| rows.len() >= ROWS_MIN)
            .collect();
        let fitted: Vec<Fitted> = (0..columns)
            .map(|column| {
                if context.has(column) {
                    return Fitted::same(keys.len());
                }
                let own = keys.iter().map(|(_, places)| {
                    let values: Vec<f64> = places.iter().map(|&row| rows[(row, column)]).collect();
                    Own::of(&values)
                });
                Fitted::of(&own.collect::<Vec<_>>())
            })
            .collect();
        if fitted.iter().all(|column| !column.unlike) {
            return Self::default();
        }
        let level = |of: &dyn Fn(&Fitted) -> (f64, f64)| {
            let (centre, ratio) = fitted.iter().map(of).unzip();
            Level { centre, ratio }
        };
        Self {
            shared: fitted.iter().map(|column| column.shared).collect(),
            of_key: keys
                .iter()
                .enumerate()
                .map(|(at, (key, _))| (key.as_ref().to_owned(), level(&|column| column.of_key[at])))
                .collect(),
            unknown: Some(level(&|column| column.unknown)),
        }
    }

    /// Whether keys are alike: nothing is done.
    pub fn is_empty(&self) -> bool {
        self.unknown.is_none()
    }

    /// The levels of several types of keys, each known by itself, with the columns that it sends: only keys of one type are held against each other. What becomes of
    /// a column of a key that is not known is what its type says, where only one sends it.
    #[must_use]
    pub fn of_types(types: &[(Vec<usize>, Self)], columns: usize) -> Self {
        if types.iter().all(|(_, levels)| levels.is_empty()) {
            return Self::default();
        }
        // Each type's own shared centre goes into the centres of its keys.
        let about_zero = |levels: &Self, level: &Level| {
            let centres = level.centre.iter().zip(&level.ratio).zip(&levels.shared);
            Level {
                centre: centres
                    .map(|((centre, ratio), shared)| centre - shared / ratio)
                    .collect(),
                ratio: level.ratio.clone(),
            }
        };
        let mut of_key = BTreeMap::new();
        let mut unknown = Level {
            centre: vec![0.0; columns],
            ratio: vec![1.0; columns],
        };
        for (sent, levels) in types {
            let keys = levels.of_key.iter();
            of_key.extend(keys.map(|(key, level)| (key.clone(), about_zero(levels, level))));
            let Some(of_type) = &levels.unknown else {
                continue;
            };
            let of_type = about_zero(levels, of_type);
            let only = |column: &&usize| {
                types
                    .iter()
                    .filter(|(others, _)| others.contains(column))
                    .count()
                    == 1
            };
            for &column in sent.iter().filter(only) {
                unknown.centre[column] = of_type.centre[column];
                unknown.ratio[column] = of_type.ratio[column];
            }
        }
        Self {
            shared: vec![0.0; columns],
            of_key,
            unknown: Some(unknown),
        }
    }

    /// How many keys have a level of their own.
    pub fn len(&self) -> usize {
        self.of_key.len()
    }

    /// The columns that levels are of; `None` if there are no levels.
    pub fn columns(&self) -> Option<usize> {
        self.unknown.as_ref().map(|_| self.shared.len())
    }

    /// The key's level, or that of unknown keys.
    pub fn of(&self, key: &str) -> Option<&Level> {
        self.of_key.get(key).or(self.unknown.as_ref())
    }

    /// Brings a key's rows, one after another, to what is usual for all.
    pub fn apply<'v>(&self, key: &str, rows: impl IntoIterator<Item = &'v mut f64>) {
        let shift =
            |value: f64, centre: f64, ratio: f64, shared: f64| shared + (value - centre) * ratio;
        self.each(key, rows, shift);
    }

    /// Brings rows that [`Self::apply`] made back to the key's own units.
    pub fn undo<'v>(&self, key: &str, rows: impl IntoIterator<Item = &'v mut f64>) {
        let shift =
            |value: f64, centre: f64, ratio: f64, shared: f64| centre + (value - shared) / ratio;
        self.each(key, rows, shift);
    }

    /// Changes each value of a key's rows, given its column's centre, ratio and shared centre.
    fn each<'v>(
        &self,
        key: &str,
        rows: impl IntoIterator<Item = &'v mut f64>,
        change: impl Fn(f64, f64, f64, f64) -> f64,
    ) {
        let Some(level) = self.of(key) else { return };
        let columns = level.centre.iter().zip(&level.ratio).zip(&self.shared);
        for (value, ((centre, ratio), shared)) in rows.into_iter().zip(columns.cycle()) {
            *value = change(*value, *centre, *ratio, *shared);
        }
    }

    /// Brings rows or windows of several keys, `n × (W · D)`, from these levels to others; none are those of raw values.
    ///
    /// # Panics
    /// If there is not one key a row.
    pub fn to<'r>(
        &self,
        others: &Self,
        keys: &[String],
        rows: CowArray<'r, f64, Ix2>,
    ) -> CowArray<'r, f64, Ix2> {
        assert_eq!(keys.len(), rows.nrows(), "one key a window");
        if self == others {
            return rows;
        }
        let mut rows = rows.into_owned();
        for (key, mut row) in keys.iter().zip(rows.rows_mut()) {
            self.undo(key, &mut row);
            others.apply(key, &mut row);
        }
        rows.into()
    }

    /// Writes the levels; nothing if there are none.
    pub fn save(&self, to: &mut Tensors) {
        let Some(unknown) = &self.unknown else { return };
        let columns = self.shared.len();
        let levels = || self.of_key.values().chain([unknown]);
        let shape = vec![self.of_key.len() + 1, columns];
        let mut put = |name: &str, values: Vec<f64>, shape: Vec<usize>| {
            to.wide.insert(format!("levels.{name}"), (shape, values));
        };
        put("shared", self.shared.clone(), vec![columns]);
        put(
            "centre",
            levels().flat_map(|level| level.centre.clone()).collect(),
            shape.clone(),
        );
        put(
            "ratio",
            levels().flat_map(|level| level.ratio.clone()).collect(),
            shape,
        );
        let keys: Vec<&String> = self.of_key.keys().collect();
        to.set("levels.keys", &keys);
    }

    /// Reads back what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If parts do not fit each other, or have numbers that cannot be used.
    pub fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let Some((_, shared)) = from.wide.get("levels.shared") else {
            return Ok(Self::default());
        };
        let keys: Vec<String> = from.get("levels.keys")?;
        let part = |name: &str| {
            let found = from.wide.get(name).map(|(_, values)| values);
            let needed = (keys.len() + 1).checked_mul(shared.len());
            found
                .filter(|values| Some(values.len()) == needed)
                .ok_or_else(|| {
                    let problem = format!("`{name}` has not one number a key and column");
                    ModelFileError::Invalid(problem)
                })
        };
        let (centre, ratio) = (part("levels.centre")?, part("levels.ratio")?);
        let sound = shared.iter().chain(centre).all(|value| value.is_finite())
            && ratio.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0)
            && keys.windows(2).all(|pair| pair[0] < pair[1])
            && !shared.is_empty();
        if !sound {
            let problem = "levels of keys have numbers that cannot be used".to_owned();
            return Err(ModelFileError::Invalid(problem));
        }
        let columns = shared.len();
        let mut levels = centre.chunks(columns).zip(ratio.chunks(columns));
        let mut next = || {
            levels.next().map(|(centre, ratio)| Level {
                centre: centre.to_vec(),
                ratio: ratio.to_vec(),
            })
        };
        let of_key = keys
            .into_iter()
            .filter_map(|key| Some((key, next()?)))
            .collect();
        Ok(Self {
            shared: shared.clone(),
            of_key,
            unknown: next(),
        })
    }
}

/// Where a key's values of a column lie, how far they spread, and how sure that is; `None` where nothing was observed, or nothing varied.
#[derive(Clone, Copy, Debug)]
struct Own {
    centre: Option<Estimate>,
    /// The logarithm.
    spread: Option<Estimate>,
}

/// A number and the variance of its error.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    value: f64,
    variance: f64,
}

impl Own {
    /// Of values in order of time, NaN where not observed.
    fn of(values: &[f64]) -> Self {
        let observed: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if observed.len() < ROWS_MIN {
            return Self {
                centre: None,
                spread: None,
            };
        }
        let blocks = (observed.len() / BLOCK_MIN).min(BLOCKS);
        let size = observed.len().div_ceil(blocks);
        let middles = observed
            .chunks(size)
            .map(|block| median(&mut block.to_vec()));
        let centre = Estimate::of(middles.collect());
        let about = centre.map_or(0.0, |centre| centre.value);
        let widths = observed.chunks(size).map(|block| {
            let mut off: Vec<f64> = block.iter().map(|value| (value - about).abs()).collect();
            (MAD_TO_SIGMA * median(&mut off)).ln()
        });
        Self {
            centre,
            spread: Estimate::of(widths.filter(|width| width.is_finite()).collect()),
        }
    }
}

impl Estimate {
    /// The median of what blocks say, and how sure it is.
    fn of(mut blocks: Vec<f64>) -> Option<Self> {
        let n = blocks.len() as f64;
        if blocks.len() < 2 {
            return None;
        }
        let mean = blocks.iter().sum::<f64>() / n;
        let squares: f64 = blocks.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            value: median(&mut blocks),
            variance: OF_MEDIAN * squares / (n - 1.0) / n,
        })
    }
}

/// What is usual in a column, and what of each key's own is kept.
#[derive(Clone, Debug)]
struct Fitted {
    /// Whether anything is done.
    unlike: bool,
    shared: f64,
    /// Centre and ratio.
    of_key: Vec<(f64, f64)>,
    unknown: (f64, f64),
}

impl Fitted {
    /// A column that stays as it is.
    fn same(keys: usize) -> Self {
        Self {
            unlike: false,
            shared: 0.0,
            of_key: vec![(0.0, 1.0); keys],
            unknown: (0.0, 1.0),
        }
    }

    fn of(own: &[Own]) -> Self {
        let spreads: Vec<Option<Estimate>> = own.iter().map(|own| own.spread).collect();
        let Some((usual, widths)) = shrunk(&spreads) else {
            return Self::same(own.len());
        };
        // How sure a centre is can be no surer than its spread allows.
        let floor = (2.0 * (usual + SPREAD_MIN.ln())).exp() * 1e-2;
        let sure = |estimate: Estimate| Estimate {
            variance: estimate.variance.max(floor),
            ..estimate
        };
        let centres: Vec<Option<Estimate>> = own.iter().map(|own| own.centre.map(sure)).collect();
        let Some((shared, places)) = shrunk(&centres) else {
            return Self::same(own.len());
        };
        let apart =
            |values: &[f64], usual: f64| values.iter().any(|value| (value - usual).abs() > 0.0);
        if !apart(&widths, usual) && !apart(&places, shared) {
            return Self::same(own.len());
        }
        let spread = usual.exp();
        let kept = |width: f64| width.exp().max(SPREAD_MIN * spread);
        let n = own.len() as f64;
        let within = widths.iter().map(|width| kept(*width).powi(2)).sum::<f64>() / n;
        let between = places
            .iter()
            .map(|place| (place - shared).powi(2))
            .sum::<f64>()
            / n;
        let unknown = (shared, (spread / (within + between).sqrt()).min(1.0));
        let of_key = own.iter().zip(places.iter().zip(&widths));
        Self {
            unlike: true,
            shared,
            of_key: of_key
                .map(|(own, (place, width))| match own.centre {
                    Some(_) => (*place, spread / kept(*width)),
                    None => unknown,
                })
                .collect(),
            unknown,
        }
    }
}

/// What is usual, and each key's own estimate drawn towards it by as much as it is unsure: all the way where keys are alike, or nothing
/// is known of one. `None` if nothing is known of any.
fn shrunk(own: &[Option<Estimate>]) -> Option<(f64, Vec<f64>)> {
    let known: Vec<Estimate> = own.iter().flatten().copied().collect();
    let usual = median(&mut known.iter().map(|own| own.value).collect::<Vec<_>>());
    if known.is_empty() || !usual.is_finite() {
        return None;
    }
    let between = variance_between(&known, usual);
    let each = own.iter().map(|own| match own {
        Some(own) if between > 0.0 => {
            usual + between / (between + own.variance) * (own.value - usual)
        }
        _ => usual,
    });
    Some((usual, each.collect()))
}

/// The variance between keys by DerSimonian and Laird, about the median; 0 where Q is no larger than chance makes it.
fn variance_between(known: &[Estimate], usual: f64) -> f64 {
    let mut terms: Vec<(f64, f64)> = known
        .iter()
        .map(|own| (1.0 / own.variance.max(f64::MIN_POSITIVE), own.value))
        .map(|(weight, value)| (weight * (value - usual).powi(2), weight))
        .collect();
    terms.sort_by(|a, b| a.0.total_cmp(&b.0));
    terms.truncate(terms.len() - (TRIMMED * terms.len() as f64) as usize);
    let free = terms.len() as f64 - 1.0;
    let q: f64 = terms.iter().map(|term| term.0).sum();
    if free < 1.0 || q <= free + UNLIKE * (2.0 * free).sqrt() {
        return 0.0;
    }
    let sum: f64 = terms.iter().map(|term| term.1).sum();
    let squares: f64 = terms.iter().map(|term| term.1 * term.1).sum();
    let between = (q - free) / (sum - squares / sum);
    if between.is_finite() {
        between.max(0.0)
    } else {
        0.0
    }
}

#[cfg(test)]
impl Levels {
    /// Of one key whose columns are centred at `centre`, and spread `spread` times as far as is usual.
    pub fn of_one(key: &str, centre: &[f64], spread: f64) -> Self {
        let level = |ratio: f64| Level {
            centre: centre.to_vec(),
            ratio: vec![ratio; centre.len()],
        };
        Self {
            shared: vec![0.0; centre.len()],
            of_key: BTreeMap::from([(key.to_owned(), level(1.0 / spread))]),
            unknown: Some(level(1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use ndarray::Array2;
    use rand::Rng;
    use rand_distr::StandardNormal;

    /// Rows of keys with a centre and a spread each, and where each key's lie.
    fn fleet(
        of_key: &[(f64, f64)],
        records: usize,
        seed: u64,
    ) -> (Array2<f64>, BTreeMap<String, Vec<usize>>) {
        let mut rng = Seed(seed).rng();
        let keys = of_key.len();
        let rows = Array2::from_shape_fn((records * keys, 1), |(row, _)| {
            let (centre, spread) = of_key[row % keys];
            centre + spread * rng.sample::<f64, _>(StandardNormal)
        });
        let places = (0..keys)
            .map(|key| {
                (
                    format!("k{key:02}"),
                    (key..records * keys).step_by(keys).collect(),
                )
            })
            .collect();
        (rows, places)
    }

    fn fitted(of_key: &[(f64, f64)], records: usize, seed: u64) -> Levels {
        let (rows, places) = fleet(of_key, records, seed);
        Levels::fit(rows.view(), &places, &ContextColumns::default())
    }

    #[test]
    fn unlike_keys_become_alike() {
        let of_key = [(0.0, 1.0), (100.0, 2.0), (-50.0, 0.5), (20.0, 1.0)];
        let levels = fitted(&of_key, 400, 1);
        assert_eq!(levels.len(), 4);
        for (key, (centre, spread)) in of_key.into_iter().enumerate() {
            // Three spreads above the centre lie as far above what is usual under each key.
            let mut values = [centre, centre + 3.0 * spread];
            levels.apply(&format!("k{key:02}"), &mut values[..1]);
            levels.apply(&format!("k{key:02}"), &mut values[1..]);
            assert!((values[0] - 10.0).abs() < 1.0, "{key} {values:?}");
            assert!(
                (values[1] - values[0] - 3.0).abs() < 0.8,
                "{key} {values:?}"
            );
        }
    }

    #[test]
    fn keys_that_are_alike_stay_as_they_are_to_the_bit() {
        let mut levelled = 0;
        for seed in 0..40 {
            let levels = fitted(&[(5.0, 2.0); 6], 100, seed);
            levelled += usize::from(!levels.is_empty());
        }
        assert!(levelled <= 3, "{levelled} of 40");
        let mut value = [0.1 + 0.2];
        Levels::default().apply("k00", &mut value);
        assert_eq!(value[0].to_bits(), (0.1_f64 + 0.2).to_bits());
    }

    #[test]
    fn one_key_of_twelve_that_lies_apart_stays_strange() {
        let mut of_key = vec![(0.0, 1.0); 12];
        of_key[3].0 = 30.0;
        let levels = fitted(&of_key, 200, 1);
        let mut value = [30.0];
        levels.apply("k03", &mut value);
        assert!(value[0] > 20.0, "{value:?}");
    }

    #[test]
    fn what_changes_with_time_is_no_level() {
        // Each key moves between two states for long: centres of a hundred records differ, but by chance.
        let mut rng = Seed(1).rng();
        let mut rows = Array2::zeros((600, 1));
        let mut places = BTreeMap::new();
        for key in 0..6 {
            let mut state = 0.0;
            for record in 0..100 {
                if record % 12 == 0 {
                    state = if rng.gen_bool(0.5) { 0.0 } else { 10.0 };
                }
                rows[(key * 100 + record, 0)] = state + rng.sample::<f64, _>(StandardNormal);
            }
            places.insert(format!("k{key}"), (key * 100..(key + 1) * 100).collect());
        }
        let levels = Levels::fit(rows.view(), &places, &ContextColumns::default());
        let mut values = [10.0];
        levels.apply("k0", &mut values);
        assert!((values[0] - 10.0).abs() < 3.0, "{values:?} {levels:?}");
    }

    #[test]
    fn a_key_that_is_not_known_is_held_against_all_keys() {
        let of_key: Vec<(f64, f64)> = (0..10).map(|key| (10.0 * f64::from(key), 1.0)).collect();
        let levels = fitted(&of_key, 200, 1);
        let mut new = [90.0];
        levels.apply("new", &mut new);
        let off = new[0] - 45.0;
        assert!(off > 0.5 && off < 3.0, "{off}");
    }

    #[test]
    fn a_column_that_a_key_hardly_ever_sent_is_held_against_all_keys() {
        let of_key: Vec<(f64, f64)> = (0..10).map(|key| (10.0 * f64::from(key), 1.0)).collect();
        let (mut rows, places) = fleet(&of_key, 200, 1);
        for &row in &places["k09"][10..] {
            rows[(row, 0)] = f64::NAN;
        }
        let levels = Levels::fit(rows.view(), &places, &ContextColumns::default());
        let mut values = [90.0, 90.0];
        levels.apply("k09", &mut values[..1]);
        levels.apply("new", &mut values[1..]);
        assert_eq!(values[0].to_bits(), values[1].to_bits(), "{values:?}");
    }

    #[test]
    fn levels_are_undone_and_come_back_from_a_file() {
        let levels = fitted(&[(0.0, 1.0), (100.0, 2.0), (-50.0, 0.5)], 200, 1);
        for key in ["k00", "k01", "unknown"] {
            let mut values = [17.0];
            levels.apply(key, &mut values);
            levels.undo(key, &mut values);
            assert!((values[0] - 17.0).abs() < 1e-9, "{key} {values:?}");
        }
        let mut tensors = Tensors::default();
        levels.save(&mut tensors);
        assert_eq!(Levels::load(&tensors), Ok(levels));
        assert_eq!(Levels::load(&Tensors::default()), Ok(Levels::default()));
        let (_, ratio) = tensors.wide.get_mut("levels.ratio").unwrap();
        ratio[0] = 0.0;
        assert!(Levels::load(&tensors).is_err());
    }

    #[test]
    fn keys_of_one_type_are_not_held_against_those_of_another() {
        // Two types send the first column, around 0 and around 1,000; each has one of its own, and an unlike key.
        let type_of = |centres: [f64; 4], column: usize, name: &str| {
            let (rows, places) = fleet(&centres.map(|centre| (centre, 1.0)), 200, 7);
            let mut whole = Array2::from_elem((rows.nrows(), 3), f64::NAN);
            for (mut row, value) in whole.rows_mut().into_iter().zip(&rows) {
                (row[0], row[column]) = (*value, 10.0 * value);
            }
            let places: BTreeMap<String, Vec<usize>> = places
                .into_iter()
                .map(|(key, rows)| (format!("{name}{key}"), rows))
                .collect();
            let levels = Levels::fit(whole.view(), &places, &ContextColumns::default());
            (vec![0, column], levels)
        };
        let types = [
            type_of([0.0, 50.0, -20.0, 10.0], 1, "a"),
            type_of([1000.0, 1050.0, 980.0, 1010.0], 2, "b"),
        ];
        let levels = Levels::of_types(&types, 3);
        assert_eq!((levels.len(), levels.columns()), (8, Some(3)));
        for ((_, own), (key, centre)) in types.iter().zip([("ak01", 50.0), ("bk01", 1050.0)]) {
            let values = [centre + 2.0, 10.0 * centre, 10.0 * centre];
            let (mut joined, mut alone) = (values, values);
            levels.apply(key, &mut joined);
            own.apply(key, &mut alone);
            let apart = joined.iter().zip(&alone).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f64::max) < 1e-9, "{joined:?} {alone:?}");
            levels.undo(key, &mut joined);
            assert!((joined[0] - values[0]).abs() < 1e-9);
        }
        // Of a key that is not known nobody says to which type a column of both belongs.
        let mut unknown = [7.0, 100.0, 10_000.0];
        levels.apply("new", &mut unknown);
        assert!((unknown[0] - 7.0).abs() < 1e-12, "{unknown:?}");
        assert!((unknown[1] - 100.0).abs() > 1e-3 && (unknown[2] - 10_000.0).abs() > 1e-3);
        assert!(Levels::of_types(&[(vec![0], Levels::default())], 3).is_empty());
    }
}
