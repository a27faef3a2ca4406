//! The adapter against librdkafka's mock cluster, which fails on demand: each kind of error must end in its class, try again, abort, or fatal.
//! (The mock keeps no transactional offsets and fences nobody, so what a commit means is shown on a real broker, in `kafka_real`.)
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic and read the clock"
)]

#[expect(dead_code, reason = "the child processes are started elsewhere")]
#[path = "kafka/echo.rs"]
mod echo;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anomalyd::config::Config;
use anomalyd::config::load::Sources;
use anomalyd::kafka::KafkaFailure;
use anomalyd::kafka::admin;
use anomalyd::kafka::history::{HistoryTopics, KafkaHistory};
use anomalyd::kafka::models::{ModelTopic, TopicStore, TopicStoreError};
use anomalyd::kafka::session::KafkaSession;
use anomalyd::kafka::settings::Connection;
use anomalyd::kafka::topic_reader::TopicReader;
use anomalyd::kafka::watchdog::{Limits, Watchdog, end_process};
use anomalyd::pipeline::Outbox;
use anomalyd::port::{Input, Published, Ranges, Session};
use anomalyd::record::RecordBatch;
use anomalyd::service::models::AnyStore;
use anomalyd::service::schema::{SchemaError, Waiting, settle};
use anomalyd::service::status::Status;
use anomalyd::stream::{Offset, Positions, Span, TopicPartition};
use anomalyd::time::{Clock, SystemClock, Timestamp};
use echo::{Echo, stage};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Error};

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A cluster with 20 records of input, and a worker's settings for it.
fn cluster(exactly_once: bool) -> (Cluster, Echo) {
    let cluster = MockCluster::new(1).unwrap();
    let echo = Echo {
        brokers: cluster.bootstrap_servers(),
        name: "mock".to_owned(),
        instance: "a".to_owned(),
        workers: 1,
        exactly_once,
        properties: BTreeMap::new(),
        limits: None,
    };
    for topic in [echo.input(), echo.output(), echo.state()] {
        cluster.create_topic(&topic, 1, 1).unwrap();
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &echo.brokers)
        .create()
        .unwrap();
    for n in 0..20 {
        let (key, value) = (format!("{}", n % 3), n.to_string());
        producer
            .send(BaseRecord::to(&echo.input()).key(&key).payload(&value))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    (cluster, echo)
}

/// As a group of that cluster has it, without any properties.
fn connection(brokers: &str) -> Connection {
    Connection {
        brokers: brokers.to_owned(),
        group: "g".to_owned(),
        properties: BTreeMap::new(),
        tokens: None,
        schemas: None,
    }
}

/// The next batch, taking over what is assigned on the way.
fn next_batch<S: Session<Fatal = KafkaFailure>>(session: &mut S) -> RecordBatch {
    let clock = SystemClock::default();
    let limit = Instant::now() + Duration::from_secs(30);
    while Instant::now() < limit {
        match session
            .next(clock.now().plus(Duration::from_millis(100)))
            .unwrap()
        {
            Input::Batch(batch) => return batch,
            Input::Assigned(assignments) => {
                let start: Positions = assignments
                    .iter()
                    .map(|assignment| (assignment.at.clone(), assignment.committed))
                    .collect();
                session.rewind(&start).unwrap();
            }
            Input::Revoked(_) | Input::OffsetOutOfRange(_) | Input::Idle => {}
        }
    }
    panic!("no batch within 30 s");
}

/// Where a batch begins.
fn start(batch: &RecordBatch) -> Positions {
    let first = &batch.records()[0];
    Positions::from([(batch.sources()[0].clone(), first.offset)])
}

/// Publishes a first batch while `api` fails with `errors`.
fn publish_under(
    api: Api,
    errors: &[Error],
) -> (
    Cluster,
    KafkaSession,
    RecordBatch,
    Outbox,
    Result<Published, KafkaFailure>,
) {
    let (cluster, echo) = cluster(true);
    let mut session = echo.session(0).unwrap();
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    cluster.request_errors(api, errors);
    let published = session.publish(&outbox);
    (cluster, session, batch, outbox, published)
}

#[test]
fn errors_that_pass_are_tried_again() {
    let (_cluster, _session, _, _, published) = publish_under(
        Api::EndTxn,
        &[
            Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
            Error::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS,
        ],
    );
    assert_eq!(published.unwrap(), Published::Committed);
    let (_cluster, _session, _, _, published) = publish_under(
        Api::TxnOffsetCommit,
        &[Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS],
    );
    assert_eq!(published.unwrap(), Published::Committed);
}

#[test]
fn a_cold_coordinator_is_waited_for() {
    let (cluster, echo) = cluster(true);
    cluster.request_errors(
        Api::InitProducerId,
        &[
            Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        ],
    );
    let mut session = echo.session(0).unwrap();
    assert!(!next_batch(&mut session).is_empty());
}

/// The same records come again after an abort, and can then be published.
fn aborts_and_goes_on(api: Api, error: Error) {
    let (_cluster, mut session, batch, outbox, published) = publish_under(api, &[error]);
    assert_eq!(published.unwrap(), Published::Aborted, "{error:?}");
    session.rewind(&start(&batch)).unwrap();
    let again = next_batch(&mut session);
    let count = batch.len().min(again.len());
    assert_eq!(again.records()[..count], batch.records()[..count]);
    // The mock has forgotten the sequence numbers of what it refused, so that it may take one more abort.
    let outcomes: Vec<Published> = (0..3)
        .map(|_| {
            let published = session.publish(&outbox).unwrap();
            session.rewind(&start(&again)).unwrap();
            published
        })
        .collect();
    assert!(outcomes.contains(&Published::Committed), "{outcomes:?}");
}

#[test]
fn a_member_that_was_expelled_aborts() {
    aborts_and_goes_on(
        Api::TxnOffsetCommit,
        Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
    );
    aborts_and_goes_on(
        Api::TxnOffsetCommit,
        Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
    );
}

/// A group that has forgotten a generation (its coordinator moved amid a rebalance) and then its member. librdkafka forgets them too, and what
/// comes with neither id nor generation no broker fences: like this mock, it takes it for a producer that has no group.
#[test]
fn a_member_that_was_expelled_while_it_worked_sends_no_offsets() {
    let (cluster, mut echo) = cluster(true);
    let heartbeat = ("heartbeat.interval.ms".to_owned(), "50".to_owned());
    echo.properties.extend([heartbeat]);
    let mut session = echo.session(0).unwrap();
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    assert_eq!(session.publish(&outbox).unwrap(), Published::Committed);
    let expelled = [
        Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
    ];
    cluster.request_errors(Api::Heartbeat, &expelled);
    let limit = Instant::now() + Duration::from_secs(20);
    while session.publish(&outbox).unwrap() == Published::Committed {
        assert!(Instant::now() < limit, "it goes on committing");
    }
    // Then it is told what it has lost, and not before: nothing was joined anew while it worked.
    let clock = SystemClock::default();
    while !matches!(session.next(clock.now()).unwrap(), Input::Revoked(_)) {
        assert!(Instant::now() < limit, "nothing is given back");
    }
}

#[test]
fn what_the_broker_does_not_take_aborts() {
    aborts_and_goes_on(Api::Produce, Error::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
}

#[test]
fn a_topic_that_may_not_be_written_is_the_end_and_named() {
    let error = Error::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    let (_cluster, _session, _, _, published) = publish_under(Api::AddPartitionsToTxn, &[error]);
    let failure = published.unwrap_err();
    assert!(
        failure.is_configuration() && failure.to_string().contains("mock.out"),
        "{failure}"
    );
}

/// Waits grow from abort to abort, end with a new session, and are cut short by a stop.
#[test]
fn aborts_are_tried_again_more_and_more_slowly() {
    let (cluster, echo) = cluster(true);
    let stop = Arc::new(AtomicBool::new(false));
    let mut session = echo.reconnecting(0, Arc::clone(&stop));
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    let mut publish = || {
        cluster.request_errors(
            Api::TxnOffsetCommit,
            &[Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION],
        );
        let begun = Instant::now();
        (session.publish(&outbox), begun.elapsed())
    };
    let mut took = Vec::new();
    for _ in 0..5 {
        let (published, lasted) = publish();
        assert_eq!(published.unwrap(), Published::Aborted);
        took.push(lasted);
    }
    let least = [0, 100, 200, 400, 800].map(Duration::from_millis);
    assert!(
        took.iter().zip(least).all(|(took, least)| least < *took),
        "{took:?}"
    );
    let (published, _) = publish();
    assert_eq!(published.unwrap(), Published::Lost);
    // What was held is given back, and comes again.
    let clock = SystemClock::default();
    let given_back = session.next(clock.now()).unwrap();
    assert!(
        matches!(&given_back, Input::Revoked(held) if held.len() == 1),
        "{given_back:?}"
    );
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    let mut publish = || session.publish(&outbox);
    stop.store(true, Ordering::Relaxed);
    cluster.request_errors(
        Api::TxnOffsetCommit,
        &[Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION],
    );
    let begun = Instant::now();
    let stopped = publish();
    assert!(matches!(stopped, Err(KafkaFailure::Stopped)), "{stopped:?}");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_fenced_producer_is_the_end() {
    let error = Error::RD_KAFKA_RESP_ERR_PRODUCER_FENCED;
    let (_cluster, _session, _, _, published) = publish_under(Api::EndTxn, &[error]);
    assert!(
        matches!(published, Err(KafkaFailure::Fenced(_))),
        "{published:?}"
    );
}

/// After a slow call a request that was given up may still have reached the coordinator, and fence the producer that sent it.
#[test]
fn a_producer_that_fenced_itself_is_made_again() {
    let (cluster, echo) = cluster(true);
    let mut session = echo.session(0).unwrap();
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    cluster
        .broker_round_trip_time(1, Duration::from_millis(700))
        .unwrap();
    assert_eq!(session.publish(&outbox).unwrap(), Published::Committed);
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let fenced = [Error::RD_KAFKA_RESP_ERR_PRODUCER_FENCED];
    cluster.request_errors(Api::EndTxn, &fenced);
    // Not fenced for good: what became of the transaction the mock, which keeps no offsets, cannot say.
    let published = session.publish(&outbox);
    assert!(
        matches!(published, Err(KafkaFailure::UnknownOutcome(_))),
        "{published:?}"
    );
    // The new one is calm: fenced again, it was succeeded.
    cluster.request_errors(Api::EndTxn, &fenced);
    let published = session.publish(&outbox);
    assert!(
        matches!(published, Err(KafkaFailure::Fenced(_))),
        "{published:?}"
    );
}

/// A store of models in a topic of that cluster.
fn store(cluster: &Cluster, topic: &str) -> TopicStore {
    cluster.create_topic(topic, 1, 1).unwrap();
    let connection = connection(&cluster.bootstrap_servers());
    let settings = ModelTopic {
        topic: topic.to_owned(),
        detector: "pumps".to_owned(),
        group: "g".to_owned(),
        keep: 3,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    TopicStore::open(settings, &connection, clock, watchdog).unwrap()
}

/// Where another's claim meets the end of a transaction, a broker may answer with an error that says nothing: a Kafka 4 did.
#[test]
fn features_are_kept_though_a_broker_does_not_say_what_became_of_them() {
    let (cluster, _echo) = cluster(true);
    let columns = "[\"a\"]";
    cluster.request_errors(Api::EndTxn, &[Error::RD_KAFKA_RESP_ERR_UNKNOWN]);
    let mut first = store(&cluster, "models");
    assert_eq!(first.keep_schema(columns).unwrap(), columns);
    assert_eq!(first.schema().unwrap().as_deref(), Some(columns));
    // What no new attempt can mend is said at once.
    let refused = Error::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let mut second = store(&cluster, "others");
    cluster.request_errors(Api::EndTxn, &[refused]);
    let error = second.keep_schema(columns).unwrap_err();
    assert!(
        matches!(error, TopicStoreError::Kafka(KafkaFailure::Refused { .. })),
        "{error:?}"
    );
}

#[test]
fn a_right_that_is_missing_is_the_end() {
    let error = Error::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    let (_cluster, _session, _, _, published) = publish_under(Api::EndTxn, &[error]);
    assert!(
        matches!(published, Err(KafkaFailure::Refused { .. })),
        "{published:?}"
    );
}

#[test]
fn a_producer_that_is_of_no_use_any_more_is_made_again() {
    // The coordinator gave the transaction up. The mock keeps no offsets: nothing says whether it was committed, not even what was before it.
    let error = Error::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE;
    let (_cluster, mut session, batch, outbox, published) = publish_under(Api::EndTxn, &[error]);
    assert!(
        matches!(&published, Err(failure @ KafkaFailure::UnknownOutcome(_)) if failure.passes()),
        "{published:?}"
    );
    session.rewind(&start(&batch)).unwrap();
    assert_eq!(session.publish(&outbox).unwrap(), Published::Committed);
}

/// A rebalance gets between output and commit. The offsets go before the next batch's output, whose snapshot is of just that place: with the
/// snapshot ahead of the committed offset a crash would find state that is of no use.
#[test]
fn at_least_once_owes_no_offsets_when_it_writes_the_next_snapshot() {
    let (cluster, echo) = cluster(false);
    let mut session = echo.session(0).unwrap();
    let batch = next_batch(&mut session);
    let (outbox, _) = stage(&batch, &BTreeMap::new());
    let rebalance = Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    cluster.request_errors(Api::OffsetCommit, &[rebalance]);
    assert_eq!(session.publish(&outbox).unwrap(), Published::Committed);
    let written = || {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &echo.brokers)
            .create()
            .unwrap();
        let state = client.fetch_watermarks(&echo.state(), 0, Duration::from_secs(10));
        state.unwrap().1
    };
    let before = written();
    cluster.request_errors(Api::OffsetCommit, &[rebalance]);
    assert_eq!(session.publish(&outbox).unwrap(), Published::Aborted);
    assert_eq!(written(), before, "no state before the pending commits");
    assert_eq!(session.publish(&outbox).unwrap(), Published::Committed);
    assert!(before < written());
}

/// A topic is known by its id, also when it is made anew under its name.
#[test]
fn what_is_granted_names_the_topic_by_its_id() {
    let ids: Vec<_> = (0..2)
        .map(|_| {
            let (_cluster, echo) = cluster(true);
            let mut session = echo.session(0).unwrap();
            let clock = SystemClock::default();
            let limit = Instant::now() + Duration::from_secs(30);
            loop {
                assert!(Instant::now() < limit, "nothing is assigned");
                let until = clock.now().plus(Duration::from_millis(100));
                if let Input::Assigned(assignments) = session.next(until).unwrap() {
                    break assignments[0].topic_id.clone();
                }
            }
        })
        .collect();
    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

/// A replica that lags behind the one that was asked for the end says that there is nothing more, where there is.
#[test]
fn what_is_read_ends_where_it_was_to_end_and_not_where_a_replica_does() {
    // Where a replica lags, the log ends there for whoever reads from it: as this one does, until the rest is in it.
    let cluster = MockCluster::new(1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let topic = "lagging";
    cluster.create_topic(topic, 1, 1).unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()
        .unwrap();
    let produce = |numbers: std::ops::Range<i32>| {
        for n in numbers {
            let value = n.to_string();
            producer
                .send(BaseRecord::<str, str>::to(topic).payload(&value))
                .map_err(|(error, _)| error)
                .unwrap();
        }
        producer.flush(Duration::from_secs(10)).unwrap();
    };
    let connection = connection(&brokers);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process).with_limits(Limits {
        call: Duration::from_secs(2),
        retry: Duration::from_secs(1),
    });
    let reader = TopicReader::new(&connection, clock, watchdog).unwrap();
    let at = TopicPartition::new(topic, 0);
    let span = Span {
        at,
        from: Offset(0),
        to: Offset(20),
    };
    let read = || {
        let mut seen = Vec::new();
        let ended = reader.read_spans(std::slice::from_ref(&span), &mut |message| {
            seen.push(message.offset());
            Ok(ControlFlow::Continue(()))
        });
        (ended, seen)
    };
    produce(0..5);
    let (ended, seen) = read();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert!(
        matches!(ended, Err(KafkaFailure::TooSlow { .. })),
        "{ended:?}"
    );
    produce(5..20);
    let (ended, seen) = read();
    ended.unwrap();
    assert_eq!(seen, (0..20).collect::<Vec<i64>>());
}

/// The mock answers no lookup by time, as some brokers do: the records' own timestamps are searched.
#[test]
fn history_is_found_where_brokers_know_no_times() {
    let (cluster, echo) = cluster(true);
    let topic = "times";
    cluster.create_topic(topic, 1, 1).unwrap();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &echo.brokers)
        .create()
        .unwrap();
    for n in 0..100 {
        let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).payload("x");
        producer
            .send(record.timestamp(1_000_000 + n * 1_000))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    let connection = connection(&echo.brokers);
    let topics = HistoryTopics {
        detector: "d".to_owned(),
        inputs: vec![topic.to_owned()],
        state: echo.state(),
        feedback: "feedback".to_owned(),
    };
    let mut history = KafkaHistory::new(&connection, topics, (clock, watchdog)).unwrap();
    let mut between = |from, to: Option<i64>| {
        let spans = history.between(Timestamp(from), to.map(Timestamp)).unwrap();
        spans
            .iter()
            .map(|span| (span.from.0, span.to.0))
            .collect::<Vec<_>>()
    };
    assert_eq!(between(0, None), [(0, 100)]);
    assert_eq!(between(1_042_500, None), [(43, 100)]);
    assert_eq!(between(1_010_000, Some(1_020_000)), [(10, 20)]);
    assert_eq!(between(1_099_001, None), []);
}

/// A cluster without a controller (this one never has any) that tells nobody its settings: a start does not wait for what it cannot learn.
#[test]
fn settings_that_nobody_tells_are_not_waited_for() {
    let (_cluster, echo) = cluster(true);
    let connection = connection(&echo.brokers);
    let began = Instant::now();
    assert!(admin::forgets(&connection, &echo.state()).is_none());
    assert!(admin::too_few_replicas(&connection, &echo.state()).is_none());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

/// A session that reads its input, and what it says it waits for.
fn speaking(echo: &Echo) -> (KafkaSession, Arc<Mutex<Option<String>>>) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let said: Arc<Mutex<Option<String>>> = Arc::default();
    let saying = Arc::clone(&said);
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process)
        .with_waits(move |what| *saying.lock().unwrap() = what);
    let mut session = KafkaSession::join(echo.settings(0), clock, watchdog).unwrap();
    let batch = next_batch(&mut session);
    session.recycle(batch);
    (session, said)
}

/// Goes on until what is said is as wanted.
fn until_said(
    session: &mut KafkaSession,
    said: &Mutex<Option<String>>,
    wanted: impl Fn(Option<&str>) -> bool,
) {
    let clock = SystemClock::default();
    let limit = Instant::now() + Duration::from_secs(60);
    while !wanted(said.lock().unwrap().as_deref()) {
        assert!(Instant::now() < limit, "said: {:?}", said.lock().unwrap());
        let until = clock.now().plus(Duration::from_millis(100));
        if let Input::Assigned(assignments) = session.next(until).unwrap() {
            let start = assignments.iter().map(|it| (it.at.clone(), it.committed));
            session.rewind(&start.collect()).unwrap();
        }
    }
}

#[test]
fn that_no_broker_answers_is_said_with_its_address_until_one_does() {
    let (cluster, echo) = cluster(true);
    let (mut session, said) = speaking(&echo);
    cluster.broker_down(1).unwrap();
    let words = format!("no broker answers at `{}` since 20", echo.brokers);
    until_said(&mut session, &said, |what| {
        what.is_some_and(|what| what.starts_with(&words))
    });
    cluster.broker_up(1).unwrap();
    until_said(&mut session, &said, |what| what.is_none());
}

#[test]
fn an_input_that_is_gone_is_named_until_it_is_there_again() {
    let (cluster, mut echo) = cluster(true);
    let refresh = "topic.metadata.refresh.interval.ms".to_owned();
    echo.properties.insert(refresh, "500".to_owned());
    let (mut session, said) = speaking(&echo);
    let unknown = Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error(&echo.input(), unknown).unwrap();
    let words = format!("the topic `{}` does not exist", echo.input());
    until_said(&mut session, &said, |what| what == Some(words.as_str()));
    let well = Error::RD_KAFKA_RESP_ERR_NO_ERROR;
    cluster.topic_error(&echo.input(), well).unwrap();
    until_said(&mut session, &said, |what| what.is_none());
}

#[test]
fn an_input_without_a_record_is_what_auto_waits_for_and_says_so() {
    let (cluster, echo) = cluster(true);
    cluster.create_topic("empty", 1, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let set = [
        format!("kafka.brokers={}", echo.brokers),
        "input.topics=empty".to_owned(),
        format!("models.directory={}", folder.path().display()),
    ];
    let config = Config::load(&Sources {
        set: set.to_vec(),
        ..Sources::default()
    })
    .unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    let connection = config.connection();
    let waits = (Arc::clone(&clock), watchdog.clone());
    let mut store = AnyStore::open(&config, &connection, clock, watchdog).unwrap();
    let mut history = KafkaHistory::new(&connection, config.history_topics(), waits).unwrap();
    let (status, stop) = (Status::default(), AtomicBool::new(false));
    let settled = std::thread::scope(|scope| {
        let settling = scope.spawn(|| {
            // Nobody waits between two looks.
            let (_, woken) = std::sync::mpsc::channel();
            let waiting = Waiting {
                stop: &stop,
                wake: &woken,
                status: &status,
            };
            settle(&config, &mut store, &mut history, &waiting)
        });
        let limit = Instant::now() + Duration::from_secs(60);
        let why = "waiting for a first record in `empty` to find the features in";
        while status.not_ready().as_deref() != Some(why) && Instant::now() < limit {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(status.not_ready().as_deref(), Some(why));
        settling.join().unwrap()
    });
    assert!(matches!(settled, Err(SchemaError::Stopped)));
}
