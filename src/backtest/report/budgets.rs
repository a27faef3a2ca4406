//! The report's slider through budgets, and their table: what each would have opened, with the line to paste.

use super::super::budgets::{Row, value};
use super::html::{escape, put};
use super::{Report, number};

/// The line of a configuration.
pub(super) fn line(row: &Row) -> String {
    format!("alerts.false_alarm_rate = {}", value(&row.setting))
}

impl Report {
    /// The slider, which the script moves; and the table for all.
    pub(super) fn budget(&self, out: &mut String) {
        let Some(own) = self.budgets.iter().position(|budget| budget.row.configured) else {
            return;
        };
        let last = self.budgets.len() - 1;
        put(
            out,
            format_args!(
                "<section id=\"budget\"><h2>Budget of false alarms</h2><div class=\"slider\" hidden><label for=\"rate\">Fewer alarms, or more faults found</label><input type=\"range\" id=\"rate\" min=\"0\" max=\"{last}\" step=\"1\" value=\"{own}\"></div><p id=\"said\" role=\"status\"><b>{}</b> (configured): {}</p>",
                escape(&line(&self.budgets[own].row)),
                escape(&self.budgets[own].words)
            ),
        );
        if let Some(nothing) = &self.nothing {
            put(
                out,
                format_args!("<p class=\"dim\">{}</p>", escape(nothing)),
            );
        }
        out.push_str("<details><summary>What other budgets would have opened</summary><p class=\"dim small\">By the models of this run: that another budget would have kept other records out of training is not reckoned with.</p>");
        self.budget_table(out);
        out.push_str("</details></section>");
    }

    fn budget_table(&self, out: &mut String) {
        let labelled = self
            .budgets
            .iter()
            .any(|budget| budget.row.labelled.is_some());
        out.push_str(
            "<div class=\"scroll\"><table><tr><th>setting</th><th class=\"n\">episodes</th>",
        );
        if labelled {
            out.push_str("<th class=\"n\">faults found</th><th class=\"n\">false</th><th class=\"n\">median delay, records</th>");
        }
        out.push_str("</tr>");
        let shown = self.budgets.iter().filter(|budget| budget.row.in_table);
        shown.for_each(|shown| budget(out, &shown.row));
        out.push_str("</table></div>");
    }
}

fn budget(out: &mut String, row: &Row) {
    let configured = if row.configured { " (configured)" } else { "" };
    put(
        out,
        format_args!(
            "<tr><td><code>{}</code>{configured}</td><td class=\"n\">{}</td>",
            escape(&line(row)),
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
