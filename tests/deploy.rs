//! The texts of `deploy/`: every metric that a rule or a panel names is one that the code has, every rule has a section in the runbook, and
//! the files are well formed as far as can be told without the programs that read them.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anomalyd::service::described::describe;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names that Prometheus would know, histograms' parts included.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for metric in describe().unwrap() {
        if metric.kind == "histogram" {
            for part in ["_bucket", "_sum", "_count"] {
                names.insert(format!("{}{part}", metric.name));
            }
        } else {
            names.insert(metric.name);
        }
    }
    names
}

/// The metric names in a query: words that begin with our prefix.
fn named(query: &str) -> BTreeSet<String> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("anomalyd_"))
        .map(str::to_owned)
        .collect()
}

fn assert_known(text: &str, origin: &str) {
    let exported = exported();
    let unknown: Vec<_> = named(text)
        .into_iter()
        .filter(|name| !exported.contains(name))
        .collect();
    assert!(
        unknown.is_empty(),
        "{origin} names {unknown:?}, which the code does not export"
    );
}

/// Whether brackets close in the order in which they open.
fn balanced(query: &str) -> bool {
    let mut open = Vec::new();
    for c in query.chars() {
        match c {
            '(' | '{' | '[' => open.push(c),
            ')' if open.pop() != Some('(') => return false,
            '}' if open.pop() != Some('{') => return false,
            ']' if open.pop() != Some('[') => return false,
            _ => {}
        }
    }
    open.is_empty()
}

#[test]
fn rules_name_metrics_that_exist_and_have_a_section_in_the_runbook() {
    let rules = read("deploy/prometheus/alerts.yml");
    assert_known(&rules, "alerts.yml");
    let runbook = read("docs/runbook.md");
    let mut found = 0;
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            assert!(
                runbook.contains(&format!("\n## {name}\n")),
                "docs/runbook.md has no section {name}"
            );
            let link = format!("docs/runbook.md#{}", name.to_lowercase());
            assert!(
                rules.contains(&link),
                "{name} does not point to its section"
            );
            let cases = read("deploy/prometheus/alerts.test.yml");
            let fires = format!("alertname: {name}\n        exp_alerts:\n          - exp_labels");
            let quiet = format!("alertname: {name}, exp_alerts: []");
            assert!(
                cases.contains(&fires) && cases.contains(&quiet),
                "{name} has no case in which it fires, or none in which it is quiet"
            );
            found += 1;
        }
    }
    assert!(found >= 10, "only {found} rules found");
    let places: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: "))
        .filter_map(|url| url.split('#').next())
        .collect();
    assert_eq!(places.len(), found);
    assert!(places.iter().all(|url| url.starts_with("https://")));
    let places = BTreeSet::from_iter(places);
    assert_eq!(places.len(), 1, "one runbook: {places:?}");
    for query in rules.split("expr:").skip(1) {
        let query = query
            .split("labels:")
            .next()
            .unwrap()
            .split("for:")
            .next()
            .unwrap();
        assert!(balanced(query), "{query}");
    }
}

/// The dashboards: the file's name, and what it says.
fn dashboards() -> Vec<(String, serde_json::Value)> {
    let folder = root().join("deploy/grafana/dashboards");
    let files = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&text).unwrap())
    });
    files.collect()
}

#[test]
fn every_panel_queries_metrics_that_exist() {
    let mut shown = BTreeSet::new();
    let boards = dashboards();
    assert_eq!(boards.len(), 2);
    for (name, dashboard) in &boards {
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}");
            assert_eq!(
                panel["datasource"]["uid"], "${datasource}",
                "{name}: {title}"
            );
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                assert_known(query, title);
                assert!(balanced(query), "{query}");
                let chosen = query
                    .matches(r#"{job=~"$job",detector=~"$detector""#)
                    .count();
                // What is of a process has no detector.
                let whole = query.matches("anomalyd_process_").count();
                let of_jobs = query.matches(r#"{job=~"$job"}"#).count();
                let series = query.matches("anomalyd_").count();
                assert_eq!(
                    (series - whole, whole),
                    (chosen, of_jobs),
                    "{name}: {title}: not by what is chosen: {query}"
                );
                shown.extend(named(query));
            }
        }
        let variables: Vec<_> = dashboard["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["name"].as_str().unwrap())
            .collect();
        assert_eq!(variables, ["datasource", "job", "detector"], "{name}");
        assert_eq!(
            format!("{}.json", dashboard["uid"].as_str().unwrap()),
            *name
        );
    }
    let bases: BTreeSet<_> = shown
        .iter()
        .map(|name| {
            name.trim_end_matches("_bucket")
                .trim_end_matches("_sum")
                .trim_end_matches("_count")
        })
        .collect();
    let unshown: Vec<_> = describe()
        .unwrap()
        .into_iter()
        .map(|metric| metric.name)
        .filter(|name| name != "anomalyd_build_info" && !bases.contains(name.as_str()))
        .collect();
    assert!(unshown.is_empty(), "no panel shows {unshown:?}");
}

#[test]
fn a_metric_that_does_not_exist_would_be_found() {
    let unknown: Vec<_> = named("rate(anomalyd_recordz_total{a=\"b\"}[5m]) + up")
        .into_iter()
        .filter(|name| !exported().contains(name))
        .collect();
    assert_eq!(unknown, ["anomalyd_recordz_total"]);
    assert!(!balanced("rate(x[5m)]") && balanced("sum(rate(x{a=\"b\"}[5m]))"));
}

#[test]
fn yaml_files_have_no_tabs_and_indent_by_two() {
    let files = [
        "deploy/compose.yaml",
        "deploy/prometheus/prometheus.yml",
        "deploy/prometheus/alertmanager.yml",
        "deploy/prometheus/alerts.yml",
        "deploy/prometheus/alerts.test.yml",
        "deploy/grafana/provisioning/datasources/prometheus.yaml",
        "deploy/grafana/provisioning/dashboards/anomalyd.yaml",
    ];
    for file in files {
        for (number, line) in read(file).lines().enumerate() {
            let indent = line.len() - line.trim_start_matches(' ').len();
            assert!(
                !line.contains('\t') && indent % 2 == 0,
                "{file}:{}",
                number + 1
            );
        }
    }
}

#[test]
fn files_that_the_deployment_mounts_or_copies_are_there() {
    let compose = read("deploy/compose.yaml");
    for line in compose.lines() {
        if let Some(path) = line.trim().strip_prefix("- ./") {
            let path = path.split(':').next().unwrap();
            assert!(root().join("deploy").join(path).exists(), "{path}");
        }
    }
    for line in read("deploy/Dockerfile").lines() {
        if let Some(rest) = line
            .strip_prefix("COPY ")
            .filter(|rest| !rest.starts_with("--"))
        {
            let mut paths: Vec<_> = rest.split_whitespace().collect();
            paths.pop();
            for path in paths {
                assert!(
                    Path::new(&root().join(path)).exists(),
                    "Dockerfile copies {path}"
                );
            }
        }
    }
}

/// The files outside `src` that the program takes in as it is compiled, below the root.
fn taken_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            taken_in(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        // Its tests are not compiled with it.
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for call in own.split("include_str!(\"").skip(1) {
            let name = call.split('"').next().unwrap();
            let file = folder.join(name).canonicalize().unwrap();
            let inside = file.strip_prefix(root()).unwrap();
            if !inside.starts_with("src") {
                found.insert(inside.to_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn the_image_is_built_with_all_files_that_the_program_takes_in() {
    let mut found = BTreeSet::new();
    taken_in(&root().join("src"), &mut found);
    assert!(found.contains("config/default.toml"), "{found:?}");
    let dockerfile = read("deploy/Dockerfile");
    let ignored = read("deploy/Dockerfile.dockerignore");
    let copied: Vec<&str> = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .flat_map(|rest| rest.split_whitespace())
        .collect();
    for file in &found {
        let mut places = Path::new(file).ancestors().filter_map(Path::to_str);
        assert!(
            places.clone().any(|place| copied.contains(&place)),
            "the Dockerfile does not copy {file}"
        );
        let folder = file.split('/').next().unwrap();
        let hidden = ignored
            .lines()
            .any(|line| line == folder || line == format!("{folder}/*"));
        assert!(
            !hidden || places.any(|place| ignored.lines().any(|line| line == format!("!{place}"))),
            "the build does not see {file}"
        );
    }
}

/// The lines of a service of the compose file, comments left out.
fn service(name: &str) -> Vec<String> {
    let compose = read("deploy/compose.yaml");
    let mut lines = compose
        .lines()
        .skip_while(|line| *line != format!("  {name}:"));
    lines.next();
    let own = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let words = own.map(|line| line.trim().to_owned());
    words
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect()
}

#[test]
fn kafka_keeps_its_data_where_the_volume_is() {
    let lines = service("kafka");
    let value = |key: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(key));
        found
            .unwrap_or_else(|| panic!("no {key} in {lines:?}"))
            .trim()
    };
    let mounted = value("volumes: [\"kafka:").trim_end_matches("\"]");
    assert_eq!(value("KAFKA_LOG_DIRS:"), mounted);
}

#[test]
fn replicas_can_be_started_and_are_all_scraped() {
    let lines = service("anomalyd");
    let ports = lines
        .iter()
        .find(|line| line.starts_with("ports:"))
        .unwrap();
    let (host, inside) = ports
        .trim_start_matches("ports: [\"")
        .trim_end_matches("\"]")
        .split_once(':')
        .unwrap();
    assert!(
        host.contains('-'),
        "one host port for all replicas: {ports}"
    );
    let scrape = read("deploy/prometheus/prometheus.yml");
    for words in [
        "dns_sd_configs",
        "names: [\"anomalyd\"]",
        &format!("port: {inside}"),
    ] {
        assert!(scrape.contains(words), "{words}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("container_name")));
}

#[test]
fn a_mounted_file_wins_over_what_the_image_sets() {
    let dockerfile = read("deploy/Dockerfile");
    let environment = |name: &str| {
        let line = dockerfile
            .lines()
            .find(|line| line.starts_with("ENV ") && line.contains(name));
        line.map(|line| line.split('"').nth(1).unwrap().to_owned())
    };
    // The environment wins over files, so the image sets nothing there.
    assert_eq!(environment("ANOMALYD__"), None);
    let files: Vec<String> = environment("ANOMALYD_CONFIG")
        .unwrap()
        .split(',')
        .map(str::to_owned)
        .collect();
    assert_eq!(files.len(), 2);
    // Where the files of the image are put together, and only there is the empty one.
    let script = read("deploy/files.sh");
    assert!(script.contains(&format!(": >\"$root{}\"\n", files[1])));
    assert!(script.contains(&format!("\"$settings\" \"$root{}\"\n", files[0])));
    let folder = tempfile::tempdir().unwrap();
    let mounted = folder.path().join("anomalyd.toml");
    let load = |own: &str| {
        fs::write(&mounted, own).unwrap();
        let sources = anomalyd::config::Sources {
            files: vec![root().join("deploy/container.toml"), mounted.clone()],
            ..anomalyd::config::Sources::default()
        };
        anomalyd::config::Config::load(&sources)
            .unwrap()
            .http
            .unwrap()
    };
    assert_eq!(load("").port(), 9464);
    assert!(load("").ip().is_unspecified());
    assert_eq!(load("[http]\nlisten = \"127.0.0.1:80\"\n").port(), 80);
}

/// What scripts/bootstrap.sh says where `rustc` is of that version; and whether it was content.
#[cfg(unix)]
fn bootstrap(rustc: &str) -> (bool, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("rustc");
    fs::write(&fake, format!("#!/bin/sh\necho 'rustc {rustc} (x)'\n")).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(
        [folder.path().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    );
    let done = std::process::Command::new("bash")
        .arg(root().join("scripts/bootstrap.sh"))
        .env("PATH", path.unwrap())
        .env("ANOMALYD_NO_INSTALL", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.success(), said)
}

#[cfg(unix)]
#[test]
fn the_bootstrap_says_what_to_do_about_an_old_toolchain() {
    let (content, said) = bootstrap("1.88.0");
    assert!(!content, "{said}");
    assert!(
        said.contains("Rust 1.88.0 is too old: 1.89 or later is needed"),
        "{said}"
    );
    let (content, said) = bootstrap("1.100.0");
    assert!(content, "{said}");
}

#[test]
fn settings_in_the_environment_of_the_deployment_are_settings() {
    let environment: Vec<(String, String)> = read("deploy/compose.yaml")
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let (name, value) = line.split_once([':', '='])?;
            name.starts_with("ANOMALYD__").then(|| {
                let value = value.trim().trim_matches('"');
                (name.to_owned(), value.to_owned())
            })
        })
        .collect();
    assert!(environment.len() >= 4, "{environment:?}");
    let files = ["deploy/container.toml"].map(|path| root().join(path));
    let sources = anomalyd::config::Sources {
        files: files.to_vec(),
        environment,
        ..anomalyd::config::Sources::default()
    };
    if let Err(problems) = anomalyd::config::Config::load(&sources) {
        panic!("{problems}");
    }
}
