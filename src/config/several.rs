//! All detectors of a process at once: each is read by itself, and what they may not have in common is said.

use std::collections::{BTreeMap, BTreeSet};

use super::detectors::{KEY, Which, read};
use super::load::{Sources, load_from};
use super::problem::Problem;
use super::{Config, Problems};

impl Config {
    /// The names of the detectors that files tell apart; none where they are of one alone.
    #[must_use]
    pub fn detectors(sources: &Sources) -> Vec<String> {
        let files = read(&sources.files, &mut Vec::new());
        files.names().into_iter().map(str::to_owned).collect()
    }

    /// The same of the files that this was read from, as they are now.
    #[must_use]
    pub fn detectors_now(&self) -> Vec<String> {
        Self::detectors(&self.loaded.sources)
    }

    /// All detectors of the files, or the one that `sources` names, at least one; or all problems at once.
    ///
    /// # Errors
    /// If any of them cannot be used, or two would be in each other's way.
    pub fn load_all(sources: &Sources) -> Result<Vec<Self>, Problems> {
        // Read once for all of them: each is of the same files, whatever somebody does to them meanwhile.
        let mut wrong = Vec::new();
        let files = read(&sources.files, &mut wrong);
        let names: Vec<String> = files.names().into_iter().map(str::to_owned).collect();
        let one = |sources: &Sources| {
            let loaded = load_from(sources, (files.clone(), wrong.clone()));
            Self::checked(loaded, &sources.which)
        };
        if names.is_empty() || sources.which != Which::Only {
            return one(sources).map(|config| vec![config]);
        }
        let mut all = Vec::new();
        let mut problems: BTreeMap<String, (Problem, BTreeSet<String>)> = BTreeMap::new();
        for name in &names {
            match one(&sources.of(name)) {
                Ok(config) => all.push(config),
                Err(Problems(found)) => {
                    for problem in found {
                        let same = problems.entry(problem.to_string());
                        let (_, of) = same.or_insert_with(|| (problem, BTreeSet::new()));
                        of.insert(name.clone());
                    }
                }
            }
        }
        let mut problems: Vec<Problem> = problems
            .into_values()
            .map(|(problem, of)| named(problem, &of, names.len()))
            .collect();
        problems.extend(in_the_way(&all));
        if problems.is_empty() {
            Ok(all)
        } else {
            Err(Problems(problems))
        }
    }
}

/// A problem that not all detectors have, with their names.
fn named(problem: Problem, of: &BTreeSet<String>, all: usize) -> Problem {
    if of.len() == all || problem.origin.as_ref().is_some_and(|o| o.contains("[[")) {
        return problem;
    }
    let of: Vec<&str> = of.iter().map(String::as_str).collect();
    Problem {
        origin: Some(format!("[[{KEY}]] {}", of.join(", "))),
        ..problem
    }
}

/// What detectors that are fine by themselves may not have in common.
fn in_the_way(all: &[Config]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, config) in all.iter().enumerate() {
        for other in &all[..number] {
            if config.name == other.name {
                let problem = format!("is \"{}\" for several detectors", config.name);
                problems.push(Problem::new("name", problem));
            }
            if config.input.group == other.input.group {
                let problem = format!(
                    "is \"{}\" for the detectors \"{}\" and \"{}\": each takes a group of its own, or each would get half of the other's partitions",
                    config.input.group, other.name, config.name
                );
                problems.push(Problem::new("input.group", problem));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn sources(files: &[&Path], set: &[&str]) -> Sources {
        Sources {
            files: files.iter().map(|file| file.to_path_buf()).collect(),
            set: set.iter().map(|set| (*set).to_owned()).collect(),
            ..Sources::default()
        }
    }

    const TWO: &str = r#"
        workers = 2
        [input]
        topics = "records"
        group = "plant"
        [http]
        listen = ":1"
        [[detector]]
        name = "pumps"
        alerts.false_alarm_rate = "1/day"
        [[detector]]
        name = "fans"
        workers = 1
        [detector.input]
        topics = "fans"
        group = "mine"
    "#;

    fn problems(text: &str, set: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, text).unwrap();
        let found = Config::load_all(&sources(&[&file], set)).unwrap_err();
        let path = format!("{}/", folder.path().display());
        let each = found
            .0
            .iter()
            .map(|problem| problem.to_string().replace(&path, ""));
        each.collect()
    }

    #[test]
    fn each_overrides_what_all_share() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, TWO).unwrap();
        let sources = sources(&[&file], &["model.window=3"]);
        let all = Config::load_all(&sources).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|c| {
                (
                    &*c.name,
                    &*c.input.group,
                    c.workers,
                    &*c.input.topics[0],
                    c.model.window,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("pumps", "plant.pumps", 2, "records", 3),
                ("fans", "mine", 1, "fans", 3)
            ]
        );
        assert_eq!(all[0].http, all[1].http);
        let origin = |config: &Config, key: &str| {
            let settings = config.settings();
            settings.into_iter().find(|s| s.key == key).unwrap().origin
        };
        assert!(origin(&all[0], "alerts.false_alarm_rate").ends_with("a.toml [[detector]] pumps"));
        assert!(origin(&all[0], "workers").ends_with("a.toml"));
        // One of them, and what all share.
        assert_eq!(Config::load(&sources.of("fans")).unwrap().name, "fans");
        let error = Config::load(&sources).unwrap_err().to_string();
        assert!(
            error.contains("several detectors, pumps, fans: say which"),
            "{error}"
        );
        let error = Config::load(&sources.of("dogs")).unwrap_err().to_string();
        assert!(error.contains("no detector \"dogs\""), "{error}");
        let shared = Sources {
            which: Which::Shared,
            ..sources.clone()
        };
        assert_eq!(Config::load(&shared).unwrap().name, "anomalyd");
        // Read again, each is itself.
        fs::write(&file, TWO.replace("1/day", "2/day")).unwrap();
        let again = all[0].reload().unwrap();
        assert_eq!((again.applied.len(), again.needs_restart.len()), (1, 0));
        assert!(all[1].reload().unwrap().applied.is_empty());
    }

    #[test]
    fn a_folder_has_a_file_a_detector() {
        let folder = tempfile::tempdir().unwrap();
        let (common, own) = (folder.path().join("common.toml"), folder.path().join("d"));
        fs::create_dir(&own).unwrap();
        fs::write(&common, "workers = 3\n").unwrap();
        fs::write(own.join("b.toml"), "input.topics = \"x\"\n").unwrap();
        fs::write(own.join("a.toml"), "name = \"z\"\n").unwrap();
        fs::write(own.join("notes.txt"), "no detector").unwrap();
        let all = Config::load_all(&sources(&[&common, &own], &[])).unwrap();
        let seen: Vec<_> = all
            .iter()
            .map(|c| (&*c.name, c.workers, &*c.input.group))
            .collect();
        assert_eq!(seen, [("z", 3, "anomalyd.z"), ("b", 3, "anomalyd.b")]);
        fs::remove_file(own.join("a.toml")).unwrap();
        // One alone needs no name on the command line.
        assert_eq!(Config::load(&sources(&[&own], &[])).unwrap().name, "b");
        fs::remove_file(own.join("b.toml")).unwrap();
        assert!(Config::load_all(&sources(&[&own], &[])).is_err());
    }

    #[test]
    fn a_file_of_one_detector_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "name = \"pumps\"\n").unwrap();
        let sources = sources(&[&file], &[]);
        let all = Config::load_all(&sources).unwrap();
        assert_eq!((all.len(), &*all[0].input.group), (1, "anomalyd"));
        assert!(Config::detectors(&sources).is_empty());
        assert!(Config::load(&sources.of("pumps")).is_ok());
        assert!(Config::load(&sources.of("fans")).is_err());
    }

    #[test]
    fn all_problems_come_at_once_with_whose_they_are() {
        let text = r#"
            wrkers = 1
            [[detector]]
            name = "a"
            http.listen = ":1"
            [[detector]]
            name = "b"
            model.window = 0
            alerts.false_alarm_rate = "1/year"
            [[detector]]
            name = "b"
            [[detector]]
        "#;
        let found = problems(text, &[]);
        let has = |what: &str, where_: &str| {
            let fits = |p: &&String| p.contains(what) && p.contains(where_);
            assert_eq!(
                found.iter().filter(fits).count(),
                1,
                "{what} {where_}: {found:#?}"
            );
        };
        has("wrkers", "(a.toml)");
        has("detector[0].http: is the process's", "(a.toml)");
        has("model.window", "[[detector]] b");
        has("alerts.false_alarm_rate", "[[detector]] b");
        has("detector[2].name: is \"b\"", "a.toml");
        has("detector[3].name: is missing", "a.toml");
        assert_eq!(found.len(), 6, "{found:#?}");
    }

    #[test]
    fn detectors_are_not_in_each_others_way() {
        let found = problems(TWO, &["input.group=all"]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("input.group: is \"all\" for the detectors"));
        let found = problems(TWO, &["name=all"]);
        assert!(found.iter().any(|p| p.starts_with("name: ")), "{found:?}");
        let found = problems("detector = 3", &[]);
        assert!(found[0].contains("[[detector]]"), "{found:?}");
    }
}
