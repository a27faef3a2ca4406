//! `/api/v1/events`: what `/api/v1/status` says, again whenever it has changed, as server-sent events: pages need not ask.
//!
//! Nothing is kept for a client: it is told how things are when it takes the next event, and one that takes none costs a place until its connection ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::status::Status;

/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks without a change after which a client is told that the process is still there: proxies close what is quiet.
const QUIET_MAX: u32 = 15;
/// When a browser comes again whose connection has ended, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";
/// A line that says nothing.
const STILL_HERE: &str = ": still here\n\n";

/// The answer that tells a client of each change, for as long as it holds its place.
pub(super) fn told(status: Arc<Status>, place: OwnedSemaphorePermit) -> Response {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        status,
        looks,
        last: String::new(),
        quiet: 0,
        _place: place,
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::new(events)).into_response()
}

/// What one client is told.
#[derive(Debug)]
struct Events {
    status: Arc<Status>,
    looks: Interval,
    /// What it was told last.
    last: String,
    /// Looks since.
    quiet: u32,
    _place: OwnedSemaphorePermit,
}

impl Events {
    /// What there is to tell now.
    fn look(&mut self) -> Option<String> {
        let now = serde_json::to_string(&self.status.view()).ok()?;
        let first = self.last.is_empty();
        if now == self.last {
            self.quiet += 1;
            return (self.quiet >= QUIET_MAX).then(|| {
                self.quiet = 0;
                STILL_HERE.to_owned()
            });
        }
        self.quiet = 0;
        // JSON of serde has no line ends, which would end the event.
        let event = format!("event: status\ndata: {now}\n\n");
        self.last = now;
        Some(if first {
            RETRY.to_owned() + &event
        } else {
            event
        })
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            ready!(self.looks.poll_tick(context));
            if let Some(text) = self.look() {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
    }
}
