//! What training found out about features: told of once, and not with each training.

use crate::model::card::Card;

/// Which features were told of last, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// That no record has.
    pub(super) unobserved: Vec<String>,
    /// That follow the hour of the day, where there is no calendar.
    pub(super) hourly: Vec<String>,
}

impl News {
    /// Tells of those of a model that was trained, if they are others.
    pub fn tell(&mut self, card: &Card) {
        if let Some(words) = self.of_unobserved(&card.unobserved) {
            tracing::warn!(version = %card.version, "{words}");
        }
        if let Some(words) = self.of_hourly(card) {
            tracing::info!(version = %card.version, "{words}");
        }
    }

    /// What is to be said of features that no record has, if it was not said yet.
    pub fn of_unobserved(&mut self, unobserved: &[String]) -> Option<String> {
        changed(&mut self.unobserved, unobserved).then(|| {
            format!(
                "none of the records has {}: not judged until one has, and a model is trained on it; is `input.features` spelt as records have it?",
                unobserved.join(", ")
            )
        })
    }

    /// The same of those that follow the hour, and are not judged by it.
    pub fn of_hourly(&mut self, card: &Card) -> Option<String> {
        let words = card.without_hour();
        let named: &[String] = words.as_ref().map_or(&[], |_| &card.hourly);
        let new = changed(&mut self.hourly, named);
        words.filter(|_| new)
    }
}

/// Whether there are some, and others than those that were told of last.
fn changed(last: &mut Vec<String>, now: &[String]) -> bool {
    let new = !now.is_empty() && last != now;
    *last = now.to_vec();
    new
}
