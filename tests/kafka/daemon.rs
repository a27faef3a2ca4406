//! The program itself as a child process on a real Kafka: its configuration, what it serves, how it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::cluster;

/// A detector's topics and configuration, in a folder of its own.
#[derive(Debug)]
pub struct Site {
    /// Brokers.
    pub brokers: String,
    /// The prefix of input, models and training.
    pub name: String,
    /// Partitions of the input.
    pub partitions: i32,
    features: Vec<String>,
    folder: tempfile::TempDir,
}

/// How to start the program: which group reads and writes, and what differs from the site's configuration.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The group; also the prefix of what it writes.
    pub group: &'a str,
    /// The process within the group.
    pub instance: &'a str,
    /// `key=value`, as `--set` takes it.
    pub set: &'a [&'a str],
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
    /// Where in the log this process begins.
    begins: usize,
}

impl Site {
    /// Creates the input topic; the others are made for each group.
    pub fn new(brokers: &str, name: &str, partitions: i32, features: &[&str]) -> Self {
        let name = cluster::unique(name);
        let site = Self {
            brokers: brokers.to_owned(),
            partitions,
            features: features
                .iter()
                .map(|feature| (*feature).to_owned())
                .collect(),
            folder: tempfile::tempdir().expect("a folder"),
            name,
        };
        std::fs::write(site.path("site.toml"), site.configuration()).expect("written");
        site
    }

    fn configuration(&self) -> String {
        let Self { brokers, name, .. } = self;
        format!(
            r#"
            name = "pumps"
            [kafka]
            brokers = "{brokers}"
            [kafka.properties]
            "session.timeout.ms" = "3000"
            "transaction.timeout.ms" = "4000"
            [input]
            topics = ["{name}.in"]
            start = "earliest"
            features = {:?}
            [model]
            kind = "pca"
            window = 4
            [training]
            interval = "300d"
            rows_min = 400
            [alerts]
            false_alarm_rate = 0.02
            [batch]
            records_max = 200
            [state]
            snapshot_records = 300
            [http]
            listen = "127.0.0.1:0"
            [log]
            level = "info"
            format = "text"
            "#,
            self.features
        )
    }

    /// A file in the site's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The input topic.
    pub fn input(&self) -> String {
        format!("{}.in", self.name)
    }

    /// A topic that a group writes: `alerts`, `scores`, `dead`.
    pub fn output(&self, group: &str, which: &str) -> String {
        format!("{}.{group}.{which}", self.name)
    }

    /// The consumer group.
    pub fn group(&self, group: &str) -> String {
        format!("{}-{group}", self.name)
    }

    fn command(&self, words: &[&str], start: Start<'_>) -> Command {
        let mut command = self.several(words, start);
        let group = format!("input.group={}", self.group(start.group));
        command.arg("--set").arg(group);
        command
    }

    /// The same for several detectors: the group is what their own groups begin with.
    pub fn several(&self, words: &[&str], start: Start<'_>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anomalyd"));
        let group = self.path(&format!("{}.toml", start.group));
        let text = format!("[input]\ngroup = \"{}\"\n", self.group(start.group));
        std::fs::write(&group, text).expect("written");
        command.args(words).arg("--config");
        command.arg(self.path("site.toml"));
        command.arg("--config").arg(group);
        let settings = [
            format!("instance={}", start.instance),
            format!("output.alerts={}", self.output(start.group, "alerts")),
            format!("output.scores={}", self.output(start.group, "scores")),
            format!("output.dead_letters={}", self.output(start.group, "dead")),
            format!("output.drift={}", self.output(start.group, "drift")),
            format!("output.state={}", self.output(start.group, "state")),
            format!("models.topic={}", self.output(start.group, "models")),
            format!("feedback.topic={}", self.output(start.group, "feedback")),
        ];
        let own = start.set.iter().map(|set| (*set).to_owned());
        for set in settings.into_iter().chain(own) {
            command.arg("--set").arg(set);
        }
        command
    }

    /// Runs a command to its end: exit code, and standard output followed by standard error.
    pub fn ask(&self, words: &[&str], start: Start<'_>) -> (i32, String) {
        Self::answer(self.command(words, start))
    }

    /// The same of a command that is made already.
    pub fn answer(mut command: Command) -> (i32, String) {
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().expect("an exit code"), text)
    }

    /// Creates the topics of a group, and the input if it is not there.
    pub fn create_topics(&self, start: Start<'_>) {
        let partitions = self.partitions.to_string();
        let words = ["topics", "create", "--input-partitions", &partitions];
        let (code, text) = self.ask(&words, start);
        assert_eq!(code, 0, "{text}");
    }

    /// Starts `anomalyd run`.
    pub fn run(&self, start: Start<'_>) -> Daemon {
        self.spawn("run", start)
    }

    /// Starts a command that goes on until it is told to end.
    pub fn spawn(&self, command: &str, start: Start<'_>) -> Daemon {
        self.begin(self.command(&[command], start), start)
    }

    /// The same of a command that is made already.
    pub fn begin(&self, mut command: Command, start: Start<'_>) -> Daemon {
        let log = self.path(&format!("{}-{}.log", start.group, start.instance));
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let begins = file.metadata().expect("its length").len() as usize;
        let child = command.stderr(file).spawn().expect("a child");
        Daemon { child, log, begins }
    }

    /// How far a group has come, for each partition.
    pub fn consumed(&self, group: &str) -> Vec<i64> {
        let group = self.group(group);
        cluster::committed(&self.brokers, &group, &self.input(), self.partitions)
    }
}

impl Daemon {
    /// What it logged so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).expect("its log");
        String::from_utf8_lossy(&bytes[self.begins..]).into_owned()
    }

    /// Panics with the log if the process has ended.
    pub fn must_live(&mut self) {
        let ended = self.child.try_wait().expect("its status");
        assert!(ended.is_none(), "ended with {ended:?}: {}", self.log());
    }

    /// A page that it serves, once it does.
    pub fn get(&mut self, page: &str) -> String {
        let limit = Instant::now() + Duration::from_secs(30);
        loop {
            self.must_live();
            if let Some(text) = self.try_get(page) {
                return text;
            }
            assert!(Instant::now() < limit, "no answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn try_get(&self, page: &str) -> Option<String> {
        let (code, text) = self.ask(page)?;
        (code == 200).then_some(text)
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&mut self) {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.ask("/readyz").is_none_or(|(code, _)| code != 200) {
            self.must_live();
            assert!(Instant::now() < limit, "not ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it answers to a request, head and body, if it serves HTTP by now.
    pub fn ask(&self, page: &str) -> Option<(u16, String)> {
        self.request(&format!("GET {page}"), "")
    }

    /// What it answers to who has the token and asks it to change something.
    pub fn post(&self, path: &str, token: &str) -> Option<(u16, String)> {
        let head = format!("Authorization: Bearer {token}\r\nContent-Length: 0\r\n");
        self.request(&format!("POST {path}"), &head)
    }

    /// Where it serves HTTP, if it does by now.
    pub fn address(&self) -> Option<String> {
        let log = self.log();
        let address = log
            .split("serving HTTP")
            .nth(1)?
            .split("127.0.0.1:")
            .nth(1)?;
        let port: String = address.chars().take_while(char::is_ascii_digit).collect();
        Some(format!("127.0.0.1:{port}"))
    }

    fn request(&self, what: &str, head: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address()?).ok()?;
        write!(
            stream,
            "{what} HTTP/1.1\r\nHost: x\r\n{head}Connection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let code = text.split(' ').nth(1)?.parse().ok()?;
        Some((code, text))
    }

    /// A metric that counts, summed over its labels; 0 if it is not there.
    pub fn metric(&mut self, name: &str) -> u64 {
        let page = self.get("/metrics");
        page.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    /// Resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    }

    /// Stops it for a while, as a paused machine would, and does `meanwhile`.
    pub fn pause(&self, meanwhile: impl FnOnce()) {
        let signal = |name: &str| {
            let sent = Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status();
            assert!(sent.expect("kill runs").success());
        };
        signal("-STOP");
        meanwhile();
        signal("-CONT");
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Asks it to end: how, and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal("-TERM");
        (self.ended(Duration::from_secs(20)), begun.elapsed())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its status")
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(Instant::now() < until, "not ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
