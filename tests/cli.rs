//! The program from the outside: exit codes, and what it says.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use anomalyd::model::trained::TrainedModel;
use noise::noise;

#[path = "shared/noise.rs"]
mod noise;

fn anomalyd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anomalyd"))
        .args(arguments)
        .env_remove("ANOMALYD_CONFIG")
        .env("ANOMALYD__SEED", "4")
        .env("PW", "hunter2")
        .output()
        .unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = anomalyd(arguments);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn help_teaches_and_wrong_usage_is_64() {
    let (code, out, _) = outcome(&["--help"]);
    assert_eq!(code, 0);
    for word in ["demo", "Exit codes", "--set", "ANOMALYD__ALERTS"] {
        assert!(out.contains(word), "{word} missing in {out}");
    }
    assert!(!out.contains('\u{1b}'), "colours although not a terminal");
    for line in [
        &[][..],
        &["rum"],
        &["run", "--what"],
        &["models"],
        &["demo", "--for", "90"],
    ] {
        assert_eq!(outcome(line).0, 64, "{line:?}");
    }
}

#[test]
fn version_completions_and_the_manual_print() {
    assert!(
        outcome(&["--version"])
            .1
            .contains(env!("CARGO_PKG_VERSION"))
    );
    assert!(outcome(&["completions", "bash"]).1.contains("_anomalyd"));
    assert!(outcome(&["man"]).1.contains(".TH anomalyd"));
    let page = outcome(&["man", "episodes", "show"]).1;
    assert!(page.contains(".TH anomalyd-episodes-show"), "{page}");
    assert_eq!(outcome(&["man", "episodes", "shown"]).0, 64);
    assert!(outcome(&["models", "kinds"]).1.contains("robust_z"));
}

#[test]
fn validate_is_0_or_78_with_all_problems() {
    let (code, out, _) = outcome(&["validate", "-c", "config/examples/pumps.toml"]);
    assert_eq!(code, 0);
    assert!(out.contains("valid"), "{out}");
    let (code, out, err) = outcome(&[
        "validate",
        "-s",
        "workers=0",
        "-s",
        "batch.wait=3",
        "-s",
        "kafka.broker=x",
    ]);
    assert_eq!((code, out.as_str()), (78, ""));
    for word in ["workers", "batch.wait", "kafka.brokers"] {
        assert!(err.contains(word), "{word} missing in {err}");
    }
    assert_eq!(outcome(&["validate", "-c", "/does/not/exist.toml"]).0, 78);
}

#[test]
fn validate_shows_the_effective_settings_without_secrets() {
    let (code, out, _) = outcome(&[
        "validate",
        "--show",
        "--brokers",
        "b:1",
        "-s",
        "kafka.properties.sasl.password=${env:PW}",
    ]);
    assert_eq!(code, 0);
    assert!(
        out.contains("brokers = \"b:1\"") && out.contains("seed = 4"),
        "{out}"
    );
    assert!(out.contains("***") && !out.contains("hunter2"), "{out}");
}

#[test]
fn config_show_says_where_each_setting_comes_from() {
    let set = [
        "-c",
        "config/examples/pumps.toml",
        "-s",
        "workers=3",
        "-s",
        "http.token=${env:PW}0123456789",
    ];
    let (code, out, err) = outcome(&[&["config", "show"][..], &set].concat());
    assert_eq!(code, 0, "{err}");
    let line = |key: &str| {
        let mut lines = out
            .lines()
            .filter(|line| line.starts_with(&format!("{key} = ")));
        lines
            .next()
            .unwrap_or_else(|| panic!("{key} is not in {out}"))
            .to_owned()
    };
    assert!(line("workers").contains("workers = 3") && line("workers").ends_with("# --set"));
    assert!(line("seed").ends_with("# environment ANOMALYD__SEED"));
    assert!(line("name").ends_with("# config/examples/pumps.toml"));
    assert!(line("batch.wait").ends_with("# default"));
    assert!(line("http.token").contains("***") && !out.contains("hunter2"));
    let (_, out, _) = outcome(&[&["config", "show", "--changed", "--json"][..], &set].concat());
    let settings: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert!(
        settings
            .iter()
            .all(|setting| setting["origin"] != "default")
    );
    assert!(settings.iter().any(|setting| setting["key"] == "workers"));
}

#[test]
fn config_init_proposes_a_file_that_is_valid_and_writes_over_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (input, out) = (path("plant.csv"), path("plant.toml"));
    let mut text = "time;pump;flow;mode\n".to_owned();
    for i in 0..200 {
        let mode = if i % 3 == 0 { "eco" } else { "full" };
        writeln!(
            text,
            "2026-03-01 12:{:02}:{:02};P-{};{}.5;{mode}",
            i / 60,
            i % 60,
            i % 4,
            i * 7 % 13
        )
        .unwrap();
    }
    fs::write(&input, text).unwrap();
    let init = ["config", "init", "--from-file", &input, "--out", &out];
    assert_eq!(outcome(&init).0, 0);
    let made = fs::read_to_string(&out).unwrap();
    for words in [
        "key = [\"pump\"]",
        "timestamp = \"time\"",
        "features = [\"flow\"]",
        "\"mode\" = [\"eco\", \"full\"]",
    ] {
        assert!(made.contains(words), "{words} is not in {made}");
    }
    let (code, _, err) = outcome(&["validate", "-c", &out]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(outcome(&init).0, 74);
    assert_eq!(fs::read_to_string(&out).unwrap(), made);
    assert_eq!(outcome(&["config", "init"]).0, 64);
}

#[test]
fn healthcheck_without_a_daemon_is_74() {
    let (code, _, err) = outcome(&["healthcheck", "-s", "http.listen=127.0.0.1:1"]);
    assert_eq!(code, 74);
    assert!(err.contains("127.0.0.1:1/healthz"), "{err}");
}

/// Rows of two features that move together, a minute apart, with a fault of 40 rows from `fault` on: time, a, b, fault.
fn rows(n: usize, fault: usize) -> Vec<(String, f64, f64, u8)> {
    let mut noise = noise(5);
    (0..n)
        .map(|i| {
            let wave = (i as f64 / 9.0).sin() + noise();
            let faulty = (fault..fault + 40).contains(&i);
            let other = if faulty { -8.0 } else { wave } + 0.2 * noise();
            let time = format!(
                "2026-03-{:02}T{:02}:{:02}:00Z",
                1 + i / 1440,
                i / 60 % 24,
                i % 60
            );
            (time, wave, other, u8::from(faulty))
        })
        .collect()
}

fn csv(rows: &[(String, f64, f64, u8)]) -> String {
    let mut text = "time,a,b,fault\n".to_owned();
    for (time, a, b, fault) in rows {
        writeln!(text, "{time},{a},{b},{fault}").unwrap();
    }
    text
}

fn gzipped(path: &Path, text: &str) {
    let mut out =
        flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap();
}

/// A folder, and paths in it as text.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

/// What a backtest says: the whole in a sentence, trainings in a line, not a line for each; and one line before it begins.
fn told_in_words(out: &str, err: &str) {
    assert!(
        out.lines().next().unwrap().contains(" in 20 hours; "),
        "{out}"
    );
    assert_eq!(out.matches("2 trainings on the way: ").count(), 1, "{out}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(
        err.contains("1,800 rows of 2 features, the first 600 to learn from"),
        "{err}"
    );
}

/// Alerts, one a line: some open, and each is followed by its end, but for the last.
fn opened_and_closed(lines: &str) {
    let alerts: Vec<serde_json::Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let opens: Vec<&serde_json::Value> = alerts.iter().filter(|a| a["event"] == "open").collect();
    assert!(!opens.is_empty() && opens.len() < alerts.len());
    for alert in opens {
        let closing =
            |other: &&serde_json::Value| other["event"] == "close" && other["id"] == alert["id"];
        assert!(alerts.iter().find(closing).is_some() || alert == alerts.last().unwrap());
    }
}

#[test]
fn a_backtest_writes_a_report_that_needs_nothing_else() {
    let folder = Folder::new();
    let (input, report) = (folder.path("pump.csv"), folder.path("pump.html"));
    fs::write(&input, csv(&rows(1800, 1500))).unwrap();
    let output = folder.path("scores.csv");
    let (code, out, err) = outcome(&[
        "backtest",
        "--input",
        &input,
        "--timestamp",
        "time",
        "--labels",
        "fault",
        "--warmup",
        "600",
        "--report",
        &report,
        "--output",
        &output,
        "--alerts",
        &folder.path("alerts.jsonl"),
        "-s",
        "model.kind=autoencoder",
        "-s",
        "model.network.epochs=3",
        "-s",
        "model.window=2",
        "-s",
        "training.every_records=800",
    ]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("1 of 1 labelled fault found") && out.contains("VUS-PR"),
        "{out}"
    );
    told_in_words(&out, &err);
    assert!(
        !err.contains("eta"),
        "a progress bar although not a terminal: {err}"
    );
    let html = folder.text("pump.html");
    let plain = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in ["http:", "https:", "src=", "url(", "@import", "<link"] {
        assert!(!plain.contains(forbidden), "{forbidden}");
    }
    for section in [
        "pump.csv",
        "How surprising each record was",
        "Scores and thresholds",
        "Which features were to blame",
        "Episodes:",
        "2026-03-02 01:0",
        "Calibration",
        "Losses of model",
        "Trainings",
        "average precision",
        "prefers-color-scheme: dark",
        "labelled fault found, ",
    ] {
        assert!(html.contains(section), "{section}");
    }
    assert_eq!(folder.text("scores.csv").lines().count(), 1801);
    opened_and_closed(&folder.text("alerts.jsonl"));
}

#[test]
fn a_backtest_finds_the_time_and_what_parts_cells_and_reads_standard_input() {
    let folder = Folder::new();
    let common = [
        "-s",
        "model.kind=pca",
        "--labels",
        "fault",
        "--warmup",
        "200",
    ];
    let plain = csv(&rows(400, 300));
    let (input, parted) = (folder.path("plain.csv"), folder.path("parted.csv"));
    fs::write(&input, &plain).unwrap();
    fs::write(&parted, plain.replace(',', ";")).unwrap();
    let named = [
        &["backtest", "--input", &input, "--timestamp", "time"][..],
        &common,
    ]
    .concat();
    let (code, scores, err) = outcome(&named);
    assert_eq!(code, 0, "{err}");
    let found = [&["backtest", "--input", &parted][..], &common].concat();
    let (code, out, err) = outcome(&found);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("cells parted by `;`; times are from `time` (--timestamp"),
        "{err}"
    );
    assert!(scores == out);

    let piped = [&["backtest", "--input", "-"][..], &common].concat();
    let mut child = Command::new(env!("CARGO_BIN_EXE_anomalyd"))
        .args(&piped)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), plain.as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert!(scores.as_bytes() == ended.stdout);
    let err = String::from_utf8_lossy(&ended.stderr);
    assert!(err.starts_with("standard input: 400 rows"), "{err}");
}

#[test]
fn a_backtest_refuses_what_nothing_can_come_of_and_says_what_to_do() {
    let folder = Folder::new();
    let input = folder.path("pump.csv");
    fs::write(&input, csv(&rows(400, 100))).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--warmup", "400"], 64, "--warmup 133 leaves most of them"),
        (
            &["--labels", "fault", "--warmup", "300"],
            64,
            "--warmup 100 ends before the first of them",
        ),
        (
            &["--ignore", "a", "--ignore", "b", "--ignore", "fault"],
            74,
            "no column with numbers to learn from",
        ),
    ];
    for (more, code, words) in cases {
        let line = [&["backtest", "--input", &input][..], more].concat();
        let (found, _, err) = outcome(&line);
        assert_eq!(found, *code, "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn json_lines_and_gzip_are_read_as_csv_is() {
    let folder = Folder::new();
    let rows = rows(400, 1000);
    fs::write(folder.path("plain.csv"), csv(&rows)).unwrap();
    gzipped(Path::new(&folder.path("zipped")), &csv(&rows));
    let mut lines = String::new();
    for (time, a, b, fault) in &rows {
        writeln!(
            lines,
            "{{\"time\": \"{time}\", \"a\": {a}, \"b\": {b}, \"fault\": {fault}}}"
        )
        .unwrap();
    }
    gzipped(Path::new(&folder.path("lines.gz")), &lines);
    let mut scores = Vec::new();
    for name in ["plain.csv", "zipped", "lines.gz"] {
        let (input, model) = (folder.path(name), folder.path("model.st"));
        let common = [
            "--input",
            &input,
            "--timestamp",
            "time",
            "--labels",
            "fault",
            "--model",
            &model,
        ];
        let (code, out, err) = outcome(&[&["train", "-s", "model.kind=pca"][..], &common].concat());
        assert_eq!(code, 0, "{err}");
        assert!(
            out.contains("400 rows of 2 features") && out.contains("of injected faults"),
            "{out}"
        );
        assert!(
            out.contains("391 windows, each scored by one of 4 models that had not seen it"),
            "{out}"
        );
        let (code, out, err) = outcome(&[&["score"][..], &common].concat());
        assert_eq!(code, 0, "{err}");
        scores.push(out);
    }
    assert_eq!(scores[0].lines().count(), 401);
    assert!(scores[0] == scores[1] && scores[0] == scores[2]);
}

#[test]
fn training_says_what_the_default_kind_picked() {
    let folder = Folder::new();
    let input = folder.path("plain.csv");
    fs::write(&input, csv(&rows(400, 1000))).unwrap();
    let asked = [
        "train", "--input", &input, "--ignore", "time", "--ignore", "fault",
    ];
    let (code, out, err) = outcome(&asked);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("\nits members: pca:last=3, pca:last=3:variance=0.98, pca:last=5, "),
        "{out}"
    );
}

#[test]
fn training_says_which_features_follow_the_hour_and_scoring_reads_as_the_model_was_made() {
    let folder = Folder::new();
    let (input, model) = (folder.path("days.csv"), folder.path("model.st"));
    // Eight days, a record each ten minutes: a load with a daily course, and noise that has none.
    let mut noise = 7_u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(noise >> 8) / f64::from(1 << 24) - 0.5
    };
    let mut text = "time,load,heat\n".to_owned();
    for i in 0..8 * 144 {
        let (day, minute) = (i / 144 + 1, i % 144 * 10);
        let course = (f64::from(i) / 144.0 * std::f64::consts::TAU).sin();
        let (load, heat) = (50.0 + 20.0 * course + 9.0 * next(), 20.0 + next());
        let (hour, minute) = (minute / 60, minute % 60);
        text += &format!("2026-03-{day:02}T{hour:02}:{minute:02}:00Z,{load:.2},{heat:.3}\n");
    }
    fs::write(&input, text).unwrap();
    let calendar = "input.calendar.utc_offset=\"Z\"";
    let read = ["--input", &input, "--timestamp", "time"];
    let by_model = |command, set: &[&str]| {
        outcome(&[&[command], &read[..], &["--model", &model], set].concat())
    };
    let (code, out, err) = by_model("train", &[]);
    assert_eq!(code, 0, "{err}");
    let hint = "\nload follows the hour of the day: with `input.calendar.utc_offset` features are judged by it\n";
    assert!(out.contains(hint), "{out}");
    let kept = folder.path("scores");
    let replay = ["--warmup", "900", "--output", &kept];
    let (code, out, err) = outcome(&[&["backtest"], &read[..], &replay].concat());
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(hint), "{out}{err}");
    let (code, out, err) = by_model("train", &["-s", calendar]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("1152 rows of 2 features;"), "{out}");
    assert!(out.contains("\njudged by the hour: load\n"), "{out}");
    let (code, _, err) = by_model("score", &[]);
    assert_eq!(code, 0, "{err}");
}

/// Trains a model of single records for a few epochs.
fn trained_briefly(input: &str, model: &str, kind: &str) {
    let kind = format!("model.kind={kind}");
    let (code, _, err) = outcome(&[
        "train",
        "--input",
        input,
        "--ignore",
        "time",
        "--ignore",
        "fault",
        "-s",
        "gate.recall_tolerance=1",
        "--model",
        model,
        "-s",
        &kind,
        "-s",
        "model.window=1",
        "-s",
        "model.network.epochs=4",
        "-s",
        "model.network.code=2",
    ]);
    assert_eq!(code, 0, "{err}");
}

#[test]
fn records_are_drawn_and_compared_with_real_ones() {
    let folder = Folder::new();
    let (input, model, drawn) = (
        folder.path("real.csv"),
        folder.path("vae.st"),
        folder.path("drawn.csv"),
    );
    fs::write(&input, csv(&rows(300, 1000))).unwrap();
    let train = |kind: &str| trained_briefly(&input, &model, kind);
    train("vae");
    let (code, out, err) = outcome(&[
        "sample",
        "--model",
        &model,
        "-n",
        "200",
        "--against",
        &input,
        "--output",
        &drawn,
    ]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    for words in [
        "200 synthetic records against 300 real ones",
        "  b\n",
        "correlations differ by",
        "a linear judge",
    ] {
        assert!(err.contains(words), "{words} missing in {err}");
    }
    let text = folder.text("drawn.csv");
    assert!(text.starts_with("a,b\n"), "{text}");
    assert_eq!(text.lines().count(), 201);
    // The same seed draws the same; without --output to standard output; towards the centre with a small ψ.
    let draw = |more: &[&str]| {
        outcome(&[&["sample", "--model", &model, "-n", "200"][..], more].concat()).1
    };
    assert_eq!(draw(&[]), text);
    assert_ne!(draw(&["--seed", "2"]), text);
    let spread = |text: &str| {
        let first = text
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().parse::<f64>().unwrap());
        let values: Vec<f64> = first.collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| (value - mean).abs()).sum::<f64>()
    };
    assert!(spread(&draw(&["--psi", "0"])) < spread(&text));
    train("autoencoder");
    assert_eq!(draw(&[]).lines().count(), 201);
    assert!(spread(&draw(&["--psi", "0.1"])) < 0.2 * spread(&draw(&[])));
    train("iforest");
    let (code, _, err) = outcome(&["sample", "--model", &model]);
    assert_eq!(code, 64);
    assert!(err.contains("`iforest` cannot draw records"), "{err}");
}

#[test]
fn a_model_that_is_not_made_again_as_it_was_is_a_failure() {
    let folder = Folder::new();
    let (input, model) = (folder.path("in.csv"), folder.path("m.st"));
    let again = folder.path("again.st");
    fs::write(&input, csv(&rows(300, 1000))).unwrap();
    let common = ["train", "--input", &input, "--ignore", "fault"];
    let own = [
        "--timestamp",
        "time",
        "--model",
        &model,
        "-s",
        "model.kind=pca",
    ];
    assert_eq!(outcome(&[&common[..], &own].concat()).0, 0);
    // Without --timestamp: the card says it.
    let remake = [&common[..], &["--from-card", &model, "--model", &again]].concat();
    let (code, out, err) = outcome(&remake);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("the same bytes as the model"), "{out}");
    let mut other = TrainedModel::from_bytes(&fs::read(&model).unwrap()).unwrap();
    other.normal_contribution[0] += 1.0;
    fs::write(&model, other.to_bytes().unwrap()).unwrap();
    let (code, _, err) = outcome(&remake);
    assert_eq!(code, 74, "{err}");
    assert!(err.contains("other bytes than the model"), "{err}");
}

#[test]
fn scores_carry_codes_where_the_kind_has_one() {
    let folder = Folder::new();
    let (input, model) = (folder.path("in.csv"), folder.path("m.st"));
    fs::write(&input, csv(&rows(300, 1000))).unwrap();
    let common = [
        "--input", &input, "--ignore", "time", "--ignore", "fault", "--model", &model,
    ];
    for (kind, expected) in [("autoencoder", 0), ("iforest", 64)] {
        let kind = format!("model.kind={kind}");
        // Whatever principal components find: it is this kind's codes that are wanted.
        let settings = [
            "-s",
            &kind,
            "-s",
            "model.network.epochs=2",
            "-s",
            "model.network.code=3",
            "-s",
            "gate.recall_tolerance=1",
        ];
        assert_eq!(outcome(&[&["train"][..], &common, &settings].concat()).0, 0);
        let (code, out, err) = outcome(&[&["score", "--code"][..], &common].concat());
        assert_eq!(code, expected, "{err}");
        if code == 0 {
            assert!(out.starts_with("score,p_value,alert,model_version,code_0,code_1,code_2\n"));
            assert_eq!(
                out.lines()
                    .last()
                    .unwrap()
                    .split(',')
                    .filter(|cell| !cell.is_empty())
                    .count(),
                7
            );
        } else {
            assert!(err.contains("`iforest` has no code"), "{err}");
        }
    }
}

#[test]
fn what_is_misspelt_is_told_with_what_was_meant() {
    let cases: &[(&[&str], i32, &[&str])] = &[
        (
            &["validate", "-s", "model.kindd=pca"],
            78,
            &["model.kindd", "model.kind"],
        ),
        (
            &["validate", "-s", "model.kind=autoencodr"],
            78,
            &["model.kind", "autoencodr", "autoencoder"],
        ),
        (
            &["validate", "-s", "trainig.guard=1"],
            78,
            &["trainig", "training"],
        ),
        (
            &["validate", "-s", "training.calibration=crossed"],
            78,
            &["training.calibration", "crossed", "held_out"],
        ),
        (&["validate", "-s", "model.kind"], 78, &["model.kind", "="]),
        (&["backtest"], 64, &["--input", "--from"]),
        (
            &[
                "train",
                "--input",
                "a.csv",
                "--from",
                "2026-03-01T00:00:00Z",
            ],
            64,
            &["--input", "--from"],
        ),
        (
            &["score", "--model", "m", "--from", "yesterday"],
            64,
            &["--from", "yesterday"],
        ),
        (
            &[
                "score",
                "--model",
                "m",
                "--input",
                "a.csv",
                "--to",
                "2026-03-01T00:00:00Z",
            ],
            64,
            &["--to"],
        ),
        (
            &["train", "--input", "/does/not/exist.csv"],
            74,
            &["/does/not/exist.csv"],
        ),
    ];
    for (line, code, words) in cases {
        let (found, _, err) = outcome(line);
        assert_eq!(found, *code, "{line:?}: {err}");
        for word in *words {
            assert!(err.contains(word), "{line:?}: {word} missing in {err}");
        }
    }
}
