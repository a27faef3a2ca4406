//! What people and programs say of episodes, as JSON objects: a record of the feedback topic each, or a line of `backtest --feedback`.
//! docs/feedback.schema.json is their schema.

use serde::{Deserialize, Serialize};

use super::timestamp;
use crate::stream::EpisodeId;
use crate::time::Timestamp;

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What.
    pub says: Says,
    /// When, in the time of the stream; `None`: from the start. In the topic it holds as soon as it is there.
    pub at: Option<Timestamp>,
}

/// See [`Statement`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// The episode of this id was nothing.
    FalsePositive(EpisodeId),
    /// The episode of this id was a fault.
    TruePositive(EpisodeId),
    /// The episode of this id is how things are from now on.
    NewNormal(EpisodeId),
    /// What was said of the episode of this id does not hold.
    Undo(EpisodeId),
    /// Training leaves out the records of a stretch of time.
    Maintenance {
        /// Of this key; `None`: of all.
        key: Option<String>,
        /// From then on ...
        from: Timestamp,
        /// ... and before then.
        to: Timestamp,
    },
}

/// An object as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    feedback: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    episode: Option<EpisodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    FalsePositive,
    TruePositive,
    NewNormal,
    Undo,
    Maintenance,
}

impl Statement {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let time = |name: &str, text: &Option<String>| {
            match text {
                Some(text) => timestamp::read(text).map(Some),
                None => Ok(None),
            }
            .map_err(|problem| format!("`{name}`: {problem}"))
        };
        let at = time("at", &written.at)?;
        let (from, to) = (time("from", &written.from)?, time("to", &written.to)?);
        let Word::Maintenance = written.feedback else {
            if written.key.is_some() || from.is_some() || to.is_some() {
                return Err("`key`, `from` and `to` are of `maintenance`".to_owned());
            }
            let id = written.episode.ok_or("`episode` is missing")?;
            let says = match written.feedback {
                Word::FalsePositive => Says::FalsePositive(id),
                Word::TruePositive => Says::TruePositive(id),
                Word::NewNormal => Says::NewNormal(id),
                Word::Undo | Word::Maintenance => Says::Undo(id),
            };
            return Ok(Self { says, at });
        };
        if written.episode.is_some() {
            return Err("`maintenance` is of no `episode`".to_owned());
        }
        match (from, to) {
            (Some(from), Some(to)) if from < to => Ok(Self {
                says: Says::Maintenance {
                    key: written.key,
                    from,
                    to,
                },
                at,
            }),
            (Some(_), Some(_)) => Err("`from` is not before `to`".to_owned()),
            _ => Err("`maintenance` needs `from` and `to`".to_owned()),
        }
    }

    /// Writes it, as [`Statement::read`] reads it.
    #[must_use]
    pub fn write(&self) -> String {
        let (feedback, episode) = match &self.says {
            Says::FalsePositive(id) => (Word::FalsePositive, Some(id)),
            Says::TruePositive(id) => (Word::TruePositive, Some(id)),
            Says::NewNormal(id) => (Word::NewNormal, Some(id)),
            Says::Undo(id) => (Word::Undo, Some(id)),
            Says::Maintenance { .. } => (Word::Maintenance, None),
        };
        let (key, from, to) = match &self.says {
            Says::Maintenance { key, from, to } => (key.clone(), Some(*from), Some(*to)),
            _ => (None, None, None),
        };
        let written = Written {
            feedback,
            episode: episode.cloned(),
            key,
            from: from.map(Timestamp::rfc3339),
            to: to.map(Timestamp::rfc3339),
            at: self.at.map(Timestamp::rfc3339),
        };
        serde_json::to_string(&written)
            .unwrap_or_else(|error| unreachable!("it is a plain struct: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_is_not_is_refused_with_the_reason() {
        let read = |text: &str| Statement::read(text);
        let found = read(
            r#"{"feedback":"false_positive","episode":"d/t/0/7","at":"1970-01-01T00:00:02Z"}"#,
        );
        let expected = Statement {
            says: Says::FalsePositive("d/t/0/7".into()),
            at: Some(Timestamp(2000)),
        };
        assert_eq!(found, Ok(expected));
        let found = read(
            r#"{"feedback":"maintenance","key":"k","from":"1970-01-01T00:00:01Z","to":"1970-01-01T00:00:02Z"}"#,
        );
        let says = Says::Maintenance {
            key: Some("k".to_owned()),
            from: Timestamp(1000),
            to: Timestamp(2000),
        };
        assert_eq!(found, Ok(Statement { says, at: None }));
        // What is written is read back.
        let id = || "d/t/0/7".into();
        for says in [
            Says::FalsePositive(id()),
            Says::TruePositive(id()),
            Says::NewNormal(id()),
            Says::Undo(id()),
            found.unwrap().says,
        ] {
            for at in [None, Some(Timestamp(2001))] {
                let statement = Statement {
                    says: says.clone(),
                    at,
                };
                assert_eq!(read(&statement.write()), Ok(statement));
            }
        }
        for (bad, why) in [
            ("7", "expected struct"),
            (r#"{"feedback":"nonsense"}"#, "nonsense"),
            (r#"{"feedback":"undo"}"#, "`episode` is missing"),
            (r#"{"feedback":"undo","episode":"a","key":"k"}"#, "`key`"),
            (r#"{"feedback":"undo","episode":"a","more":1}"#, "more"),
            (r#"{"feedback":"undo","episode":"a","at":"soon"}"#, "`at`"),
            (
                r#"{"feedback":"maintenance","episode":"a"}"#,
                "no `episode`",
            ),
            (
                r#"{"feedback":"maintenance","from":"1"}"#,
                "needs `from` and `to`",
            ),
            (
                r#"{"feedback":"maintenance","from":"2","to":"1"}"#,
                "not before",
            ),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
