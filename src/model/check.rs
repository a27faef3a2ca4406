//! Checks of the `[model]` section: what every kind needs, all problems at once.

use std::fmt;
use std::ops::RangeInclusive;

use super::ensemble::auto;
use super::kind::Trait;
use super::member::MemberSpec;
use super::options::{Architecture, Regularizer, Regularizers};
use super::registry::KINDS;
use super::spec::{ModelSpec, NetworkSpec};

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecProblem {
    /// The key below `model.`.
    pub key: &'static str,
    /// What is wrong, with the value, and what is allowed.
    pub problem: String,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model.{} {}", self.key, self.problem)
    }
}

impl ModelSpec {
    /// Checks every setting, also those that the chosen kind does not read.
    ///
    /// # Errors
    /// All problems at once, in the order of the fields.
    pub fn check(&self) -> Result<(), Vec<SpecProblem>> {
        let mut problems = Problems::default();
        self.check_common(&mut problems);
        self.check_classic(&mut problems);
        self.check_networks(&mut problems);
        self.check_autoencoder(&mut problems);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(problems.0)
        }
    }

    /// Whether the kind needs rows that it does not learn from: to know when to stop, or how large to be.
    pub fn validates(&self) -> bool {
        let learners = KINDS.with(Trait::Validates);
        if self.kind == "auto" {
            // Its pool is not configured.
            let pool = auto::pool(self.window);
            let mut kinds = pool.iter().filter_map(|member| member.split(':').next());
            return kinds.any(|kind| learners.contains(&kind));
        }
        self.has_kind(&learners)
    }

    fn check_common(&self, problems: &mut Problems) {
        problems.name("kind", &self.kind, &KINDS.names());
        problems.range("window", self.window, 1..=1024);
        problems.range("clip", self.clip, 0.0..=1e6);
        problems.range("trim", self.trim, 0.0..=0.5);
    }

    fn check_classic(&self, problems: &mut Problems) {
        problems.range("pca.variance", self.pca.variance, 0.01..=0.9999);
        problems.range("knn.neighbours", self.knn.neighbours, 1..=100);
        let members = &self.ensemble.members;
        if members.is_empty() || members.len() > 32 {
            problems.add(
                "ensemble.members",
                format!("must name 1 to 32 kinds, but names {}", members.len()),
            );
        }
        // What is made of others cannot be a member itself.
        let combined = KINDS.with(Trait::Combines);
        let mut allowed = KINDS.names();
        allowed.retain(|kind| !combined.contains(kind));
        for text in members {
            match text.parse::<MemberSpec>() {
                Ok(member) => problems.name("ensemble.members", &member.kind, &allowed),
                Err(problem) => problems.add("ensemble.members", problem),
            }
        }
    }

    fn check_networks(&self, problems: &mut Problems) {
        let NetworkSpec {
            hidden,
            code,
            epochs,
            ..
        } = &self.network;
        for &width in hidden {
            problems.range("network.hidden", width, 1..=65_536);
        }
        problems.range("network.code", *code, 0..=65_536);
        problems.range("network.epochs", *epochs, 1..=100_000);
        let masks = self.autoencoder.regularizer.has(Regularizer::Masking);
        let noise_max = if masks { 0.95 } else { 100.0 };
        let level = self.autoencoder.noise_level;
        problems.range("autoencoder.noise_level", level, 0.0..=noise_max);
        let weight = self.autoencoder.contractive_weight;
        problems.range("autoencoder.contractive_weight", weight, 0.0..=1e3);
        problems.range("vae.beta", self.vae.beta, 0.0..=1e3);
        problems.range("vae.warmup", self.vae.warmup, 0..=100_000);
    }

    /// What settings of autoencoders ask of each other, if there is one: without this, some would be passed over without a word.
    fn check_autoencoder(&self, problems: &mut Problems) {
        if let Regularizers::Several(list) = &self.autoencoder.regularizer
            && list.contains(&Regularizer::None)
            && list.len() > 1
        {
            problems.add(
                "autoencoder.regularizer",
                "must be \"none\" alone, or a list without it, but has \"none\" beside others"
                    .to_owned(),
            );
        }
        for (one, other, names) in [
            (Regularizer::Sparse, Regularizer::L1, ["sparse", "l1"]),
            (
                Regularizer::Denoising,
                Regularizer::Masking,
                ["denoising", "masking"],
            ),
        ] {
            let all = &self.autoencoder.regularizer;
            if all.has(one) && all.has(other) {
                let [one, other] = names;
                let problem = format!("must have \"{one}\" or \"{other}\", but has both");
                problems.add("autoencoder.regularizer", problem);
            }
        }
        let conv = self.autoencoder.architecture == Architecture::Conv1d;
        if self.has_kind(&["autoencoder"]) && conv && self.window < 2 {
            let problem = format!(
                "must be \"dense\" where model.window is {}, but is \"conv1d\", which needs a window of at least 2",
                self.window
            );
            problems.add("autoencoder.architecture", problem);
        }
    }

    /// Whether one of `kinds` is fitted: as the kind itself or as a member of the ensemble.
    fn has_kind(&self, kinds: &[&str]) -> bool {
        let member = |text: &String| {
            text.split(':')
                .next()
                .is_some_and(|name| kinds.contains(&name))
        };
        kinds.contains(&self.kind.as_str())
            || (self.kind == "ensemble" && self.ensemble.members.iter().any(member))
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Problems(Vec<SpecProblem>);

impl Problems {
    fn add(&mut self, key: &'static str, problem: String) {
        self.0.push(SpecProblem { key, problem });
    }

    /// `value` must lie within `allowed`; NaN never does.
    fn range<T: PartialOrd + fmt::Display>(
        &mut self,
        key: &'static str,
        value: T,
        allowed: RangeInclusive<T>,
    ) {
        if !allowed.contains(&value) {
            let (low, high) = (allowed.start(), allowed.end());
            self.add(
                key,
                format!("must be between {low} and {high}, but is {value}"),
            );
        }
    }

    /// `value` must be one of `allowed`.
    fn name(&mut self, key: &'static str, value: &str, allowed: &[&str]) {
        if allowed.contains(&value) {
            return;
        }
        let nearest = allowed.iter().min_by_key(|name| edits(value, name));
        let hint = match nearest {
            Some(name) if edits(value, name) <= 1 + name.len() / 4 => {
                format!("; did you mean `{name}`?")
            }
            _ => String::new(),
        };
        let list = allowed.join(", ");
        self.add(
            key,
            format!("must be one of {list}, but is `{value}`{hint}"),
        );
    }
}

/// Levenshtein's distance, in bytes: insertions, deletions and replacements.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass() {
        assert!(ModelSpec::default().check().is_ok());
    }

    #[test]
    fn all_problems_at_once_with_value_and_allowed() {
        let spec = ModelSpec {
            kind: "pva".to_owned(),
            window: 0,
            clip: f32::NAN,
            ..ModelSpec::default()
        }
        .with(|spec| spec.ensemble.members = vec!["robustz".to_owned()]);
        let problems = spec.check().unwrap_err();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["kind", "window", "clip", "ensemble.members"]);
        let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(
            text[0].ends_with("but is `pva`; did you mean `pca`?"),
            "{}",
            text[0]
        );
        assert_eq!(text[1], "model.window must be between 1 and 1024, but is 0");
        assert!(
            text[3].ends_with("but is `robustz`; did you mean `robust_z`?"),
            "{}",
            text[3]
        );
    }

    #[test]
    fn kinds_with_a_network_among_them_validate() {
        let validates = |kind: &str, window: usize, members: &[&str]| {
            let spec = ModelSpec {
                kind: kind.to_owned(),
                window,
                ..ModelSpec::default()
            };
            let named = members.iter().map(ToString::to_string).collect();
            spec.with(|spec| spec.ensemble.members = named).validates()
        };
        assert!(validates("vae", 1, &[]) && !validates("pca", 1, &["vae"]));
        assert!(validates("ensemble", 1, &["pca", "vae:trim=0.1"]));
        assert!(!validates("ensemble", 1, &["pca", "knn"]));
        // Plain records have a variational autoencoder in the pool, windows do not.
        assert!(validates("auto", 1, &[]) && !validates("auto", 10, &[]));
    }

    #[test]
    fn settings_that_would_be_passed_over_are_refused() {
        let keys = |spec: &ModelSpec| -> Vec<&str> {
            let problems = spec.check().err().unwrap_or_default();
            problems.iter().map(|problem| problem.key).collect()
        };
        let autoencoder = |text: &str| ModelSpec {
            kind: "autoencoder".to_owned(),
            ..serde_json::from_str(text).unwrap()
        };
        let conv = autoencoder(r#"{"autoencoder": {"architecture": "conv1d"}}"#);
        assert_eq!(keys(&conv), ["autoencoder.architecture"]);
        assert_eq!(
            conv.check().unwrap_err()[0].to_string(),
            "model.autoencoder.architecture must be \"dense\" where model.window is 1, but is \"conv1d\", which needs a window of at least 2"
        );
        let fits = ModelSpec {
            window: 4,
            ..conv.clone()
        };
        assert!(keys(&fits).is_empty());
        let both = r#"{"autoencoder": {"regularizer": ["none", "sparse"]}}"#;
        assert_eq!(keys(&autoencoder(both)), ["autoencoder.regularizer"]);
        // Where no autoencoder is fitted they concern nobody.
        let other = ModelSpec {
            kind: "pca".to_owned(),
            ..conv.clone()
        };
        assert!(keys(&other).is_empty());
        let member = ModelSpec {
            kind: "ensemble".to_owned(),
            ..conv
        };
        let members = ["pca", "autoencoder:weight=2"].map(str::to_owned);
        let member = member.with(|spec| spec.ensemble.members = members.to_vec());
        assert_eq!(keys(&member), ["autoencoder.architecture"]);
    }

    #[test]
    fn edits_by_hand() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("pca", "pca"), 0);
    }
}
