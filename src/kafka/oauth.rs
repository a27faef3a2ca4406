//! Tokens for SASL OAUTHBEARER by OAuth 2.0's client credentials (RFC 6749, section 4.4): the settings, under librdkafka's names, what is asked, and
//! what is made of the answer. librdkafka would do this by libcurl, which it is built without. [`super::tokens`] says when.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::KafkaFailure;
use crate::https::{self, Authorities, is_http, printable};
use crate::time::Timestamp;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What all of librdkafka's settings of this begin with.
const PREFIX: &str = "sasl.oauthbearer.";

/// Where tokens come from, and for whom.
#[derive(Clone, PartialEq, Eq)]
pub struct OauthSettings {
    endpoint: String,
    client: String,
    secret: String,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    authorities: Authorities,
}

impl std::fmt::Debug for OauthSettings {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OauthSettings")
            .field("endpoint", &self.endpoint)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Whether `property` says how tokens are got: librdkafka is not asked about it.
pub(crate) fn is_setting(property: &str) -> bool {
    property.starts_with(PREFIX) || property.starts_with("https.ca.")
}

/// Takes what is said of tokens out of librdkafka's `properties`; `None` where another mechanism is used. Else what is wrong, by property.
pub fn take_settings(
    properties: &mut BTreeMap<String, String>,
) -> Result<Option<OauthSettings>, Vec<(String, String)>> {
    let of_tokens: Vec<String> = properties
        .keys()
        .filter(|name| is_setting(name))
        .cloned()
        .collect();
    let mechanisms = ["sasl.mechanism", "sasl.mechanisms"];
    let used = mechanisms
        .iter()
        .filter_map(|name| properties.get(*name))
        .any(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER"));
    let mut given: BTreeMap<String, String> = of_tokens
        .into_iter()
        .filter_map(|name| properties.remove_entry(&name))
        .collect();
    if !used {
        let idle = |name| {
            (
                name,
                "is of use with `sasl.mechanism` = \"OAUTHBEARER\" only".to_owned(),
            )
        };
        let problems: Vec<_> = given.into_keys().map(idle).collect();
        return if problems.is_empty() {
            Ok(None)
        } else {
            Err(problems)
        };
    }
    let mut taking = Taking {
        given: &mut given,
        problems: Vec::new(),
    };
    let settings = taking.settings();
    let mut problems = taking.problems;
    let unknown = |name| {
        (
            name,
            "is not in this build, which gets tokens by client credentials".to_owned(),
        )
    };
    problems.extend(given.into_keys().map(unknown));
    if problems.is_empty() {
        Ok(Some(settings))
    } else {
        Err(problems)
    }
}

/// Settings as they are taken out of `given`.
struct Taking<'a> {
    given: &'a mut BTreeMap<String, String>,
    problems: Vec<(String, String)>,
}

impl Taking<'_> {
    fn problem(&mut self, name: &str, problem: impl Into<String>) {
        self.problems.push((name.to_owned(), problem.into()));
    }

    fn settings(&mut self) -> OauthSettings {
        self.only("method", "oidc", true);
        self.only("grant.type", "client_credentials", false);
        let endpoint = self.required("token.endpoint.url");
        if !endpoint.is_empty() && !is_http(&endpoint) {
            self.problem(
                &[PREFIX, "token.endpoint.url"].concat(),
                "must be an address that begins with `https://` (or `http://`)",
            );
        }
        OauthSettings {
            endpoint,
            client: self.credential("client.id"),
            secret: self.credential("client.secret"),
            scope: self.optional("scope"),
            extensions: self.extensions(),
            authorities: self.authorities(),
        }
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        self.given
            .remove(&[PREFIX, name].concat())
            .filter(|value| !value.is_empty())
    }

    fn required(&mut self, name: &str) -> String {
        let value = self.optional(name);
        if value.is_none() {
            self.problem(
                &[PREFIX, name].concat(),
                "is needed with `sasl.mechanism` = \"OAUTHBEARER\"",
            );
        }
        value.unwrap_or_default()
    }

    /// One of those that have two names.
    fn credential(&mut self, name: &str) -> String {
        let long = self.optional(&["client.credentials.", name].concat());
        match long {
            Some(value) => {
                if self.optional(name).is_some() {
                    self.problem(&[PREFIX, name].concat(), "is set under both of its names");
                }
                value
            }
            None => self.required(name),
        }
    }

    /// What has one value that works.
    fn only(&mut self, name: &str, value: &str, must: bool) {
        let given = self.optional(name);
        if given
            .as_deref()
            .map_or(must, |given| !given.eq_ignore_ascii_case(value))
        {
            self.problem(&[PREFIX, name].concat(), format!("must be \"{value}\""));
        }
    }

    fn extensions(&mut self) -> Vec<(String, String)> {
        let text = self.optional("extensions").unwrap_or_default();
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let pairs: Vec<Option<(String, String)>> = pairs.map(extension).collect();
        if pairs.contains(&None) {
            self.problem(
                &[PREFIX, "extensions"].concat(),
                "must be `name=value`, several separated by commas, with names of letters",
            );
        }
        pairs.into_iter().flatten().collect()
    }

    fn authorities(&mut self) -> Authorities {
        let file = self.given.remove("https.ca.location");
        let pem = self.given.remove("https.ca.pem");
        match (file, pem) {
            (Some(_), Some(_)) => {
                self.problem("https.ca.pem", "and `https.ca.location` exclude each other");
                Authorities::Machine
            }
            (Some(file), None) if file != "probe" => Authorities::File(file),
            (None, Some(pem)) => Authorities::Pem(pem),
            _ => Authorities::Machine,
        }
    }
}

/// `name=value`, as RFC 7628 allows it.
fn extension(pair: &str) -> Option<(String, String)> {
    let (name, value) = pair.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let letters = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let good = letters
        && !name.eq_ignore_ascii_case("auth")
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    good.then(|| (name.to_owned(), value.to_owned()))
}

/// What brokers are told.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// As it is sent.
    pub(super) value: String,
    /// Until when it is good.
    pub(super) expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    /// Leaves the token out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoToken {
    /// In words, without secrets.
    pub(super) problem: String,
    /// Whether a setting must change, here or there: it does not pass by itself.
    pub(super) refused: bool,
}

impl NoToken {
    fn passing(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            refused: false,
        }
    }

    fn refused(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            refused: true,
        }
    }
}

impl OauthSettings {
    /// Whose tokens they are.
    pub(super) fn client(&self) -> &str {
        &self.client
    }

    /// What is sent beside a token.
    pub(super) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// What a failure to get a token is for those who need one.
    pub(super) fn failure(&self, why: NoToken) -> KafkaFailure {
        KafkaFailure::NoToken {
            endpoint: self.endpoint.clone(),
            problem: why.problem,
            refused: why.refused,
        }
    }

    /// Asks the endpoint, for at most `limit`, from looking up its host to the last byte. `now` is when it is asked.
    pub(super) fn fetch(&self, now: Timestamp, limit: Duration) -> Result<Token, NoToken> {
        let agent = self.agent(limit)?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let credentials = STANDARD.encode(format!("{}:{}", self.client, self.secret));
        let mut response = agent
            .post(&self.endpoint)
            .header("Accept", "application/json")
            .header("Authorization", format!("Basic {credentials}"))
            .send_form(form)
            .map_err(|error| NoToken::passing(error.to_string()))?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec();
        let body =
            body.map_err(|error| NoToken::passing(format!("reading its answer: {error}")))?;
        let outcome = token(status, &body, now);
        outcome.map_err(|why| NoToken {
            problem: why.problem.replace(&self.secret, "***"),
            ..why
        })
    }

    fn agent(&self, limit: Duration) -> Result<ureq::Agent, NoToken> {
        let name = match self.authorities {
            Authorities::Pem(_) => "https.ca.pem",
            Authorities::Machine | Authorities::File(_) => "https.ca.location",
        };
        https::agent(&self.authorities, limit)
            .map_err(|problem| NoToken::refused(format!("{name}: {problem}")))
    }
}

/// What an answer says (RFC 6749, sections 5.1 and 5.2).
fn token(status: u16, body: &[u8], now: Timestamp) -> Result<Token, NoToken> {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    if status != 200 {
        return Err(error(status, json.as_ref()));
    }
    let json = json.ok_or_else(|| NoToken::passing("its answer is not JSON"))?;
    let value = json
        .get("access_token")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if value.is_empty() || !value.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(NoToken::passing(
            "its answer has no `access_token` that could be sent",
        ));
    }
    let expires_at = expires_in(&json)
        .map(|length| now.plus(length))
        .or_else(|| expiry(value));
    let expires_at = expires_at.ok_or_else(|| NoToken::passing("it does not say when its token expires: neither `expires_in` in its answer nor `exp` in the token"))?;
    if expires_at <= now {
        return Err(NoToken::passing(
            "its token has expired already: see the clocks of both machines",
        ));
    }
    Ok(Token {
        value: value.to_owned(),
        expires_at,
    })
}

/// What is wrong, as far as the endpoint says so.
fn error(status: u16, json: Option<&Value>) -> NoToken {
    let said = |name: &str| json?.get(name)?.as_str().map(printable);
    let said: Vec<String> = ["error", "error_description"]
        .iter()
        .filter_map(|name| said(name))
        .collect();
    let mut problem = format!("it answers {status}");
    if !said.is_empty() {
        problem = format!("{problem}: {}", said.join(": "));
    }
    match status {
        408 | 425 | 429 => NoToken::passing(problem),
        401 | 403 => NoToken::refused(format!(
            "{problem}: see `sasl.oauthbearer.client.id` and `sasl.oauthbearer.client.secret`"
        )),
        300..500 => NoToken::refused(problem),
        _ => NoToken::passing(problem),
    }
}

/// In seconds; some write the number as a text.
fn expires_in(answer: &Value) -> Option<Duration> {
    let seconds = match answer.get("expires_in")? {
        Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|length| !length.is_zero())
}

/// When a JSON Web Token says that it expires. It is not verified: that is the brokers' business.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let seconds = claims
        .get("exp")?
        .as_f64()
        .filter(|seconds| (0.0..1e12).contains(seconds))?;
    Some(Timestamp((seconds * 1000.0) as i64))
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{Answer, Endpoint};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const NOW: Timestamp = Timestamp(1_000_000);

    /// The least that is needed, and `more`; an empty value takes something away.
    fn taken(more: &[(&str, &str)]) -> Result<Option<OauthSettings>, Vec<(String, String)>> {
        let least = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "hunter2:%"),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "https://id.example/token",
            ),
        ];
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in least.iter().chain(more) {
            properties.insert((*name).to_owned(), (*value).to_owned());
        }
        let taken = take_settings(&mut properties);
        let left: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(left, ["sasl.mechanism"]);
        taken
    }

    fn settings(endpoint: &Endpoint, more: &[(&str, &str)]) -> OauthSettings {
        let url = endpoint.url();
        let mut all = vec![("sasl.oauthbearer.token.endpoint.url", url.as_str())];
        all.extend(more);
        taken(&all).unwrap().unwrap()
    }

    #[test]
    fn settings_are_taken_out_and_all_that_is_wrong_is_said() {
        let good = taken(&[
            ("sasl.oauthbearer.scope", "kafka"),
            ("sasl.oauthbearer.extensions", "a=1, logicalCluster=lkc"),
        ]);
        let good = good.unwrap().unwrap();
        assert_eq!(
            (good.client(), good.scope.as_deref()),
            ("me", Some("kafka"))
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            good.extensions(),
            [pair("a", "1"), pair("logicalCluster", "lkc")]
        );
        assert!(!format!("{good:?}").contains("hunter2"));
        for (name, value, part) in [
            ("sasl.oauthbearer.method", "default", "oidc"),
            ("sasl.oauthbearer.method", "", "oidc"),
            (
                "sasl.oauthbearer.grant.type",
                "password",
                "client_credentials",
            ),
            ("sasl.oauthbearer.client.secret", "", "needed"),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "id.example",
                "https://",
            ),
            (
                "sasl.oauthbearer.token.endpoint.url",
                "ftp://id.example",
                "https://",
            ),
            ("sasl.oauthbearer.extensions", "auth=x", "letters"),
            ("sasl.oauthbearer.extensions", "x", "letters"),
            ("sasl.oauthbearer.assertion.file", "x", "client credentials"),
            ("sasl.oauthbearer.config", "x", "client credentials"),
            ("sasl.oauthbearer.client.credentials.client.id", "x", "both"),
        ] {
            let problems = taken(&[(name, value)]).unwrap_err();
            assert!(
                problems.len() == 1 && problems[0].1.contains(part),
                "{name}: {problems:?}"
            );
        }
        let both = [("https.ca.location", "x"), ("https.ca.pem", "y")];
        assert!(taken(&both).is_err());
        let idle = taken(&[("sasl.mechanism", "PLAIN")]).unwrap_err();
        assert_eq!(idle.len(), 4);
    }

    #[test]
    fn an_endpoint_is_asked_by_the_book() {
        let endpoint = Endpoint::start(Answer::Token {
            seconds: 60,
            told: true,
        });
        let token = settings(&endpoint, &[("sasl.oauthbearer.scope", "a b")])
            .fetch(NOW, LIMIT)
            .unwrap();
        assert_eq!(token.expires_at, NOW.plus(Duration::from_secs(60)));
        assert!(!format!("{token:?}").contains(&token.value));
        let asked = &endpoint.asked()[0];
        assert_eq!(asked.body, "grant_type=client_credentials&scope=a+b");
        // `me:hunter2:%`
        assert_eq!(asked.headers["authorization"], "Basic bWU6aHVudGVyMjol");
        endpoint.answer(Answer::Token {
            seconds: 60,
            told: false,
        });
        let token = settings(&endpoint, &[]).fetch(NOW, LIMIT).unwrap();
        assert!(
            NOW.plus(Duration::from_secs(1_000_000)) < token.expires_at,
            "the token's own"
        );
    }

    #[test]
    fn an_endpoint_that_gives_no_token_is_understood() {
        let endpoint = Endpoint::start(Answer::HangUp);
        let settings = settings(&endpoint, &[]);
        let no = |answer: Answer, limit| {
            endpoint.answer(answer);
            let why = settings.fetch(NOW, limit).unwrap_err();
            assert!(!why.problem.contains("hunter2"), "{why:?}");
            (why.refused, why.problem)
        };
        let status = |status, body: &str| no(Answer::Status(status, body.to_owned()), LIMIT);
        let (refused, problem) = status(
            401,
            r#"{"error":"invalid_client","error_description":"not\n hunter2:%"}"#,
        );
        assert!(
            refused && problem.starts_with("it answers 401: invalid_client: not ***: see"),
            "{problem}"
        );
        assert_eq!(status(404, "<html>"), (true, "it answers 404".to_owned()));
        // The secret stays here.
        assert_eq!(status(302, ""), (true, "it answers 302".to_owned()));
        assert_eq!(status(503, ""), (false, "it answers 503".to_owned()));
        assert!(!status(429, "").0);
        for rubbish in [
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a b","expires_in":9}"#,
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","expires_in":0}"#,
            r#"{"access_token":"a","expires_in":-1}"#,
        ] {
            assert!(!status(200, rubbish).0, "{rubbish}");
        }
        let huge = format!(
            r#"{{"access_token":"{}","expires_in":9}}"#,
            "a".repeat(100_000)
        );
        assert!(status(200, &huge).1.contains("reading its answer"));
        assert!(!no(Answer::HangUp, LIMIT).0);
        let (refused, problem) = no(Answer::Hang, Duration::from_millis(300));
        assert!(!refused && problem.contains("timeout"), "{problem}");
    }

    #[test]
    fn numbers_and_claims_are_read_as_endpoints_write_them() {
        let seconds = |text: &str| expires_in(&serde_json::from_str(text).unwrap());
        assert_eq!(
            seconds(r#"{"expires_in":"3599"}"#),
            Some(Duration::from_secs(3599))
        );
        for none in [
            "{}",
            r#"{"expires_in":null}"#,
            r#"{"expires_in":"x"}"#,
            r#"{"expires_in":1e300}"#,
        ] {
            assert_eq!(seconds(none), None, "{none}");
        }
        let claims = |json: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(json));
        assert_eq!(expiry(&claims(r#"{"exp":12.5}"#)), Some(Timestamp(12_500)));
        for none in [
            "opaque",
            "a.!.c",
            &claims("{}"),
            &claims(r#"{"exp":"x"}"#),
            &claims(r#"{"exp":1e300}"#),
        ] {
            assert_eq!(expiry(none), None, "{none}");
        }
    }

    #[test]
    fn an_endpoint_over_tls_is_known_by_its_authority_alone() {
        let good = || Answer::Token {
            seconds: 60,
            told: true,
        };
        let (endpoint, authority) = Endpoint::start_tls(good());
        let (_, another) = Endpoint::start_tls(good());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, &authority).unwrap();
        let file = file.display().to_string();
        for known in [("https.ca.location", &*file), ("https.ca.pem", &authority)] {
            let token = settings(&endpoint, &[known]).fetch(NOW, LIMIT);
            assert!(token.is_ok(), "{}: {token:?}", known.0);
        }
        assert_eq!(endpoint.asked().len(), 2);
        // Neither the machine's authorities nor another one vouches for it: it is told nothing.
        for unknown in [&[][..], &[("https.ca.pem", &*another)]] {
            let why = settings(&endpoint, unknown).fetch(NOW, LIMIT).unwrap_err();
            assert!(why.problem.contains("certificate"), "{why:?}");
        }
        assert_eq!(endpoint.asked().len(), 2);
    }

    #[test]
    fn authorities_that_cannot_be_read_are_named() {
        let endpoint = Endpoint::start(Answer::HangUp);
        let missing =
            settings(&endpoint, &[("https.ca.location", "/does/not/exist")]).fetch(NOW, LIMIT);
        let why = missing.unwrap_err();
        assert!(
            why.refused && why.problem.contains("/does/not/exist"),
            "{why:?}"
        );
        let none = settings(&endpoint, &[("https.ca.pem", "nothing")])
            .fetch(NOW, LIMIT)
            .unwrap_err();
        assert!(
            none.refused && none.problem.contains("https.ca.pem: no certificates"),
            "{none:?}"
        );
    }
}
