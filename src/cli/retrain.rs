//! `anomalyd retrain`: asks a running daemon by its HTTP API to train now. Whether that is the one that trains, it knows itself.

use std::time::Duration;

use serde_json::Value;

use super::args::RetrainArgs;
use super::exit::Failure;
use super::healthcheck::reachable;
use super::output::print;
use crate::config::Config;
use crate::https::{Authorities, agent};

/// How long the request may take.
const LIMIT: Duration = Duration::from_secs(15);

/// `among_several`: the process has several detectors, and this is one of them.
pub(super) fn run(
    config: &Config,
    among_several: bool,
    arguments: &RetrainArgs,
) -> Result<(), Failure> {
    let token = token(config)?;
    let at = match &arguments.at {
        Some(at) => at.trim_end_matches('/').to_owned(),
        None => match config.http {
            Some(listen) => format!("http://{}", reachable(listen)),
            None => {
                return Err(Failure::Usage(
                    "http.listen is \"\": there is nothing to ask; --at says where a daemon answers"
                        .to_owned(),
                ));
            }
        },
    };
    let below = if among_several {
        format!("/d/{}", config.name)
    } else {
        String::new()
    };
    let url = format!("{at}{below}/api/v1/retrain");
    let (status, said) =
        ask(&url, &token).map_err(|error| Failure::Io(format!("no answer from {url}: {error}")))?;
    told(status, &said, &url).and_then(|message| print(&(message + "\n")))
}

fn token(config: &Config) -> Result<String, Failure> {
    config.token_itself().ok_or_else(|| {
        let why = if config.http_token.is_some() {
            "http.token is only a digest here: to ask for a training takes the token itself, for instance --set http.token=..."
        } else {
            "http.token is not set: without one a daemon changes nothing that is asked for by HTTP; `kill -USR1` makes it train, too"
        };
        Failure::Usage(why.to_owned())
    })
}

fn ask(url: &str, token: &str) -> Result<(u16, String), String> {
    let agent = agent(&Authorities::Machine, LIMIT)?;
    let request = agent
        .post(url)
        .header("Authorization", format!("Bearer {token}"));
    let mut response = request.send_empty().map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let said = response.body_mut().read_to_string().unwrap_or_default();
    Ok((status, said))
}

/// What an answer means.
fn told(status: u16, said: &str, url: &str) -> Result<String, Failure> {
    let body: Value = serde_json::from_str(said).unwrap_or_default();
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    match (status, text("message"), text("error")) {
        (202, Some(message), _) => Ok(message),
        (401 | 403 | 404 | 409, _, Some(error)) => {
            Err(Failure::Usage(format!("{url} says: {error}")))
        }
        (_, _, Some(error)) => Err(Failure::Io(format!("{url} says: {error}"))),
        _ => Err(Failure::Io(format!(
            "{url} answers with status {status}, but not as a daemon does"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::super::exit::{IO, USAGE};
    use super::*;
    use crate::config::Sources;

    fn with_token(token: &str) -> Config {
        let sources = Sources {
            set: vec![format!("http.token={token}"), "name=pumps".to_owned()],
            ..Sources::default()
        };
        Config::load(&sources).unwrap()
    }

    #[test]
    fn the_request_goes_to_the_detector_and_has_the_token() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = format!("http://{}/", listener.local_addr().unwrap());
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request: Vec<String> = lines
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .collect();
            let body = r#"{"message": "a training begins now"}"#;
            let head = format!("HTTP/1.1 202 Accepted\r\nContent-Length: {}", body.len());
            write!(stream, "{head}\r\n\r\n{body}").unwrap();
            request
        });
        let arguments = RetrainArgs { at: Some(at) };
        run(&with_token("0123456789abcdef"), true, &arguments).unwrap();
        let request = daemon.join().unwrap();
        assert_eq!(request[0], "POST /d/pumps/api/v1/retrain HTTP/1.1");
        let token = |line: &String| line.to_lowercase() == "authorization: bearer 0123456789abcdef";
        assert!(request.iter().any(token), "{request:?}");
    }

    #[test]
    fn a_digest_is_no_token_to_ask_with() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let error = token(&with_token(&digest)).unwrap_err();
        assert_eq!(error.code(), USAGE);
        assert!(error.to_string().contains("only a digest"), "{error}");
        let error = token(&with_token("")).unwrap_err();
        assert!(error.to_string().contains("not set"), "{error}");
    }

    #[test]
    fn an_answer_is_a_line_or_says_who_must_act() {
        let code = |status, said| told(status, said, "u").unwrap_err().code();
        let begun = told(202, r#"{"message": "a training begins now"}"#, "u");
        assert_eq!(begun.unwrap(), "a training begins now");
        let refused = r#"{"error": "another process of the group trains"}"#;
        assert_eq!(code(409, refused), USAGE);
        assert_eq!(code(401, refused), USAGE);
        assert_eq!(code(503, refused), IO);
        assert_eq!(code(200, "<html>"), IO);
        let error = told(409, refused, "u").unwrap_err().to_string();
        assert_eq!(error, "u says: another process of the group trains");
    }
}
