//! Features that no record has: told of once, and not with each training.

use crate::model::card::Card;

/// Those that were told of last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unobserved(pub(super) Vec<String>);

impl Unobserved {
    /// Tells of those of a model that was trained, if they are others.
    pub fn tell(&mut self, card: &Card) {
        if let Some(words) = self.news(&card.unobserved) {
            tracing::warn!(version = %card.version, "{words}");
        }
    }

    /// What is to be said of these features, if it was not said yet.
    pub fn news(&mut self, unobserved: &[String]) -> Option<String> {
        let new = !unobserved.is_empty() && self.0 != unobserved;
        self.0 = unobserved.to_vec();
        new.then(|| {
            format!(
                "none of the records has {}: not judged until one has, and a model is trained on it; is `input.features` spelt as records have it?",
                unobserved.join(", ")
            )
        })
    }
}
