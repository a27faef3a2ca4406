//! A real Apache Kafka for integration tests: the broker named by `ANOMALYD_TEST_BROKERS`, or one that `scripts/kafka.sh` starts and that
//! ends with this process. And what tests need of it: unique topics, a producer, a `read_committed` reader.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The brokers, or `None`, with the reason printed, where there can be none and `ANOMALYD_KAFKA_OPTIONAL` allows it.
pub fn brokers() -> Option<&'static str> {
    static BROKERS: OnceLock<Option<String>> = OnceLock::new();
    BROKERS.get_or_init(start).as_deref()
}

fn start() -> Option<String> {
    if let Ok(brokers) = std::env::var("ANOMALYD_TEST_BROKERS") {
        return Some(brokers);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::temp_dir().join(format!("anomalyd-kafka-{}", std::process::id()));
    let output = Command::new(root.join("scripts/kafka.sh"))
        .arg("start")
        .arg(&folder)
        .arg("1")
        .arg(std::process::id().to_string())
        .output()
        .expect("bash runs");
    if output.status.success() {
        return Some(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    skip(&problem);
    None
}

/// A test that has no broker fails, unless the environment says that Kafka is optional and what it takes is missing.
fn skip(problem: &str) {
    let optional = std::env::var_os("ANOMALYD_KAFKA_OPTIONAL").is_some();
    assert!(
        optional && problem.contains("is missing"),
        "no Kafka for this test: {problem}"
    );
    eprintln!("skipped: {problem}");
}

/// A broker of one test's own, which ends with this process at the latest.
#[derive(Debug)]
pub struct Own {
    /// Its address.
    pub brokers: String,
    pub folder: std::path::PathBuf,
}

impl Own {
    /// Starts it, if that is possible here.
    pub fn start() -> Option<Self> {
        Self::start_as("1", None)
    }

    /// Starts three, which replicate everything.
    pub fn three() -> Option<Self> {
        Self::start_as("3", None)
    }

    /// The same, with a second listener for OAUTHBEARER, which takes tokens that nobody signed: its address.
    pub fn with_tokens() -> Option<(Self, String)> {
        let own = Self::start_as("1", Some(("KAFKA_OAUTH", "1")))?;
        let address = std::fs::read_to_string(own.folder.join("oauth")).expect("its address");
        Some((own, address.trim().to_owned()))
    }

    /// The same, behind a proxy: clients are told its address.
    pub fn behind(proxy: &str) -> Option<Self> {
        Self::start_as("1", Some(("KAFKA_ADVERTISED", proxy)))
    }

    /// The same, in a folder that is there already, with a disk of its own for `data-1`.
    pub fn start_in(folder: std::path::PathBuf) -> Option<Self> {
        Self::start_at(folder, "1", None)
    }

    fn start_as(count: &str, more: Option<(&str, &str)>) -> Option<Self> {
        let folder = std::env::temp_dir().join(unique("anomalyd-own"));
        Self::start_at(folder, count, more)
    }

    fn start_at(
        folder: std::path::PathBuf,
        count: &str,
        more: Option<(&str, &str)>,
    ) -> Option<Self> {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh"))
            .arg("start")
            .arg(&folder)
            .arg(count)
            .arg(std::process::id().to_string())
            .env_remove("ANOMALYD_TEST_BROKERS")
            .env("KAFKA_HEAP", "256m")
            .envs(more)
            .output()
            .expect("bash runs");
        if !output.status.success() {
            skip(&String::from_utf8_lossy(&output.stderr));
            return None;
        }
        let brokers = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Some(Self { brokers, folder })
    }

    /// Stops the broker's process for a while, as a stalled disk or a paused machine would.
    pub fn freeze(&self, how_long: Duration) {
        self.signal("-STOP");
        std::thread::sleep(how_long);
        self.signal("-CONT");
    }

    /// Ends the broker, in order, and when nothing is [`undecided`]: a coordinator of 4.3.0 that has a transaction to end while the
    /// partitions have no leader believes that they were deleted, and forgets them (KAFKA-20734). No client can mend that.
    pub fn end(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
        let ended = Command::new(script).arg("stop").arg(&self.folder).status();
        assert!(ended.expect("bash runs").success());
    }

    /// Starts it again on the same port with the same data.
    pub fn again(&self) {
        self.again_of(&[]);
    }

    /// Starts one of several again, from 1 on.
    pub fn again_one(&self, node: usize) {
        self.again_of(&[&node.to_string()]);
    }

    fn again_of(&self, node: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
        let output = Command::new(script)
            .arg("again")
            .arg(&self.folder)
            .args(node)
            .env("KAFKA_HEAP", "256m")
            .output()
            .expect("bash runs");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{problem}");
    }

    /// Sends a signal to the broker's process.
    pub fn signal(&self, signal: &str) {
        let pids = std::fs::read_to_string(self.folder.join("pids")).expect("its process");
        let sent = Command::new("kill").arg(signal).args(pids.lines()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Sends a signal to one of several, from 1 on. Answers whether it is there.
    pub fn signal_one(&self, node: usize, signal: &str) -> bool {
        let pids = std::fs::read_to_string(self.folder.join("pids")).expect("their processes");
        let pid = pids.lines().nth(node - 1).expect("its process");
        let sent = Command::new("kill").args([signal, pid]).output();
        sent.expect("kill runs").status.success()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A stopped process would not hear that it is to end.
        if std::fs::exists(self.folder.join("pids")).unwrap_or(false) && !std::thread::panicking() {
            self.signal("-CONT");
        }
        let stop = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh"))
            .arg("stop")
            .arg(&self.folder)
            .status();
        if stop.is_ok_and(|status| status.success()) {
            std::fs::remove_dir_all(&self.folder).ok();
        }
    }
}

/// A name that no other test, and no other run, uses.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{now}-{}-{count}", std::process::id())
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .expect("an admin client")
}

/// What an admin client is answered.
fn answered<T>(asked: impl Future<Output = KafkaResult<T>>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(asked)
        .expect("an answer")
}

/// Creates a topic and waits until it can be written to.
pub fn create_topic(brokers: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin = admin(brokers);
    let new = settings.iter().fold(
        NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)),
        |new, (name, value)| new.set(name, value),
    );
    let made = answered(admin.create_topics([&new], &AdminOptions::new()));
    made[0].as_ref().expect("a topic");
}

/// Deletes a topic, and waits until its name is free.
pub fn delete_topic(brokers: &str, topic: &str) {
    let admin = admin(brokers);
    let gone = answered(admin.delete_topics(&[topic], &AdminOptions::new()));
    gone[0].as_ref().expect("deleted");
    wait_for("a topic to be gone", Duration::from_secs(20), || {
        let found = admin
            .inner()
            .fetch_metadata(Some(topic), Duration::from_secs(5));
        found.is_ok_and(|found| found.topics()[0].partitions().is_empty())
    });
}

/// Deletes a group with its offsets, once it has no member.
pub fn delete_group(brokers: &str, group: &str) {
    let admin = admin(brokers);
    wait_for("a group to be deleted", Duration::from_secs(20), || {
        let gone = answered(admin.delete_groups(&[group], &AdminOptions::new()));
        gone[0].is_ok()
    });
}

/// Gives a topic more partitions, `to` in all.
pub fn add_partitions(brokers: &str, topic: &str, to: usize) {
    let admin = admin(brokers);
    let more = NewPartitions::new(topic, to);
    let made = answered(admin.create_partitions(&[more], &AdminOptions::new()));
    made[0].as_ref().expect("partitions");
}

/// Deletes the records of one partition before `offset`, as retention does.
pub fn delete_before(brokers: &str, topic: &str, partition: i32, offset: i64) {
    let admin = admin(brokers);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("an offset");
    let done = answered(admin.delete_records(&list, &AdminOptions::new()));
    assert_eq!(done.elements()[0].offset(), Offset::Offset(offset));
}

/// A record to produce.
pub type Record = (Option<i32>, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);

/// Produces records of (partition, key, value, timestamp) and waits until all are in the log.
pub fn produce(brokers: &str, topic: &str, records: impl IntoIterator<Item = Record>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()
        .expect("a producer");
    for (partition, key, value, timestamp) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key.as_deref();
        record.payload = value.as_deref();
        record.timestamp = timestamp;
        while let Err((error, back)) = producer.send(record) {
            assert!(
                error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull),
                "{error}"
            );
            record = back;
            producer.poll(Duration::from_millis(5));
        }
    }
    // As long as a message may take.
    producer.flush(Duration::from_secs(300)).expect("all sent");
}

/// What transactions of the tests wait for at most.
const TRANSACTION_MAX: Duration = Duration::from_secs(30);

/// A producer of its own, whose transaction has begun.
fn in_transaction(brokers: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("transactional.id", unique("tests"))
        .create()
        .expect("a producer");
    producer
        .init_transactions(TRANSACTION_MAX)
        .expect("transactions");
    producer.begin_transaction().expect("begun");
    producer
}

/// Produces records in one transaction, and commits or aborts it.
pub fn produce_in_transaction(
    brokers: &str,
    topic: &str,
    records: impl IntoIterator<Item = Record>,
    commit: bool,
) {
    let producer = in_transaction(brokers);
    for (partition, key, value, timestamp) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.partition = partition;
        record.key = key.as_deref();
        record.payload = value.as_deref();
        record.timestamp = timestamp;
        producer
            .send(record)
            .map_err(|(error, _)| error)
            .expect("sent");
    }
    producer.flush(TRANSACTION_MAX).expect("all sent");
    if commit {
        producer
            .commit_transaction(TRANSACTION_MAX)
            .expect("committed");
    } else {
        producer
            .abort_transaction(TRANSACTION_MAX)
            .expect("aborted");
    }
}

/// A record as a `read_committed` reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Seen {
    /// The value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }
}

/// All committed records of a topic up to now, in offset order within each partition.
pub fn read_committed(brokers: &str, topic: &str) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "tests-reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("a consumer");
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(20))
        .expect("metadata");
    let count = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let mut open = count;
    let mut seen = Vec::new();
    while open > 0 {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                        .collect()
                }),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => panic!("{error}"),
            None => panic!("nothing for 20 s"),
        }
    }
    seen
}

/// The group's committed offsets of a topic; -1 where there is none.
pub fn committed(brokers: &str, group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        // What is pending may move on later; tests only wait for the end.
        .set("isolation.level", "read_uncommitted")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let Ok(found) = consumer.committed_offsets(list, Duration::from_secs(20)) else {
        return vec![-1; partitions as usize];
    };
    found
        .elements()
        .iter()
        .map(|element| match element.offset() {
            Offset::Offset(offset) => offset,
            _ => -1,
        })
        .collect()
}

/// A transaction that is open: it has written to partition 0 of `topic`, or moves a group's offset in partition 0 of `input`.
pub enum Open<'a> {
    Writes { topic: &'a str },
    Commits { group: &'a str, input: &'a str },
}

impl Open<'_> {
    /// Opens it. Dropping the producer ends nothing.
    pub fn begin(self, brokers: &str) -> BaseProducer {
        let producer = in_transaction(brokers);
        match self {
            Self::Writes { topic } => {
                let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
                    .partition(0)
                    .key(b"k".as_slice())
                    .payload(b"v".as_slice());
                producer
                    .send(record)
                    .map_err(|(error, _)| error)
                    .expect("sent");
                producer.flush(TRANSACTION_MAX).expect("all sent");
            }
            Self::Commits { group, input } => {
                let consumer: BaseConsumer = ClientConfig::new()
                    .set("bootstrap.servers", brokers)
                    .set("group.id", group)
                    .create()
                    .expect("a consumer");
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(input, 0, Offset::Offset(0))
                    .expect("an offset");
                let group = consumer.group_metadata().expect("a group");
                producer
                    .send_offsets_to_transaction(&list, &group, TRANSACTION_MAX)
                    .expect("sent");
            }
        }
        producer
    }
}

/// A request in Kafka's own words, for what librdkafka's bindings lack: what the first broker answers, without the correlation id.
pub fn ask_raw(brokers: &str, (api, version): (i16, i16), flexible: bool, body: &[u8]) -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(7_i32.to_be_bytes());
    request.extend([0, 5]);
    request.extend(b"tests");
    if flexible {
        request.push(0);
    }
    request.extend(body);
    let first = brokers.split(',').next().expect("a broker");
    let mut stream = std::net::TcpStream::connect(first).expect("a broker");
    stream
        .write_all(&(request.len() as i32).to_be_bytes())
        .and_then(|()| stream.write_all(&request))
        .expect("sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("an answer");
    answer.split_off(4)
}

/// A partition, who leads it, and who has a copy.
struct Led {
    topic: String,
    partition: i32,
    leader: i32,
    /// In the order of preference.
    replicas: Vec<i32>,
    in_sync: usize,
}

/// Who leads the partitions of all topics, and how many brokers there are.
pub struct Leaders(Vec<Led>, usize);

impl Leaders {
    /// As it is now, if the brokers say.
    pub fn of(brokers: &str) -> Option<Self> {
        let client = admin(brokers);
        let found = client.inner().fetch_metadata(None, Duration::from_secs(2));
        let found = found.ok()?;
        let partitions = found.topics().iter().flat_map(|topic| {
            topic.partitions().iter().map(|partition| Led {
                topic: topic.name().to_owned(),
                partition: partition.id(),
                leader: partition.leader(),
                replicas: partition.replicas().to_vec(),
                in_sync: partition.isr().len(),
            })
        });
        Some(Self(partitions.collect(), found.brokers().len()))
    }

    /// All brokers are there, and have all there is.
    pub fn in_sync(&self, brokers: usize) -> bool {
        let complete = |led: &Led| 0 <= led.leader && led.replicas.len() == led.in_sync;
        self.1 == brokers && self.0.iter().all(complete)
    }

    /// How many partitions have another leader.
    pub fn moved_since(&self, before: &Self) -> u32 {
        let place = |led: &Led| (led.topic.clone(), led.partition);
        let moved = |led: &&Led| {
            let old = before.0.iter().find(|old| place(old) == place(led));
            old.is_some_and(|old| old.leader != led.leader)
        };
        self.0.iter().filter(moved).count() as u32
    }

    /// Gives all partitions another order of their replicas.
    pub fn reassign(&self, brokers: &str, mut order: impl FnMut(&mut Vec<i32>)) {
        // Lengths, plus one, are below 128: then they have one byte. So each partition is a topic of its own in a request of its own.
        for led in &self.0 {
            let (topic, mut replicas) = (&led.topic, led.replicas.clone());
            order(&mut replicas);
            let mut body = 20_000_i32.to_be_bytes().to_vec();
            body.extend([2, u8::try_from(topic.len() + 1).expect("a short name")]);
            body.extend(topic.as_bytes());
            body.push(2);
            body.extend(led.partition.to_be_bytes());
            body.push(replicas.len() as u8 + 1);
            body.extend(replicas.iter().flat_map(|replica| replica.to_be_bytes()));
            body.extend([0, 0, 0]);
            let answer = ask_raw(brokers, (45, 0), true, &body);
            // No tags, throttle time, and an error code.
            assert_eq!(answer[5..7], [0, 0], "{answer:?}");
        }
    }
}

/// Has the first replica of each partition lead it.
pub fn elect_preferred_leaders(brokers: &str) {
    let mut body = (-1_i32).to_be_bytes().to_vec();
    body.extend(20_000_i32.to_be_bytes());
    ask_raw(brokers, (43, 0), false, &body);
}

/// Whether some transaction that wrote to `topics`, or moves the group's offsets in `input`, is neither committed nor aborted.
pub fn undecided(
    brokers: &str,
    group: &str,
    input: &str,
    topics: &[&str],
    partitions: i32,
) -> bool {
    let limit = Duration::from_secs(1);
    let consumer = |isolation: &str| -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            .set("isolation.level", isolation)
            .create()
            .expect("a consumer")
    };
    let (stable, all) = (consumer("read_committed"), consumer("read_uncommitted"));
    let mut list = TopicPartitionList::new();
    list.add_partition_range(input, 0, partitions - 1);
    let decided = |topic: &str, partition| {
        let end = |consumer: &BaseConsumer| consumer.fetch_watermarks(topic, partition, limit);
        matches!((end(&all), end(&stable)), (Ok(all), Ok(stable)) if all == stable)
    };
    let written = topics
        .iter()
        .all(|topic| (0..partitions).all(|partition| decided(topic, partition)));
    // Offsets that are pending are not told.
    !(written && stable.committed_offsets(list, limit).is_ok())
}

/// Commits offsets for a group that has no members.
pub fn commit(brokers: &str, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .expect("an offset");
    }
    consumer.commit(&list, CommitMode::Sync).expect("a commit");
}

/// What an access control list says of a topic.
#[derive(Clone, Copy, Debug)]
pub enum Acl {
    /// Everything is allowed.
    Allow,
    /// This operation is allowed.
    Grant(u8),
    /// This operation is not: 3 is to read, 4 to write.
    Deny(u8),
}

/// Sets access control lists for everyone on resources (2: topics, 3: groups, 5: transactional ids), in Kafka's own words: `CreateAcls`
/// version 1, which librdkafka's bindings lack. Names that end with `*` are prefixes. Answers whether the broker has an authoriser.
pub fn set_acls(brokers: &str, acls: &[(u8, &str, Acl)]) -> bool {
    let text = |to: &mut Vec<u8>, text: &str| {
        to.extend((text.len() as i16).to_be_bytes());
        to.extend(text.as_bytes());
    };
    let mut request = (acls.len() as i32).to_be_bytes().to_vec();
    for (resource, name, acl) in acls {
        let (operation, permission) = match acl {
            Acl::Allow => (2, 3),
            Acl::Grant(operation) => (*operation, 3),
            Acl::Deny(operation) => (*operation, 2),
        };
        request.push(*resource);
        let prefix = name.strip_suffix('*');
        text(&mut request, prefix.unwrap_or(name));
        request.push(if prefix.is_some() { 4 } else { 3 });
        text(&mut request, "User:*");
        text(&mut request, "*");
        request.extend([operation, permission]);
    }
    let answer = ask_raw(brokers, (30, 1), false, &request);
    // Throttle time, and for each its error code and message.
    let code = i16::from_be_bytes([answer[8], answer[9]]);
    assert!(code == 0 || code == 54, "error {code}");
    code == 0
}

/// Waits until `done`, looking every 50 ms; panics after `limit`.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
