//! `anomalyd models diff`: in what two models differ, by their cards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::model::card::Card;

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    /// What differs: a setting, a count, a measure.
    pub what: String,
    /// What it is of the first model; `None`: it has none.
    pub a: Option<Value>,
    /// What it is of the second.
    pub b: Option<Value>,
}

/// All differences, in the order in which people ask: what they are, from what, how good.
pub(super) fn differences(a: &Card, b: &Card) -> Vec<Difference> {
    let (a, b) = (facts(a), facts(b));
    let mut names: Vec<&String> = a.iter().map(|(name, _)| name).collect();
    names.extend(b.iter().map(|(name, _)| name));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.as_str()));
    let [a, b] = [&a, &b].map(|facts| facts.iter().cloned().collect::<BTreeMap<_, _>>());
    let each = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name));
    each.map(|name| Difference {
        what: name.clone(),
        a: a.get(name).cloned(),
        b: b.get(name).cloned(),
    })
    .collect()
}

/// What is worth comparing of a card.
fn facts(card: &Card) -> Vec<(String, Value)> {
    let mut facts = vec![
        ("created".to_owned(), card.created.rfc3339().into()),
        ("program".to_owned(), card.program.clone().into()),
        ("the gate said".to_owned(), card.gate.to_string().into()),
        ("columns".to_owned(), card.columns.join(", ").into()),
        ("members".to_owned(), card.members.join(", ").into()),
    ];
    leaves(
        "model",
        &serde_json::to_value(&card.spec).unwrap_or_default(),
        &mut facts,
    );
    leaves(
        "input",
        &serde_json::to_value(&card.schema).unwrap_or_default(),
        &mut facts,
    );
    let counts = [
        ("episodes", card.exclusions.len()),
        ("suspects", card.suspects.len()),
        ("maintenance", card.maintenance.len()),
    ];
    facts.extend(counts.map(|(name, count)| (format!("kept out: {name}"), count.into())));
    let rows = card.rows.iter();
    facts.extend(rows.map(|(name, count)| (format!("rows: {name}"), (*count).into())));
    let measures = card.measures.iter();
    facts.extend(measures.map(|(name, value)| (format!("measured: {name}"), (*value).into())));
    facts.retain(|(_, value)| value.as_str() != Some("") && !value.is_null());
    facts
}

fn leaves(path: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(&format!("{path}.{name}"), value, into);
            }
        }
        value => into.push((path.to_owned(), value.clone())),
    }
}

/// A table for people: `names` stands over the two columns.
pub(super) fn shown(differences: &[Difference], names: [u64; 2]) -> String {
    let [a, b] = names.map(|version| format!("model {version}"));
    if differences.is_empty() {
        return format!("{a} and {b} are alike in all that their cards say\n");
    }
    let text = |value: &Option<Value>| match value {
        None => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => {
            format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))
        }
        Some(other) => other.to_string(),
    };
    let wide = |column: &dyn Fn(&Difference) -> String, head: &str| {
        let all = differences.iter().map(|each| column(each).chars().count());
        all.max().unwrap_or(0).max(head.chars().count()).min(44)
    };
    let first = wide(&|each| each.what.clone(), "");
    let second = wide(&|each| text(&each.a), &a);
    let mut out = format!("{:first$}  {a:second$}  {b}\n", "");
    for each in differences {
        let (a, b) = (text(&each.a), text(&each.b));
        writeln!(out, "{:first$}  {a:second$}  {b}", each.what).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_left_out_and_what_one_lacks_is_said() {
        let mut a = Card::blank();
        let mut b = a.clone();
        assert_eq!(differences(&a, &b), []);
        assert!(shown(&[], [1, 2]).contains("alike"));
        a.rows.insert("fit".to_owned(), 700);
        b.rows.insert("fit".to_owned(), 900);
        b.spec.window = a.spec.window + 1;
        b.measures.insert("recall".to_owned(), 0.61234);
        let found = differences(&a, &b);
        let what: Vec<&str> = found.iter().map(|each| each.what.as_str()).collect();
        assert_eq!(what, ["model.window", "rows: fit", "measured: recall"]);
        assert_eq!(found[2].a, None);
        let text = shown(&found, [3, 4]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].contains("model 3") && lines[0].ends_with("model 4"),
            "{text}"
        );
        assert!(
            lines[2].contains("700") && lines[2].ends_with("900"),
            "{text}"
        );
        assert!(
            lines[3].contains('–') && lines[3].ends_with("0.6123"),
            "{text}"
        );
    }
}
