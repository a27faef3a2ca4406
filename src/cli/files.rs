//! `train`, `score` and `backtest`: a file or a stretch of a topic in, files out; figures on standard output, or on standard error where that is taken by scores.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::args::{BacktestArgs, ScoreArgs, SourceArgs, TableArgs, TrainArgs};
use super::exit::Failure;
use super::output::{print, say};
use super::outside::outside;
use crate::backtest::budgets;
use crate::backtest::evaluate::{self, Outcome, Warmup, Watch};
use crate::backtest::feedback::Script;
use crate::backtest::figures::{self, VUS_WINDOW};
use crate::backtest::story::{self, ReportInput};
use crate::backtest::summary::{self, Judged};
use crate::backtest::write;
use crate::config::Config;
use crate::detect::episode::pace;
use crate::kafka::history::KafkaHistory;
use crate::model::Monitor;
use crate::model::card::{Card, TypeOfKeys};
use crate::model::reservoir::Reservoir;
use crate::time::{Clock, SystemClock};
use crate::tools::table::{Roles, Table};
use crate::tools::{ToolError, topic, training};

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Asked(text) => Self::Usage(text),
            other => Self::Io(other.to_string()),
        }
    }
}

/// `anomalyd train`
pub(super) fn train(config: &Config, arguments: &TrainArgs) -> Result<(), Failure> {
    let old = arguments.from_card.as_deref().map(card).transpose()?;
    let mut monitor = Epochs::begin();
    let clock = SystemClock::default();
    let (began, now) = (clock.monotonic(), clock.now());
    let mut candidate = match &old {
        Some((card, _)) if !card.spans.is_empty() => {
            if arguments.source.input.is_some() {
                let problem = "--input is of no use: the model was trained on topics, whose records its card names, and is made again from those";
                return Err(Failure::Usage(problem.to_owned()));
            }
            let mut history = history(config)?;
            training::again_from_log(config, card, &mut history, &mut monitor)?
        }
        Some((card, _)) => {
            let Some(input) = &arguments.source.input else {
                let problem = "--input is missing: the model was trained on a file";
                return Err(Failure::Usage(problem.to_owned()));
            };
            let roles = match &card.schema {
                Some(schema) => {
                    overridden(Roles::of_schema(schema, &card.columns), &arguments.table)
                }
                None => Roles {
                    features: Some(card.columns.clone()),
                    ..roles(config, &arguments.table)
                },
            };
            training::again(config, &read(input, &roles)?, card, &mut monitor)?
        }
        None => {
            let roles = roles(config, &arguments.table);
            let table = noted(rows(config, &arguments.source, (roles, None))?);
            training::train(config, &table, now, &mut monitor)?
        }
    };
    monitor.bar.finish_and_clear();
    let took = clock.monotonic().saturating_sub(began).as_secs_f64();
    if let Some((_, Some(old))) = &old {
        // What the gate remembers of generations before is, like its verdict, no function of this model's rows.
        candidate.model.reservoir = old.reservoir.clone();
    }
    let card = &candidate.model.card;
    let mut text = format!(
        "{} rows of {} features; model {} of {}-record windows, fitted on {} of them in {took:.2} s\n",
        card.count("read"),
        card.features().len(),
        card.spec.kind,
        card.spec.window,
        card.count("fit"),
    );
    text += &told_of(card);
    text += &format!("gate: {}{}\n", candidate.verdict, measured(card));
    let budget = config.detect.budget.means(pace(&candidate.model));
    text += &format!("{budget}\n");
    if let Some(path) = &arguments.model {
        let bytes = write::model_bytes(&candidate.model, path)?;
        write::whole(path, &bytes)?;
        text += &format!("{}: {} bytes\n", path.display(), bytes.len());
        if let Some((_, Some(old))) = &old {
            if old.bytes != bytes {
                print(&text)?;
                let problem = "other bytes than the model it was made again from: made by another program version, or on another machine?";
                return Err(ToolError::Differs(problem.to_owned()).into());
            }
            text += "the same bytes as the model it was made again from\n";
        }
    }
    print(&text)
}

/// Says what was found out by itself.
fn noted((table, _): (Table, bool)) -> Table {
    for note in &table.notes {
        tracing::info!("{}: {note}", table.path);
    }
    table
}

/// What it is made of, which features are judged otherwise than by where they stand, and what it is calibrated on: a line each.
fn told_of(card: &Card) -> String {
    let hourly: &[String] = if card.has_calendar() {
        &card.hourly
    } else {
        &[]
    };
    let lists = [
        ("its members", &card.members[..]),
        (
            "not judged, for none of the records has them",
            &card.unobserved,
        ),
        ("counters, judged by how they change", &card.counters),
        ("trends, judged by how they change", &card.trends),
        ("judged by the hour", hourly),
    ];
    let lists = lists.iter().filter(|(_, some)| !some.is_empty());
    let lists = lists.map(|(what, some)| format!("{what}: {}\n", some.join(", ")));
    lists.collect::<String>()
        + &hour_of(card)
        + &types(card)
        + &unlike(card)
        + &calibrated(card)
        + "\n"
}

/// Which features a calendar would judge by the hour: a line, if there are some.
fn hour_of(card: &Card) -> String {
    card.without_hour()
        .map_or_else(String::new, |words| words + "\n")
}

/// Which features the types of keys send that have a model of their own; nothing where all keys send much the same.
fn types(card: &Card) -> String {
    let line = |of: &TypeOfKeys| {
        let keys = if of.keys == 1 { "key" } else { "keys" };
        format!(
            "a model of their own: {} {keys} that send {}\n",
            of.keys,
            of.features.join(", ")
        )
    };
    card.types.iter().map(line).collect()
}

/// How many keys are judged by levels of their own; nothing where keys are alike.
fn unlike(card: &Card) -> String {
    let (levels, keys) = (card.count("levels"), card.count("keys"));
    if levels == 0 {
        return String::new();
    }
    format!("keys are unlike: {levels} of {keys} are judged by levels of their own\n")
}

/// Which windows told what is normal.
fn calibrated(card: &Card) -> String {
    match card.usage {
        Some(usage) if usage.folds > 0 => format!(
            "calibrated on {} windows, each scored by one of {} models that had not seen it",
            card.count("calibrate"),
            usage.folds
        ),
        _ => format!(
            "calibrated on {} windows that weights were not fitted on",
            card.count("calibrate").max(card.count("validation"))
        ),
    }
}

/// What the gate measured, in a sentence; nothing if it did not.
fn measured(card: &Card) -> String {
    let measure = |name: &str| card.measures.get(name).copied();
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let Some(recall) = measure("recall") else {
        return String::new();
    };
    // A verdict that speaks of recall has said so already.
    let mut text = if card.gate.tells_recall() {
        String::new()
    } else {
        format!("; finds {} of injected faults", percent(recall))
    };
    if !text.is_empty()
        && let Some(baseline) = measure("baseline.recall")
    {
        text += &format!(" (principal components: {})", percent(baseline));
    }
    if let (Some(rate), Some(at)) = (measure("alert_rate"), measure("alert_rate.at")) {
        text += &format!(
            "; {} of held-out windows have a p-value of at most {}",
            percent(rate),
            percent(at)
        );
    }
    text
}

/// The log, read without being a member of the group.
fn history(config: &Config) -> Result<KafkaHistory, Failure> {
    let (clock, watchdog) = outside(config)?;
    Ok(KafkaHistory::new(
        &config.connection(),
        config.history_topics(),
        (clock, watchdog),
    )?)
}

/// What a model file has beside its card.
struct Old {
    bytes: Vec<u8>,
    reservoir: Reservoir,
}

/// The card in a file, which is a model file or the card alone as JSON; and the rest of the model file.
fn card(path: &Path) -> Result<(Card, Option<Old>), Failure> {
    let bytes = std::fs::read(path).map_err(|error| ToolError::File {
        path: path.to_owned(),
        error,
    })?;
    if let Ok(card) = serde_json::from_slice(&bytes) {
        return Ok((card, None));
    }
    let (model, bytes) = write::read_model(path)?;
    let reservoir = model.reservoir;
    Ok((model.card, Some(Old { bytes, reservoir })))
}

/// `anomalyd score`
pub(super) fn score(config: &Config, arguments: &ScoreArgs) -> Result<(), Failure> {
    let (model, _) = write::read_model(&arguments.model)?;
    let columns = model.card.columns.clone();
    let mut roles = Roles {
        features: Some(columns.clone()),
        ..roles(config, &arguments.table)
    };
    if let Some(schema) = &model.card.schema {
        // Its columns are made as they were for the model, whatever the configuration at hand says.
        roles.categories.clone_from(&schema.categories);
        roles.calendar.clone_from(&schema.calendar);
    }
    let table = noted(rows(config, &arguments.source, (roles, Some(&columns)))?);
    let kind = model.card.spec.kind.clone();
    let bar = rows_bar(table.len());
    let seen = |rows| bar.set_position(rows as u64);
    let outcome = evaluate::score(config, &table, (model, arguments.code), &seen)?;
    bar.finish_and_clear();
    let codes = outcome.codes.as_deref().unwrap_or_default();
    if arguments.code && codes.iter().all(Option::is_none) {
        let problem = format!("--code: a model of kind `{kind}` has no code");
        return Err(Failure::Usage(problem));
    }
    let found = measure(&table, &outcome, 0, arguments.vus_window);
    let text = counted(&outcome, 0) + &figures::shown(&found);
    tell((&table, &outcome), &text, arguments.output.as_deref())
}

/// `anomalyd backtest`
pub(super) fn backtest(config: &Config, arguments: &BacktestArgs) -> Result<(), Failure> {
    let roles = roles(config, &arguments.table);
    let (table, timed) = rows(config, &arguments.source, (roles, None))?;
    let warmup = arguments.warmup.unwrap_or(config.training.rows_min);
    summary::check(&table, warmup)?;
    say(&begins(&table, warmup));
    let script = match &arguments.feedback {
        Some(path) => Script::read(path, &table)?,
        None => Script::default(),
    };
    let outcome = replay(config, (&table, script), arguments, warmup)?;
    let found = measure(&table, &outcome, warmup, arguments.vus_window);
    let budgets = budgets::table(&config.detect, &table, &outcome, warmup);
    let nothing = budgets::nothing_opened(&budgets, &config.detect, (&table, &outcome), warmup);
    let sentence = summary::sentence(Judged {
        table: &table,
        outcome: &outcome,
        warmup,
        budgets: &budgets,
        timed,
    });
    let mut text = format!(
        "{sentence}\n{}{}\n",
        counted(&outcome, warmup),
        summary::trainings(&outcome)
    );
    // Of rows without times nobody knows the hour.
    let judged_by = outcome.models.iter().rev().find(|trained| trained.promoted);
    let model = judged_by.and_then(|trained| trained.model.as_ref());
    text += &model
        .filter(|_| timed)
        .map_or_else(String::new, |model| hour_of(&model.card));
    text += &figures::shown(&found);
    text += &budgets::shown(&budgets, nothing.as_deref(), warmup);
    if let Some(path) = &arguments.report {
        let report = story::report(ReportInput {
            config,
            table: &table,
            outcome: &outcome,
            warmup,
            sentence: &sentence,
            figures: &found,
            budgets: &budgets,
            nothing: nothing.as_deref(),
            timed,
        });
        let html = report.html();
        write::whole(path, html.as_bytes())?;
        text += &format!("the report: {}\n", path.display());
    }
    if let Some(path) = &arguments.alerts {
        write::whole(path, write::alerts(&outcome).as_bytes())?;
        text += &format!("the alerts: {}\n", path.display());
    }
    tell((&table, &outcome), &text, arguments.output.as_deref())
}

/// What a backtest says before it begins: what is read, and what was found out by itself.
fn begins(table: &Table, warmup: usize) -> String {
    let mut text = format!(
        "{}: {} rows of {}, the first {} to learn from",
        table.path,
        HumanCount(table.len() as u64),
        summary::many(table.columns.len(), "feature"),
        HumanCount(warmup as u64)
    );
    for note in &table.notes {
        text += &format!("; {note}");
    }
    text + "\n"
}

/// The rows through the pipeline, with one bar for all of it.
fn replay(
    config: &Config,
    (table, script): (&Table, Script),
    arguments: &BacktestArgs,
    warmup: usize,
) -> Result<Outcome, Failure> {
    let bar = rows_bar(table.len());
    let mut watch = Watch {
        rows: &|rows| {
            bar.set_message("");
            bar.set_position(rows as u64);
        },
        monitor: &mut Epochs::on(bar.clone()),
    };
    let first = Warmup {
        rows: warmup,
        as_live: arguments.as_live,
    };
    let outcome = evaluate::backtest_with(config, table, (first, script), &mut watch)?;
    bar.finish_and_clear();
    Ok(outcome)
}

/// The figures of the rows from `begin` on, if there are labels.
fn measure(
    table: &Table,
    outcome: &Outcome,
    begin: usize,
    vus_window: Option<usize>,
) -> Vec<(&'static str, f64)> {
    let Some(labels) = &table.labels else {
        return Vec::new();
    };
    let begin = begin.min(labels.len());
    let window = vus_window.unwrap_or(VUS_WINDOW);
    let (keys, lines) = (&table.keys[begin..], &outcome.lines[begin..]);
    figures::figures(keys, &labels[begin..], lines, window)
}

/// Rows from `begin` on and alerts, in a line; and what was said on the way, in another.
fn counted(outcome: &Outcome, begin: usize) -> String {
    let judged = outcome.lines.get(begin..).unwrap_or_default();
    let flagged = judged.iter().filter(|line| line.alert).count();
    let (rows, drifts) = (judged.len(), outcome.drifts);
    let mut text = format!(
        "{rows} rows judged, {flagged} of them in alerts; keys that began to drift: {drifts}\n"
    );
    let heard = outcome.feedback;
    if heard.statements > 0 {
        writeln!(
            text,
            "feedback: {} statements, {} of them on episodes that had not opened by then; {} episodes held back",
            heard.statements, heard.unknown, heard.held_back
        )
        .unwrap_or_default();
    }
    text
}

/// Writes scores, and says what came of it.
fn tell(
    (table, outcome): (&Table, &Outcome),
    text: &str,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let scores = write::scores(table, outcome);
    match output {
        Some(path) => {
            write::whole(path, scores.as_bytes())?;
            print(text)
        }
        None => {
            say(text);
            print(&scores)
        }
    }
}

fn roles(config: &Config, arguments: &TableArgs) -> Roles {
    overridden(Roles::of_input(&config.input), arguments)
}

/// The same, with what the command line says instead.
fn overridden(mut roles: Roles, arguments: &TableArgs) -> Roles {
    if !arguments.key.is_empty() {
        roles.key.clone_from(&arguments.key);
    }
    if arguments.timestamp.is_some() {
        roles.timestamp.clone_from(&arguments.timestamp);
    }
    roles.labels.clone_from(&arguments.labels);
    roles.ignore.clone_from(&arguments.ignore);
    roles
}

fn read(path: &Path, roles: &Roles) -> Result<Table, Failure> {
    let table = Table::read(path, roles)?;
    if !table.ignored.is_empty() {
        tracing::info!(columns = ?table.ignored, "columns without numbers are left out");
    }
    Ok(table)
}

/// The rows of the file, or of the stretch of the topics; and whether they have times of their own. `columns`: those of the model that will
/// judge them.
fn rows(
    config: &Config,
    source: &SourceArgs,
    (roles, columns): (Roles, Option<&[String]>),
) -> Result<(Table, bool), Failure> {
    if let Some(path) = &source.input {
        let roles = Roles {
            find_time: true,
            ..roles
        };
        let table = read(path, &roles)?;
        let timed = !table.schema.timestamp.is_empty();
        return Ok((table, timed));
    }
    let Some(from) = source.from else {
        let problem = "what is to be read? --input FILE, or --from TIME for records of the configuration's topics";
        return Err(Failure::Usage(problem.to_owned()));
    };
    let bar = ProgressBar::new_spinner();
    let bar = styled(bar, "{spinner} {human_pos} records read in {elapsed}");
    let range = (from, source.to);
    let seen = |read: usize| bar.set_position(read as u64);
    let table = topic::read(config, columns, &mut history(config)?, range, &seen)?;
    bar.finish_and_clear();
    let unread = table.empty.iter().filter(|&&empty| empty).count();
    if unread > 0 {
        tracing::warn!(
            records = unread,
            "records could not be read: they are neither learnt nor scored"
        );
    }
    Ok((table, true))
}

/// A bar that shows itself on a terminal only.
fn rows_bar(rows: usize) -> ProgressBar {
    let bar = ProgressBar::new(rows as u64);
    styled(
        bar,
        "{bar:40} {human_pos}/{human_len} rows, {eta} left {msg}",
    )
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Shows epochs as they pass: of the model's fit, of those that calibrate it, and of the gate's baseline.
struct Epochs {
    bar: ProgressBar,
    fits: usize,
}

impl Epochs {
    fn begin() -> Self {
        let bar = ProgressBar::new_spinner();
        Self::on(styled(bar, "{spinner} {msg} ({elapsed})"))
    }

    fn on(bar: ProgressBar) -> Self {
        Self { bar, fits: 0 }
    }
}

impl Monitor for Epochs {
    fn epoch(&mut self, epoch: usize, train: f64, validation: f64) -> ControlFlow<()> {
        if epoch == 0 {
            self.fits += 1;
        }
        self.bar.set_message(format!(
            "training: fit {}, epoch {}: loss {train:.4}, validation {validation:.4}",
            self.fits,
            epoch + 1
        ));
        self.bar.tick();
        ControlFlow::Continue(())
    }
}
