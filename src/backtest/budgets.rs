//! What other budgets of false alarms would have opened in a backtest, by the p-values that it found.
//!
//! Models are those of the run: that another budget would have kept other records out of training is not reckoned with.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::evaluate::Outcome;
use crate::alert::ScoredBy;
use crate::detect::episode::{Change, EpisodeState, Reading, Rule};
use crate::detect::evidence::Place;
use crate::detect::{BUDGET_MAX, Budget, Params};
use crate::model::card::ModelVersion;
use crate::model::trained::TrainedModel;
use crate::stream::Offset;
use crate::tools::table::Table;

/// The budgets that are shown beside the configured one, as the configuration has them.
const SHOWN: [&str; 4] = ["1/month", "1/week", "1/day", "1/hour"];

/// The budgets that the report's slider goes through, beside the configured one.
const LADDER: [&str; 9] = [
    "1/month", "2/month", "1/week", "3/week", "1/day", "3/day", "10/day", "1/hour", "4/hour",
];

/// What one budget would have come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The budget as the configuration has it.
    pub setting: String,
    /// Whether it is the configured one.
    pub configured: bool,
    /// Whether the table of budgets has it; else only the report's slider goes through it.
    pub in_table: bool,
    /// Episodes that opened.
    pub episodes: usize,
    /// What labels say; `None` without labels.
    pub labelled: Option<Labelled>,
    /// The episodes by key, rows of the table.
    pub spans: Vec<Opened>,
}

/// An episode that a budget would have opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Where it probably began: a row of the table.
    pub onset: usize,
    /// The row that opened it.
    pub opened: usize,
    /// Its last row.
    pub last: usize,
}

/// Episodes against labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Labelled {
    /// Stretches of labelled records of one key.
    pub faults: usize,
    /// Those in which an episode was open.
    pub found: usize,
    /// Episodes without a labelled record from their probable beginning to their end.
    pub false_episodes: usize,
    /// Median over the found of the records of the key from the fault's first to the first in an episode; NaN if none was found.
    pub delay_records: f64,
    /// The same in seconds of event time.
    pub delay_seconds: f64,
}

/// An episode of a key: rows among those of its key. `to` is the one after its last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    onset: usize,
    opened: usize,
    to: usize,
}

/// A row for each budget, the smallest first; that of `params` is among them. Rows before `warmup` are judged, but not counted.
#[must_use]
pub fn table(params: &Params, table: &Table, outcome: &Outcome, warmup: usize) -> Vec<Row> {
    let shown = LADDER
        .iter()
        .filter_map(|text| Some(((*text).to_owned(), Budget::parse(text)?)));
    let mut budgets: Vec<(String, Budget)> = shown.collect();
    if budgets.iter().all(|(_, budget)| *budget != params.budget) {
        budgets.push((setting(params.budget), params.budget));
    }
    let mut models = outcome.models.iter().rev();
    let latest = models.find_map(|trained| trained.model.as_deref());
    let allows = |budget: Budget| Rule::of(&with(params, budget), latest).per_record();
    budgets.sort_by(|a, b| allows(a.1).total_cmp(&allows(b.1)));
    let rows = budgets.into_iter().map(|(setting, budget)| {
        let configured = budget == params.budget;
        Row {
            in_table: configured || SHOWN.contains(&setting.as_str()),
            setting,
            configured,
            ..row(params, budget, (table, outcome), warmup)
        }
    });
    rows.collect()
}

/// The same parameters with another budget.
fn with(params: &Params, budget: Budget) -> Params {
    Params {
        budget,
        ..params.clone()
    }
}

/// A budget as the configuration has it.
fn setting(budget: Budget) -> String {
    match budget {
        Budget::PerRecord(p) => p.to_string(),
        Budget::PerKeyDay(episodes) => format!("{episodes}/day"),
        Budget::PerFleetDay(episodes) => format!("{episodes}/day/fleet"),
    }
}

fn row(
    params: &Params,
    budget: Budget,
    (table, outcome): (&Table, &Outcome),
    warmup: usize,
) -> Row {
    let episodes = replay(params, budget, (table, outcome), None);
    let counted = |rows: &[usize], span: &Span| rows[span.opened] >= warmup;
    let rows = by_key(table);
    let all = episodes.iter().flat_map(|(key, spans)| {
        let rows = &rows[key];
        let counted = spans.iter().filter(move |span| counted(rows, span));
        counted.map(move |span| Opened {
            onset: rows[span.onset],
            opened: rows[span.opened],
            last: rows[span.to.max(span.opened + 1) - 1],
        })
    });
    let mut spans: Vec<Opened> = all.collect();
    spans.sort_by_key(|span| (span.opened, span.onset));
    let labelled = table.labels.as_ref().map(|labels| {
        let mut found = Found::default();
        for (key, rows) in &rows {
            let spans = episodes.get(key).map_or(&[][..], Vec::as_slice);
            found.of_key((table, labels, warmup), rows, spans);
        }
        found.figures()
    });
    Row {
        episodes: spans.len(),
        labelled,
        spans,
        ..Row::default()
    }
}

/// How strong the evidence of its key is at each row under the configured budget, in nats; NaN where nothing was judged.
pub(super) fn strengths(params: &Params, table: &Table, outcome: &Outcome) -> Vec<f64> {
    let mut strengths = vec![f64::NAN; table.len()];
    let mut note = |row: usize, strength: f64| strengths[row] = strength;
    replay(params, params.budget, (table, outcome), Some(&mut note));
    strengths
}

/// The rows of each key, in order.
pub(super) fn by_key(table: &Table) -> BTreeMap<&str, Vec<usize>> {
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, key) in table.keys.iter().enumerate() {
        rows.entry(key.0.as_ref()).or_default().push(row);
    }
    rows
}

/// A key on its way through the state machine.
#[derive(Default)]
struct KeyReplay {
    episodes: EpisodeState,
    model: Option<ModelVersion>,
    rows: usize,
    spans: Vec<Span>,
}

impl KeyReplay {
    /// Another model may judge from now on.
    fn judged_by(&mut self, judge: ScoredBy) {
        if let ScoredBy::Model(version) = judge
            && self.model.replace(version) != Some(version)
        {
            self.episodes.evidence.change_model();
        }
    }
}

/// The episodes of each key under another budget, by the state machine of the pipeline. `told`: the strength of the evidence at each row.
fn replay<'a>(
    params: &Params,
    budget: Budget,
    (table, outcome): (&'a Table, &Outcome),
    mut told: Option<&mut dyn FnMut(usize, f64)>,
) -> BTreeMap<&'a str, Vec<Span>> {
    let params = with(params, budget);
    let mut keys: BTreeMap<&str, KeyReplay> = BTreeMap::new();
    let mut rules = rules(&params, None);
    let mut models = outcome.models.iter().peekable();
    for (row, line) in outcome.lines.iter().enumerate() {
        while let Some(trained) = models.next_if(|trained| trained.row <= row) {
            if trained.promoted {
                rules = self::rules(&params, trained.model.as_deref());
            }
        }
        let key = keys.entry(table.keys[row].0.as_ref()).or_default();
        let at = key.rows;
        key.rows += 1;
        if !line.judged {
            continue;
        }
        key.judged_by(line.scored_by);
        let evidence = &key.episodes.evidence;
        let reading = Reading {
            p: line.by_model.map_or(line.p_value, |p| evidence.by_key(p)),
            by_model: line.by_model,
            score: line.score,
            offset: Offset(at as i64),
            time: table.times[row],
        };
        let rule = match line.scored_by {
            ScoredBy::Model(_) => &rules.0,
            ScoredBy::ColdStart | ScoredBy::Seasonal => &rules.1,
        };
        if let Some(told) = &mut told {
            let place = Place {
                record: key.episodes.records + 1,
                offset: reading.offset,
                time: reading.time,
            };
            let mut evidence = key.episodes.evidence.clone();
            told(row, evidence.gather(&rule.law, reading.p, place).strength);
        }
        match key.episodes.judge(rule, reading) {
            Change::Opened(episode) => key.spans.push(Span {
                onset: usize::try_from(episode.onset.0).unwrap_or(at),
                opened: at,
                to: usize::MAX,
            }),
            Change::Closed(_) => {
                if let Some(span) = key.spans.last_mut() {
                    span.to = at;
                }
            }
            Change::Updated(_) | Change::None => {}
        }
    }
    let ended = keys.into_iter().map(|(name, key)| {
        let mut spans = key.spans;
        for span in &mut spans {
            span.to = span.to.min(key.rows);
        }
        (name, spans)
    });
    ended.collect()
}

/// The rule for what a model judges, and that for what is judged by a key's own past.
fn rules(params: &Params, model: Option<&TrainedModel>) -> (Rule, Rule) {
    (Rule::of(params, model), Rule::without_model(params, model))
}

/// Episodes against labels, key by key.
#[derive(Default)]
struct Found {
    faults: usize,
    false_episodes: usize,
    records: Vec<f64>,
    seconds: Vec<f64>,
}

impl Found {
    fn of_key(
        &mut self,
        (table, labels, warmup): (&Table, &[bool], usize),
        rows: &[usize],
        spans: &[Span],
    ) {
        for span in spans.iter().filter(|span| rows[span.opened] >= warmup) {
            if !rows[span.onset..span.to].iter().any(|&row| labels[row]) {
                self.false_episodes += 1;
            }
        }
        let labelled = |at: &usize| labels[rows[*at]] && rows[*at] >= warmup;
        let mut at = 0;
        while let Some(from) = (at..rows.len()).find(labelled) {
            let to = (from..rows.len())
                .find(|at| !labelled(at))
                .unwrap_or(rows.len());
            self.faults += 1;
            let inside = spans.iter().find(|span| span.opened < to && span.to > from);
            if let Some(span) = inside {
                let first = span.opened.max(from);
                self.records.push((first - from) as f64);
                let late = table.times[rows[first]].since(table.times[rows[from]]);
                self.seconds.push(late.as_secs_f64());
            }
            at = to;
        }
    }

    fn figures(self) -> Labelled {
        Labelled {
            faults: self.faults,
            found: self.records.len(),
            false_episodes: self.false_episodes,
            delay_records: median(self.records),
            delay_seconds: median(self.seconds),
        }
    }
}

/// NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => f64::NAN,
        Some(high) if values.len() % 2 == 1 => *high,
        Some(high) => f64::midpoint(values[middle - 1], *high),
    }
}

/// Where the configured budget opened nothing: how near it came, and the least budget that would have opened something. `None` if something opened.
#[must_use]
pub fn nothing_opened(
    rows: &[Row],
    params: &Params,
    (table, outcome): (&Table, &Outcome),
    warmup: usize,
) -> Option<String> {
    rows.iter()
        .find(|row| row.configured && row.episodes == 0)?;
    let judged = outcome.lines.iter().take(table.len()).skip(warmup);
    let judged = judged.filter(|line| line.judged);
    let least = judged.fold(1.0, |least: f64, line| least.min(line.p_value));
    let opens = |(_, budget): &(String, Budget)| {
        row(params, *budget, (table, outcome), warmup).episodes > 0
    };
    let would = match larger(params.budget).into_iter().find(opens) {
        Some((setting, _)) => {
            format!(
                "alerts.false_alarm_rate = {} would have opened something",
                value(&setting)
            )
        }
        None => "no budget would have opened anything".to_owned(),
    };
    Some(format!(
        "nothing opened: the smallest p-value is {least:.1e}; {would}"
    ))
}

/// Larger budgets of the same kind, ascending: 1, 2 and 5 of each unit, up to a million an hour; or up to the largest probability per record.
fn larger(budget: Budget) -> Vec<(String, Budget)> {
    let steps = |from: i32, to: i32| {
        (from..=to).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
    };
    let shared = matches!(budget, Budget::PerFleetDay(_));
    let mut settings: Vec<String> = match budget {
        Budget::PerRecord(_) => steps(-12, -2).map(|p| p.to_string()).collect(),
        Budget::PerKeyDay(_) | Budget::PerFleetDay(_) => {
            let few = [
                "1/month", "2/month", "1/week", "2/week", "1/day", "2/day", "5/day", "10/day",
            ];
            let few = few.iter().map(|&text| text.to_owned());
            few.chain(steps(0, 5).map(|rate| format!("{rate}/hour")))
                .collect()
        }
    };
    if shared {
        for text in &mut settings {
            text.push_str("/fleet");
        }
    }
    let rate = |budget: Budget| match budget {
        Budget::PerRecord(rate) | Budget::PerKeyDay(rate) | Budget::PerFleetDay(rate) => rate,
    };
    let read = |text: String| {
        let read = match budget {
            Budget::PerRecord(_) => Budget::PerRecord(text.parse().ok()?),
            Budget::PerKeyDay(_) | Budget::PerFleetDay(_) => Budget::parse(&text)?,
        };
        Some((text, read)).filter(|_| rate(read) > rate(budget))
    };
    let allowed = |(_, budget): &(String, Budget)| match budget {
        Budget::PerRecord(p) => *p <= BUDGET_MAX,
        Budget::PerKeyDay(_) | Budget::PerFleetDay(_) => true,
    };
    settings
        .into_iter()
        .filter_map(read)
        .filter(allowed)
        .collect()
}

/// A setting as a file has it.
pub(super) fn value(setting: &str) -> String {
    if setting.contains('/') {
        format!("\"{setting}\"")
    } else {
        setting.to_owned()
    }
}

/// The table for people, with the line to paste; and, where the configured budget opened `nothing`, what would have.
#[must_use]
pub fn shown(rows: &[Row], nothing: Option<&str>, warmup: usize) -> String {
    let mut text = format!("what a budget would have opened after the first {warmup} rows:\n");
    for row in rows.iter().filter(|row| row.in_table) {
        let value = value(&row.setting);
        write!(
            text,
            "  alerts.false_alarm_rate = {value:<12} {:>6} episodes",
            row.episodes
        )
        .unwrap_or_default();
        if let Some(found) = row.labelled {
            write!(
                text,
                ", {} of {} faults found, {} false",
                found.found, found.faults, found.false_episodes
            )
            .unwrap_or_default();
            if found.found > 0 {
                write!(
                    text,
                    ", median delay {} records ({} s)",
                    found.delay_records, found.delay_seconds
                )
                .unwrap_or_default();
            }
        }
        text.push_str(if row.configured {
            "  (configured)\n"
        } else {
            "\n"
        });
    }
    if let Some(nothing) = nothing {
        writeln!(text, "  {nothing}").unwrap_or_default();
    }
    text
}
