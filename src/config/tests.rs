//! The layers and the checks, from the outside.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::record::Missing;
use crate::record::decode::Decoder;
use crate::time::Timestamp;

/// Sources of one file with this text (none if empty), these variables and these `--set`s.
fn sources(folder: &tempfile::TempDir, text: &str, env: &[(&str, &str)], set: &[&str]) -> Sources {
    let mut files = Vec::new();
    if !text.is_empty() {
        let path: PathBuf = folder.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        files.push(path);
    }
    Sources {
        files,
        environment: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        ..Sources::default()
    }
}

fn load(text: &str, env: &[(&str, &str)], set: &[&str]) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    Config::load(&sources(&folder, text, env, set))
}

/// Loads, and expects one problem with all of `words` in it.
fn refused(text: &str, env: &[(&str, &str)], set: &[&str], words: &[&str]) {
    let problems = load(text, env, set).expect_err("a problem");
    let found = problems.0.iter().any(|problem| {
        let line = problem.to_string();
        words.iter().all(|word| line.contains(word))
    });
    assert!(found, "no problem with {words:?} in: {problems}");
}

#[test]
fn nothing_at_all_is_a_good_configuration() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.input.topics, ["records"]);
    assert_eq!(&*config.detect.detector, "anomalyd");
}

#[test]
fn flags_beat_the_environment_which_beats_files() {
    let text = "workers = 2\nseed = 2\n[input]\ngroup = \"file\"\n";
    let env = [
        ("ANOMALYD__SEED", "3"),
        ("ANOMALYD__INPUT__GROUP", "env"),
        ("ANOMALYD_OTHER", "x"),
    ];
    let config = load(text, &env, &["input.group=flag"]).unwrap();
    assert_eq!((config.workers, config.seed.0), (2, 3));
    assert_eq!(config.input.group, "flag");
}

#[test]
fn four_times_as_many_records_are_read_as_windows_are_used_while_their_numbers_are_few() {
    let wanted = |set: &[&str], columns: usize| {
        let config = load("", &[], set).unwrap();
        config.train_settings().wanted(columns).rows_max
    };
    assert_eq!(wanted(&[], 8), 80_000);
    assert_eq!(wanted(&["training.rows_max=1000"], 8), 4000);
    assert_eq!(wanted(&[], 250), 40_000);
    assert_eq!(wanted(&[], 2000), 20_000);
}

#[test]
fn later_files_beat_earlier_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut both = sources(&folder, "workers = 2\nseed = 5\n", &[], &[]);
    let second = folder.path().join("b.toml");
    std::fs::write(&second, "workers = 3\n").unwrap();
    both.files.push(second);
    let config = Config::load(&both).unwrap();
    assert_eq!((config.workers, config.seed.0), (3, 5));
}

#[test]
fn text_takes_the_type_of_its_key() {
    let set = [
        "name=7",
        "input.topics=a,b",
        "model.network.hidden=[64, 32]",
        "alerts.false_alarm_rate=2/day",
        "input.key=[\"site\", \"pump.id\"]",
        "training.interval=30s",
        "input.features=x.y",
        "input.missing_for.x.y=last",
        "kafka.properties.sasl.mechanism=PLAIN",
    ];
    let config = load("", &[("ANOMALYD__MODEL__NETWORK__HIDDEN", "8")], &set).unwrap();
    assert_eq!(config.name, "7");
    assert_eq!(config.input.topics, ["a", "b"]);
    assert_eq!(config.model.network.hidden, [64, 32]);
    assert_eq!(config.detect.budget, crate::detect::Budget::PerKeyDay(2.0));
    assert_eq!(config.input.key, ["site", "pump.id"]);
    assert_eq!(config.training.interval, Duration::from_secs(30));
    assert_eq!(config.input.missing_for["x.y"], Missing::Last);
    assert_eq!(config.kafka.properties.0["sasl.mechanism"], "PLAIN");
}

#[test]
fn a_kind_s_own_settings_are_in_its_table_and_unknown_ones_are_refused() {
    let text = "[model]\nkind = \"vae\"\n[model.vae]\nbeta = 3.0\n";
    let set = ["model.vae.beta=2", "model.gan.loss=minimax"];
    let model = load(text, &[], &set).unwrap().model;
    assert_eq!(
        (model.kind.as_str(), model.window),
        ("vae", raw::MODEL_WINDOW)
    );
    assert!((model.vae.beta - 2.0).abs() < 1e-6);
    assert_eq!(model.gan.loss, crate::nn::loss::GanLoss::Minimax);
    refused("", &[], &["model.beta=2"], &["`model.vae.beta`"]);
    // What is a constant is no key.
    refused("", &[], &["model.gan.critics=5"], &["unknown key"]);
    refused("", &[], &["model.network.fixed.batch=5"], &["unknown key"]);
}

#[test]
fn properties_take_dots_quotes_and_variables() {
    let text =
        "[kafka.properties]\nsasl.mechanism = \"PLAIN\"\n\"linger.ms\" = 5\n\"debug\" = \"eos\"\n";
    let env = [("ANOMALYD__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL")];
    let config = load(text, &env, &[]).unwrap();
    let properties = &config.kafka.properties.0;
    assert_eq!(properties["sasl.mechanism"], "PLAIN");
    assert_eq!(properties["linger.ms"], "5");
    assert_eq!(properties["security.protocol"], "SSL");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    refused("worker = 2", &[], &[], &["worker:", "`workers`", "a.toml"]);
    refused(
        "[alerts]\nfalse_alarm_rat = 1",
        &[],
        &[],
        &["`alerts.false_alarm_rate`"],
    );
    refused(
        "[alert]\ncooldown = \"1s\"",
        &[],
        &[],
        &["did you mean `alerts`"],
    );
    // The nearest by its whole path, and not the one of the same last name.
    refused("[input]\ntopic = \"x\"", &[], &[], &["`input.topics`"]);
    refused("[alerts]\nlisten = \"x\"", &[], &[], &["`http.listen`"]);
    refused(
        "",
        &[("ANOMALYD__TRAINING__INTERVALL", "1h")],
        &[],
        &[
            "`training.interval`",
            "environment ANOMALYD__TRAINING__INTERVALL",
        ],
    );
    refused("", &[], &["model.kindd=pca"], &["`model.kind`", "--set"]);
    refused("", &[], &["qwertyuiop=1"], &["config/default.toml"]);
}

#[test]
fn types_are_refused_with_key_value_and_what_is_allowed() {
    refused("workers = \"many\"", &[], &[], &["workers", "\"many\""]);
    refused("workers = 1.5", &[], &[], &["workers", "1.5"]);
    refused("[batch]\nwait = 20", &[], &[], &["batch.wait", "20", "30s"]);
    refused(
        "[log]\nformat = \"xml\"",
        &[],
        &[],
        &["log.format", "`json`"],
    );
    refused(
        "[input]\nfeatures = 3",
        &[],
        &[],
        &["input.features", "auto"],
    );
    refused("kafka = 3", &[], &[], &["kafka", "3"]);
    refused("workers = 2 3", &[], &[], &["a.toml:1"]);
    refused("", &[], &["workers"], &["key=value"]);
}

#[test]
fn records_of_floats_need_features_and_nothing_from_the_value_but_numbers() {
    let f32s = "[input]\nformat = \"f32\"\n";
    refused(f32s, &[], &[], &["input.features", "\"auto\"", "len = N"]);
    let keyed = format!("{f32s}features = [\"a\"]\nkey = [\"k\"]\ntimestamp = \"t\"");
    refused(&keyed, &[], &[], &["input.key", "only numbers"]);
    refused(&keyed, &[], &[], &["input.timestamp", "only numbers"]);
    for features in ["[\"a\", \"b\"]", "{ array = \"v\", len = 2 }"] {
        let config = load(&format!("{f32s}features = {features}"), &[], &[]).unwrap();
        let schema = config.input.schema().check().unwrap();
        let mut decoder = Decoder::new(Arc::new(schema));
        let mut row = [0.0; 2];
        let mut read = |value: &[u8]| {
            let read = decoder.decode_one(Some(b"k"), Some(value), Timestamp(5), &mut row);
            read.map(|_| row)
        };
        let found = read(&[0, 0, 192, 63, 0, 0, 0, 192]).unwrap();
        assert_eq!(found.map(f64::to_bits), [1.5, -2.0].map(f64::to_bits));
        assert_eq!(read(&[0; 7]).unwrap_err().reason(), "length");
    }
}

#[test]
fn all_problems_come_at_once() {
    let text = "workers = 0\nwhat = 1\n[alerts]\nfalse_alarm_rate = 0.5\nopen = { k = 4, n = 3 }\n[log]\nformat = 3";
    let problems = load(text, &[], &["seed=x"]).unwrap_err().0;
    let keys: Vec<_> = problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    for key in [
        "workers",
        "what",
        "alerts.false_alarm_rate",
        "alerts.open",
        "log.format",
        "seed",
    ] {
        assert!(keys.contains(&key), "{key} missing in {keys:?}");
    }
    assert_eq!(keys.len(), 6, "{problems:?}");
}

#[test]
fn values_out_of_range_are_refused() {
    for (set, words) in [
        ("alerts.false_alarm_rate=often", ["\"often\"", "1/day"]),
        ("alerts.false_alarm_rate=nan", ["NaN", "0.1"]),
        (
            "model.network.epochs=0",
            ["model.network.epochs", "between 1"],
        ),
        ("model.pca.variance=1", ["model.pca.variance", "is 1"]),
        ("alerts.silence_factor=nan", ["NaN", "at least 1"]),
        ("training.rows_max=100", ["100", "training.rows_min"]),
        ("input.topics=[]", ["input.topics", "at least one"]),
        ("input.topics=a/b", ["\"a/b\"", "letters"]),
        ("input.features=[\"a\", \"a\"]", ["input.features", "twice"]),
        ("input.missing=nan", ["input.missing", "finite"]),
        ("model.kind=magic", ["`magic`", "robust_z"]),
        ("http.listen=here", ["\"here\"", "127.0.0.1:9464"]),
        ("log.level=a=b=c", ["log.level", "debug"]),
        // Not a module of this name, of which all is logged, and of others nothing.
        ("log.level=inof", ["log.level", "info"]),
        (
            "output.emit_code=true",
            ["output.emit_code", "output.scores"],
        ),
    ] {
        refused("", &[], &[set], &words);
    }
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    refused(
        "",
        &[],
        &["output.alerts=records"],
        &["read what it writes"],
    );
    refused(
        "",
        &[],
        &["output.state=anomalyd.alerts"],
        &["output.state", "output.alerts"],
    );
    refused(
        "",
        &[],
        &["kafka.properties.max.poll.interval.ms=10000"],
        &["batch.wait", "max.poll.interval.ms", "10s"],
    );
    refused(
        "[input]\nfeatures = [\"a\"]\n[input.missing_for]\nb = 0",
        &[],
        &[],
        &["input.missing_for.b", "`b` is not a feature"],
    );
    // Late records may go to the dead letters.
    assert!(load("", &[], &["output.late=anomalyd.dead_letters"]).is_ok());
}

#[test]
fn properties_that_promises_rest_on_are_refused_by_name() {
    for name in [
        "enable.auto.commit",
        "isolation.level",
        "transactional.id",
        "enable.idempotence",
        "group.id",
        "acks",
    ] {
        let set = format!("kafka.properties.{name}=x");
        refused("", &[], &[&set], &[name, "cannot be set"]);
    }
    assert!(load("", &[], &["kafka.properties.linger.ms=5"]).is_ok());
}

#[test]
fn secrets_are_never_shown() {
    let text = "[kafka.properties]\nsasl.username = \"${env:WHO}\"\nsasl.password = \"inline-pw\"\nssl.key.password = \"${env:PW}\"\n";
    let env = [("PW", "hunter2"), ("WHO", "someone")];
    let config = load(text, &env, &[]).unwrap();
    assert_eq!(config.kafka.properties.0["ssl.key.password"], "hunter2");
    assert_eq!(config.kafka.properties.0["sasl.username"], "someone");
    let shown = format!("{config:?}{config:#?}{}", config.shown);
    for secret in ["hunter2", "inline-pw", "someone"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(config.shown.contains("***"));
    let folder = tempfile::tempdir().unwrap();
    let loaded = load::load(&sources(&folder, text, &env, &[]));
    assert!(!format!("{:?}", loaded.raw).contains("hunter2"));
}

#[test]
fn secrets_are_not_in_problems_either() {
    let env = [("PW", "hunter2")];
    for set in [
        "http.listen=${env:PW}",
        "workers=${env:PW}",
        "log.format=${env:PW}",
    ] {
        let text = load("", &env, &[set]).unwrap_err().to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("***"), "{text}");
    }
    refused(
        "",
        &[],
        &["http.listen=${env:NOPE}"],
        &["`NOPE` is not set"],
    );
}

#[test]
fn a_later_plain_value_is_shown_again() {
    let env = [("N", "abcdef")];
    let config = load("instance = \"${env:N}\"", &env, &["instance=plain"]).unwrap();
    assert!(config.shown.contains("instance = \"plain\""));
    let config = load("instance = \"${env:N}\"", &env, &[]).unwrap();
    assert!(config.shown.contains("instance = \"***\""));
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let config = load(
        "",
        &[],
        &["input.key=[\"site\"]", "input.features=[\"a\", \"b\"]"],
    )
    .unwrap();
    let again = load(&config.shown, &[], &[]).unwrap();
    assert_eq!(again.shown, config.shown);
    assert_eq!(again.digest(), config.digest());
    assert_ne!(again.digest(), load("", &[], &[]).unwrap().digest());
}

#[test]
fn a_window_whose_state_would_not_fit_into_a_record_is_refused() {
    let wide = |len: usize| {
        format!(
            "[input]\nfeatures = {{ array = \"spectrum\", len = {len} }}\n[model]\nwindow = 100\n"
        )
    };
    assert!(load(&wide(2_500), &[], &[]).is_ok());
    let words = ["model.window", "is 100", "4000 features", "there may be"];
    refused(&wide(4_000), &[], &[], &words);
}

/// Damages the whole configuration again and again: it is read, or refused with problems, and nothing else.
fn damaged(rounds: u64, from: u64) -> u64 {
    use rand::Rng as _;
    let whole = include_str!("../../config/default.toml");
    let mut read = 0;
    for round in from..from + rounds {
        let mut rng = crate::seed::Seed(round).child("configuration").rng();
        let mut lines: Vec<String> = whole
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        for _ in 0..rng.gen_range(1..4) {
            let at = rng.gen_range(0..lines.len());
            let other = lines[rng.gen_range(0..lines.len())].clone();
            let values = [
                "-1",
                "1e400",
                "\"\"",
                "[]",
                "18446744073709551615",
                "\"9999999d\"",
                "nan",
                "{}",
                "0",
                "\"é\"",
            ];
            let value = values[rng.gen_range(0..values.len())];
            lines[at] = match (rng.gen_range(0..5), lines[at].split_once('=')) {
                (0, _) => other,
                (1..=3, Some((key, _))) => format!("{key}= {value}"),
                _ => lines[at].chars().rev().collect(),
            };
        }
        match load(&lines.join("\n"), &[], &[]) {
            Ok(_) => read += 1,
            Err(problems) => assert!(!problems.0.is_empty(), "seed {round}"),
        }
    }
    read
}

#[test]
fn damaged_configurations_are_read_or_refused() {
    let read = damaged(200, 0);
    assert!((1..200).contains(&read), "{read}");
}

#[test]
#[expect(clippy::print_stdout, reason = "a long run shows its figures")]
#[ignore = "thousands: `make fuzz`"]
fn fuzz_damaged_configurations_are_read_or_refused() {
    println!(
        "5,000 damaged configurations, {} of which could be used",
        damaged(5_000, 1_000_000)
    );
}

#[test]
fn settings_say_where_they_come_from_and_hide_secrets() {
    let text = "[http]\ntoken = \"${env:TOKEN}\"\n[alerts]\ncooldown = \"1m\"\n";
    let token = ("TOKEN", "0123456789abcdef");
    // The token itself is read again: the file must be there still.
    let folder = tempfile::tempdir().unwrap();
    let environment = [token, ("ANOMALYD__SEED", "9")];
    let config = Config::load(&sources(&folder, text, &environment, &["model.kind=pca"])).unwrap();
    let of = |key: &str| {
        let all = config.settings();
        let found = all.into_iter().find(|setting| setting.key == key).unwrap();
        (found.value, found.origin)
    };
    assert_eq!(of("http.token").0, "\"***\"");
    assert!(
        of("alerts.cooldown").1.ends_with("a.toml"),
        "{:?}",
        of("alerts.cooldown")
    );
    assert_eq!(
        of("seed"),
        ("9".to_owned(), "environment ANOMALYD__SEED".to_owned())
    );
    assert_eq!(of("model.kind").1, "--set");
    assert_eq!(of("workers"), ("1".to_owned(), "default".to_owned()));
    assert!(
        config
            .http_token
            .as_ref()
            .unwrap()
            .is_of("0123456789abcdef")
    );
    assert_eq!(config.token_itself().as_deref(), Some("0123456789abcdef"));
    assert!(!config.http_token.unwrap().is_of("0123456789abcdeF"));
}

#[test]
fn secrets_of_a_list_of_tables_come_by_reference_and_are_hidden() {
    let text = "[[notify]]\nkind = \"webhook\"\nurl = \"https://a.example/${env:HOOK}\"\nsecret = \"plain-secret\"\nname = \"a\"
        [[notify]]\nkind = \"slack\"\nurl = \"https://b.example/\"";
    let hook = ("HOOK", "hunter2");
    let config = load(text, &[hook], &[]).unwrap();
    assert_eq!(config.notify[0].url, "https://a.example/hunter2");
    let shown = &config.shown;
    assert!(shown.contains("https://b.example/") && shown.contains("name = \"a\""));
    assert!(
        !shown.contains("hunter2") && !shown.contains("plain-secret"),
        "{shown}"
    );
    // A later layer's list takes the place of the whole one.
    let set = "notify=[{ kind = \"slack\", url = \"https://c.example/\" }]";
    let config = load(text, &[hook], &[set]).unwrap();
    assert_eq!(
        (config.notify.len(), &*config.notify[0].url),
        (1, "https://c.example/")
    );
    assert!(config.shown.contains("https://c.example/"));
    let wrong = text.replace("name", "nmae");
    let problems = load(&wrong, &[hook], &[]).unwrap_err().to_string();
    assert!(
        problems.contains("nmae") && problems.contains("rate_limit"),
        "{problems}"
    );
    assert!(
        !problems.contains("hunter2") && !problems.contains("plain-secret"),
        "{problems}"
    );
}

#[test]
fn tokens_that_are_short_and_addresses_that_are_none_are_refused() {
    for (set, word) in [
        ("http.token=short", "16 characters"),
        ("http.token=sixteen characters", "blanks"),
        ("http.public_url=plant.example.com", "http.public_url"),
        ("http.public_url=https://x/path", "no path"),
        ("http.public_url=https://", "http.public_url"),
    ] {
        refused("", &[], &[set], &[word]);
    }
    let config = load("", &[], &["http.public_url=https://x:8443/"]).unwrap();
    assert_eq!(config.detect.public_url.as_deref(), Some("https://x:8443"));
}

#[test]
fn one_may_stand_for_a_list_of_one_and_brokers_may_be_a_list() {
    let text = "[kafka]\nbrokers = [\"a:1\", \"b:2\"]\n[input]\nkey = \"pump\"\ntopics = \"t\"\n";
    let config = load(text, &[], &[]).unwrap();
    assert_eq!(config.kafka.brokers, "a:1,b:2");
    assert_eq!(
        (config.input.key, config.input.topics),
        (vec!["pump".to_owned()], vec!["t".to_owned()])
    );
    let set = [
        "input.topics=a,b",
        "input.key=[\"x\"]",
        "kafka.brokers=a:1,b:2",
    ];
    let config = load("", &[], &set).unwrap();
    assert_eq!((config.input.topics.len(), config.input.key.len()), (2, 1));
    assert_eq!(config.kafka.brokers, "a:1,b:2");
    refused(
        "[input]\nkey = 3",
        &[],
        &[],
        &["input.key", "a list of texts"],
    );
}

#[test]
fn a_variable_with_one_underscore_where_two_belong_is_named() {
    let wrong = ("ANOMALYD_ALERTS_COOLDOWN", "10m");
    refused(
        "",
        &[wrong],
        &[],
        &["ANOMALYD_ALERTS_COOLDOWN", "`ANOMALYD__ALERTS__COOLDOWN`"],
    );
    // Others are nobody's business.
    let others = [
        ("ANOMALYD_CONFIG", "x"),
        ("ANOMALYD_TEST_BROKERS", "x"),
        ("ANOMALYD_NAME", "x"),
    ];
    assert!(load("", &others, &[]).is_ok());
}
