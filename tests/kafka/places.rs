//! What lies in topics besides the input's flow: models, history, and the topics themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use anomalyd::kafka::KafkaFailure;
use anomalyd::kafka::admin::{self, Made, SharedTopics, TopicPlan};
use anomalyd::kafka::check::{self, Wanted};
use anomalyd::kafka::history::{HistoryTopics, KafkaHistory};
use anomalyd::kafka::models::{ModelTopic, TopicStore, TopicStoreError};
use anomalyd::kafka::publish::Delivery;
use anomalyd::kafka::settings::Connection;
use anomalyd::kafka::topics::OutputTopics;
use anomalyd::kafka::watchdog::{Watchdog, end_process};
use anomalyd::model::card::ModelVersion;
use anomalyd::model::trained::TrainedModel;
use anomalyd::port::{History, ModelStore, Quarantine};
use anomalyd::stats::calibration::Calibration;
use anomalyd::store::DirectoryStore;
use anomalyd::stream::{Offset, Span, TopicPartition};
use anomalyd::time::{Clock, SystemClock, Timestamp};

use crate::cluster;

fn connection(brokers: &str, group: &str) -> Connection {
    Connection {
        brokers: brokers.to_owned(),
        group: group.to_owned(),
        // A machine that stands still for ten seconds, the default, would be fenced by the broker, which is not what is tried here.
        properties: BTreeMap::from([("transaction.timeout.ms".to_owned(), "60000".to_owned())]),
        tokens: None,
        schemas: None,
    }
}

fn outside() -> (Arc<dyn Clock>, Watchdog) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    (clock, watchdog)
}

/// A model of that many columns: 3 for a small one, many thousands for one that takes several records.
fn model(version: u64, columns: usize) -> TrainedModel {
    let scores: Vec<f64> = (0..1_000).map(f64::from).collect();
    let names: Vec<String> = (0..columns)
        .map(|column| format!("feature-{column}"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    TrainedModel::simple(version, &names, 1, Calibration::fit(&scores))
}

fn topic_store(brokers: &str, topic: &str) -> TopicStore {
    store_of(brokers, topic, "g").expect("a store")
}

fn store_of(brokers: &str, topic: &str, group: &str) -> Result<TopicStore, KafkaFailure> {
    let (clock, watchdog) = outside();
    let settings = ModelTopic {
        topic: topic.to_owned(),
        detector: "pumps".to_owned(),
        group: group.to_owned(),
        keep: 3,
    };
    TopicStore::open(settings, &connection(brokers, "models"), clock, watchdog)
}

/// What every store must do.
fn keeps_versions(
    store: &mut dyn ModelStore<Error = impl std::error::Error + Send + Sync + 'static>,
) {
    assert_eq!(store.champion().unwrap(), None);
    assert!(store.load(ModelVersion(1)).unwrap().is_none());
    let large = model(1, 40_000);
    assert!(
        large.to_bytes().unwrap().len() > 1_000_000,
        "more than one record"
    );
    store.save(&large, true).unwrap();
    let back = store.load(ModelVersion(1)).unwrap().expect("stored");
    assert_eq!(back.to_bytes().unwrap(), large.to_bytes().unwrap());
    store.save(&model(2, 3), false).unwrap();
    assert_eq!(
        store.champion().unwrap(),
        Some(ModelVersion(1)),
        "not promoted"
    );
    store.promote(ModelVersion(2)).unwrap();
    assert_eq!(store.champion().unwrap(), Some(ModelVersion(2)));
    store.promote(ModelVersion(1)).unwrap();
    assert_eq!(
        store.champion().unwrap(),
        Some(ModelVersion(1)),
        "rolled back"
    );
    assert!(
        store.promote(ModelVersion(9)).is_err(),
        "there is no version 9"
    );
    for version in 3..=5 {
        store.save(&model(version, 3), version == 5).unwrap();
    }
    let versions: Vec<u64> = store
        .list()
        .unwrap()
        .iter()
        .map(|card| card.version.0)
        .collect();
    assert_eq!(
        versions,
        [1, 4, 5],
        "the newest three, but for the champion before, which judges until all have taken the new one up"
    );
    assert!(store.load(ModelVersion(2)).unwrap().is_none(), "forgotten");
}

#[test]
fn models_in_a_topic_are_kept_by_version() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let topic = cluster::unique("models");
    cluster::create_topic(brokers, &topic, 1, &[("cleanup.policy", "compact")]);
    let mut store = topic_store(brokers, &topic);
    keeps_versions(&mut store);
    store.keep_schema("{\"columns\":[\"a\"]}").unwrap();
    // Another process sees all of it.
    let mut other = topic_store(brokers, &topic);
    assert_eq!(other.champion().unwrap(), Some(ModelVersion(5)));
    assert_eq!(
        other.schema().unwrap().as_deref(),
        Some("{\"columns\":[\"a\"]}")
    );
    assert_eq!(
        other
            .load(ModelVersion(5))
            .unwrap()
            .expect("stored")
            .card
            .version
            .0,
        5
    );
}

#[test]
fn models_in_a_directory_are_kept_by_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = DirectoryStore::open(folder.path(), "pumps", 3).unwrap();
    keeps_versions(&mut store);
    let file = folder.path().join("pumps/00000005.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = store.load(ModelVersion(5)).unwrap_err().to_string();
    assert!(error.contains("sha256"), "{error}");
}

/// Processes that start together, each with features of its own, agree: all answer the same, and that is what is kept.
fn agree(answers: &[String], kept: Option<String>) {
    assert!(
        answers.windows(2).all(|two| two[0] == two[1]),
        "{answers:?}"
    );
    assert_eq!(Some(&answers[0]), kept.as_ref());
}

/// What `keep` answers to several threads at once, each of which brings a store from `open`.
fn at_once<S: Send>(
    open: impl Fn(usize) -> S,
    keep: impl Fn(&mut S, &str) -> String + Sync,
) -> Vec<String> {
    let stores: Vec<S> = (0..3).map(open).collect();
    let start = std::sync::Barrier::new(stores.len());
    std::thread::scope(|scope| {
        let (start, keep) = (&start, &keep);
        let threads: Vec<_> = (0..)
            .zip(stores)
            .map(|(number, mut store): (u32, S)| {
                scope.spawn(move || {
                    start.wait();
                    keep(&mut store, &format!("\"columns-{number}\""))
                })
            })
            .collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers.collect()
    })
}

#[test]
fn processes_that_start_together_agree_on_the_features() {
    let folder = tempfile::tempdir().unwrap();
    let open = |_| DirectoryStore::open(folder.path(), "pumps", 3).unwrap();
    let answers = at_once(open, |store, schema| store.keep_schema(schema).unwrap());
    agree(&answers, open(0).schema().unwrap());
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let topic = cluster::unique("models");
    cluster::create_topic(brokers, &topic, 1, &[("cleanup.policy", "compact")]);
    let open = |_| {
        let mut store = topic_store(brokers, &topic);
        // Each has looked before anyone wrote.
        assert_eq!(store.schema().unwrap(), None);
        store
    };
    let answers = at_once(open, |store, schema| store.keep_schema(schema).unwrap());
    agree(&answers, topic_store(brokers, &topic).schema().unwrap());
}

#[test]
fn of_two_that_train_for_one_folder_only_one_gives_a_number_away() {
    let folder = tempfile::tempdir().unwrap();
    let open = || DirectoryStore::open(folder.path(), "pumps", 3).unwrap();
    let (mut one, mut other) = (open(), open());
    one.save(&model(1, 3), true).unwrap();
    let refused = other.save(&model(1, 4), true).unwrap_err().to_string();
    assert!(refused.contains("another process trains"), "{refused}");
    let kept = other.load(ModelVersion(1)).unwrap().expect("stored");
    assert_eq!(kept.card.columns.len(), 3);
    other.save(&model(2, 4), true).unwrap();
}

#[test]
fn a_trainer_that_was_succeeded_writes_nothing() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let topic = cluster::unique("models");
    cluster::create_topic(brokers, &topic, 1, &[("cleanup.policy", "compact")]);
    let mut stale = topic_store(brokers, &topic);
    stale.claim().unwrap();
    stale.save(&model(1, 3), true).unwrap();
    let mut leader = topic_store(brokers, &topic);
    leader.claim().unwrap();
    for _ in 0..2 {
        let refused = stale.save(&model(2, 3), true);
        assert!(
            matches!(refused, Err(TopicStoreError::Superseded)),
            "{refused:?}"
        );
    }
    leader.save(&model(2, 4), true).unwrap();
    assert_eq!(leader.champion().unwrap(), Some(ModelVersion(2)));
    assert_eq!(
        leader
            .load(ModelVersion(2))
            .unwrap()
            .expect("stored")
            .card
            .columns
            .len(),
        4
    );
    // When it is its turn again it claims again.
    stale.claim().unwrap();
    stale.save(&model(3, 3), true).unwrap();
    assert_eq!(leader.champion().unwrap(), Some(ModelVersion(3)));
}

/// Two groups that have claimed the same models before either wrote: the second to claim fences the first, which then finds whose they are.
#[test]
fn models_are_of_the_group_that_wrote_first() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let topic = cluster::unique("models");
    cluster::create_topic(brokers, &topic, 1, &[("cleanup.policy", "compact")]);
    let mut first = store_of(brokers, &topic, "g").unwrap();
    let mut second = store_of(brokers, &topic, "h").unwrap();
    first.claim().unwrap();
    second.claim().unwrap();
    let refused = first.save(&model(1, 3), true);
    assert!(
        matches!(refused, Err(TopicStoreError::Superseded)),
        "{refused:?}"
    );
    second.save(&model(1, 3), true).unwrap();
    for refused in [first.claim(), first.champion().map(|_| ())] {
        let foreign = matches!(
            &refused,
            Err(TopicStoreError::Kafka(failure @ KafkaFailure::ForeignModels { .. }))
                if failure.is_configuration() && failure.to_string().contains("`h`")
        );
        assert!(foreign, "{refused:?}");
    }
}

/// One bad record does not keep anyone from starting.
#[test]
fn a_manifest_that_cannot_be_read_is_passed_over() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let topic = cluster::unique("models");
    cluster::create_topic(brokers, &topic, 1, &[("cleanup.policy", "compact")]);
    let mut store = topic_store(brokers, &topic);
    store.save(&model(1, 3), true).unwrap();
    store.save(&model(2, 3), false).unwrap();
    let bad = [
        ("pumps/model/00000002/manifest", "{\"format\":"),
        ("pumps/model/00000007/manifest", "not JSON"),
        ("pumps/champion", "[]"),
    ];
    let records = bad.map(|(key, value)| {
        let bytes = |text: &str| Some(text.as_bytes().to_vec());
        (Some(0), bytes(key), bytes(value), None)
    });
    cluster::produce(brokers, &topic, records);
    let mut fresh = topic_store(brokers, &topic);
    assert_eq!(fresh.champion().unwrap(), Some(ModelVersion(1)));
    let versions: Vec<u64> = fresh
        .list()
        .unwrap()
        .iter()
        .map(|card| card.version.0)
        .collect();
    assert_eq!(versions, [1]);
    assert_eq!(fresh.unreadable(), 3);
    assert!(fresh.load(ModelVersion(1)).unwrap().is_some());
    assert!(fresh.load(ModelVersion(2)).unwrap().is_none());
}

#[test]
fn history_is_what_is_committed_and_young_enough() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let (input, group) = (cluster::unique("history"), cluster::unique("group"));
    let (state, feedback) = (format!("{input}.state"), format!("{input}.feedback"));
    cluster::create_topic(brokers, &input, 2, &[]);
    for topic in [&state, &feedback] {
        cluster::create_topic(brokers, topic, 1, &[("cleanup.policy", "compact")]);
    }
    let now = SystemClock::default().now().0;
    let records = (0..100).map(|n| {
        let time = now - 1_000_000 + n * 10_000;
        (
            Some(0),
            Some(vec![1]),
            Some(n.to_string().into_bytes()),
            Some(time),
        )
    });
    cluster::produce(brokers, &input, records);
    let mut history = KafkaHistory::new(
        &connection(brokers, &group),
        HistoryTopics {
            detector: "pumps".to_owned(),
            inputs: vec![input.clone()],
            state,
            feedback,
        },
        outside(),
    )
    .unwrap();
    let since = Timestamp(now - 1_000_000 + 195_000);
    assert_eq!(
        history.available(since).unwrap(),
        [],
        "nothing is committed"
    );
    cluster::commit(brokers, &group, &input, &[(0, 80), (1, 0)]);
    let span = Span {
        at: TopicPartition::new(&input, 0),
        from: Offset(20),
        to: Offset(80),
    };
    assert_eq!(
        history.available(since).unwrap(),
        std::slice::from_ref(&span)
    );
    let batch = history.read(&span).unwrap();
    assert_eq!(batch.len(), 60);
    assert_eq!(batch.value(&batch.records()[0]), Some(&b"20"[..]));
    assert_eq!(batch.records()[59].offset, Offset(79));
    assert_eq!(history.newest(7).unwrap().len(), 7);
    assert_eq!(history.quarantine().unwrap(), Quarantine::default());
}

/// And what was made is known.
fn what_cannot_be_made_is_not_passed_over(
    connection: &Connection,
    watchdog: &Watchdog,
    prefix: &str,
) {
    let plan = |name: &str| TopicPlan {
        name: name.to_owned(),
        partitions: 1,
        settings: Vec::new(),
        written: true,
    };
    let fine = format!("{prefix}.fine");
    admin::ensure(connection, &[plan(&fine)], watchdog).unwrap();
    let known = admin::input_partitions(connection, &[fine], watchdog);
    assert_eq!(known.unwrap(), 1);
    let failure = admin::ensure(connection, &[plan("no topic!")], watchdog).unwrap_err();
    assert!(failure.to_string().contains("no topic!"), "{failure}");
}

fn output_topics(prefix: &str) -> OutputTopics {
    OutputTopics {
        alerts: format!("{prefix}.alerts"),
        scores: Some(format!("{prefix}.scores")),
        dead_letters: format!("{prefix}.dead"),
        late: None,
        drift: None,
        state: format!("{prefix}.state"),
        forms: anomalyd::kafka::forms::Forms::default(),
    }
}

#[test]
fn topics_are_created_once_and_checked() {
    let Some(brokers) = cluster::brokers() else {
        return;
    };
    let prefix = cluster::unique("plan");
    let input = format!("{prefix}.in");
    cluster::create_topic(brokers, &input, 3, &[]);
    let connection = connection(brokers, &prefix);
    let (clock, watchdog) = outside();
    let topics = output_topics(&prefix);
    let inputs = [input];
    let count = admin::input_partitions(&connection, &inputs, &watchdog).unwrap();
    assert_eq!(count, 3);
    let (models, feedback) = (format!("{prefix}.models"), format!("{prefix}.feedback"));
    let shared = SharedTopics {
        models: Some(&models),
        feedback: &feedback,
    };
    let plans = admin::plan(&topics, shared, count);
    let checked = |plans: &[TopicPlan]| {
        let wanted = Wanted {
            inputs: &inputs,
            plans,
            delivery: Delivery::ExactlyOnce,
        };
        check::check(&connection, wanted, (&clock, &watchdog))
            .unwrap()
            .problems
    };
    let check = || checked(&plans);
    assert_eq!(check().len(), 6, "none exists: {:?}", check());
    let made = admin::create(&connection, &plans, Some(1)).unwrap();
    assert!(
        made.iter().all(|(_, made)| *made == Made::Created),
        "{made:?}"
    );
    cluster::wait_for("topics", std::time::Duration::from_secs(10), || {
        check().is_empty()
    });
    let again = admin::create(&connection, &plans, Some(1)).unwrap();
    assert!(
        again.iter().all(|(_, made)| *made == Made::Existed),
        "{again:?}"
    );
    what_cannot_be_made_is_not_passed_over(&connection, &watchdog, &prefix);
    // A state topic that forgets by age would forget what a restart needs.
    let wrong = format!("{prefix}.wrong");
    cluster::create_topic(brokers, &wrong, 3, &[]);
    let topics = OutputTopics {
        state: wrong,
        forms: anomalyd::kafka::forms::Forms::default(),
        ..topics
    };
    let plans = admin::plan(
        &topics,
        SharedTopics {
            models: None,
            ..shared
        },
        3,
    );
    let problems = checked(&plans);
    assert!(
        problems.len() == 1 && problems[0].contains("cleanup.policy"),
        "{problems:?}"
    );
}
