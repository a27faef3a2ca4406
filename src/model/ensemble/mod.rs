//! Several kinds together. Each member's score is brought to a common measure on the rows at hand, and the weighted mean of these is
//! the ensemble's: different kinds are blind to different faults, and agree on noise less than on faults (Aggarwal and Sathe,
//! "Theoretical Foundations and Algorithms for Outlier Ensembles", SIGKDD Explorations 2015).

pub mod auto;
mod dependence;
mod forecast;
mod measure;

use std::any::Any;

use ndarray::{Array1, Array2, ArrayView2, Axis, CowArray, Ix2};
use serde::{Deserialize, Serialize};

use crate::model::ensemble::measure::Measure;
use crate::model::kinds::SIMPLE;
use crate::model::marginals::Marginals;
use crate::model::member::MemberSpec;
use crate::model::spec::{KnnSpec, ModelSpec, PcaSpec};
use crate::model::tensors::{ModelFileError, Tensors};
use crate::model::{Build, FitData, FitError, Kind, Model, Monitor, Trait};
use crate::seed::Seed;

/// The members, in the order of the configuration.
#[derive(Debug)]
pub struct Ensemble {
    width: usize,
    members: Vec<Member>,
    /// Which members are part of the next one. Not stored.
    part_of_next: Vec<bool>,
}

/// A fitted member with what its score and its contributions normally are.
#[derive(Debug)]
struct Member {
    card: MemberCard,
    /// Turns values into normal scores, for members that want these.
    gauss: Option<Marginals>,
    model: Model,
    measure: Measure,
    /// Mean contribution of each of its inputs over the rows at hand, none 0.
    normal: Array1<f32>,
}

/// What is stored of a member beside its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct MemberCard {
    kind: String,
    /// As the configuration writes it. Files of older programs lack it.
    #[serde(default)]
    name: String,
    /// It sees the last this many inputs of a row.
    inputs: usize,
    /// It has no say in which inputs are to blame: it judges beside a larger subspace than others, and the larger that is, the more a residual
    /// spreads over all inputs that move with the faulty one.
    #[serde(default)]
    silent: bool,
    weight: f32,
    gauss: bool,
}

impl Ensemble {
    fn new(width: usize, members: Vec<Member>) -> Self {
        let followed = members.windows(2).map(|pair| pair[0].is_part_of(&pair[1]));
        Self {
            width,
            part_of_next: followed.chain([false]).collect(),
            members,
        }
    }

    /// The weighted mean of the members' scores, of training rows or others.
    fn combined(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed], training: bool) -> Array1<f32> {
        let mut sum = Array1::zeros(rows.nrows());
        let mut weights = 0.0;
        let mut add = |member: &Member, scores: Array1<f32>| {
            let measured = scores.mapv_into(|score| member.measure.of(score));
            sum.scaled_add(member.card.weight, &measured);
            weights += member.card.weight;
        };
        let mut members = self.members.iter().zip(&self.part_of_next);
        while let Some((member, &part_of_next)) = members.next() {
            let seen = member.seen(rows, training);
            let larger = (part_of_next && !training)
                .then(|| members.next())
                .flatten();
            match larger {
                None => add(
                    member,
                    raw_scores(&member.model, seen.view(), seeds, training),
                ),
                Some((larger, _)) => {
                    let [own, of_larger] =
                        member.model.score_with(&*larger.model, seen.view(), seeds);
                    add(member, own);
                    add(larger, of_larger);
                }
            }
        }
        sum / weights
    }
}

impl Build for Ensemble {
    /// Fits the members that `spec.ensemble.members` names.
    ///
    /// Those without `trim` come first. The others are fitted on what is left when the rows have been dropped that the former
    /// find strangest, by the mean of those of them that do not remember single rows.
    ///
    /// # Errors
    /// As the members' own fits; [`FitError::Library`] if a member's text cannot be read.
    fn fit(
        spec: &ModelSpec,
        data: &FitData,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<Self, FitError> {
        let wanted: Vec<MemberSpec> = spec
            .ensemble
            .members
            .iter()
            .map(|text| {
                text.parse().map_err(|problem| {
                    FitError::Library(format!("model.ensemble.members {problem}"))
                })
            })
            .collect::<Result<_, _>>()?;
        let mut members: Vec<Option<Member>> = wanted.iter().map(|_| None).collect();
        let mut consensus = Consensus::default();
        let mut hand: Option<AtHand> = None;
        for trimmed in [false, true] {
            for (place, member) in wanted
                .iter()
                .enumerate()
                .filter(|(_, m)| m.trim.is_some() == trimmed)
            {
                let kept = member
                    .trim
                    .map(|share| consensus.nearest(data.train.nrows(), share));
                let seed = seed.child(&member.to_string()).nth(place as u64);
                monitor.member(&member.to_string());
                let at_hand = match hand.take() {
                    Some(before) if before.serves(member) => before,
                    _ => AtHand::of(spec, member, (data, kept.as_deref()))?,
                };
                let (fitted, scores) = Member::fit(spec, member, &at_hand, seed, monitor)?;
                hand = Some(at_hand);
                if !trimmed {
                    consensus.add(&fitted, scores);
                }
                members[place] = Some(fitted);
            }
        }
        let members = members.into_iter().flatten().collect();
        Ok(Self::new(data.train.ncols(), members))
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let (width, count): (usize, usize) = (from.get("width")?, from.get("members")?);
        let members: Vec<Member> = (0..count)
            .map(|place| Member::load(&from.nested(&prefix(place))))
            .collect::<Result<_, _>>()?;
        if !members.is_empty() && members.iter().all(|member| member.card.inputs <= width) {
            Ok(Self::new(width, members))
        } else {
            Err(ModelFileError::Invalid(
                "an ensemble's members do not fit its width".to_owned(),
            ))
        }
    }
}

/// Where a member's tensors are.
fn prefix(place: usize) -> String {
    format!("member.{place}.")
}

/// What the members without a trim of their own think of the training rows.
#[derive(Debug, Default)]
struct Consensus {
    /// Sum of measures over members that know the whole and no single rows; and over all.
    global: Option<Array1<f32>>,
    all: Option<Array1<f32>>,
}

impl Consensus {
    /// Adds a member by its scores of the training rows.
    fn add(&mut self, member: &Member, scores: Array1<f32>) {
        let measured = scores.mapv_into(|score| member.measure.of(score));
        let add = |sum: &mut Option<Array1<f32>>| match sum {
            Some(sum) => *sum += &measured,
            None => *sum = Some(measured.clone()),
        };
        let remembers = SIMPLE.with(Trait::Remembers).contains(&member.model.name());
        if !remembers {
            add(&mut self.global);
        }
        add(&mut self.all);
    }

    /// The rows, ascending, that stay when the strangest `share` is dropped; all, if nobody has an opinion.
    fn nearest(&self, rows: usize, share: f32) -> Vec<usize> {
        let mut order: Vec<usize> = (0..rows).collect();
        if let Some(scores) = self.global.as_ref().or(self.all.as_ref()) {
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            order.truncate(rows - (rows as f64 * f64::from(share)) as usize);
            order.sort_unstable();
        }
        order
    }
}

/// What a member is fitted on: the next one may see the same rows.
struct AtHand {
    member: MemberSpec,
    gauss: Option<Marginals>,
    /// All training rows, where not all are fitted on.
    train: Option<Array2<f32>>,
    data: FitData,
    /// What models of its kind have in common on these rows.
    shared: Box<dyn Any>,
}

impl AtHand {
    /// The rows of `data` (with the indices of the training rows that are used, if not all) as a member sees them.
    fn of(
        spec: &ModelSpec,
        member: &MemberSpec,
        (data, kept): (&FitData, Option<&[usize]>),
    ) -> Result<Self, FitError> {
        let inputs = inputs(spec, member, data.train.ncols());
        let gauss = member
            .gauss
            .then(|| Marginals::fit(newest(data.train.view(), inputs)));
        let seen = |rows: &Array2<f32>| view(rows.view(), inputs, gauss.as_ref()).into_owned();
        let (train, validation) = (seen(&data.train), seen(&data.validation));
        let (train, all) = match kept {
            Some(kept) => (train.select(Axis(0), kept), Some(train)),
            None => (train, None),
        };
        let data = FitData { train, validation };
        let shared = SIMPLE.share(&own_spec(spec, member), &data)?;
        Ok(Self {
            member: member.clone(),
            gauss,
            train: all,
            data,
            shared,
        })
    }

    /// Whether it is what this member would be fitted on, too.
    fn serves(&self, member: &MemberSpec) -> bool {
        let MemberSpec {
            kind,
            last,
            trim,
            gauss,
            ..
        } = &self.member;
        (kind, last, trim, gauss) == (&member.kind, &member.last, &member.trim, &member.gauss)
    }

    fn train(&self) -> &Array2<f32> {
        self.train.as_ref().unwrap_or(&self.data.train)
    }
}

/// How many records a member sees.
fn records(spec: &ModelSpec, member: &MemberSpec) -> usize {
    let window = spec.window.max(1);
    member.last.unwrap_or(window).min(window)
}

/// How many of a row's inputs a member sees.
fn inputs(spec: &ModelSpec, member: &MemberSpec, width: usize) -> usize {
    width / spec.window.max(1) * records(spec, member)
}

/// What a member is, as a model by itself.
fn own_spec(spec: &ModelSpec, member: &MemberSpec) -> ModelSpec {
    ModelSpec {
        kind: member.kind.clone(),
        window: records(spec, member),
        // Trimmed by the others' judgement, not once more by its own.
        trim: if member.trim.is_some() {
            0.0
        } else {
            spec.trim
        },
        knn: KnnSpec {
            neighbours: member.neighbours.unwrap_or(spec.knn.neighbours),
            ..spec.knn
        },
        pca: PcaSpec {
            variance: member.variance.unwrap_or(spec.pca.variance),
            ..spec.pca
        },
        ..spec.clone()
    }
}

impl Member {
    /// Fits on the rows at hand. Also gives its scores of all training rows.
    fn fit(
        spec: &ModelSpec,
        member: &MemberSpec,
        at_hand: &AtHand,
        seed: Seed,
        monitor: &mut dyn Monitor,
    ) -> Result<(Self, Array1<f32>), FitError> {
        let AtHand { data, shared, .. } = at_hand;
        let train = at_hand.train();
        let card = MemberCard {
            kind: member.kind.clone(),
            name: member.to_string(),
            inputs: train.ncols(),
            silent: member
                .variance
                .is_some_and(|share| share > spec.pca.variance),
            weight: member.weight,
            gauss: member.gauss,
        };
        let own_spec = own_spec(spec, member);
        let model = SIMPLE.fit_shared(&own_spec, (data, shared.as_ref()), seed, monitor)?;
        let of_training = raw_scores(&model, train.view(), &[], true);
        let mut scores = of_training.to_vec();
        scores.extend(raw_scores(&model, data.validation.view(), &[], false));
        let at_hand_rows = if data.validation.nrows() > 0 {
            &data.validation
        } else {
            train
        };
        let normal = model.contributions(at_hand_rows.view()).mean_axis(Axis(0));
        let normal = normal.unwrap_or_else(|| Array1::ones(card.inputs));
        // An input that never contributed must not divide by zero.
        let floor = (0.01 * normal.mean().unwrap_or(1.0)).max(1e-12);
        let member = Self {
            card,
            gauss: at_hand.gauss.clone(),
            model,
            measure: Measure::fit(spec.ensemble.combine, &scores),
            normal: normal.mapv(|share| share.max(floor)),
        };
        Ok((member, of_training))
    }

    fn load(from: &Tensors) -> Result<Self, ModelFileError> {
        let card: MemberCard = from.get("member")?;
        let gauss = card
            .gauss
            .then(|| Marginals::load(&from.nested("gauss.")))
            .transpose()?;
        let model = SIMPLE.load(&card.kind, &from.nested("model."))?;
        let normal = from.get1("normal")?;
        let widths = [
            model.width(),
            normal.len(),
            gauss.as_ref().map_or(card.inputs, Marginals::width),
        ];
        if widths != [card.inputs; 3] {
            return Err(ModelFileError::Invalid(format!(
                "member `{}` has uneven widths {widths:?}",
                card.kind
            )));
        }
        Ok(Self {
            card,
            gauss,
            model,
            measure: Measure::load(from)?,
            normal,
        })
    }

    fn save(&self) -> Tensors {
        let (mut to, mut model) = (Tensors::default(), Tensors::default());
        to.set("member", &self.card);
        to.put1("normal", self.normal.view());
        self.measure.save(&mut to);
        self.model.save(&mut model);
        to.nest("model.", model);
        if let Some(gauss) = &self.gauss {
            let mut inner = Tensors::default();
            gauss.save(&mut inner);
            to.nest("gauss.", inner);
        }
        to
    }

    /// What it sees of whole rows.
    fn view<'a>(&self, rows: ArrayView2<'a, f32>) -> CowArray<'a, f32, Ix2> {
        view(rows, self.card.inputs, self.gauss.as_ref())
    }

    /// Whether its view of whole rows, where these lie one after another, need not be copied.
    fn takes_rows_apart(&self) -> bool {
        self.gauss.is_none() && self.model.takes_rows_apart()
    }

    /// Whether what it does is part of what another does with the same inputs.
    fn is_part_of(&self, other: &Self) -> bool {
        self.card.inputs == other.card.inputs
            && self.gauss.is_none()
            && other.gauss.is_none()
            && self.model.is_part_of(&*other.model)
    }

    /// What it sees of whole rows, where they lie if it can.
    fn seen<'a>(&self, rows: ArrayView2<'a, f32>, training: bool) -> CowArray<'a, f32, Ix2> {
        let in_pieces = rows.ncols() <= 1 || rows.strides()[1] == 1;
        if !training && in_pieces && self.takes_rows_apart() {
            newest(rows, self.card.inputs).into()
        } else {
            self.view(rows)
        }
    }

    /// Its scores of whole rows, in the common measure.
    fn measured(&self, rows: ArrayView2<'_, f32>) -> Array1<f32> {
        let seen = self.seen(rows, false);
        let scores = raw_scores(&self.model, seen.view(), &[], false);
        scores.mapv_into(|score| self.measure.of(score))
    }
}

/// The newest `inputs` inputs of rows.
fn newest(rows: ArrayView2<'_, f32>, inputs: usize) -> ArrayView2<'_, f32> {
    let older = rows.ncols() - inputs;
    rows.split_at(Axis(1), older).1
}

/// The newest `inputs` inputs of rows, as normal scores if so wished.
fn view<'a>(
    rows: ArrayView2<'a, f32>,
    inputs: usize,
    gauss: Option<&Marginals>,
) -> CowArray<'a, f32, Ix2> {
    let rows = newest(rows, inputs);
    // Scores must not depend on how a batch lies in memory: what is not in standard layout is copied.
    match gauss {
        Some(gauss) => gauss.normal_scores(rows).into(),
        None if rows.is_standard_layout() => rows.into(),
        None => rows.as_standard_layout().into_owned().into(),
    }
}

/// A model's scores, of training rows or others.
fn raw_scores(
    model: &Model,
    rows: ArrayView2<'_, f32>,
    seeds: &[Seed],
    training: bool,
) -> Array1<f32> {
    let made: Vec<Seed>;
    let seeds = if seeds.len() == rows.nrows() {
        seeds
    } else {
        made = (0..rows.nrows() as u64)
            .map(|row| Seed(0).nth(row))
            .collect();
        &made
    };
    if training {
        model.score_training(rows, seeds)
    } else {
        model.score(rows, seeds)
    }
}

impl Kind for Ensemble {
    fn width(&self) -> usize {
        self.width
    }

    /// The weighted mean of the members' scores in the common measure.
    fn score(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.combined(rows, seeds, false)
    }

    /// Members that cannot have them copied.
    fn takes_rows_apart(&self) -> bool {
        true
    }

    fn score_training(&self, rows: ArrayView2<'_, f32>, seeds: &[Seed]) -> Array1<f32> {
        self.combined(rows, seeds, true)
    }

    /// The mean of what those members expect that look at the row and see values; zeros where none does.
    fn expected(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut sum = Array2::<f32>::zeros((rows.nrows(), self.width));
        let mut weights = Array1::<f32>::zeros(self.width);
        for member in &self.members {
            if member.gauss.is_some() || !member.model.reconstructs() {
                continue;
            }
            let older = self.width - member.card.inputs;
            let expected = member.model.expected(member.view(rows).view());
            sum.view_mut()
                .split_at(Axis(1), older)
                .1
                .scaled_add(member.card.weight, &expected);
            weights
                .view_mut()
                .split_at(Axis(0), older)
                .1
                .mapv_inplace(|w| w + member.card.weight);
        }
        sum / weights.mapv(|weight| weight.max(f32::MIN_POSITIVE))
    }

    fn reconstructs(&self) -> bool {
        self.members
            .iter()
            .any(|member| member.gauss.is_none() && member.model.reconstructs())
    }

    /// Each member distributes its part of the score over its inputs, in proportion to their contributions in units of normal.
    fn contributions(&self, rows: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut sum = Array2::zeros((rows.nrows(), self.width));
        let all_silent = self.members.iter().all(|member| member.card.silent);
        for member in &self.members {
            if member.card.silent && !all_silent {
                continue;
            }
            let seen = member.view(rows);
            let parts = member.measured(rows) * member.card.weight;
            let mut shares = member.model.contributions(seen.view()) / &member.normal;
            for (mut row, part) in shares.rows_mut().into_iter().zip(parts) {
                let total = row.sum();
                let scale = if total > 0.0 {
                    part.max(0.0) / total
                } else {
                    0.0
                };
                row.mapv_inplace(|share| share * scale);
            }
            let older = self.width - member.card.inputs;
            sum.view_mut()
                .split_at(Axis(1), older)
                .1
                .scaled_add(1.0, &shares);
        }
        sum
    }

    /// The code of the first member that has one.
    fn code(&self, rows: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
        self.members
            .iter()
            .find_map(|member| member.model.code(member.view(rows).view()))
    }

    /// Samples of the first member that sees whole rows as they are and can draw.
    fn sample(&self, n: usize, seed: Seed, truncation: f32) -> Option<Array2<f32>> {
        let whole = |member: &&Member| member.gauss.is_none() && member.card.inputs == self.width;
        let mut able = self.members.iter().filter(whole);
        able.find_map(|member| member.model.sample(n, seed, truncation))
    }

    fn members(&self) -> Vec<String> {
        let names = self.members.iter().map(|member| &member.card.name);
        names.filter(|name| !name.is_empty()).cloned().collect()
    }

    fn save(&self, to: &mut Tensors) {
        to.set("width", &self.width);
        to.set("members", &self.members.len());
        for (place, member) in self.members.iter().enumerate() {
            to.nest(&prefix(place), member.save());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Unwatched;
    use crate::model::spec::Combine;
    use crate::model::testing::{check_kind, correlated, fit_data, of_kind};

    fn spec(members: &[&str]) -> ModelSpec {
        of_kind("ensemble").with(|spec| {
            spec.ensemble.members = members.iter().map(ToString::to_string).collect();
            spec.fixed.trees = 50;
        })
    }

    #[test]
    fn behaves_as_a_kind_under_both_rules() {
        let members = ["pca", "iforest:weight=0.5", "ecod", "knn:gauss:trim=0.2"];
        for combine in [Combine::Tail, Combine::Quantile] {
            check_kind(
                &spec(&members).with(|spec| spec.ensemble.combine = combine),
                0.9,
            );
        }
    }

    #[test]
    fn members_see_the_newest_records_only() {
        // Six inputs are three records of two; a change in the oldest is invisible to `last=1`.
        let spec = ModelSpec {
            window: 3,
            ..spec(&["robust_z:last=1"])
        };
        let model = Ensemble::fit(&spec, &fit_data(6), Seed(1), &mut Unwatched).unwrap();
        let row = correlated(1, 6, Seed(2));
        let (mut oldest, mut latest) = (row.clone(), row.clone());
        oldest[[0, 0]] += 5.0;
        latest[[0, 5]] += 5.0;
        let scores = |row: &Array2<f32>| model.score(row.view(), &[])[0];
        assert_eq!(scores(&oldest).to_bits(), scores(&row).to_bits());
        assert!(scores(&latest) > scores(&row));
        assert!(model.contributions(latest.view())[[0, 5]] > 0.0);
        assert!(model.contributions(oldest.view())[[0, 0]] <= 0.0);
    }

    #[test]
    fn larger_subspaces_have_a_say_in_the_score_but_not_in_the_blame() {
        // Two causes: the smaller subspace knows one of them.
        let fit = |members: &[&str]| {
            let spec = spec(members).with(|spec| spec.pca.variance = 0.4);
            Ensemble::fit(&spec, &fit_data(6), Seed(1), &mut Unwatched).unwrap()
        };
        let (small, both) = (fit(&["pca"]), fit(&["pca", "pca:variance=0.95"]));
        let large = fit(&["pca:variance=0.95"]);
        let rows = correlated(40, 6, Seed(9));
        let scores = |model: &Ensemble| model.score(rows.view(), &[]);
        assert_ne!(scores(&small), scores(&both));
        let blame = |model: &Ensemble| model.contributions(rows.view());
        assert_eq!(blame(&small), blame(&both));
        assert!(blame(&large).iter().any(|&share| share > 0.0));
    }

    #[test]
    fn one_member_ranks_as_it_would_alone() {
        let data = fit_data(6);
        let alone = SIMPLE.fit(
            &ModelSpec {
                kind: "pca".to_owned(),
                ..spec(&[])
            },
            &data,
            Seed(1),
            &mut Unwatched,
        );
        let alone = alone.unwrap();
        let combined = spec(&["pca"]).with(|spec| spec.ensemble.combine = Combine::Quantile);
        let combined = Ensemble::fit(&combined, &data, Seed(1), &mut Unwatched).unwrap();
        let rows = correlated(40, 6, Seed(9));
        let order = |scores: Array1<f32>| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            order
        };
        assert_eq!(
            order(alone.score(rows.view(), &[])),
            order(combined.score(rows.view(), &[]))
        );
    }

    #[test]
    fn unreadable_members_are_named() {
        let error = Ensemble::fit(
            &spec(&["pca:depth=3"]),
            &fit_data(6),
            Seed(1),
            &mut Unwatched,
        )
        .unwrap_err();
        assert!(error.to_string().contains("pca:depth=3"), "{error}");
    }
}
