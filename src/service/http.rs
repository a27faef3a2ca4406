//! `/metrics`, `/healthz`, `/readyz`, `/status`, the page and the API (`api`), on a thread of their own with a current-thread runtime: the only place
//! where anything is `async`. Reads shared state, never the pipeline. Whoever reaches it may look; to change anything takes a token.
//!
//! Clients may be slow, many, or mean. Connections are few and short, and the oldest makes room for a new one: so `/healthz` answers whatever the
//! others do, and Kafka keeps its file descriptors.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus::{IntCounterVec, Registry, TextEncoder};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::error::ServiceError;
use super::sources::Sources;
use super::{api, pages};

/// What pages may load and whom they may talk to: this server. No script and no style lies in a page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take to come, the wait for a next one on an open connection included.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// The largest head of a request: bytes, and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// After a connection could not be accepted, for want of file descriptors perhaps.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at `address` (port 0: any free one) and answers until dropped.
    pub fn start(address: SocketAddr, sources: Sources) -> io::Result<Self> {
        Self::serving(address, router(sources))
    }

    /// The same, of other pages.
    pub fn serving(address: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address).map_err(|error| bound(address, &error))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    // Not a graceful shutdown: that would wait for every kept-alive connection of a browser.
                    tokio::select! {
                        () = serve(&listener, router) => {}
                        _ = stopped => {}
                    }
                    Ok::<(), io::Error>(())
                });
                if let Err(error) = served {
                    tracing::error!(%error, "the HTTP server ended");
                }
            })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only if the thread ended by itself: then there is nothing to stop.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Why an address cannot be listened at, with the address.
fn bound(address: SocketAddr, error: &io::Error) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another process has it; `http.listen` takes another one, or none (\"\")"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("{address}: {error}{what}"))
}

/// Accepts connections, for ever.
async fn serve(listener: &tokio::net::TcpListener, router: Router) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        };
        connections.retain(|connection| !connection.is_finished());
        if CONNECTIONS_MAX <= connections.len()
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async move {
            // However it ended, the client knows.
            drop(tokio::time::timeout(CONNECTION_MAX, connection).await);
        });
        connections.push_back(task.abort_handle());
    }
}

/// Starts a server where the configuration has an address for one. `what` is said where that fails.
pub(super) fn if_wanted(
    address: Option<SocketAddr>,
    what: &'static str,
    start: impl FnOnce(SocketAddr) -> io::Result<Server>,
) -> Result<Option<Server>, ServiceError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let server = start(address).map_err(|error| ServiceError::Io { what, error })?;
    tracing::info!(address = %server.address(), "serving HTTP");
    Ok(Some(server))
}

/// What one detector answers.
pub(super) fn router(sources: Sources) -> Router {
    let requests = sources.metrics.requests.clone();
    pages::router()
        .merge(api::router())
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .with_state(sources)
        .layer(map_response(protect))
        .layer(from_fn_with_state(Some(requests), count))
}

/// Says what a browser may do with an answer.
pub(super) async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Counts a request by what it asked for: what is none of ours is one series, whatever it says.
pub(super) async fn count(
    State(requests): State<Option<IntCounterVec>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let path = path.as_ref().map_or("other", MatchedPath::as_str);
    // Of one detector among several: as if it were alone.
    let below = path.strip_prefix("/d/").and_then(|rest| rest.find('/'));
    let path = below.map_or(path, |end| &path["/d/".len() + end..]);
    let endpoint = path.replace("{*", "{");
    let endpoint = if endpoint == "/api/{path}" {
        "other"
    } else {
        &endpoint
    };
    let code = response.status();
    if let Some(requests) = requests {
        requests.with_label_values(&[endpoint, code.as_str()]).inc();
    }
    response
}

async fn metrics(State(sources): State<Sources>) -> Response {
    exported(&sources.registry)
}

/// What Prometheus reads.
pub(super) fn exported(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "text/plain; version=0.0.4; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn healthz(State(sources): State<Sources>) -> (StatusCode, String) {
    verdict(sources.status.hangs(sources.clock.now()))
}

async fn readyz(State(sources): State<Sources>) -> (StatusCode, String) {
    verdict(sources.status.not_ready())
}

pub(super) fn verdict(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}

async fn status(State(sources): State<Sources>) -> Response {
    Json(sources.status.view()).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use std::sync::Arc;

    use super::*;
    use crate::config::Config;
    use crate::service::metrics::Metrics;
    use crate::service::sources::{Access, LateChanges};
    use crate::service::status::ProcessInfo;
    use crate::service::status::Status;
    use crate::stream::TopicPartition;
    use crate::time::{ManualClock, Timestamp};

    /// Status code and body of one request.
    fn ask(server: &Server, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn sources() -> Sources {
        let registry = Registry::new();
        let config = Config::load(&crate::config::Sources::default()).unwrap();
        Sources {
            metrics: Metrics::register(&registry, "d").unwrap(),
            registry,
            status: Arc::new(Status::new(ProcessInfo::default())),
            clock: Arc::new(ManualClock::at(Timestamp(1_000_000))),
            access: Access::new(&config, LateChanges::default()),
        }
    }

    fn server() -> Server {
        Server::start(([127, 0, 0, 1], 0).into(), sources()).unwrap()
    }

    #[test]
    fn clients_that_say_nothing_make_room_for_those_that_do() {
        let server = server();
        let half_open: Vec<TcpStream> = (0..150)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address()).unwrap();
                write!(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n").unwrap();
                stream
            })
            .collect();
        assert_eq!(ask(&server, "/healthz").0, 200);
        // The first to come were the first to go, long before their time was up: a read finds the end, or that the connection was reset.
        for mut stream in half_open.into_iter().take(150 - CONNECTIONS_MAX) {
            stream.set_read_timeout(Some(HEAD_MAX / 2)).unwrap();
            let gone = match stream.read(&mut [0; 1]) {
                Ok(read) => read == 0,
                Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
            };
            assert!(gone, "it is still open");
        }
    }

    #[test]
    fn a_head_that_is_too_large_is_refused() {
        let server = server();
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let long = "x".repeat(2 * HEAD_BYTES_MAX);
        // It may be refused before all of it was written.
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n").ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
        assert_eq!(ask(&server, "/healthz").0, 200);
    }

    #[test]
    fn pages_run_no_script_but_their_own_and_what_only_looks_takes_no_post() {
        let server = server();
        let said = |request: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        for page in [
            "/",
            "/episode/d/t/0/1",
            "/key/pump%201",
            "/models",
            "/settings",
        ] {
            let text = said(&format!("GET {page} HTTP/1.1"));
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("<title>anomalyd"));
            let policy =
                "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';";
            assert!(text.contains(policy), "{text}");
            assert!(
                !text.contains("<script>") && !text.contains("<style") && !text.contains("style=")
            );
        }
        for asset in ["app.js", "style.css"] {
            let text = said(&format!("GET /assets/{asset} HTTP/1.1"));
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            // Nothing is put into a page as markup, and nothing is loaded from elsewhere.
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "://",
            ] {
                assert!(
                    !text
                        .replace("http://www.w3.org/2000/svg", "")
                        .contains(word),
                    "{asset}: {word}"
                );
            }
        }
        assert_eq!(ask(&server, "/assets/nothing.js").0, 404);
        for path in ["/status", "/metrics", "/", "/api/v1/keys"] {
            let text = said(&format!("POST {path} HTTP/1.1"));
            assert!(text.starts_with("HTTP/1.1 405"), "{text}");
        }
    }

    #[test]
    fn every_address_answers() {
        let sources = sources();
        let (metrics, status) = (sources.metrics.clone(), Arc::clone(&sources.status));
        let server = Server::start(([127, 0, 0, 1], 0).into(), sources).unwrap();
        metrics.consumed.inc_by(7);
        let (code, body) = ask(&server, "/metrics");
        assert_eq!(code, 200);
        assert!(
            body.contains("anomalyd_records_consumed_total{detector=\"d\"} 7"),
            "{body}"
        );
        assert_eq!(ask(&server, "/healthz").0, 200);
        status.stepped(0, Timestamp(0));
        assert_eq!(ask(&server, "/healthz").0, 503);
        assert_eq!(ask(&server, "/readyz").0, 503);
        status.assigned(&TopicPartition::new("t", 3), false);
        assert_eq!(ask(&server, "/readyz").0, 200);
        let (_, body) = ask(&server, "/status");
        let view: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(view["partitions"][0]["partition"], 3);
        assert!(ask(&server, "/").1.contains("<title>anomalyd"));
        assert_eq!(ask(&server, "/nowhere").0, 404);
        assert_eq!(ask(&server, "/nowhere/else").0, 404);
        let count = |labels: [&str; 2]| metrics.requests.with_label_values(&labels).get();
        assert_eq!(count(["/healthz", "503"]), 1);
        assert_eq!(count(["other", "404"]), 2);
    }
}
