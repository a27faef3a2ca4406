//! What the report says and does not do.

use super::super::budgets::Opened;
use super::*;

/// What a budget would have opened: the fault, or nothing.
fn budget(setting: &str, configured: bool, episodes: usize) -> Budgeted {
    let fault = Opened {
        onset: 2000,
        opened: 2001,
        last: 2059,
    };
    Budgeted {
        words: format!("{episodes} episodes"),
        row: Row {
            setting: setting.to_owned(),
            configured,
            in_table: true,
            episodes,
            labelled: None,
            spans: vec![fault; episodes],
        },
    }
}

/// The fault, with its course.
fn episode() -> EpisodeRow {
    let fault = 2000..2060;
    let point = |row: usize| Point {
        row,
        alert: fault.contains(&row),
        strength: if fault.contains(&row) { 20.0 } else { 1.0 },
        values: vec![1.0 / 3.0, f64::NAN],
        expected: vec![0.5, 2.0],
    };
    EpisodeRow {
        key: "<pump>".to_owned(),
        from: 2000,
        to: 2060,
        records: 60,
        kind: AlertKind::Score,
        severity: Severity::Critical,
        p_value: 1e-9,
        cause: "flow 61.0, expected <49.2>".to_owned(),
        features: [("flow", 0.7), ("pressure", 0.2)]
            .map(|(name, share)| Feature {
                name: name.to_owned(),
                share,
                actual: Some(61.0),
                expected: 49.2,
                spreads: Some(-30.0),
            })
            .to_vec(),
        labelled: Some(true),
        card: true,
        trace: Some(Trace {
            columns: vec!["flow".to_owned(), "pressure".to_owned()],
            spreads: vec![Some(0.1), None],
            threshold: 11.5,
            points: (1960..2100).map(point).collect(),
        }),
    }
}

/// A run of 3,000 rows with one fault, three trainings, and hostile names.
fn report() -> Report {
    let n = 3000;
    let fault = 2000..2060;
    let wave = |i: usize| ((i * 7919 % 997) as f64 + 1.0) / 998.0;
    let p_values: Vec<f64> = (0..n)
        .map(|i| if fault.contains(&i) { 1e-9 } else { wave(i) })
        .collect();
    let training = |row, version, promoted: bool| TrainingRow {
        row,
        version,
        kind: "autoencoder".to_owned(),
        rows: 700,
        promoted,
        verdict: if promoted {
            "promoted"
        } else {
            "rejected: finds 40.0 % of injected faults, but the model in use 61.0 %"
        }
        .to_owned(),
        recall: Some(0.61),
        threshold: Some(40.0),
        losses: vec![(
            "autoencoder".to_owned(),
            (1..30)
                .map(|e| (1.0 / f64::from(e), 0.1 + 1.0 / f64::from(e)))
                .collect(),
        )],
    };
    Report {
        sentence: "1 episode in 2 days; at 1/day it would have been 0 episodes".to_owned(),
        budgets: vec![budget("1/month", true, 1), budget("1/day", false, 0)],
        nothing: None,
        places: (0..n as i64)
            .map(|i| 1_764_000_000_000 + 60_000 * i)
            .collect(),
        keys: vec![Key("<pump>".into()); n],
        title: "pump <1> & \"2\".csv".to_owned(),
        subtitle: "autoencoder, window 1, budget 1e-4".to_owned(),
        figures: vec![
            ("VUS-PR".to_owned(), "0.512".to_owned()),
            ("alerts a day".to_owned(), "0.7".to_owned()),
        ],
        times: (0..n)
            .map(|i| format!("2026-11-24T{:02}:{:02}:00.000Z", i / 60 % 24, i % 60))
            .collect(),
        scores: p_values.iter().map(|p| 1.0 / p.max(1e-4)).collect(),
        p_values,
        warming_up: (0..n).map(|i| i < 300).collect(),
        labels: (0..n).map(|i| (1990..2060).contains(&i)).collect(),
        budget: 1e-4,
        episodes: vec![episode()],
        trainings: vec![
            training(300, 1, true),
            training(1200, 2, false),
            training(2400, 3, true),
        ],
        features: ["flow", "pressure", "heat"].map(str::to_owned).to_vec(),
        attribution: (2000..2060).map(|i| (i, vec![0.7, 0.2, 0.1])).collect(),
    }
}

#[test]
fn nothing_is_loaded_and_no_script_runs_but_its_own() {
    let html = report().html();
    // The one address is the name of SVG.
    let plain = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in [
        "http:", "https:", "src=", "url(", "@import", "<link", "fetch(",
    ] {
        assert!(!plain.contains(forbidden), "{forbidden}");
    }
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    let policy = html.split("script-src 'sha256-").nth(1).unwrap();
    let script = html.split("<script type=\"module\">").nth(1).unwrap();
    let script = script.split("</script>").next().unwrap();
    let hash = base64::prelude::BASE64_STANDARD.encode(Sha256::digest(script));
    assert_eq!(policy.split('\'').next().unwrap(), hash);
    assert!(!script.contains("import ") && !script.contains("export "));
    assert_eq!(html.matches("<script").count(), 2);
}

#[test]
fn names_cannot_break_out() {
    let html = report().html();
    assert!(
        html.contains("pump &lt;1&gt; &amp; &quot;2&quot;.csv") && html.contains("&lt;pump&gt;")
    );
    assert!(!html.contains("<pump>") && !html.contains("NaN"));
    assert!(html.contains("\\u003cpump>"));
}

#[test]
fn every_tag_that_opens_closes() {
    let html = report().html();
    for tag in [
        "div", "svg", "table", "tr", "td", "span", "section", "title", "rect", "p", "main",
    ] {
        let opened =
            html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        let closed = html.matches(&format!("</{tag}>")).count();
        let empty = if tag == "rect" {
            html.matches("\"/>").count()
        } else {
            0
        };
        assert!(
            opened == closed || (empty > 0 && closed <= opened),
            "{tag}: {opened} and {closed}"
        );
    }
}

#[test]
fn episodes_trainings_and_figures_are_all_there() {
    let html = report().html();
    for text in [
        "0.512",
        "VUS-PR",
        "70 %",
        "flow 61.0, expected &lt;49.2&gt;",
        "−30.0 spreads",
        "1 episode in 2 days",
        "critical",
        "promoted",
        "rejected: finds 40.0 %",
        "Losses of model 3",
        "From 2026-11-24 09:20:00 UTC, for 59 minutes, 60 records",
        "00:00<br>2026-11-24",
        "16:40<br><",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn losses_are_those_of_members_or_none_and_why() {
    let mut report = report();
    for training in &mut report.trainings {
        training.kind = "auto".to_owned();
        // Log likelihoods may pass 0.
        let losses = vec![(2.0, 2.5), (-0.5, 0.1), (-1.0, -0.4)];
        training.losses = vec![("vae:gauss".to_owned(), losses)];
    }
    let html = report.html();
    assert!(html.contains("Losses of model 3") && html.contains("member vae:gauss"));
    assert!(!html.contains("NaN"));
    for training in &mut report.trainings {
        training.losses.clear();
    }
    let html = report.html();
    assert!(html.contains("A model of kind auto has no course of losses"));
}

#[test]
fn an_empty_run_has_a_report_too() {
    let html = Report {
        budget: 1e-4,
        ..Report::default()
    }
    .html();
    assert!(html.contains("None opened.") && !html.contains("NaN"));
}

#[test]
fn a_large_run_stays_a_small_file() {
    let mut report = report();
    let n = 100_000;
    report.places = (0..n).map(|i| 1_764_000_000_000 + 1000 * i).collect();
    report.times = report
        .places
        .iter()
        .map(|&at| crate::time::Timestamp(at).rfc3339())
        .collect();
    report.keys = (0..n)
        .map(|i| Key(format!("pump number {}", i % 900).into()))
        .collect();
    report.labels = (0..n).map(|i| i % 1000 < 20).collect();
    report.scores = (0..n).map(|i| (i % 977) as f64).collect();
    report.p_values = (0..n).map(|i| (i % 977 + 1) as f64 / 1000.0).collect();
    report.warming_up = vec![false; n as usize];
    // As many cards as there may be, each as full as it may be, and more episodes than are drawn.
    let mut episode = report.episodes.remove(0);
    let trace = episode.trace.as_mut().unwrap();
    trace.columns = vec!["a.feature.with.a.long.name".to_owned(); 4];
    trace.spreads = vec![Some(1.0 / 3.0); 4];
    for (at, point) in trace.points.iter_mut().enumerate() {
        point.values = vec![at as f64 / 7.0; 4];
        point.expected = vec![at as f64 / 3.0; 4];
    }
    report.episodes = vec![episode; 60];
    let spans = (0..9_000).map(|i| Opened {
        onset: 10 * i,
        opened: 10 * i + 1,
        last: 10 * i + 5,
    });
    let many = Budgeted {
        words: "9,000 episodes".to_owned(),
        row: Row {
            setting: "4/hour".to_owned(),
            episodes: 9_000,
            spans: spans.collect(),
            ..Row::default()
        },
    };
    report.budgets.extend(vec![many; 8]);
    let bytes = report.html().len();
    assert!((500_000..3_000_000).contains(&bytes), "{bytes}");
}

/// `ANOMALYD_REPORT=report.html cargo test --lib report` writes it for looking at.
#[test]
fn it_can_be_looked_at() {
    if let Some(path) = std::env::var_os("ANOMALYD_REPORT") {
        std::fs::write(path, report().html()).unwrap();
    }
}
