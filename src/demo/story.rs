//! What the demo says on the terminal: one line an event, and a table at the end. Colours only on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use super::faults::Fault;
use super::scoreboard::{Finding, Scheduled, Scoreboard};
use crate::alert::{Alert, AlertEvent, AlertKind, Severity};
use crate::time::Timestamp;

/// Writes the story.
#[derive(Debug)]
pub struct Story<W> {
    out: W,
    colour: bool,
}

/// What a line is about: its label and colour.
#[derive(Clone, Copy, Debug)]
pub enum About {
    /// The set-up.
    Setup,
    /// A model.
    Model,
    /// A fault begins or ends: what the plant knows and the daemon does not.
    Fault,
    /// The daemon raised an alert.
    Alert,
    /// What it alerted of got worse.
    Worse,
    /// The daemon closed one.
    Closed,
    /// An alert that no fault explains.
    FalseAlarm,
    /// What people do.
    People,
}

impl About {
    fn label(self) -> (&'static str, &'static str) {
        match self {
            Self::Setup => ("·", "2"),
            Self::Model => ("model", "36"),
            Self::Fault => ("plant", "33"),
            Self::Alert => ("ALERT", "1;31"),
            Self::Worse => ("worse", "1;31"),
            Self::Closed => ("closed", "32"),
            Self::FalseAlarm => ("FALSE", "1;35"),
            Self::People => ("people", "34"),
        }
    }
}

/// Figures for the last lines, as measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Records scored during the story.
    pub scored: u64,
    /// Records a second.
    pub per_second: f64,
    /// From a record's arrival to its alert or commit: median and 99th percentile.
    pub latency: Option<(Duration, Duration)>,
    /// False alarms that the budget allows over the story.
    pub budget: u64,
    /// Until when records were sent.
    pub until: Timestamp,
}

impl<W: Write> Story<W> {
    /// Writes to `out`.
    pub fn new(out: W, colour: bool) -> Self {
        Self { out, colour }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// One line, `at` since the start.
    pub fn line(&mut self, at: Duration, about: About, text: &str) -> io::Result<()> {
        let (label, code) = about.label();
        let label = self.paint(&format!("{label:<6}"), code);
        writeln!(self.out, "{:>6.1}s  {label}  {text}", at.as_secs_f64())?;
        self.out.flush()
    }

    /// Text without a time, as it is.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// Where the page is, large.
    pub fn address(&mut self, address: &str) -> io::Result<()> {
        let line = "─".repeat(address.chars().count() + 23);
        let address = self.paint(address, "1;4;36");
        let text = format!("\n  ┌{line}┐\n  │  open in a browser:  {address} │\n  └{line}┘\n");
        self.text(&text)
    }

    /// An alert as it came; `fault` is what it belongs to.
    pub fn alert(&mut self, at: Duration, alert: &Alert, fault: Option<&Fault>) -> io::Result<()> {
        match (alert.event, fault) {
            (AlertEvent::Open, Some(_)) => self.line(at, About::Alert, &describe(alert)),
            (AlertEvent::Open, None) => self.line(at, About::FalseAlarm, &describe(alert)),
            (AlertEvent::Update, _) if alert.severity == Severity::Critical => {
                self.line(at, About::Worse, &describe(alert))
            }
            (AlertEvent::Update, _) => Ok(()),
            (AlertEvent::Close, _) => {
                let text = match alert.kind {
                    AlertKind::Silence => format!("{} sends again", alert.key),
                    _ => format!(
                        "{} is normal again, after {} records",
                        alert.key, alert.records
                    ),
                };
                self.line(at, About::Closed, &text)
            }
        }
    }

    /// The table at the end.
    pub fn table(&mut self, board: &Scoreboard, figures: &Figures) -> io::Result<()> {
        writeln!(
            self.out,
            "\n{:<8} {:<10} {:<8} {:>7}  {:<18} {:<18} right sensor",
            "pump", "fault", "found", "delay", "at first", "at its worst"
        )?;
        for (scheduled, finding) in board.findings() {
            let row = self.row(scheduled, &finding, figures.until);
            writeln!(self.out, "{row}")?;
        }
        let alarms = board.false_alarms();
        let found = board
            .findings()
            .iter()
            .filter(|(_, finding)| finding.delay.is_some())
            .count();
        let right = board
            .findings()
            .iter()
            .filter(|(_, finding)| finding.right)
            .count();
        let due = |(scheduled, finding): &(&Scheduled, Finding)| {
            finding.delay.is_some() || scheduled.due <= figures.until
        };
        let total = board.findings().iter().filter(|each| due(each)).count();
        writeln!(
            self.out,
            "\nfound {found} of {total} faults that there was time for, the right sensor named for {right}"
        )?;
        writeln!(
            self.out,
            "false alarms {} (the budget allows {})",
            alarms.len(),
            figures.budget
        )?;
        let latency = figures.latency.map_or_else(
            || "no record measured".to_owned(),
            |(p50, p99)| {
                format!(
                    "p50 {:.0} ms, p99 {:.0} ms",
                    p50.as_secs_f64() * 1e3,
                    p99.as_secs_f64() * 1e3
                )
            },
        );
        writeln!(
            self.out,
            "{} records scored, {:.0}/s as the plant sends them; record to commit: {latency}",
            figures.scored, figures.per_second
        )?;
        self.out.flush()
    }

    fn row(&self, scheduled: &Scheduled, finding: &Finding, until: Timestamp) -> String {
        let kind = scheduled.fault.says.split(':').next().unwrap_or_default();
        let delay = finding
            .delay
            .map_or_else(|| "–".to_owned(), |d| format!("{:.1} s", d.as_secs_f64()));
        let yes =
            |is: bool| self.paint(if is { "yes" } else { "no " }, if is { "32" } else { "31" });
        let (found, right) = if finding.delay.is_none() && until < scheduled.due {
            ("not yet".to_owned(), "–".to_owned())
        } else {
            (yes(finding.delay.is_some()), yes(finding.right))
        };
        // Colours take no room.
        let pad = " ".repeat(if found == "not yet" { 1 } else { 5 });
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "–".to_owned());
        format!(
            "{:<8} {kind:<10} {found}{pad} {delay:>7}  {:<18} {:<18} {right}",
            scheduled.key,
            name(&finding.first),
            name(&finding.named),
        )
    }
}

/// An alert in one line: who, how bad, and why.
fn describe(alert: &Alert) -> String {
    let mut text = format!("{}  {:?}", alert.key, alert.severity).to_lowercase();
    if alert.kind == AlertKind::Silence {
        text.push_str("  silent for longer than ever before");
        return text;
    }
    text.push_str(&format!("  p = {:.0e} ", alert.p_value));
    for part in alert
        .relevant_attribution
        .iter()
        .take(2)
        .filter(|part| part.share >= 0.1)
    {
        let why = match (part.actual, part.still) {
            (Some(actual), Some(records)) => {
                format!("stands still at {actual:.2} for {records} records")
            }
            (Some(actual), None) => format!("{actual:.2}, expected {:.2}", part.expected),
            (None, _) => format!("missing, expected {:.2}", part.expected),
        };
        let percent = 100.0 * part.share;
        text.push_str(&format!("  {} {percent:.0} % ({why})", part.feature));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_stands_in_a_frame_that_fits() {
        let mut out = Vec::new();
        Story::new(&mut out, false)
            .address("http://127.0.0.1:9464/")
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        let widths: Vec<usize> = text
            .trim_matches('\n')
            .lines()
            .map(|line| line.chars().count())
            .collect();
        assert_eq!(widths, [49; 3], "{text}");
        assert!(text.contains("http://127.0.0.1:9464/"));
    }
}
