//! `/api/v1/events`: what `/api/v1/status` says, again whenever it has changed, as server-sent events: pages need not ask.
//!
//! What is told is made once for all who look within half a second. Nothing is kept for a client: it is told how things are when it takes the next event, and one that takes none costs a place until its connection ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::status::Status;

/// How often it is looked whether something has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How old what was made for another client may be.
const FRESH: Duration = Duration::from_millis(500);
/// Looks without a change after which a client is told that the process is still there: proxies close what is quiet.
const QUIET_MAX: u32 = 15;
/// When a browser comes again whose connection has ended, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";
/// A line that says nothing.
const STILL_HERE: &str = ": still here\n\n";

/// The status as it was made last, for all clients.
#[derive(Debug, Default)]
pub(super) struct Latest(Mutex<Option<(Instant, Arc<str>)>>);

impl Latest {
    /// As it is at `now`, made anew where that made last is not fresh, or where `anew`; `None` where it cannot be written.
    fn at(
        &self,
        now: Instant,
        anew: bool,
        make: impl FnOnce() -> Option<String>,
    ) -> Option<Arc<str>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = held
            .as_ref()
            .filter(|(at, _)| !anew && now.saturating_duration_since(*at) < FRESH);
        if let Some((_, text)) = made {
            return Some(Arc::clone(text));
        }
        let text: Arc<str> = make()?.into();
        *held = Some((now, Arc::clone(&text)));
        Some(text)
    }
}

/// The answer that tells a client of each change, for as long as it holds its place.
pub(super) fn told(
    status: Arc<Status>,
    latest: Arc<Latest>,
    place: OwnedSemaphorePermit,
) -> Response {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        status,
        latest,
        looks,
        last: Arc::from(""),
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
    latest: Arc<Latest>,
    looks: Interval,
    /// What it was told last.
    last: Arc<str>,
    /// Looks since.
    quiet: u32,
    _place: OwnedSemaphorePermit,
}

impl Events {
    /// What there is to tell at `now`.
    fn look(&mut self, now: Instant) -> Option<String> {
        let first = self.last.is_empty();
        let make = || serde_json::to_string(&self.status.view()).ok();
        // Whoever comes is told how things are, and not how they were.
        let now = self.latest.at(now, first, make)?;
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
            let now = ready!(self.looks.poll_tick(context));
            if let Some(text) = self.look(now) {
                return Poll::Ready(Some(Ok(Frame::data(text.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn it_is_made_once_for_all_who_look_at_the_same_time() {
        let (latest, mut made) = (Latest::default(), 0);
        let now = tokio::time::interval(LOOK_EVERY).tick().await;
        let mut look = |after: u64, anew| {
            let text = latest.at(now + Duration::from_millis(after), anew, || {
                made += 1;
                Some(made.to_string())
            });
            text.unwrap().to_string()
        };
        assert_eq!(
            [look(0, true), look(1, false), look(499, false)],
            ["1", "1", "1"]
        );
        assert_eq!([look(500, false), look(999, false)], ["2", "2"]);
        // Who comes is told how things are.
        assert_eq!(look(999, true), "3");
        assert_eq!(latest.at(now + LOOK_EVERY * 9, false, || None), None);
    }
}
