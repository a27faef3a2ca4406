//! The command line: parse, load the configuration, call the body, turn what came of it into an exit code.
//!
//! Next: `args` (every option and help text), `exit` (the codes), `validate`, `healthcheck`. Bodies that do more live in `service`,
//! `backtest`, `tools` and `demo`.

mod alerts;
pub mod args;
mod daemon;
mod dead_letters;
mod episodes;
pub mod exit;
mod files;
mod healthcheck;
mod init;
mod models;
mod models_diff;
mod output;
mod outside;
mod retrain;
mod sample;
mod settings;
mod topics;
mod validate;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::config::{Config, Problems, Sources, Which};
use args::{
    AlertsCommand, Cli, Command, ConfigCommand, DeadLettersCommand, EpisodesCommand, ModelsCommand,
    Settings, TopicsCommand,
};
use exit::Failure;
use output::print;

/// Runs the program with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, but not to the shell. A closed pipe is nobody's problem.
            drop(error.print());
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::OK
            };
            return ExitCode::from(code);
        }
    };
    match dispatch(&cli) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => {
            drop(writeln!(io::stderr(), "anomalyd: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    let load = || load(&sources(&cli.settings));
    let all = || load_all(&cli.settings);
    // Of one, if it is named; else what all share.
    let shared = || load_shared(&cli.settings);
    match &cli.command {
        Command::Validate(arguments) => validate::run(&all()?, arguments),
        Command::Topics(TopicsCommand::Create {
            replication,
            input_partitions,
        }) => topics::create(&all()?, *replication, *input_partitions),
        Command::Healthcheck(arguments) => match all()?.first() {
            // They have one server.
            Some(config) => healthcheck::run(config, arguments),
            None => Ok(()),
        },
        Command::Retrain(arguments) => {
            let several = Config::detectors(&sources(&cli.settings)).len() > 1;
            retrain::run(&load()?, several, arguments)
        }
        Command::Models(ModelsCommand::Kinds { json }) => models::kinds(*json),
        Command::Models(command) => models::run(&load()?, command),
        Command::Episodes(EpisodesCommand::Show(arguments)) => alerts::show(&load()?, arguments),
        Command::Episodes(command) => episodes::run(&load()?, command),
        Command::Alerts(AlertsCommand::Tail(arguments)) => alerts::tail(&load()?, arguments),
        Command::Config(ConfigCommand::Init(arguments)) => {
            init::run(&load_to_propose(&cli.settings)?, arguments)
        }
        Command::Config(ConfigCommand::Show(arguments)) => settings::show(&load()?, arguments),
        Command::Config(ConfigCommand::Schema) => settings::schema(),
        Command::DeadLetters(DeadLettersCommand::List(arguments)) => {
            dead_letters::list(&load()?, arguments)
        }
        Command::DeadLetters(DeadLettersCommand::Replay(arguments)) => {
            dead_letters::replay(&load()?, arguments)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "anomalyd", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man { command, to } => man(command, to.as_deref()),
        Command::Run => daemon::run(&all()?),
        Command::Notify => daemon::notify(&shared()?),
        Command::Demo(arguments) if arguments.plant => daemon::plant(arguments, &load()?),
        Command::Demo(arguments) => daemon::demo(arguments, &cli.settings),
        Command::Backtest(arguments) => files::backtest(&load()?, arguments),
        Command::Score(arguments) => files::score(&load()?, arguments),
        Command::Train(arguments) => files::train(&load()?, arguments),
        Command::Sample(arguments) => sample::run(arguments),
    }
}

/// Prints the manual page of a command, or writes those of all.
fn man(of: &[String], to: Option<&Path>) -> Result<(), Failure> {
    if let Some(folder) = to {
        return Ok(clap_mangen::generate_to(Cli::command(), folder)?);
    }
    let mut command = Cli::command();
    command.build();
    for name in of {
        let found = command.find_subcommand(name).cloned();
        command = found
            .ok_or_else(|| Failure::Usage(format!("there is no command `{}`", of.join(" "))))?;
    }
    // `anomalyd-episodes-show`, as manual pages are called.
    let title = command.get_display_name().unwrap_or("anomalyd").to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .title(title)
        .render(&mut page)?;
    print(&String::from_utf8_lossy(&page))
}

/// Loads and checks the configuration of a command, and starts the log as it says.
fn load(sources: &Sources) -> Result<Config, Problems> {
    let config = Config::load(sources)?;
    crate::service::log::start(&config.log.level, config.log.format);
    Ok(config)
}

/// The same of all detectors, at least one.
fn load_all(settings: &Settings) -> Result<Vec<Config>, Problems> {
    let configs = Config::load_all(&sources(settings))?;
    if let Some(config) = configs.first() {
        crate::service::log::start(&config.log.level, config.log.format);
    }
    Ok(configs)
}

/// The same of what all detectors share, unless one is named.
fn load_shared(settings: &Settings) -> Result<Config, Problems> {
    let mut sources = sources(settings);
    if sources.which == Which::Only && Config::detectors(&sources).len() > 1 {
        sources.which = Which::Shared;
    }
    load(&sources)
}

/// The same for who proposes features: that none are listed is no problem.
fn load_to_propose(settings: &Settings) -> Result<Config, Problems> {
    let mut settings = settings.clone();
    let listed = load_shared(&settings);
    match listed {
        Err(problems) if problems.0.iter().any(|one| one.key == "input.features") => {
            settings.set.push("input.features=[\"any\"]".to_owned());
            load_shared(&settings)
        }
        listed => listed,
    }
}

/// The layers of the configuration: the flags that are short for settings come last.
fn sources(settings: &Settings) -> Sources {
    let mut set = settings.set.clone();
    set.extend(
        settings
            .brokers
            .iter()
            .map(|brokers| format!("kafka.brokers={brokers}")),
    );
    set.extend(
        settings
            .log_level
            .iter()
            .map(|level| format!("log.level={level}")),
    );
    Sources {
        files: settings.config.clone(),
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        set,
        which: settings.detector.clone().map_or(Which::Only, Which::Named),
    }
}
