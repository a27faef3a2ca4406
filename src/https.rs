//! Asking other servers by HTTP: who may vouch for them, and for how long they are waited for. Whoever asks says what an answer means.

use std::time::Duration;

use jiff::fmt::rfc2822;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use crate::time::Timestamp;

/// The longest that a server may ask for patience.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// What stands where a secret would.
pub const HIDDEN: &str = "***";
/// How much of what a server says of an error is passed on, in characters.
const SAID_MAX: usize = 200;

/// Who may vouch for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Those of the machine.
    Machine,
    /// Those in a file, PEM.
    File(String),
    /// These, PEM.
    Pem(String),
}

impl Authorities {
    /// Those in a file, as `ca_file` has it in settings: "" stands for those of the machine.
    pub fn of_file(file: &str) -> Self {
        match file {
            "" => Self::Machine,
            file => Self::File(file.to_owned()),
        }
    }

    /// # Errors
    /// What is wrong with the file or the text, in words.
    fn roots(&self) -> Result<RootCerts, String> {
        match self {
            Self::Machine => Ok(RootCerts::PlatformVerifier),
            Self::Pem(pem) => Ok(RootCerts::from(certificates(pem.as_bytes())?)),
            Self::File(path) => {
                let pem = std::fs::read(path)
                    .map_err(|error| format!("file `{path}` cannot be read: {error}"))?;
                Ok(RootCerts::from(certificates(&pem)?))
            }
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        Err("no certificates in PEM".to_owned())
    } else {
        Ok(found)
    }
}

/// What asks. A request lasts for at most `limit`, from looking up the host to the last byte; no redirection is followed, for what is sent is not for
/// others; a status is a value.
///
/// # Errors
/// What is wrong with `authorities`, in words.
pub fn agent(authorities: &Authorities, limit: Duration) -> Result<ureq::Agent, String> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .root_certs(authorities.roots()?)
        .build();
    Ok(ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .timeout_global(Some(limit))
            .max_redirects(0)
            .http_status_as_error(false)
            .tls_config(tls)
            .user_agent("anomalyd")
            .build(),
    ))
}

/// Whether `url` is `http://` or `https://` with a host.
pub fn is_http(url: &str) -> bool {
    let parsed = url.parse::<ureq::http::Uri>().ok();
    parsed.is_some_and(|url| {
        matches!(url.scheme_str(), Some("https" | "http")) && url.host().is_some()
    })
}

/// The beginning of what a server says, fit for a line of the log.
pub fn printable(text: &str) -> String {
    let printable = text.chars().filter(|char| !char.is_control());
    printable.take(SAID_MAX).collect()
}

/// `text` without `secrets`. Those of fewer than three characters hide nothing worth hiding and would garble it.
pub fn redacted<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let long = secrets.into_iter().filter(|secret| secret.len() >= 3);
    long.fold(text.to_owned(), |text, secret| text.replace(secret, HIDDEN))
}

/// What `Retry-After` asks for at `now`, an hour at most: seconds, or a date (RFC 9110, section 10.2.3).
pub fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Timestamp(date.as_millisecond()).since(now)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_614_265_330_000);

    #[test]
    fn patience_is_asked_for_in_seconds_or_by_a_date() {
        let seconds = |text: &str| retry_after(text, NOW).map(|wait| wait.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("99999999"), Some(3600));
        assert_eq!(seconds("Thu, 25 Feb 2021 15:03:00 GMT"), Some(50));
        assert_eq!(seconds("Thu, 25 Feb 2020 15:03:00 GMT").unwrap_or(0), 0);
        assert_eq!(seconds("soon"), None);
        assert_eq!(seconds("-1"), None);
    }
}
