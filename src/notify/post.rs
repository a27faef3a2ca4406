//! One request, and what its answer means.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::endpoint::{Endpoint, Kind};
use super::message::Message;
use crate::https::{self, printable, retry_after};
use crate::time::Timestamp;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024;
/// What a secret in Standard Webhooks' form begins with; base64 follows.
const SECRET_PREFIX: &str = "whsec_";

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Delivered(u16),
    /// It does not want it, however often it is asked.
    Refused {
        /// Its status.
        code: u16,
        /// What it said.
        said: String,
    },
    /// It may take it later.
    Later {
        /// Its status, where it answered at all.
        code: Option<u16>,
        /// Why.
        why: String,
        /// When it wants to be asked again, if it said so.
        after: Option<Duration>,
    },
}

/// What posts messages.
pub trait Post {
    /// Posts one. `now` is when.
    fn post(&mut self, message: &Message, now: Timestamp) -> Answer;

    /// Posts by other settings from now on.
    ///
    /// # Errors
    /// What is wrong with them, in words; then all stays as it was.
    fn change(&mut self, endpoint: &Endpoint) -> Result<(), String>;
}

/// Posts to an endpoint by HTTP.
pub struct HttpPost {
    endpoint: Endpoint,
    agent: ureq::Agent,
}

impl std::fmt::Debug for HttpPost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpPost")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl HttpPost {
    /// Connects when there is something to post.
    ///
    /// # Errors
    /// What is wrong with the file of authorities, in words.
    pub fn new(endpoint: &Endpoint) -> Result<Self, String> {
        Ok(Self {
            agent: https::agent(&endpoint.authorities, endpoint.timeout)?,
            endpoint: endpoint.clone(),
        })
    }

    /// Why there is no answer, and where none is: of the address no more than the server's name, for the rest may be a secret.
    fn silent(&self, error: &ureq::Error) -> String {
        let url = self.endpoint.url.parse::<ureq::http::Uri>().ok();
        let of = url.as_ref().and_then(|url| Some(url.authority()?.as_str()));
        let of = of.map_or("", |all| all.rsplit('@').next().unwrap_or(all));
        match error {
            ureq::Error::Timeout(_) => {
                let seconds = self.endpoint.timeout.as_secs_f64();
                format!("no answer from `{of}` within {seconds} s")
            }
            error => format!("`{of}`: {error}"),
        }
    }

    /// Status, `Retry-After` and what was said; or why there is no answer.
    fn send(
        &self,
        message: &Message,
        now: Timestamp,
    ) -> Result<(u16, Option<String>, String), ureq::Error> {
        let mut request = self
            .agent
            .post(&self.endpoint.url)
            .header("Content-Type", message.content_type);
        for (name, value) in headers(&self.endpoint, message, now) {
            request = request.header(name, value);
        }
        let mut response = request.send(&message.body[..])?;
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after");
        let after = after
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        // That it has the message is known by now, whatever becomes of the rest.
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let said = body.read_to_vec().unwrap_or_default();
        let said = printable(&String::from_utf8_lossy(&said));
        Ok((status, after, said))
    }
}

impl Post for HttpPost {
    fn change(&mut self, endpoint: &Endpoint) -> Result<(), String> {
        *self = Self::new(endpoint)?;
        Ok(())
    }

    fn post(&mut self, message: &Message, now: Timestamp) -> Answer {
        match self.send(message, now) {
            Ok((code, after, said)) => {
                judge(code, after.as_deref(), &self.endpoint.redacted(&said), now)
            }
            Err(error) => Answer::Later {
                code: None,
                why: self.endpoint.redacted(&self.silent(&error)),
                after: None,
            },
        }
    }
}

/// What an answer means.
fn judge(code: u16, after: Option<&str>, said: &str, now: Timestamp) -> Answer {
    match code {
        200..300 => Answer::Delivered(code),
        300..400 => Answer::Later {
            code: Some(code),
            why: format!(
                "it answers {code}, that it is at another address: that is not followed, for what is sent is not for others; set `url` to it"
            ),
            after: None,
        },
        408 | 425 | 429 | 500.. => Answer::Later {
            code: Some(code),
            why: format!("it answers {code}: {said}"),
            after: after.and_then(|text| retry_after(text, now)),
        },
        _ => Answer::Refused {
            code,
            said: said.to_owned(),
        },
    }
}

/// What is sent beside the body, for who takes such a message.
fn headers(endpoint: &Endpoint, message: &Message, now: Timestamp) -> Vec<(&'static str, String)> {
    let secret = Some(endpoint.secret.as_str()).filter(|secret| !secret.is_empty());
    match (endpoint.kind, secret) {
        (Kind::Webhook, secret) => {
            let time = now.0.div_euclid(1000).to_string();
            let mut headers = vec![
                ("webhook-id", message.id.clone()),
                ("webhook-timestamp", time.clone()),
            ];
            if let Some(secret) = secret {
                let signed = signature(secret, &message.id, &time, &message.body);
                headers.push(("webhook-signature", signed));
            }
            headers
        }
        (Kind::Alertmanager, Some(token)) => vec![("Authorization", format!("Bearer {token}"))],
        _ => Vec::new(),
    }
}

/// As Standard Webhooks has it: HMAC-SHA256 of id, time and body, with dots between. The libraries for receivers are at standardwebhooks.com.
fn signature(secret: &str, id: &str, time: &str, body: &[u8]) -> String {
    let key = key(secret).unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)
        .unwrap_or_else(|error| unreachable!("HMAC takes keys of all lengths: {error}"));
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The key of a secret in Standard Webhooks' form.
fn key(secret: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::endpoint;
    use super::*;
    use crate::kafka::endpoint::{Answer as TestAnswer, Endpoint as TestEndpoint};

    const NOW: Timestamp = Timestamp(1_614_265_330_000);

    fn message() -> Message {
        Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            content_type: "application/json",
            body: br#"{"test": 2432232314}"#.to_vec(),
        }
    }

    #[test]
    fn a_webhook_is_signed_as_standard_webhooks_has_it() {
        // The example of the specification's reference libraries.
        let mut webhook = endpoint(Kind::Webhook);
        webhook.secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned();
        let sent = headers(&webhook, &message(), NOW);
        assert!(sent.contains(&("webhook-id", message().id)));
        assert!(sent.contains(&("webhook-timestamp", "1614265330".to_owned())));
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(
            sent.contains(&("webhook-signature", expected.to_owned())),
            "{sent:?}"
        );
        webhook.secret = String::new();
        assert_eq!(headers(&webhook, &message(), NOW).len(), 2);
        assert!(headers(&endpoint(Kind::Slack), &message(), NOW).is_empty());
        let token = headers(&endpoint(Kind::Alertmanager), &message(), NOW);
        assert_eq!(token, [("Authorization", "Bearer s3cret".to_owned())]);
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        let later = |code| matches!(judge(code, None, "", NOW), Answer::Later { .. });
        let refused = |code| matches!(judge(code, None, "", NOW), Answer::Refused { .. });
        assert!([408, 425, 429, 500, 502, 503, 504].into_iter().all(later));
        assert!([400, 401, 403, 404, 410, 422].into_iter().all(refused));
        // A person changes the address, and nothing is lost meanwhile.
        assert!([301, 302, 307, 308].into_iter().all(later));
        let Answer::Later { why, .. } = judge(301, None, "", NOW) else {
            panic!("it is tried again");
        };
        assert!(why.contains("301") && why.contains("`url`"), "{why}");
        assert!(
            [200, 201, 202, 204]
                .into_iter()
                .all(|code| judge(code, None, "", NOW) == Answer::Delivered(code))
        );
    }

    #[test]
    fn an_endpoint_that_fails_hangs_or_wants_patience_is_understood() {
        let local = TestEndpoint::start(TestAnswer::HangUp);
        let mut slack = endpoint(Kind::Slack);
        slack.url = local.url();
        slack.timeout = Duration::from_millis(500);
        let mut post = HttpPost::new(&slack).unwrap();
        let mut asked = |answer| {
            local.answer(answer);
            post.post(&message(), NOW)
        };
        let status = |status| TestAnswer::Status(status, format!("at {}\n", local.url()));
        assert_eq!(asked(status(200)), Answer::Delivered(200));
        let refused = Answer::Refused {
            code: 404,
            said: "at ***".to_owned(),
        };
        assert_eq!(asked(status(404)), refused, "addresses are secrets");
        assert!(matches!(
            asked(status(302)),
            Answer::Later {
                code: Some(302),
                ..
            }
        ));
        let Answer::Later { code, after, .. } = asked(TestAnswer::Later(7)) else {
            panic!("429 passes");
        };
        assert_eq!((code, after), (Some(429), Some(Duration::from_secs(7))));
        assert!(matches!(
            asked(status(503)),
            Answer::Later {
                code: Some(503),
                after: None,
                ..
            }
        ));
        for none in [TestAnswer::HangUp, TestAnswer::Hang] {
            assert!(matches!(asked(none), Answer::Later { code: None, .. }));
        }
        assert!(
            local
                .asked()
                .iter()
                .all(|asked| asked.body == r#"{"test": 2432232314}"#)
        );
    }
}
