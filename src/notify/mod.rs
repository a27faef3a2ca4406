//! What tells people of alerts where they are: it reads the alerts topic as a consumer group of its own and posts to webhooks, Slack, PagerDuty and
//! Alertmanager. The daemon knows nothing of it.
//!
//! At least once: what was read is committed after it was delivered, or refused for good. Each endpoint has its own group and thread, so that one that is
//! away holds up no other. What was gathered since the last message goes into the next one; of endpoints that know episodes by their ids, no message
//! has an opening and the closing of one episode, and a closing is sent only after what came before it is committed: so what is delivered once more
//! after a crash pages nobody twice.
//!
//! Next: [`endpoint`] (one `[[notify]]`, checked), `template` (what people write themselves), `message` (alerts to the bytes of a request, by kind in
//! `bodies`), `rate` (how many messages), [`post`] (one request, and what its answer means), [`source`] (where alerts come from), [`deliver`] (the loop).

mod bodies;
pub mod deliver;
pub mod endpoint;
mod message;
pub mod post;
pub mod rate;
pub mod source;
pub mod template;

pub use bodies::Words;
pub use message::{Message, sample};
