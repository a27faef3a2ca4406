//! What p-values promise, under every kind of model: tails that go on, single sensors that show, gaps that do not alert.
#![expect(clippy::unwrap_used, reason = "a test's helpers")]

use anomalyd::detect::Budget;
use anomalyd::model::KINDS;
use anomalyd::model::card::ModelVersion;
use anomalyd::model::spec::ModelSpec;
use anomalyd::model::trained::TrainedModel;
use anomalyd::record::Key;
use anomalyd::seed::Seed;
use anomalyd::stream::{Offset, TopicPartition};
use anomalyd::time::Timestamp;
use anomalyd::train::rows::PartitionRows;
use anomalyd::train::{self, Params, TrainJob};
use ndarray::{Array2, Axis};
use rand::Rng;
use rand_distr::StandardNormal;

const COLUMNS: usize = 6;

/// Records of six features that follow two causes, which move slowly, and noise.
fn records(n: usize, noise: f64, seed: u64) -> Array2<f64> {
    let mut rng = Seed(seed).rng();
    let mut normal = || rng.sample::<f64, _>(StandardNormal);
    let mut causes = [normal(), normal()];
    let mut out = Array2::zeros((n, COLUMNS));
    for mut row in out.rows_mut() {
        for cause in &mut causes {
            *cause = 0.9 * *cause + 0.19_f64.sqrt() * normal();
        }
        for (j, value) in row.iter_mut().enumerate() {
            let angle = j as f64;
            *value = angle.cos() * causes[0] + angle.sin() * causes[1] + noise * normal();
        }
    }
    out
}

fn trained(kind: &str, window: usize, history: &Array2<f64>, spec: ModelSpec) -> TrainedModel {
    let mut rows = PartitionRows::new(TopicPartition::new("t", 0), COLUMNS);
    for (i, row) in history.rows().into_iter().enumerate() {
        let at = i as i64;
        rows.push(
            &Key("a".into()),
            Timestamp(1000 * at),
            Offset(at),
            &row.to_vec(),
        );
    }
    let job = TrainJob {
        detector: "d".into(),
        version: ModelVersion(1),
        created: Timestamp(5),
        columns: (0..COLUMNS).map(|j| format!("x{j}")).collect(),
        fill_last: Vec::new(),
        spec: ModelSpec {
            kind: kind.to_owned(),
            window,
            ..spec
        },
        schema: None,
        seed: Seed(11),
        rows: vec![rows],
        level_rows: Vec::new(),
        spans: Vec::new(),
        source: None,
        feedback: std::collections::BTreeMap::new(),
        maintenance: Vec::new(),
        exclusions: Vec::new(),
        budget: Budget::PerRecord(1e-4),
        episodes: anomalyd::train::evidence::EpisodeSettings::default(),
        champion: None,
        change: None,
        gaps: true,
        unsettled: std::collections::BTreeSet::new(),
        remake: None,
        params: Params::default(),
    };
    train::run(&job, &|| false).unwrap().model
}

/// P-values of all windows of a record after another.
fn judged(model: &TrainedModel, records: &Array2<f64>) -> Vec<f64> {
    let window = model.card.spec.window;
    let n = records.nrows() + 1 - window;
    let rows: Vec<f64> = (0..n)
        .flat_map(|i| {
            records
                .rows()
                .into_iter()
                .skip(i)
                .take(window)
                .flatten()
                .copied()
                .collect::<Vec<_>>()
        })
        .collect();
    let windows = Array2::from_shape_vec((n, window * COLUMNS), rows).unwrap();
    let seeds: Vec<Seed> = (0..n as u64).map(Seed).collect();
    model.judge(windows.view(), &seeds).p_value
}

/// Quick to fit.
fn quick() -> ModelSpec {
    ModelSpec::default().with(|spec| {
        spec.network.epochs = 4;
        spec.fixed.trees = 30;
        spec.knn.reference_rows = 500;
    })
}

#[test]
fn a_thousand_spreads_are_unheard_of_under_every_kind_and_window() {
    let history = records(3000, 0.4, 1);
    let mut found = String::new();
    for kind in KINDS.names() {
        for window in [1, 10] {
            let model = trained(kind, window, &history, quick());
            let calm = records(window, 0.4, 3);
            let p: Vec<f64> = [10.0, 30.0, 100.0, 1e3, 1e4, 1e6]
                .into_iter()
                .map(|spreads| {
                    let mut struck = calm.clone();
                    struck.column_mut(2).mapv_inplace(|value| value + spreads);
                    judged(&model, &struck)[0]
                })
                .collect();
            let falls = p.windows(2).all(|pair| pair[1] <= pair[0]);
            if p[3] > 1e-12 || !falls {
                found.push_str(&format!(
                    "{kind}, W = {window}: {p:.1?}\n",
                    p = p.iter().map(|p| p.log10()).collect::<Vec<_>>()
                ));
            }
        }
    }
    assert!(
        found.is_empty(),
        "log10 p at 10, 30, 100, 1e3, 1e4, 1e6 spreads:\n{found}"
    );
}

#[test]
fn a_wild_value_counts_in_the_score_up_to_the_bound_only() {
    // Else records that a set of features has never been near rank above all faults, and by their size alone.
    let history = records(3000, 0.4, 1);
    let model = trained("pca", 1, &history, quick());
    let calm = records(1, 0.4, 3);
    let score = |spreads: f64| {
        let mut struck = calm.clone();
        let size = spreads * model.scaler.spread[2];
        struck.column_mut(2).mapv_inplace(|value| value + size);
        let judged = model.judge(struck.view(), &[Seed(1)]);
        (judged.score[0], judged.p_value[0])
    };
    let (near, far) = (score(14.0), score(28.0));
    assert_eq!(near.0.to_bits(), far.0.to_bits(), "{near:?} {far:?}");
    assert!(score(5.0).0 < near.0 && far.1 < near.1, "{near:?} {far:?}");
}

#[test]
fn an_offset_of_three_spreads_in_one_of_six_features_is_found_by_the_default_pools() {
    let history = records(4000, 0.4, 1);
    for window in [1, 10] {
        let model = trained("auto", window, &history, quick());
        let mut found = 0;
        for run in 0..20 {
            let mut struck = records(30 + window, 0.4, 100 + run);
            let place = run as usize % COLUMNS;
            let spread = model.scaler.spread[place];
            struck
                .column_mut(place)
                .mapv_inplace(|value| value + 3.0 * spread);
            let p = judged(&model, &struck);
            // A record in ten that is as rare as one a day of one a second.
            let rare = p.iter().filter(|p| **p < 1e-5).count();
            found += usize::from(10 * rare >= p.len());
        }
        assert!(found >= 19, "W = {window}: {found} of 20");
    }
}

/// How often normal records are rarer than `level`, over `level`.
fn realised(p: &[f64], level: f64) -> f64 {
    p.iter().filter(|p| **p <= level).count() as f64 / p.len() as f64 / level
}

#[test]
fn gaps_do_not_alert_and_hide_nothing_in_the_rest() {
    let (history, fresh) = (records(12_000, 0.4, 1), records(30_000, 0.4, 2));
    for (kind, window) in [("pca", 1), ("auto", 10)] {
        let model = trained(kind, window, &history, quick());
        let mut rng = Seed(9).rng();
        let mut scattered = fresh.clone();
        scattered.mapv_inplace(|value| if rng.gen_bool(0.3) { f64::NAN } else { value });
        let mut cases = vec![
            ("nothing".to_owned(), fresh.clone()),
            ("30 %".to_owned(), scattered),
        ];
        for dead in [0, 3] {
            let mut gappy = fresh.clone();
            gappy.column_mut(dead).fill(f64::NAN);
            cases.push((format!("sensor {dead}"), gappy));
        }
        for (name, rows) in cases {
            let p = judged(&model, &rows);
            let rates = [1e-2, 1e-3].map(|level| realised(&p, level));
            assert!(
                rates[0] < 2.0 && rates[1] < 2.5 && rates[0] > 0.4,
                "{kind} W = {window}, {name} missing: {rates:?}"
            );
            // A fault in what is observed.
            let mut struck = rows.slice_axis(Axis(0), (0..200).into()).to_owned();
            struck.column_mut(1).mapv_inplace(|value| value + 4.0);
            let found = judged(&model, &struck)
                .iter()
                .filter(|p| **p < 1e-4)
                .count();
            assert!(
                found > 100,
                "{kind} W = {window}, {name} missing: {found} of 200"
            );
        }
    }
}

#[test]
fn two_broken_sensors_are_among_the_first_three_that_are_named() {
    for (kind, window) in [("pca", 1), ("auto", 1), ("auto", 10), ("pca", 10)] {
        let (mut both, mut all) = (0, 0);
        let model = trained(kind, window, &records(3000, 0.4, 1), quick());
        for run in 0..60 {
            let (a, b) = (run % COLUMNS, (run / COLUMNS * 2 + run + 1) % COLUMNS);
            if a == b {
                continue;
            }
            let mut struck = records(window, 0.4, 500 + run as u64);
            let signs = [1.0, -1.0].map(|sign| if run % 4 < 2 { 1.0 } else { sign });
            for (column, sign) in [(a, signs[0]), (b, signs[1])] {
                struck
                    .column_mut(column)
                    .mapv_inplace(|value| value + 4.0 * sign);
            }
            let flat = struck.to_shape((1, window * COLUMNS)).unwrap();
            let shares = model.explain(flat.view(), 0).shares;
            let mut order: Vec<usize> = (0..COLUMNS).collect();
            order.sort_by(|&i, &j| shares[j].total_cmp(&shares[i]));
            all += 1;
            both += usize::from(order[..3].contains(&a) && order[..3].contains(&b));
        }
        assert!(
            both * 100 >= all * 97,
            "{kind}, W = {window}: {both} of {all}"
        );
    }
}
