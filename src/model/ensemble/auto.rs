//! The default: a pool of kinds that fail in different ways, chosen and combined without labels.
//!
//! On **plain records** (W = 1), by whether inputs depend on each other, which chimeras of training rows tell ([`mod@super::dependence`]):
//!
//! - Where they hardly do, what judges input by input or nearly so: distance from the centre, isolation forest, empirical tails,
//!   histograms; and a variational autoencoder on normal scores, its training rows trimmed by the former. Neighbours have a small say.
//! - Where they do, neighbours alone, by single linkage, which a small group of faults among the training rows does not blind: on the
//!   inputs as they are, with five neighbours and with one, and on their normal scores. What judges input by input would only add noise.
//!
//! Measures are tail probabilities. The card says what was picked.
//!
//! On **windows** (W > 1): principal components of the newest quarter, half and whole of the window, so that both short and long
//! faults show against what normally moves together, and, beside them at a sixth of their weight, the distance of the newest record from the
//! centre. Each part of the window is judged beside two subspaces, if there are rows enough to know the smaller variances: nobody can say
//! how much of what moves together is worth keeping, a fault that moves along the components of the larger subspace only shows beside the
//! smaller one, and one that is smaller than what the latter leaves out only beside the former.
//! Beside them a ridge forecast says how much of a surprise each record is ([`Kind::surprise`]); what is remembered of that ranks records, and has no say in p-values.
//! Measures are multiples of the 99 % quantile, because how far a residual exceeds normal is worth knowing there.
//!
//! docs/quality.md has what each is worth, by ablation.

use ndarray::{Array1, Array2, ArrayView2};

use crate::model::ensemble::Ensemble;
use crate::model::ensemble::dependence::dependence;
use crate::model::ensemble::forecast::Forecast;
use crate::model::spec::{Combine, EnsembleSpec, ModelSpec};
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Monitor};
use crate::seed::Seed;

/// The pool for plain records, by family, with weights: neighbours, the simple kinds together, and the autoencoder weigh the same.
const INPUTS: &[(&str, f64)] = &[
    ("robust_z", 0.75),
    ("iforest", 0.75),
    ("ecod", 0.75),
    ("hbos", 0.75),
    ("vae:gauss:trim=0.1", 3.0),
];
const NEIGHBOURS: &[(&str, f64)] = &[
    ("linkage", 1.0),
    ("linkage:neighbours=1", 1.0),
    ("linkage:gauss:neighbours=1", 1.0),
];

/// The part of their weight that neighbours have where inputs do not depend on each other.
const NEIGHBOURS_MIN: f64 = 0.25;

/// The [`dependence`] up to which inputs have their full weight, and from which on they have none.
const DEPENDENCE: (f64, f64) = (0.45, 0.65);

/// On windows, the share of the variance that the larger subspaces keep, beside those that keep `model.pca.variance`.
const FINE: f64 = 0.98;

/// Training rows for each input, below which small variances are not known well enough for a larger subspace: the usual rule of thumb.
const ROWS_AN_INPUT: usize = 10;

/// On windows, the newest record's weight for each other member.
const NEWEST: f64 = 1.0 / 6.0;

/// An [`Ensemble`] whose members and rule follow from the window; on windows with a forecast beside it.
#[derive(Debug)]
pub struct Auto {
    pool: Ensemble,
    forecast: Option<Forecast>,
}

impl Build for Auto {
    /// Fits the pool.
    ///
    /// # Errors
    /// As the members' own fits.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let (members, combine) = if spec.window > 1 {
            let columns = data.train.ncols() / spec.window;
            let members = over_windows(spec.window, columns, data.train.nrows());
            (members, Combine::Quantile)
        } else {
            let found = dependence(data.train.view(), seed.child("dependence"));
            (over_records(found), Combine::Tail)
        };
        let ensemble = EnsembleSpec { members, combine };
        let pool = spec.clone().with(|spec| spec.ensemble = ensemble);
        let pool = Ensemble::fit(&pool, data, seed, monitor)?;
        let forecast = (spec.window > 1)
            .then(|| Forecast::fit(data, spec.window, spec.trim))
            .transpose()?;
        Ok(Self { pool, forecast })
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let pool = Ensemble::load(from)?;
        let forecast = from.get::<bool>("forecast")?;
        let forecast = forecast
            .then(|| Forecast::load(&from.nested("forecast."), pool.width()))
            .transpose()?;
        Ok(Self { pool, forecast })
    }
}

/// All members that it may ask about windows of so many records.
pub fn pool(window: usize) -> Vec<String> {
    if window > 1 {
        // With rows enough, all are asked.
        over_windows(window, 1, usize::MAX)
    } else {
        // In the middle, all families are asked.
        over_records(0.5 * (DEPENDENCE.0 + DEPENDENCE.1))
    }
}

/// The members for single records whose inputs depend on each other so much.
fn over_records(dependence: f64) -> Vec<String> {
    let (low, high) = DEPENDENCE;
    let near = ((dependence - low) / (high - low)).clamp(0.0, 1.0);
    let families = [
        (INPUTS, 1.0 - near),
        (NEIGHBOURS, NEIGHBOURS_MIN + (1.0 - NEIGHBOURS_MIN) * near),
    ];
    let mut members = Vec::new();
    for (family, weight) in families {
        for &(name, own) in family {
            let weight = thousandths(own * weight);
            if (weight - 1.0).abs() < 1e-6 {
                members.push(name.to_owned());
            } else if weight > 0.0 {
                members.push(format!("{name}:weight={weight}"));
            }
        }
    }
    members
}

/// The members for a window of so many records, at least two, of so many columns, where there are so many training rows.
fn over_windows(window: usize, columns: usize, rows: usize) -> Vec<String> {
    let mut lengths = vec![window.div_ceil(4), window.div_ceil(2), window];
    lengths.dedup();
    let mut members = Vec::new();
    for last in lengths {
        members.push(format!("pca:last={last}"));
        if rows / ROWS_AN_INPUT >= last * columns {
            members.push(format!("pca:last={last}:variance={FINE}"));
        }
    }
    let weight = thousandths(NEWEST * members.len() as f64);
    members.push(format!("robust_z:last=1:weight={weight}"));
    members
}

/// A weight to three places: members' names, with their weights, are part of the card.
fn thousandths(weight: f64) -> f64 {
    (1e3 * weight).round() / 1e3
}

impl Kind for Auto {
    fn width(&self) -> usize {
        self.pool.width()
    }

    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.pool.score(rows, seeds)
    }

    fn takes_rows_apart(&self) -> bool {
        self.pool.takes_rows_apart()
    }

    fn score_training(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.pool.score_training(rows, seeds)
    }

    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.pool.expected(rows)
    }

    fn reconstructs(&self) -> bool {
        self.pool.reconstructs()
    }

    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        self.pool.contributions(rows)
    }

    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        self.pool.code(rows)
    }

    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        self.pool.sample(n, seed, truncation)
    }

    fn members(&self) -> Vec<String> {
        self.pool.members()
    }

    fn surprise(&self, rows: ArrayView2<'_, f32>) -> Option<Array1<f32>> {
        let forecast = self.forecast.as_ref();
        forecast.map(|forecast| forecast.surprise(rows))
    }

    fn save(&self, to: &mut Tensors) {
        self.pool.save(to);
        to.set("forecast", &self.forecast.is_some());
        if let Some(forecast) = &self.forecast {
            let mut inner = Tensors::default();
            forecast.save(&mut inner);
            to.nest("forecast.", inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unwatched;
    use crate::model::member::MemberSpec;
    use crate::model::testing::{check_kind, correlated, of_kind};
    use rand::Rng;

    /// The members' texts, read back.
    fn read(members: &[String]) -> Vec<MemberSpec> {
        members.iter().map(|text| text.parse().unwrap()).collect()
    }

    proptest::proptest! {
        #[test]
        fn on_windows_components_judge_short_and_long_faults_and_centres_a_little(
            window in 2_usize..200,
            columns in 1_usize..40,
            rows in 50_usize..20_000,
        ) {
            let members = read(&over_windows(window, columns, rows));
            let (centre, components) = members.split_last().unwrap();
            // A quarter, a half and the whole of the window, each once as `model.pca.variance` says.
            let plain = components.iter().filter(|member| member.variance.is_none());
            let mut lengths = vec![window.div_ceil(4), window.div_ceil(2), window];
            lengths.dedup();
            proptest::prop_assert!(plain.map(|member| member.last).eq(lengths.into_iter().map(Some)));
            for member in components {
                proptest::prop_assert_eq!(member.kind.as_str(), "pca");
                // The larger subspace needs ten rows an input.
                let inputs = member.last.unwrap() * columns;
                proptest::prop_assert!(member.variance.is_none() || 10 * inputs <= rows);
            }
            // The newest record by itself has a sixth of the others' weight.
            proptest::prop_assert_eq!((centre.kind.as_str(), centre.last), ("robust_z", Some(1)));
            let weight = components.len() as f32 / 6.0;
            proptest::prop_assert!((centre.weight - weight).abs() < 1e-3);
        }

        #[test]
        fn neighbours_take_over_as_inputs_depend_on_each_other(dependence in 0.0..1.0_f64) {
            let share = |dependence: f64| {
                let members = read(&over_records(dependence));
                let near = |member: &&MemberSpec| member.kind == "linkage";
                let weight = |member: &MemberSpec| member.weight;
                let all: f32 = members.iter().map(weight).sum();
                members.iter().filter(near).map(weight).sum::<f32>() / all
            };
            let (found, more) = (share(dependence), share(dependence + 0.05));
            proptest::prop_assert!(0.0 < found && found <= more && more <= 1.0);
            proptest::prop_assert!(dependence < 0.65 || found > 0.999);
        }
    }

    #[test]
    fn the_pool_follows_how_inputs_go_together() {
        let fit = |rows: ndarray::Array2<f32>| {
            let data = FitData {
                validation: rows.clone(),
                train: rows,
            };
            let spec = ModelSpec::default().with(|spec| {
                spec.fixed.trees = 20;
                spec.network.epochs = 2;
            });
            Auto::fit(&spec, &data, Seed(1), &mut Unwatched)
                .unwrap()
                .members()
        };
        // Two causes of eight inputs; and eight inputs that know nothing of each other.
        let together = fit(correlated(400, 8, Seed(3)));
        assert!(
            read(&together)
                .iter()
                .all(|member| member.kind == "linkage")
        );
        let mut rng = Seed(5).rng();
        let apart = fit(ndarray::Array2::from_shape_fn((400, 8), |_| {
            rng.sample::<f32, _>(rand_distr::StandardNormal)
        }));
        assert_eq!(apart, over_records(0.0));
    }

    #[test]
    fn behaves_as_a_kind_on_records_and_windows() {
        let spec = of_kind("auto").with(|spec| spec.fixed.trees = 50);
        check_kind(&spec, 0.9);
        check_kind(&ModelSpec { window: 3, ..spec }, 0.9);
    }
}
