//! `anomalyd dead-letters`: what could not be read, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::args::DeadLettersListArgs;
use super::exit::Failure;
use super::output::print;
use crate::config::Config;
use crate::kafka::dead_letter_log::{Letter, last};
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::time::{Clock, SystemClock, Timestamp};

/// Characters of a value that are shown.
const VALUE_MAX: usize = 120;

/// Lists the last dead letters.
pub(super) fn list(config: &Config, arguments: &DeadLettersListArgs) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process);
    let topic = config.output.dead_letters.as_str();
    let most = i64::try_from(arguments.last).unwrap_or(i64::MAX);
    let mut letters = last(&config.connection(), (topic, most), (clock, watchdog))?;
    letters.drain(..letters.len().saturating_sub(arguments.last));
    if !arguments.json {
        return print(&shown(&letters, topic));
    }
    for letter in &letters {
        let line = serde_json::to_string(letter);
        print(&(line.map_err(|error| Failure::Internal(error.to_string()))? + "\n"))?;
    }
    Ok(())
}

/// A few lines a letter, the oldest first, and how many there are for each reason.
fn shown(letters: &[Letter], topic: &str) -> String {
    if letters.is_empty() {
        return format!("{topic} has no dead letters: every record could be read\n");
    }
    let mut out = String::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for letter in letters {
        *reasons.entry(&letter.reason).or_default() += 1;
        writeln!(
            out,
            "{}  {}[{}]@{}  {}: {}",
            Timestamp(letter.timestamp).rfc3339(),
            letter.topic,
            letter.partition,
            letter.offset,
            letter.reason,
            letter.message
        )
        .unwrap_or_default();
        let key = letter.key.as_deref().unwrap_or("no key");
        let value = letter.value.as_deref().unwrap_or("no value");
        writeln!(out, "    {}: {}", printable(key), printable(value)).unwrap_or_default();
    }
    let counts: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    writeln!(out, "{} shown: {}", letters.len(), counts.join(", ")).unwrap_or_default();
    out
}

/// The beginning of a text, with nothing in it that a terminal would obey.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(VALUE_MAX)
        .map(|c| if c.is_control() { '·' } else { c })
        .collect();
    if text.chars().nth(VALUE_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_told_with_their_reason_and_nothing_that_a_terminal_obeys() {
        let letter = Letter {
            topic: "records".to_owned(),
            partition: 3,
            offset: 17,
            reason: "not_json".to_owned(),
            message: "is not JSON".to_owned(),
            value: Some(format!("\x1b[31m{}", "x".repeat(200))),
            ..Letter::default()
        };
        let text = shown(&[letter.clone(), letter], "dead");
        assert!(
            text.contains("records[3]@17  not_json: is not JSON"),
            "{text}"
        );
        assert!(
            !text.contains('\x1b') && text.contains("no key: ·[31mxx"),
            "{text}"
        );
        assert!(text.ends_with("2 shown: 2 not_json\n"), "{text}");
        assert!(shown(&[], "dead").contains("dead has no dead letters"));
    }
}
