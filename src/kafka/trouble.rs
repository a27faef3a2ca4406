//! What keeps a member of the group from its records while librdkafka goes on trying by itself: no broker answers, or an input topic is gone.
//! librdkafka returns no error for the one and one without a name for the other, so people would only see that nothing comes.

use std::time::Duration;

use super::SAY_AFTER;
use crate::time::Timestamp;

/// Between two looks at whether a topic that was missing is there again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is to be said now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// This keeps it from its records.
    Waits(String),
    /// Nothing does any more.
    Over,
}

/// What is wrong, and what was said of it.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Since when no broker answers, on both clocks.
    away: Option<(Duration, Timestamp)>,
    /// Input topics that do not exist.
    missing: Vec<String>,
    /// When topics are looked for: some seem not to be there.
    due: Option<Duration>,
    said: Option<String>,
}

impl Trouble {
    /// Whether any broker answered of late.
    pub(super) fn answered(&mut self, answered: bool, now: (Duration, Timestamp)) {
        if answered {
            self.away = None;
        } else {
            self.away.get_or_insert(now);
        }
    }

    /// A topic seems not to be there: it is looked which.
    pub(super) fn suspect(&mut self, now: Duration) {
        self.due.get_or_insert(now);
    }

    /// Whether topics should be looked for.
    pub(super) fn should_look(&self, now: Duration) -> bool {
        self.away.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// It was looked, and these do not exist; `None`: nobody answered.
    pub(super) fn looked(&mut self, missing: Option<Vec<String>>, now: Duration) {
        let again = missing.as_ref().is_none_or(|missing| !missing.is_empty());
        self.due = again.then_some(now + LOOK_EVERY);
        self.missing = missing.unwrap_or_else(|| std::mem::take(&mut self.missing));
    }

    /// What was said is no longer said elsewhere: if it still holds, it is news again.
    pub(super) fn say_again(&mut self) {
        self.said = None;
    }

    /// What is to be said, once for each change; `brokers` are the addresses that are asked.
    pub(super) fn news(&mut self, brokers: &str, now: Duration) -> Option<News> {
        let lasts = self.away.filter(|(since, _)| *since + SAY_AFTER <= now);
        let is = match (lasts, self.missing.as_slice()) {
            (Some((_, at)), _) => {
                let since = at.rfc3339();
                Some(format!("no broker answers at `{brokers}` since {since}"))
            }
            (None, []) => None,
            (None, [topic]) => Some(format!("the topic `{topic}` does not exist")),
            (None, topics) => Some(format!("the topics `{}` do not exist", topics.join("`, `"))),
        };
        if is == self.said {
            return None;
        }
        self.said.clone_from(&is);
        Some(is.map_or(News::Over, News::Waits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> (Duration, Timestamp) {
        let time = Timestamp(1_700_000_000_000 + 1000 * second as i64);
        (Duration::from_secs(second), time)
    }

    fn news(trouble: &mut Trouble, second: u64) -> Option<News> {
        trouble.news("a:1,b:2", at(second).0)
    }

    #[test]
    fn brokers_that_do_not_answer_are_named_with_since_when() {
        let mut trouble = Trouble::default();
        trouble.answered(false, at(1));
        assert_eq!(news(&mut trouble, 5), None, "it may be a moment");
        trouble.answered(false, at(5));
        let words = "no broker answers at `a:1,b:2` since 2023-11-14T22:13:21.000Z";
        let waits = Some(News::Waits(words.to_owned()));
        assert_eq!(news(&mut trouble, 6), waits);
        assert_eq!(news(&mut trouble, 7), None);
        trouble.answered(true, at(80));
        assert_eq!(news(&mut trouble, 80), Some(News::Over));
        trouble.answered(false, at(90));
        trouble.answered(true, at(92));
        trouble.answered(false, at(94));
        assert_eq!(news(&mut trouble, 96), None, "never for long");
    }

    #[test]
    fn topics_that_are_gone_are_named_until_they_are_there_again() {
        let mut trouble = Trouble::default();
        assert!(!trouble.should_look(at(0).0));
        trouble.suspect(at(1).0);
        assert!(trouble.should_look(at(1).0));
        trouble.looked(Some(vec!["t".to_owned()]), at(1).0);
        let waits = |words: &str| Some(News::Waits(words.to_owned()));
        assert_eq!(news(&mut trouble, 1), waits("the topic `t` does not exist"));
        trouble.suspect(at(2).0);
        assert!(!trouble.should_look(at(5).0) && trouble.should_look(at(6).0));
        trouble.looked(Some(vec!["t".to_owned(), "u".to_owned()]), at(6).0);
        let both = waits("the topics `t`, `u` do not exist");
        assert_eq!(news(&mut trouble, 6), both);
        trouble.looked(None, at(11).0);
        assert_eq!(news(&mut trouble, 11), None);
        trouble.say_again();
        assert_eq!(news(&mut trouble, 11), both);
        // Where nobody answers nobody can be asked.
        trouble.answered(false, at(7));
        assert!(!trouble.should_look(at(20).0));
        trouble.answered(true, at(8));
        trouble.looked(Some(Vec::new()), at(20).0);
        assert_eq!(news(&mut trouble, 20), Some(News::Over));
        assert!(!trouble.should_look(at(100).0));
    }
}
