//! `anomalyd healthcheck`: one HTTP request to a daemon on this machine, without a client library.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::args::HealthcheckArgs;
use super::exit::Failure;
use crate::config::Config;

/// How long each step of the request may take.
const LIMIT: Duration = Duration::from_secs(3);

pub(super) fn run(config: &Config, arguments: &HealthcheckArgs) -> Result<(), Failure> {
    let Some(listen) = config.http else {
        return Err(Failure::Usage(
            "http.listen is \"\": there is nothing to ask".to_owned(),
        ));
    };
    let path = if arguments.ready {
        "/readyz"
    } else {
        "/healthz"
    };
    let answer = ask(reachable(listen), path)
        .map_err(|error| Failure::Io(format!("no answer from http://{listen}{path}: {error}")))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) == Some("200") {
        return Ok(());
    }
    Err(Failure::Io(format!("{path} says: {}", body.trim())))
}

/// An address that listens everywhere is reached here.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_reached_at_this_machine() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(reached("[::]:9464"), "[::1]:9464");
        assert_eq!(reached("10.0.0.7:80"), "10.0.0.7:80");
    }
}
