//! The command line: every command, option and help text. Bodies are elsewhere.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use crate::time::Timestamp;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Try it, nothing needed:
  anomalyd demo                                  a plant with faults, an embedded broker, alerts on the terminal

Use it:
  anomalyd validate --config pumps.toml --connect   is the configuration right, can Kafka be used?
  anomalyd topics create --config pumps.toml        create the topics it writes
  anomalyd run --config pumps.toml                  read, learn, score, alert, until stopped
  anomalyd models list --config pumps.toml          which models there are, which is in use, and why

Configuration: defaults < --config files < environment < --set. The same setting three ways:
  [alerts]                              in pumps.toml
  false_alarm_rate = \"1/day\"
  ANOMALYD__ALERTS__FALSE_ALARM_RATE=1/day          in the environment
  --set alerts.false_alarm_rate=1/day               on the command line

Exit codes: 0 done, 64 wrong usage, 70 a bug, 74 Kafka or a file failed, 75 a Kafka call hung (start again),
76 too many dead letters, 78 wrong configuration.";

/// Streaming anomaly detection for Kafka
///
/// anomalyd reads sensor and feature records from Kafka, learns by itself what normal looks like, scores every record with a model that it
/// retrains periodically, and publishes explained alerts to Kafka, exactly once.
#[derive(Debug, Parser)]
#[command(name = "anomalyd", version, after_help = EXAMPLES, styles = STYLES, max_term_width = 120)]
pub struct Cli {
    /// Where settings come from.
    #[command(flatten)]
    pub settings: Settings,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where settings come from.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct Settings {
    /// Configuration file (TOML), or a folder of files, each a detector; several times or with commas, later files win
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        env = "ANOMALYD_CONFIG",
        value_delimiter = ',',
        global = true
    )]
    pub config: Vec<PathBuf>,
    /// One setting, such as model.kind=pca; wins over files and environment
    #[arg(short, long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Which of several detectors ([[detector]]): for commands that concern one
    #[arg(long, value_name = "NAME", global = true)]
    pub detector: Option<String>,
    /// Kafka's addresses: short for --set kafka.brokers=...
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub brokers: Option<String>,
    /// Log level or filter: short for --set log.level=...
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read from Kafka, score, alert, retrain, until stopped
    #[command(after_help = "\
Stops within seconds on SIGTERM or Ctrl-C: finishes the batch, leaves the group, loses nothing.
Trains a model now on SIGUSR1, if it is the process of the group that trains (the one that holds the first partition).
Reads its configuration again on SIGHUP: alert settings, training and log level change without a restart.

  anomalyd run --config pumps.toml
  anomalyd run --config pumps.toml --set workers=4 --log-level info,anomalyd::kafka=debug")]
    Run,
    /// Tell people of alerts: webhooks, Slack, PagerDuty, Alertmanager ([[notify]]), until stopped
    #[command(after_help = "\
Reads the alerts topic, a consumer group an endpoint, and posts to what [[notify]] names: at least once, from where it left off.
Reads its configuration again on SIGHUP: settings of endpoints and log level change without a restart.
A group that is new begins with the alerts that come. Stops on SIGTERM or Ctrl-C after the request in flight.

  anomalyd notify --config pumps.toml --set http.listen=:9465     beside a daemon on the same machine")]
    Notify,
    /// See it work: a simulated plant with faults against the real daemon, no setup
    #[command(
        after_help = "  anomalyd demo                       embedded broker: the story, and then the plant as it goes on, until Ctrl-C
  anomalyd demo --for 90s             with a table of faults found at the end; exit 0 only if all went well
  anomalyd demo --brokers localhost:9092 --for 90s     the same story on a real Kafka, exactly once
  anomalyd demo --plant --brokers localhost:9092       the plant alone, to input.topics, for a daemon that runs elsewhere"
    )]
    Demo(DemoArgs),
    /// Replay a file or a stretch of a topic through the same code as live, and measure
    #[command(
        after_help = "  anomalyd backtest --input pump.csv --warmup 5000 --output scores.csv --labels anomaly --report pump.html
  anomalyd backtest --input pump.csv.gz --timestamp time --key pump --set model.window=8 --set training.every_records=5000
  anomalyd backtest --config pumps.toml --from 2026-03-01T00:00:00Z --to 2026-03-08T00:00:00Z --report week.html

Equal to the daemon's, bit for bit on one machine: scores, p-values and episodes under the same model, and each model \
that is made from the same records, quarantine and champion, the first one with --as-live. Not equal: when models are \
trained. The daemon goes by its clock, with jitter, and by what is committed; a backtest by event time or records."
    )]
    Backtest(BacktestArgs),
    /// Score a file or a stretch of a topic with a trained model
    #[command(
        after_help = "  anomalyd score --model pump.safetensors --input new.csv --output scores.csv
  anomalyd score --model pump.safetensors --config pumps.toml --from 2026-03-01T00:00:00Z --output scores.csv"
    )]
    Score(ScoreArgs),
    /// Train a model on a file or a stretch of a topic, or make one again from its card
    #[command(
        after_help = "  anomalyd train --input normal.csv --model pump.safetensors
  anomalyd train --config pumps.toml --from 2026-03-01T00:00:00Z --to 2026-03-08T00:00:00Z --model pump.safetensors
  anomalyd train --input normal.csv --from-card pump.safetensors --model again.safetensors    bit for bit the same
  anomalyd train --config pumps.toml --from-card exported.safetensors --model again.safetensors     from the topics"
    )]
    Train(TrainArgs),
    /// Draw synthetic normal records from a generative model
    #[command(after_help = "  anomalyd sample --model pump.safetensors -n 100 --seed 7")]
    Sample(SampleArgs),
    /// Check the configuration: exit 0, or 78 with all problems
    #[command(
        after_help = "  anomalyd validate --config pumps.toml            the file alone
  anomalyd validate --config pumps.toml --connect  brokers, topics and rights too
  anomalyd validate --config pumps.toml --show     the effective settings, secrets hidden"
    )]
    Validate(ValidateArgs),
    /// Ask a running daemon to train a model now
    #[command(after_help = "\
Asks at http.listen, with http.token; --at asks one that runs elsewhere. The process that holds the first partition trains, and says what came of it:
see `anomalyd models list`, the page, or its log. A model still has to pass the gate.

  anomalyd retrain --config pumps.toml
  anomalyd retrain --config detectors/ --detector pumps
  anomalyd retrain --config pumps.toml --at https://anomalyd.example.org")]
    Retrain(RetrainArgs),
    /// Look at models and choose the one in use
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Look at flagged episodes, and say what they were
    #[command(subcommand)]
    Episodes(EpisodesCommand),
    /// Read what people are told
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Look at the settings in effect
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at records that could not be read
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// Create the topics that the daemon writes
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Ask a running daemon whether it is alive: exit 0 or 74
    #[command(after_help = "\
For containers:   HEALTHCHECK CMD [\"anomalyd\", \"healthcheck\"]
Asks /healthz at http.listen; --ready asks /readyz.")]
    Healthcheck(HealthcheckArgs),
    /// Print a shell's completions
    #[command(after_help = "  anomalyd completions bash > /etc/bash_completion.d/anomalyd")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the program, or of a command
    #[command(after_help = "  anomalyd man | man -l -
  anomalyd man episodes show | man -l -
  anomalyd man --to /usr/local/share/man/man1     a page for each command")]
    Man {
        /// Which command.
        command: Vec<String>,
        /// Write the pages of all commands into this folder.
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        to: Option<std::path::PathBuf>,
    },
}

/// `demo`
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// End after this long; the story takes about a minute and a half, and is cut short by less
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub length: Option<std::time::Duration>,
    /// Seed of the plant and its faults
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Only the plant: sends its records to the first of input.topics of a real Kafka, its faults again every ten minutes, until stopped
    #[arg(long)]
    pub plant: bool,
}

/// What is read: a file, or a stretch of the configuration's topics.
#[derive(Clone, Debug, Args)]
pub struct SourceArgs {
    /// CSV with a header (parted by comma, semicolon or tab) or JSON lines, gzipped or not, or Parquet; - is standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Instead of a file, the records of [input]'s topics from this time on, by Kafka's timestamps (RFC 3339)
    #[arg(
        long,
        value_name = "TIME",
        value_parser = timestamp,
        conflicts_with_all = ["input", "key", "timestamp", "labels", "ignore"]
    )]
    pub from: Option<Timestamp>,
    /// ... and before this time; up to now if left out
    #[arg(long, value_name = "TIME", value_parser = timestamp, requires = "from", conflicts_with = "input")]
    pub to: Option<Timestamp>,
}

/// A file's columns.
#[derive(Clone, Debug, Args)]
pub struct TableArgs {
    /// Column that names the record's key; several make it together
    #[arg(long, value_name = "COLUMN")]
    pub key: Vec<String>,
    /// Column with the event time; looked for if left out, and where there is none, rows are a second apart
    #[arg(long, value_name = "COLUMN")]
    pub timestamp: Option<String>,
    /// Column with labels (not 0: anomalous), left out of the features
    #[arg(long, value_name = "COLUMN")]
    pub labels: Option<String>,
    /// Columns to leave out
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,
}

/// `backtest`
#[derive(Clone, Debug, Args)]
pub struct BacktestArgs {
    /// What is read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// What the columns are.
    #[command(flatten)]
    pub table: TableArgs,
    /// Rows at the beginning that the first model learns from; training.rows_min if left out
    #[arg(long, value_name = "N")]
    pub warmup: Option<usize>,
    /// The first model uses its rows as the daemon would, which holds some back to calibrate and for the gate, instead of all
    #[arg(long)]
    pub as_live: bool,
    /// Where to write score,p_value,alert,model_version, a line a row; standard output if left out
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where to write a report: one HTML file with scores, episodes, models, attribution and calibration
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Where to write what would have been told: an alert a line, as the alerts topic would have it (docs/alert.schema.json)
    #[arg(long, value_name = "FILE")]
    pub alerts: Option<PathBuf>,
    /// What somebody would have said of episodes: a JSON object a line, as {"feedback": "false_positive", "episode": ID, "at": TIME}; also true_positive, new_normal, undo and maintenance (key, from, to)
    #[arg(long, value_name = "FILE")]
    pub feedback: Option<PathBuf>,
    /// Records around a labelled stretch in which VUS counts a late or early score [default: 100]
    #[arg(long, value_name = "N")]
    pub vus_window: Option<usize>,
}

/// `score`
#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    /// What is read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The model: a safetensors file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// What the columns are.
    #[command(flatten)]
    pub table: TableArgs,
    /// Where to write score,p_value,alert,model_version, a line a row; standard output if left out
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the model's code of each row too, as columns code_0, code_1, ...: features for a model of your own
    #[arg(long)]
    pub code: bool,
    /// Records around a labelled stretch in which VUS counts a late or early score [default: 100]
    #[arg(long, value_name = "N")]
    pub vus_window: Option<usize>,
}

/// `train`
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// What is read.
    #[command(flatten)]
    pub source: SourceArgs,
    /// What the columns are.
    #[command(flatten)]
    pub table: TableArgs,
    /// Make the model of this card (JSON) or model file again: from the same file as then, or from the topics that it names
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub from_card: Option<PathBuf>,
    /// Where to write the model; without it only the figures are shown
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

/// `sample`
#[derive(Clone, Debug, Args)]
pub struct SampleArgs {
    /// The model: a safetensors file of a kind that can draw (autoencoder, vae, gan, pca)
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// How many records
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub rows: usize,
    /// Seed of the draw
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// ψ: 1 draws from the whole distribution, towards 0 from its centre
    #[arg(
        long = "psi",
        visible_alias = "truncation",
        value_name = "PSI",
        default_value_t = 1.0
    )]
    pub truncation: f32,
    /// Where the records go, as CSV; without it to standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Real records (CSV or JSON lines, gzipped or not) to compare with: how like them the synthetic ones are
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

/// `validate`
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// Ask Kafka too: brokers, topics, rights
    #[arg(long)]
    pub connect: bool,
    /// Print the effective settings, secrets hidden
    #[arg(long)]
    pub show: bool,
}

/// `models`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// The kinds of models that `model.kind` can name
    Kinds {
        /// As a JSON list
        #[arg(long)]
        json: bool,
    },
    /// All stored versions, and which is in use
    List {
        /// As a JSON list
        #[arg(long)]
        json: bool,
    },
    /// One version's card: what it was made from and what the gate said
    Show {
        /// The version; the one in use if left out.
        version: Option<u64>,
        /// As JSON, as it is anyway
        #[arg(long)]
        json: bool,
    },
    /// In what two versions differ: settings, what they were made from, what the gate measured
    #[command(after_help = "  anomalyd models diff 3 4 --config pumps.toml
  anomalyd models diff 3 --config pumps.toml --json     with the one in use")]
    Diff {
        /// The one.
        a: u64,
        /// The other; the one in use if left out.
        b: Option<u64>,
        /// As a JSON list of what differs
        #[arg(long)]
        json: bool,
    },
    /// Take a stored version into use; running daemons follow within seconds
    Promote {
        /// The version.
        version: u64,
    },
    /// Go back to the version before the one in use
    Rollback,
    /// Write a version's safetensors file, which Python opens in two lines
    Export {
        /// The version; the one in use if left out.
        version: Option<u64>,
        /// Where to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// `episodes`
#[derive(Debug, Subcommand)]
pub enum EpisodesCommand {
    /// Those that training knows of, and what was said of them
    List {
        /// As a JSON list
        #[arg(long)]
        json: bool,
    },
    /// What people were told of one: its cause, since when, which record
    Show(EpisodeShowArgs),
    /// It was a false alarm: training may learn its records
    #[command(after_help = "\
What was flagged is kept out of training until somebody says otherwise: a lasting fault must not become normal.

  anomalyd episodes dismiss pumps/records/3/48210 --config pumps.toml           it was nothing
  anomalyd episodes new-normal pumps/records/3/48210 --config pumps.toml        it is how things are from now on
  anomalyd episodes confirm pumps/records/3/48210 --config pumps.toml           it was a fault: never learn it
  anomalyd episodes dismiss pumps/records/3/48210 --config pumps.toml --undo    nothing is known of it after all

The next training reads it, and the model's card says it of the episode. Alerts end when a model that has learnt it is in use.")]
    Dismiss(FeedbackArgs),
    /// It was a fault: training leaves its records out for good
    Confirm(FeedbackArgs),
    /// It is how things are from now on: training learns its records, also those that come while it is open
    NewNormal(FeedbackArgs),
}

/// `episodes show`
#[derive(Clone, Debug, Args)]
pub struct EpisodeShowArgs {
    /// The episode's id, as in its alerts.
    pub id: String,
    /// Its alerts as they are, a JSON list
    #[arg(long)]
    pub json: bool,
}

/// `alerts`
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// The last alerts in words, and those that come, until Ctrl-C
    #[command(after_help = "  anomalyd alerts tail --config pumps.toml
  anomalyd alerts tail --config pumps.toml --key P-17 --severity high
  anomalyd alerts tail --config pumps.toml -n 100 --no-follow --json")]
    Tail(AlertsTailArgs),
}

/// `alerts tail`
#[derive(Clone, Debug, Args)]
pub struct AlertsTailArgs {
    /// So many of those that there are
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub last: usize,
    /// End there, instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
    /// Only those that are at least this bad
    #[arg(long, value_name = "SEVERITY", value_enum)]
    pub severity: Option<Least>,
    /// Only those of this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// As they are, a JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// How bad an alert must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Least {
    /// All.
    Low,
    /// Ten times rarer than the budget.
    Medium,
    /// A hundred times rarer.
    High,
    /// A thousand times rarer.
    Critical,
}

impl From<Least> for crate::alert::Severity {
    fn from(least: Least) -> Self {
        match least {
            Least::Low => Self::Low,
            Least::Medium => Self::Medium,
            Least::High => Self::High,
            Least::Critical => Self::Critical,
        }
    }
}

/// `config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// All settings in effect, secrets hidden, with where each comes from
    Show(ConfigShowArgs),
    /// A JSON Schema of configuration files, for editors that complete and check them
    #[command(after_help = "  anomalyd config schema > anomalyd.schema.json
and in the first line of a file:   #:schema ./anomalyd.schema.json")]
    Schema,
    /// Look at a thousand records, and propose a file: key, time, features, categories
    #[command(
        after_help = "  anomalyd config init --from-topic plant.pumps --brokers kafka-1:9092 --out pumps.toml
  anomalyd config init --from-topic plant.ovens --set input.format=avro --set registry.url=http://registry:8081
  anomalyd config init --from-file pump.csv"
    )]
    Init(ConfigInitArgs),
}

/// `dead-letters`
#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// The last ones: which record, why, and what it was
    #[command(after_help = "  anomalyd dead-letters list --config pumps.toml
  anomalyd dead-letters list --config pumps.toml -n 1000 --json | jq -r .reason | sort | uniq -c")]
    List(DeadLettersListArgs),
    /// Send records again, once their producer or the configuration is mended
    #[command(
        after_help = "  anomalyd dead-letters replay --config pumps.toml --reason not_json --dry-run   what would be sent, and where
  anomalyd dead-letters replay --config pumps.toml --reason not_json             back to where they came from
  anomalyd dead-letters replay --config pumps.toml --key P-17 --to plant.repair   into another topic, for somebody else

Records go as they were: key, value, headers and timestamp, and the header anomalyd.replayed beside. What was sent again before, and could not be read once
more, is passed over; so is what was too large for the dead-letter topic. Nothing is taken from that topic: run twice,
it sends twice."
    )]
    Replay(DeadLettersReplayArgs),
}

/// `dead-letters replay`
#[derive(Clone, Debug, Args)]
pub struct DeadLettersReplayArgs {
    /// So many of those that there are, before any filter
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    pub last: usize,
    /// Only those with this reason; several times
    #[arg(long = "reason", value_name = "REASON")]
    pub reasons: Vec<String>,
    /// Only those with this Kafka key; several times
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Into this topic, instead of where they came from
    #[arg(long, value_name = "TOPIC")]
    pub to: Option<String>,
    /// Those, too, that were sent again before
    #[arg(long)]
    pub again: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `dead-letters list`
#[derive(Clone, Debug, Args)]
pub struct DeadLettersListArgs {
    /// So many of those that there are
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub last: usize,
    /// Those of other topics than the detector's input, too: several detectors may share the dead-letter topic
    #[arg(long)]
    pub all: bool,
    /// A JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `config init`
#[derive(Clone, Debug, Args)]
pub struct ConfigInitArgs {
    /// The topic to look at
    #[arg(long, value_name = "TOPIC", conflicts_with = "from_file")]
    pub from_topic: Option<String>,
    /// The file to look at: CSV with a header (parted by comma, semicolon or tab) or JSON lines, gzipped or not
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Where to write it, where there is no file yet; standard output if left out
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `config show`
#[derive(Clone, Debug, Args)]
pub struct ConfigShowArgs {
    /// Only those that somebody set
    #[arg(long)]
    pub changed: bool,
    /// As a JSON list
    #[arg(long)]
    pub json: bool,
}

/// `episodes dismiss`, `confirm` and `new-normal`
#[derive(Clone, Debug, Args)]
pub struct FeedbackArgs {
    /// The episode's id, as in its alerts.
    pub id: String,
    /// Take back what was said of it.
    #[arg(long)]
    pub undo: bool,
}

/// `topics`
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Create those that do not exist yet, compacted where they must be
    #[command(after_help = "\
The topics get as many partitions as the input has, which therefore comes first:

  anomalyd topics create --config pumps.toml
  anomalyd topics create --config pumps.toml --input-partitions 6 --replication 3    the input topics too")]
    Create {
        /// Replicas of each partition; the broker's default if left out.
        #[arg(long, value_name = "N")]
        replication: Option<i32>,
        /// Create input topics that are missing too, with this many partitions each.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
        input_partitions: Option<i32>,
    },
}

/// `retrain`
#[derive(Clone, Debug, Args)]
pub struct RetrainArgs {
    /// Where the daemon answers, if not at http.listen on this machine
    #[arg(long, value_name = "URL")]
    pub at: Option<String>,
}

/// `healthcheck`
#[derive(Clone, Debug, Args)]
pub struct HealthcheckArgs {
    /// Ask /readyz: partitions assigned and restored
    #[arg(long)]
    pub ready: bool,
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    crate::record::timestamp::read(text)
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::units::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_before_or_after_the_command() {
        for line in [
            ["anomalyd", "-c", "a.toml", "run"],
            ["anomalyd", "run", "-c", "a.toml"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.settings.config, [PathBuf::from("a.toml")]);
        }
    }

    #[test]
    fn every_command_says_what_it_is_for() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for nested in command.get_subcommands() {
                assert!(nested.get_about().is_some(), "{}", nested.get_name());
            }
        }
    }
}
