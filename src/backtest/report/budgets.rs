//! The report's table of budgets: what each would have opened, with the line to paste.

use super::super::budgets::{Row, value};
use super::html::{escape, put};
use super::{Report, number};

impl Report {
    pub(super) fn budgets(&self, out: &mut String) {
        if self.budgets.is_empty() {
            return;
        }
        out.push_str("<h2>What other budgets of false alarms would have opened</h2>");
        if let Some(nothing) = &self.nothing {
            put(out, format_args!("<p>{}</p>", escape(nothing)));
        }
        out.push_str(
            "<div class=\"scroll\"><table><tr><th>setting</th><th class=\"n\">episodes</th>",
        );
        if self.budgets.iter().any(|row| row.labelled.is_some()) {
            out.push_str("<th class=\"n\">faults found</th><th class=\"n\">false</th><th class=\"n\">median delay, records</th>");
        }
        out.push_str("</tr>");
        self.budgets.iter().for_each(|row| budget(out, row));
        out.push_str("</table></div>");
    }
}

fn budget(out: &mut String, row: &Row) {
    let line = format!("alerts.false_alarm_rate = {}", value(&row.setting));
    let configured = if row.configured { " (configured)" } else { "" };
    put(
        out,
        format_args!(
            "<tr><td><code>{}</code>{configured}</td><td class=\"n\">{}</td>",
            escape(&line),
            row.episodes
        ),
    );
    if let Some(found) = &row.labelled {
        let delay = if found.found > 0 {
            number(found.delay_records)
        } else {
            "–".to_owned()
        };
        put(
            out,
            format_args!(
                "<td class=\"n\">{} of {}</td><td class=\"n\">{}</td><td class=\"n\">{delay}</td>",
                found.found, found.faults, found.false_episodes
            ),
        );
    }
    out.push_str("</tr>");
}
