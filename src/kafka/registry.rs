//! A Schema Registry (Confluent's API, which Apicurio, Karapace and Redpanda have as well): what is asked of it, and what its answers mean.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::KafkaFailure;
use super::watchdog::Watchdog;
use crate::https::{self, Authorities, printable};

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What it writes and reads.
const CONTENT: &str = "application/vnd.schemaregistry.v1+json";

/// Where the registry is, and who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Its address, to which `/schemas/ids/N` and the like are added.
    pub url: String,
    /// The name; empty: nobody.
    pub user: String,
    /// The password.
    pub password: String,
    /// Who may vouch for it.
    pub authorities: Authorities,
}

impl std::fmt::Debug for RegistrySettings {
    /// Leaves the password out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why it says nothing.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) problem: String,
    /// Whether a setting must change.
    pub(super) refused: bool,
}

impl NoAnswer {
    /// It may answer later.
    pub(super) fn passing(problem: String) -> Self {
        Self {
            problem,
            refused: false,
        }
    }

    fn refused(problem: String) -> Self {
        Self {
            problem,
            refused: true,
        }
    }
}

impl RegistrySettings {
    /// What goes wrong when it says nothing.
    pub(super) fn failure(&self, NoAnswer { problem, refused }: NoAnswer) -> KafkaFailure {
        KafkaFailure::Registry {
            url: self.url.clone(),
            problem,
            refused,
        }
    }

    /// Asks once for what is at a place. `None` if the registry says that there is nothing.
    pub(super) fn get(
        &self,
        place: &str,
        watchdog: &Watchdog,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        let (status, body) = self.ask(place, None, watchdog)?;
        said(status, body)
    }

    /// Hands something to a place, once. `None` if the registry says that there is no such thing.
    pub(super) fn post(
        &self,
        place: &str,
        what: &Value,
        watchdog: &Watchdog,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        match self.ask(place, Some(what), watchdog)? {
            // It does not take what it was given, and will not later.
            (status @ (409 | 422), body) => {
                let said = printable(&String::from_utf8_lossy(&body));
                Err(NoAnswer::refused(format!("it answers {status}: {said}")))
            }
            (status, body) => said(status, body),
        }
    }

    fn ask(
        &self,
        place: &str,
        what: Option<&Value>,
        watchdog: &Watchdog,
    ) -> Result<(u16, Vec<u8>), NoAnswer> {
        let _guard = watchdog.call("the schema registry", ANSWER_MAX);
        let agent = https::agent(&self.authorities, ANSWER_MAX)
            .map_err(|problem| NoAnswer::refused(format!("`ca_file`: {problem}")))?;
        let url = format!("{}/{place}", self.url.trim_end_matches('/'));
        let accepted = format!("{CONTENT}, application/json");
        let credentials = (!self.user.is_empty()).then(|| {
            let credentials = STANDARD.encode(format!("{}:{}", self.user, self.password));
            format!("Basic {credentials}")
        });
        let answer = match what {
            None => {
                let mut request = agent.get(&url).header("Accept", accepted);
                if let Some(credentials) = credentials {
                    request = request.header("Authorization", credentials);
                }
                request.call()
            }
            Some(what) => {
                let mut request = agent
                    .post(&url)
                    .header("Accept", accepted)
                    .header("Content-Type", CONTENT);
                if let Some(credentials) = credentials {
                    request = request.header("Authorization", credentials);
                }
                request.send(&what.to_string())
            }
        };
        let mut answer = answer.map_err(|error| NoAnswer::passing(error.to_string()))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let body = body
            .read_to_vec()
            .map_err(|error| NoAnswer::passing(format!("reading its answer: {error}")))?;
        Ok((status, body))
    }
}

/// What an answer means.
fn said(status: u16, body: Vec<u8>) -> Result<Option<Vec<u8>>, NoAnswer> {
    let said = printable(&String::from_utf8_lossy(&body));
    match status {
        200 => Ok(Some(body)),
        404 => {
            // Another server at this address answers 404 to everything; a registry says what it lacks.
            let json: Option<Value> = serde_json::from_slice(&body).ok();
            let of_registry = json.is_some_and(|json| json.get("error_code").is_some());
            if of_registry {
                Ok(None)
            } else {
                Err(NoAnswer::passing(format!(
                    "it answers 404 as no registry does: {said}"
                )))
            }
        }
        401 | 403 => Err(NoAnswer::refused(format!(
            "it answers {status}: see `user` and `password`: {said}"
        ))),
        _ => Err(NoAnswer::passing(format!("it answers {status}: {said}"))),
    }
}

/// What goes wrong where a registry is needed, and none is named.
pub(super) fn nowhere(problem: String) -> KafkaFailure {
    KafkaFailure::Registry {
        url: String::new(),
        problem,
        refused: true,
    }
}

/// A name as it stands in an address: what is neither a letter, a digit nor one of `-._~` by its bytes.
pub(super) fn in_address(name: &str) -> String {
    let mut written = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}
