//! What the report says and does not do.

use super::*;

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
        budgets: Vec::new(),
        nothing: None,
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
        episodes: vec![EpisodeRow {
            key: "<pump>".to_owned(),
            from: 2000,
            to: 2060,
            records: 60,
            kind: AlertKind::Score,
            severity: Severity::Critical,
            p_value: 1e-9,
            features: vec![("flow".to_owned(), 0.7), ("pressure".to_owned(), 0.2)],
            labelled: Some(true),
        }],
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
fn nothing_is_loaded_and_nothing_is_run() {
    let html = report().html();
    for forbidden in [
        "http:", "https:", "<script", "src=", "url(", "@import", "<link",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
}

#[test]
fn names_cannot_break_out() {
    let html = report().html();
    assert!(
        html.contains("pump &lt;1&gt; &amp; &quot;2&quot;.csv") && html.contains("&lt;pump&gt;")
    );
    assert!(!html.contains("<pump>") && !html.contains("NaN"));
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
        "flow 70 %",
        "critical",
        "promoted",
        "rejected: finds 40.0 %",
        "Losses of model 3",
        "2026-11-24 09:20:00",
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
    let n = 200_000;
    report.times.clear();
    report.labels.clear();
    report.scores = (0..n).map(|i| f64::from(i % 977)).collect();
    report.p_values = (0..n).map(|i| f64::from(i % 977 + 1) / 1000.0).collect();
    report.warming_up = vec![false; n as usize];
    assert!(report.html().len() < 200_000, "{}", report.html().len());
}

/// `ANOMALYD_REPORT=report.html cargo test --lib report` writes it for looking at.
#[test]
fn it_can_be_looked_at() {
    if let Some(path) = std::env::var_os("ANOMALYD_REPORT") {
        std::fs::write(path, report().html()).unwrap();
    }
}
