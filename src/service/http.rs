//! `/metrics`, `/healthz`, `/readyz`, `/status` and the page, on a thread of their own with a current-thread runtime: the only place where
//! anything is `async`. Reads shared state, never the pipeline.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::status::Status;
use crate::time::Clock;

/// The page: one file, nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// What the answers are made from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The metrics.
    pub registry: Registry,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// For the age of the last step.
    pub clock: Arc<dyn Clock>,
}

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
        let listener = TcpListener::bind(address)?;
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
                        served = axum::serve(listener, router(sources)) => served,
                        _ = stopped => Ok(()),
                    }
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

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/scores", get(scores))
        .with_state(sources)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    match TextEncoder::new().encode_to_string(&sources.registry.gather()) {
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

fn verdict(problem: Option<String>) -> (StatusCode, String) {
    match problem {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem + "\n"),
    }
}

async fn status(State(sources): State<Sources>) -> Response {
    Json(sources.status.view()).into_response()
}

/// `/scores?after=N`
#[derive(Debug, Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn scores(State(sources): State<Sources>, Query(query): Query<After>) -> Response {
    Json(sources.status.scores(query.after)).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::service::metrics::Metrics;
    use crate::service::status::Facts;
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

    #[test]
    fn every_address_answers() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry, "d").unwrap();
        let status = Arc::new(Status::new(Facts::default()));
        let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
        let server = Server::start(
            ([127, 0, 0, 1], 0).into(),
            Sources {
                registry,
                status: Arc::clone(&status),
                clock,
            },
        )
        .unwrap();
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
        status.score("k", Timestamp(5), 0.25, false);
        let (_, body) = ask(&server, "/scores?after=0");
        let points: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(points[0]["p_value"], 0.25);
        assert_eq!(ask(&server, "/scores?after=1").1, "[]");
        assert!(ask(&server, "/").1.contains("<title>anomalyd"));
        assert_eq!(ask(&server, "/nowhere").0, 404);
    }
}
