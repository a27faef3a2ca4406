//! An endpoint for tests, of tokens (RFC 6749, section 4.4) and of what is posted, over TLS where that is wanted: it answers as it is told to and
//! remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// What it does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A token that lasts for so many seconds, of which the answer tells, or only the token.
    Token { seconds: u64, told: bool },
    /// A status with a body.
    Status(u16, String),
    /// 429, with so many seconds in `Retry-After`.
    Later(u64),
    /// Nothing, for as long as it exists.
    Hang,
    /// The end of the connection.
    HangUp,
}

/// A request: its headers in lower case, with the path as `:path`, and its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// The status that it was answered with; 0: none.
    pub(crate) status: u16,
}

struct State {
    answer: Mutex<Answer>,
    /// What is another at these paths.
    at: Mutex<BTreeMap<String, Answer>>,
    asked: Mutex<Vec<Asked>>,
    ended: AtomicBool,
}

/// An endpoint on this machine, until it is dropped.
pub(crate) struct Endpoint {
    scheme: &'static str,
    address: String,
    state: Arc<State>,
}

impl Endpoint {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::start_as(answer, None)
    }

    /// The same over TLS, with a certificate of an authority that was made for it: its own certificate comes along, PEM.
    pub(crate) fn start_tls(answer: Answer) -> (Self, String) {
        let (ours, theirs) = (key(), key());
        let authority = certificate(1, &ours, None);
        let shown = certificate(2, &theirs, Some((&authority, &ours)));
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&theirs).unwrap();
        acceptor.set_certificate(&shown).unwrap();
        let pem = String::from_utf8(authority.to_pem().unwrap()).unwrap();
        (Self::start_as(answer, Some(acceptor.build())), pem)
    }

    fn start_as(answer: Answer, tls: Option<SslAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            at: Mutex::default(),
            asked: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                // Who hangs up, or does not trust it, is no business of a test's endpoint.
                std::thread::spawn(move || match tls {
                    None => serve(stream, &shared).unwrap_or_default(),
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream) {
                            serve(stream, &shared).unwrap_or_default();
                        }
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            state,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/token", self.scheme, self.address)
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// What it answers to requests of a path.
    pub(crate) fn answer_at(&self, path: &str, answer: Answer) {
        self.state
            .at
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer);
    }

    /// All it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, if it still is there.
        drop(TcpStream::connect(&self.address));
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// A certificate that is good for a day: of 127.0.0.1, by an authority, or of an authority by itself.
fn certificate(serial: u32, key: &PKey<Private>, by: Option<(&X509, &PKey<Private>)>) -> X509 {
    let mut name = X509Name::builder().unwrap();
    let text = format!("test {serial}");
    name.append_entry_by_nid(Nid::COMMONNAME, &text).unwrap();
    let name = name.build();
    let mut made = X509::builder().unwrap();
    let serial = BigNum::from_u32(serial).unwrap();
    made.set_version(2).unwrap();
    made.set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    made.set_subject_name(&name).unwrap();
    made.set_issuer_name(by.map_or(&*name, |(authority, _)| authority.subject_name()))
        .unwrap();
    made.set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    made.set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    made.set_pubkey(key).unwrap();
    let extension = match by {
        None => BasicConstraints::new().critical().ca().build().unwrap(),
        Some((authority, _)) => {
            let context = made.x509v3_context(Some(authority), None);
            let mut names = SubjectAlternativeName::new();
            names.ip("127.0.0.1").build(&context).unwrap()
        }
    };
    made.append_extension(extension).unwrap();
    let signer = by.map_or(key, |(_, key)| key);
    made.sign(signer, MessageDigest::sha256()).unwrap();
    made.build()
}

fn serve(stream: impl Read + Write, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut asked = Asked::default();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.headers.insert(":path".to_owned(), path.clone());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        asked
            .headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = asked.headers.get("content-length");
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body)?;
    asked.body = String::from_utf8(body).unwrap();
    let at = state.at.lock().unwrap().get(&path).cloned();
    let answer = at.unwrap_or_else(|| state.answer.lock().unwrap().clone());
    asked.status = match &answer {
        Answer::Token { .. } => 200,
        Answer::Status(status, _) => *status,
        Answer::Later(_) => 429,
        Answer::Hang | Answer::HangUp => 0,
    };
    state.asked.lock().unwrap().push(asked);
    let mut after = String::new();
    let (status, body) = match answer {
        Answer::Token { seconds, told } => (200, token_answer(seconds, told)),
        Answer::Status(status, body) => (status, body),
        Answer::Later(seconds) => {
            after = format!("Retry-After: {seconds}\r\n");
            (429, "slowly".to_owned())
        }
        Answer::HangUp => return Ok(()),
        Answer::Hang => {
            while !state.ended.load(Ordering::SeqCst) {
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
            return Ok(());
        }
    };
    let length = body.len();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nLocation: http://127.0.0.1:1/\r\n{after}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn token_answer(seconds: u64, told: bool) -> String {
    let token = unsecured(seconds);
    let expires = if told {
        format!(r#","expires_in":{seconds}"#)
    } else {
        String::new()
    };
    format!(r#"{{"access_token":"{token}","token_type":"Bearer"{expires}}}"#)
}

/// A JSON Web Token that nobody signed: Kafka's own validator for tests takes it.
fn unsecured(seconds: u64) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "the brokers' clock is the machine's"
    )]
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = format!(
        r#"{{"sub":"anomalyd","iat":{now},"exp":{}}}"#,
        now + seconds
    );
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}
