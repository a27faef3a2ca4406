//! docs/configuration.md and docs/metrics.md say what the code does: they are written from it, and this test fails when they are old.
//! `make docs` writes them anew.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anomalyd::service::described::describe;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a document with what it should be; with ANOMALYD_WRITE_DOCS, writes it.
fn hold(path: &str, expected: &str) {
    let path = root().join(path);
    if std::env::var_os("ANOMALYD_WRITE_DOCS").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{} is old: run `make docs`",
        path.display()
    );
}

#[test]
fn the_configuration_is_documented() {
    let text = fs::read_to_string(root().join("config/default.toml")).unwrap();
    let mut out = String::from(
        "# Configuration\n\nWritten by `make docs` from config/default.toml, which a test holds to the code's defaults. \
         A file needs only the keys that it changes.\n",
    );
    let (mut section, mut comment, mut table) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        if let Some(words) = line.strip_prefix('#') {
            comment.push(words.strip_prefix(' ').unwrap_or(words).to_owned());
        } else if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            write!(out, "\n## [{name}]\n").unwrap();
            if !comment.is_empty() {
                write!(out, "\n{}\n", comment.join(" ")).unwrap();
            }
            name.clone_into(&mut section);
            table = false;
            comment.clear();
        } else if let Some((key, value)) = line.split_once(" = ") {
            if !table {
                out.push_str("\n| key | default | |\n|---|---|---|\n");
                table = true;
            }
            let key = if section.is_empty() {
                key.to_owned()
            } else {
                format!("{section}.{key}")
            };
            writeln!(
                out,
                "| `{key}` | `{value}` | {} |",
                comment.join(" ").replace('|', "\\|")
            )
            .unwrap();
            comment.clear();
        } else {
            // A comment of its own: the head of the file, a group within a section, or examples.
            let examples = comment.iter().all(|line| line.contains(" = "));
            if !comment.is_empty() {
                if examples {
                    write!(out, "\n```toml\n{}\n```\n", comment.join("\n")).unwrap();
                } else {
                    write!(out, "\n{}\n", comment.join("\n").replace("\n  ", "\n    ")).unwrap();
                }
                table = false;
            }
            comment.clear();
        }
    }
    hold("docs/configuration.md", &out);
}

#[test]
fn editors_know_the_configuration() {
    let schema = serde_json::to_string_pretty(&anomalyd::config::schema::schema()).unwrap();
    hold("docs/configuration.schema.json", &(schema + "\n"));
}

#[test]
fn the_metrics_are_documented() {
    let mut out = String::from(
        "# Metrics\n\nWritten by `make docs` from src/service/metrics.rs. All have the label `detector` besides those named here, but for `anomalyd_process_*`, which are of no detector alone. \
         Names, labels and meanings are stable within a major version.\n\n| name | kind | labels | |\n|---|---|---|---|\n",
    );
    for metric in describe().unwrap() {
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            metric.labels.join(", "),
            metric.help
        )
        .unwrap();
    }
    hold("docs/metrics.md", &out);
}

/// What the headings of a document are linked to by.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    })
}

/// The documents of the book, by name.
fn chapters() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let is_text = |name: &str| Path::new(name).extension().is_some_and(|end| end == "md");
    let chapter = |name: &String| is_text(name) && name != "SUMMARY.md";
    let mut names: Vec<String> = names.filter(chapter).collect();
    names.sort();
    names
}

#[test]
fn the_book_has_every_chapter_once_and_pictures_are_small() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let links = summary.split("](").skip(1);
    let mut named: Vec<&str> = links.map(|link| link.split(')').next().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, chapters());
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut bytes = 0;
    for picture in fs::read_dir(root().join("docs/pictures")).unwrap() {
        let picture = picture.unwrap();
        bytes += picture.metadata().unwrap().len();
        let name = picture.file_name().into_string().unwrap();
        assert!(readme.contains(&format!("docs/pictures/{name}")), "{name}");
    }
    assert!(bytes < 200_000, "{bytes} bytes of pictures");
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .to_vec();
    documents.extend(chapters().iter().map(|name| format!("docs/{name}")));
    documents.push("docs/SUMMARY.md".to_owned());
    for document in &documents {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let folder = Path::new(document).parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => root().join(document),
                path => root().join(folder).join(path),
            };
            assert!(target.exists(), "{document} links to {link}");
            if !heading.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let there = headings(&text).any(|found| found == heading);
                assert!(there, "{document} links to {link}");
            }
        }
    }
}
