//! The demo's course of events: broker, history, daemon, model, faults, and the table at the end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::acts::Acts;
use super::broker::EmbeddedBroker;
use super::faults::{Kind, routines, story};
use super::gateway::{Gateway, Target};
use super::plant::SENSORS;
use super::scoreboard::{Scheduled, Scoreboard};
use super::story::{About, Figures, Story};
use crate::alert::{Alert, AlertKind};
use crate::config::{Config, Problems, Sources};
use crate::kafka::KafkaFailure;
use crate::kafka::admin::{self, TopicPlan};
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::seed::Seed;
use crate::service::error::ServiceError;
use crate::service::run::{self as service, Running};
use crate::time::{Clock, SystemClock, Timestamp};

/// How long the story takes, from the first model on.
pub const LENGTH: Duration = Duration::from_secs(72);
/// The variable that stands for the page's token in the demo's settings.
const TOKEN: &str = "ANOMALYD_DEMO_TOKEN";
/// For how long the plant has run when the demo begins.
pub(super) const HISTORY: Duration = Duration::from_secs(540);
/// Time after a fault in which its alerts still belong to it.
const GRACE: Duration = Duration::from_secs(3);
/// Time after which a silence must be told of: none of less than a minute is.
const SILENCE: Duration = Duration::from_secs(65);
/// How long a first model may take.
const MODEL_MAX: Duration = Duration::from_secs(60);
/// Partitions of the input: two pumps each.
const PARTITIONS: i32 = 3;
/// How long one look at the alerts topic waits.
const LOOK: Duration = Duration::from_millis(10);
/// False alarms a day and pump that the demo accepts: a pump sends as much in two hours as others in three days.
const FALSE_ALARMS: f64 = 12.0;

/// The topics, without prefix, and their partitions.
const TOPICS: [(&str, i32); 7] = [
    ("readings", PARTITIONS),
    ("alerts", 1),
    ("drift", 1),
    ("dead-letters", 1),
    ("state", PARTITIONS),
    ("models", 1),
    ("feedback", 1),
];

/// How the demo is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// When it ends; `None`: it goes on until it is stopped.
    pub length: Option<Duration>,
    /// A real Kafka to use in place of the embedded broker.
    pub brokers: Option<String>,
    /// Of the plant, its noise and its faults.
    pub seed: u64,
    /// Configuration files, under the demo's own settings.
    pub files: Vec<PathBuf>,
    /// Settings over the demo's own, `key=value`.
    pub set: Vec<String>,
    /// Whether to use colours.
    pub colour: bool,
}

/// Why the demo ended without its table, or badly.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Kafka.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The topics could not be made.
    #[error(transparent)]
    Topics(#[from] KafkaFailure),
    /// The daemon.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A setting.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The terminal.
    #[error("cannot write the story: {0}")]
    Io(#[from] io::Error),
    /// No model was promoted in time.
    #[error("no model was promoted within {} s; the log says why", MODEL_MAX.as_secs())]
    NoModel,
    /// Faults were missed, or there were too many false alarms.
    #[error("the demo did not go as promised: {0}")]
    Promise(String),
}

/// Tells the whole story on `out`.
pub fn run(options: &Options, out: impl Write) -> Result<(), DemoError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let mut story = Story::new(out, options.colour);
    let began = clock.monotonic();
    let place = Place::new(options, &*clock)?;
    introduce(&mut story, &place)?;

    let token = uuid::Uuid::new_v4().simple().to_string();
    let config = Config::load(&sources(options, &place, &token))?;
    place.create_topics(&config, &clock)?;
    let (origin, live) = (clock.now(), clock.monotonic());
    let target = Target {
        client: reach(&place),
        topic: place.topic("readings"),
        partitions: PARTITIONS,
    };
    let mut gateway = Gateway::new(
        target,
        [self::story(), routines()].concat(),
        (origin, HISTORY),
        Seed(options.seed),
        Arc::clone(&clock),
    )?;
    let sent = gateway.preload()?;
    let text = format!(
        "{sent} records of the last {} minutes are in the topic {}",
        HISTORY.as_secs() / 60,
        place.topic("readings")
    );
    story.line(clock.monotonic().saturating_sub(began), About::Setup, &text)?;

    let running = service::start(&config, Arc::new(AtomicBool::new(false)))?;
    let mut telling = Telling {
        acts: Acts::new(&config, Seed(options.seed), &running),
        alerts: alerts(&place)?,
        gateway,
        running,
        story,
        clock,
        began,
        live,
        delays: Vec::new(),
    };
    let known = config
        .http_token
        .as_ref()
        .is_some_and(|set| set.is_of(&token));
    telling.show_address(known.then_some(token.as_str()))?;
    let until = options.length.map(|length| began + length);
    let outcome = telling.tell(until);
    if let Ok(kept) = &outcome {
        telling.stay(kept, until)?;
    }
    telling.running.stop_handle().stop();
    let stopped = telling.running.wait();
    let verdict = outcome?;
    stopped?;
    verdict.map_err(DemoError::Promise)
}

/// The broker in use, and the names on it.
#[derive(Debug)]
struct Place {
    brokers: String,
    /// Before each topic's name: a real Kafka may hold an earlier demo.
    prefix: String,
    /// Kept alive; `None` on a real Kafka.
    embedded: Option<EmbeddedBroker>,
}

impl Place {
    fn new(options: &Options, clock: &dyn Clock) -> Result<Self, DemoError> {
        let prefix = match options.brokers {
            Some(_) => format!("demo-{}-", clock.now().0 / 1000),
            None => "demo-".to_owned(),
        };
        let Some(brokers) = &options.brokers else {
            let topics = TOPICS.map(|(name, partitions)| (format!("{prefix}{name}"), partitions));
            let topics: Vec<(&str, i32)> =
                topics.iter().map(|(name, n)| (name.as_str(), *n)).collect();
            let embedded = EmbeddedBroker::start(&topics)?;
            return Ok(Self {
                brokers: embedded.address(),
                prefix,
                embedded: Some(embedded),
            });
        };
        Ok(Self {
            brokers: brokers.clone(),
            prefix,
            embedded: None,
        })
    }

    /// Makes the topics on a real Kafka; the embedded broker has them.
    fn create_topics(&self, config: &Config, clock: &Arc<dyn Clock>) -> Result<(), KafkaFailure> {
        if self.embedded.is_some() {
            return Ok(());
        }
        let mut plans = admin::plan(&config.output_topics(), config.shared_topics(), PARTITIONS);
        plans.push(TopicPlan {
            name: self.topic("readings"),
            partitions: PARTITIONS,
            settings: Vec::new(),
            written: true,
        });
        // One partition: the story reads the alerts in order.
        for plan in plans
            .iter_mut()
            .filter(|plan| plan.name == config.output.alerts)
        {
            plan.partitions = 1;
        }
        let watchdog = Watchdog::start(Arc::clone(clock), end_process);
        admin::ensure(&config.connection(), &plans, &watchdog)
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

fn introduce<W: Write>(story: &mut Story<W>, place: &Place) -> io::Result<()> {
    let kind = if place.embedded.is_some() {
        "embedded in this process, at least once: librdkafka's mock cluster knows no aborts"
    } else {
        "a real Kafka, exactly once"
    };
    story.text(&format!(
        "anomalyd demo: six pumps with {} sensors each, whose load cycles take a minute.\n\
         The daemon has never seen them. It learns from {} minutes of history, then six faults begin, one after the other.\n\n\
         broker   {}  ({kind})\n\
         read the alerts yourself:  kcat -b {} -t {} -C\n",
        SENSORS.len(),
        HISTORY.as_secs() / 60,
        place.brokers,
        place.brokers,
        place.topic("alerts"),
    ))
}

fn sources(options: &Options, place: &Place, token: &str) -> Sources {
    let delivery = if place.embedded.is_some() {
        "at_least_once"
    } else {
        "exactly_once"
    };
    let mut set = vec![
        "name=demo".to_owned(),
        format!("kafka.brokers={}", place.brokers),
        format!("delivery={delivery}"),
        format!("input.topics=[\"{}\"]", place.topic("readings")),
        format!("input.group={}group", place.prefix),
        "input.key=[\"machine\"]".to_owned(),
        "input.timestamp=time".to_owned(),
        format!("output.alerts={}", place.topic("alerts")),
        format!("output.drift={}", place.topic("drift")),
        format!("output.dead_letters={}", place.topic("dead-letters")),
        format!("output.state={}", place.topic("state")),
        format!("models.topic={}", place.topic("models")),
        format!("feedback.topic={}", place.topic("feedback")),
        format!("alerts.false_alarm_rate=\"{FALSE_ALARMS}/day\""),
        "training.interval=10m".to_owned(),
        "http.listen=127.0.0.1:0".to_owned(),
        format!("http.token=${{env:{TOKEN}}}"),
        // The embedded broker answers a fetch only when its wait is over.
        "kafka.properties.fetch.wait.max.ms=20".to_owned(),
    ];
    set.extend(options.set.iter().cloned());
    Sources {
        files: options.files.clone(),
        environment: vec![(TOKEN.to_owned(), token.to_owned())],
        set,
        ..Sources::default()
    }
}

fn reach(place: &Place) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &place.brokers);
    client
}

fn alerts(place: &Place) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = reach(place)
        .set("group.id", "demo-reader")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(&place.topic("alerts"), 0, Offset::Beginning)?;
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// Everything that is at work while the story is told.
struct Telling<W> {
    acts: Acts,
    alerts: BaseConsumer,
    gateway: Gateway,
    running: Running,
    story: Story<W>,
    clock: Arc<dyn Clock>,
    began: Duration,
    /// When live sending began.
    live: Duration,
    /// From a record's sending to its alert's arrival.
    delays: Vec<Duration>,
}

impl<W: Write> Telling<W> {
    fn at(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// From the first live record to the table, or as far as there is time `until` then. The outer error is a failure, the inner one a promise not kept.
    fn tell(&mut self, until: Option<Duration>) -> Result<Result<(), String>, DemoError> {
        let text = "no model yet: records are scored by each pump's own median and spread";
        self.story.line(self.at(), About::Model, text)?;
        if !self.await_model(until)? {
            let text = "\nThere was no time for a first model: the story begins with it. Give the demo a minute or two, or no --for.";
            self.story.text(text)?;
            return Ok(Ok(()));
        }
        let from = self.clock.monotonic();
        let end = until.unwrap_or(Duration::MAX).min(from + LENGTH);
        let mut board = self.schedule();
        let scored = self.running.metrics().scored.get();
        let first = self.gateway.plant_time();
        let place = |time: Timestamp| time.since(first).as_secs_f64() / LENGTH.as_secs_f64();
        let mut before = -1.0;
        while self.clock.monotonic() < end {
            self.gateway
                .catch_up(self.clock.monotonic().saturating_sub(self.live), place)?;
            let now = place(self.gateway.plant_time());
            self.tell_turns(before, now)?;
            before = now;
            self.look(&mut board)?;
            if let Some((about, text)) = self.acts.turn(now, &self.running, board.is_open("pump-4"))
            {
                self.story.line(self.at(), about, &text)?;
            }
        }
        // What was sent last is still on its way.
        for _ in 0..50 {
            self.look(&mut board)?;
        }
        let told = self.clock.monotonic().saturating_sub(from).as_secs_f64();
        let scored = self.running.metrics().scored.get() - scored;
        let budget = FALSE_ALARMS * 6.0 * told / 86_400.0;
        self.delays.sort_unstable();
        let quantile = |q: f64| {
            self.delays
                .get((q * (self.delays.len().max(1) - 1) as f64) as usize)
                .copied()
        };
        let figures = Figures {
            scored,
            per_second: scored as f64 / told.max(1e-3),
            latency: quantile(0.5).zip(quantile(0.99)),
            budget: budget.ceil() as u64,
            until: self.gateway.plant_time(),
        };
        self.story.table(&board, &figures)?;
        let whole = end >= from + LENGTH;
        let undone = self.acts.missing().filter(|_| whole);
        Ok(promise(&board, &figures)
            .and_then(|()| undone.map_or(Ok(()), |what| Err(what.to_owned()))))
    }

    /// Shows where the page is, so that nobody overlooks it; with the token nobody has to type it.
    fn show_address(&mut self, token: Option<&str>) -> io::Result<()> {
        match self.running.http() {
            Some(address) => self.story.address(&page_address(address, token)),
            None => Ok(()),
        }
    }

    /// After the story: the plant goes on without faults, until somebody ends it or there is no time left.
    fn stay(
        &mut self,
        kept: &Result<(), String>,
        until: Option<Duration>,
    ) -> Result<(), DemoError> {
        if until.is_some_and(|until| self.clock.monotonic() >= until) {
            return Ok(());
        }
        if let Err(problem) = kept {
            self.story
                .text(&format!("\nthis time it did not go as promised: {problem}"))?;
        }
        let goes_on = match until {
            Some(until) => {
                let left = until.saturating_sub(self.clock.monotonic());
                format!("for {} s more", left.as_secs_f64().ceil())
            }
            None => "until Ctrl-C ends them".to_owned(),
        };
        self.story.text(&format!(
            "\nThe story is over; the plant and the daemon go on {goes_on}."
        ))?;
        let mut board = Scoreboard::new(Vec::new(), GRACE);
        while until.is_none_or(|until| self.clock.monotonic() < until) {
            let live = self.clock.monotonic().saturating_sub(self.live);
            self.gateway.catch_up(live, |_| -1.0)?;
            self.look(&mut board)?;
        }
        Ok(())
    }

    /// Lets the plant run without faults until there is a model. `false`: there was no time for one.
    fn await_model(&mut self, until: Option<Duration>) -> Result<bool, DemoError> {
        let deadline = self.clock.monotonic() + MODEL_MAX;
        while self.running.metrics().model_version.get() == 0 {
            let now = self.clock.monotonic();
            if until.is_some_and(|until| now >= until) {
                return Ok(false);
            }
            if now > deadline {
                return Err(DemoError::NoModel);
            }
            self.gateway
                .catch_up(now.saturating_sub(self.live), |_| -1.0)?;
            let mut none = Scoreboard::new(Vec::new(), GRACE);
            self.look(&mut none)?;
        }
        let view = self.running.status().view();
        let text = match (view.model, view.training) {
            (Some(model), Some(training)) => format!(
                "version {} ({}) trained in {:.1} s on the history in Kafka, passed the gate: {}",
                model.version, model.kind, training.seconds, training.detail
            ),
            _ => "a first model is in use".to_owned(),
        };
        self.story.line(self.at(), About::Model, &text)?;
        Ok(true)
    }

    fn schedule(&self) -> Scoreboard {
        let first = self.gateway.plant_time();
        let time = |share: f64| first.plus(LENGTH.mul_f64(share));
        let schedule = [self::story(), routines()]
            .concat()
            .into_iter()
            .map(|fault| Scheduled {
                key: format!("pump-{}", fault.pump + 1),
                from: time(fault.from),
                to: time(fault.to),
                due: match fault.kind {
                    Kind::Silence => time(fault.from).plus(SILENCE),
                    _ => time(fault.to),
                },
                fault,
            })
            .collect();
        Scoreboard::new(schedule, GRACE)
    }

    fn tell_turns(&mut self, before: f64, now: f64) -> io::Result<()> {
        let at = self.at();
        for (fault, begins) in self.gateway.turns(before, now) {
            let Some(text) = fault.turn(begins) else {
                continue;
            };
            self.story.line(at, About::Fault, &text)?;
        }
        Ok(())
    }

    /// Waits a moment for an alert, and tells of it.
    fn look(&mut self, board: &mut Scoreboard) -> Result<(), DemoError> {
        let Some(message) = self.alerts.poll(LOOK) else {
            return Ok(());
        };
        let message = message?;
        let Some(Ok(alert)) = message.payload().map(serde_json::from_slice::<Alert>) else {
            return Ok(());
        };
        // A silence is told of when others' records show it, long after the last one of its own.
        if alert.kind == AlertKind::Score {
            self.delays.push(self.clock.now().since(alert.data_time));
        }
        let fault = board.see(&alert).cloned();
        self.story.alert(self.at(), &alert, fault.as_ref())?;
        if let Some((about, text)) = self.acts.hear(&alert, fault.as_ref()) {
            self.story.line(self.at(), about, &text)?;
        }
        Ok(())
    }
}

/// The address of the page, which takes the token along behind `#`: it is not sent to the server.
fn page_address(address: SocketAddr, token: Option<&str>) -> String {
    let token = token.map_or_else(String::new, |token| format!("#token={token}"));
    format!("http://{address}/{token}")
}

/// What the demo promises: all faults found that there was time for, at most one wrong sensor, a drift blamed on its sensor from the first alert on, and false
/// alarms within the budget.
fn promise(board: &Scoreboard, figures: &Figures) -> Result<(), String> {
    let findings = board.findings();
    let missed: Vec<&str> = findings
        .iter()
        .filter(|(scheduled, finding)| finding.delay.is_none() && scheduled.due <= figures.until)
        .map(|(scheduled, _)| scheduled.key.as_str())
        .collect();
    let wrong = findings
        .iter()
        .filter(|(_, finding)| finding.delay.is_some() && !finding.right)
        .count();
    let drift = findings.iter().find(|(scheduled, finding)| {
        let first = finding.first.as_deref();
        matches!(scheduled.fault.kind, Kind::Drift(_))
            && first.is_some_and(|first| !scheduled.fault.sensors.contains(&first))
    });
    let alarms = board.false_alarms().len() as u64;
    if !missed.is_empty() {
        return Err(format!(
            "the faults of {} were not found",
            missed.join(", ")
        ));
    }
    if wrong > 1 {
        return Err(format!("the wrong sensor was named for {wrong} faults"));
    }
    if let Some((_, finding)) = drift {
        return Err(format!(
            "the drift was blamed on {} at first",
            finding.first.as_deref().unwrap_or_default()
        ));
    }
    if alarms > figures.budget {
        return Err(format!(
            "{alarms} false alarms, where the budget allows {}",
            figures.budget
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_that_the_demo_uses_is_made() {
        let place = Place {
            brokers: "localhost:9092".to_owned(),
            prefix: "demo-".to_owned(),
            embedded: None,
        };
        let options = Options {
            length: None,
            brokers: None,
            seed: 0,
            files: Vec::new(),
            set: Vec::new(),
            colour: false,
        };
        let config = Config::load(&sources(&options, &place, "0123456789abcdef")).unwrap();
        assert!(
            config
                .http_token
                .as_ref()
                .unwrap()
                .is_of("0123456789abcdef")
        );
        let made: Vec<String> = TOPICS.iter().map(|(name, _)| place.topic(name)).collect();
        let outputs = config.output_topics();
        let mut used: Vec<String> = admin::plan(&outputs, config.shared_topics(), PARTITIONS)
            .into_iter()
            .map(|plan| plan.name)
            .collect();
        used.extend(config.input.topics.iter().cloned());
        for topic in used {
            assert!(made.contains(&topic), "{topic} is not made");
        }
    }

    #[test]
    fn the_token_comes_with_the_address_where_it_is_the_demo_s_own() {
        let address = ([127, 0, 0, 1], 9464).into();
        assert_eq!(page_address(address, None), "http://127.0.0.1:9464/");
        assert_eq!(
            page_address(address, Some("abc")),
            "http://127.0.0.1:9464/#token=abc"
        );
    }
}
