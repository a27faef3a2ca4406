//! A card an episode: what caused it in words, and the features with their shares; its course is drawn by the script.

use super::super::summary::{lasting, many};
use super::chart::P_MIN;
use super::html::{escape, put};
use super::{EpisodeRow, Feature, Report, number, second};
use crate::alert::{AlertKind, Severity};

impl Report {
    pub(super) fn cards(&self, out: &mut String) {
        let count = self.episodes.len();
        put(
            out,
            format_args!("<section id=\"episodes\"><h2>Episodes: {count}</h2>"),
        );
        let shown = self.episodes.iter().filter(|episode| episode.card).count();
        if count == 0 {
            out.push_str("<p class=\"dim\">None opened.</p>");
        } else if shown < count {
            put(
                out,
                format_args!("<p class=\"dim\">The {shown} worst, in order of time.</p>"),
            );
        }
        out.push_str("<p id=\"others\" class=\"dim\" hidden></p></section>");
        let cards = self.episodes.iter().filter(|episode| episode.card);
        for (at, episode) in cards.enumerate() {
            self.card(out, at, episode);
        }
    }

    fn card(&self, out: &mut String, at: usize, episode: &EpisodeRow) {
        let (severity, class) = severity(episode);
        let key = if episode.key.is_empty() {
            String::new()
        } else {
            format!("<a href=\"#lanes\">{}</a>: ", escape(&episode.key))
        };
        put(
            out,
            format_args!(
                "<section class=\"card\" id=\"e{at}\" tabindex=\"-1\"><div class=\"row\"><span class=\"pill {class}\">{severity}</span><h3 class=\"grow cause\">{key}{}</h3></div><p class=\"dim small\">{}</p>",
                escape(&episode.cause),
                escape(&self.when(episode))
            ),
        );
        if episode.trace.is_some() {
            put(
                out,
                format_args!("<div class=\"charts\" data-card=\"{at}\"></div>"),
            );
        }
        if !episode.features.is_empty() {
            out.push_str("<details><summary>Shares of the features</summary><table class=\"stack\"><thead><tr><th>feature</th><th>share</th><th>measured</th><th>expected</th><th>off by</th></tr></thead><tbody>");
            episode.features.iter().for_each(|part| feature(out, part));
            out.push_str("</tbody></table></details>");
        }
        out.push_str("</section>");
    }

    /// When an episode was, how long it lasted, how rare it was, and what labels say.
    fn when(&self, episode: &EpisodeRow) -> String {
        let last = episode.to.saturating_sub(1).max(episode.from);
        let mut text = match (self.times.get(episode.from), self.places.get(last)) {
            (Some(from), Some(to)) => {
                let seconds = (to - self.places[episode.from]) as f64 / 1000.0;
                format!("From {} UTC, for {}", second(from), lasting(seconds))
            }
            _ => format!("From row {} to {last}", episode.from),
        };
        text += &format!(", {}", many(episode.records, "record"));
        if episode.kind == AlertKind::Score {
            // How rare it is beyond what the charts show, no model knows.
            text += &if episode.p_value < P_MIN {
                format!("; p-value below {P_MIN:.0e}")
            } else {
                format!("; smallest p-value {:.0e}", episode.p_value)
            };
        }
        match episode.labelled {
            Some(true) => text += "; labelled: a fault",
            Some(false) => text += "; not labelled: a false alarm, if labels are complete",
            None => {}
        }
        text
    }
}

fn severity(episode: &EpisodeRow) -> (&'static str, &'static str) {
    let name = match episode.severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    };
    if episode.kind == AlertKind::Silence {
        ("silence", name)
    } else {
        (name, name)
    }
}

fn feature(out: &mut String, part: &Feature) {
    let actual = part.actual.map_or_else(|| "missing".to_owned(), number);
    let off = part.spreads.map_or_else(
        || "–".to_owned(),
        |by| format!("{by:+.1} spreads").replace('-', "−"),
    );
    let share = 100.0 * part.share;
    put(
        out,
        format_args!(
            "<tr><td>{}</td><td><svg class=\"bar\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"100\" height=\"10\"/><rect width=\"{:.0}\" height=\"10\"/></svg>{share:.0} %</td><td data-label=\"measured\">{actual}</td><td data-label=\"expected\">{}</td><td data-label=\"off by\">{off}</td></tr>",
            escape(&part.name),
            share.max(1.0),
            number(part.expected)
        ),
    );
}
