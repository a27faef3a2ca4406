//! HTTP of several detectors: what one answers by itself lies below `/d/NAME`; `/metrics`, `/healthz` and `/readyz` are the process's, `/status` has all,
//! and `/` lists them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use prometheus::{IntCounterVec, Registry};
use serde_json::{Value, json};
use tracing::Instrument as _;

use super::http::{count, exported, protect, router as of_one, verdict};
use super::sources::Sources;
use super::{api, log, pages};
use crate::time::Clock;

/// How one detector is reached.
#[derive(Clone, Debug)]
pub struct Door {
    /// The detector's name.
    pub name: String,
    /// What it answers from.
    pub sources: Sources,
}

/// Makes all detectors read their configuration again; answers which come or go with a restart.
pub type Reload = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

#[derive(Clone)]
struct Building {
    doors: Arc<[Door]>,
    registry: Registry,
    clock: Arc<dyn Clock>,
    reload: Reload,
}

/// What a process of several detectors answers; `requests` counts the process's own, if they are counted.
pub fn router(
    doors: Vec<Door>,
    (registry, clock): (&Registry, &Arc<dyn Clock>),
    reload: Reload,
    requests: Option<IntCounterVec>,
) -> Router {
    let building = Building {
        doors: doors.into(),
        registry: registry.clone(),
        clock: Arc::clone(clock),
        reload,
    };
    let mut router = Router::new()
        .route("/", get(async || Html(pages::SEVERAL)))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/api/v1/reload", post(read_again))
        .route("/assets/{name}", get(pages::asset))
        .with_state(building.clone())
        .layer(map_response(protect))
        .layer(from_fn_with_state(requests, count));
    for door in &*building.doors {
        let (below, slash) = (format!("/d/{}", door.name), format!("/d/{}/", door.name));
        let to = below.clone();
        let whose = log::of(&door.name);
        let named = move |request: Request, next: Next| next.run(request).instrument(whose.clone());
        router = router
            .nest(&below, of_one(door.sources.clone()).layer(from_fn(named)))
            .route(&slash, get(async move || Redirect::permanent(&to)));
    }
    router
}

async fn metrics(State(building): State<Building>) -> Response {
    exported(&building.registry)
}

async fn healthz(State(building): State<Building>) -> (StatusCode, String) {
    let now = building.clock.now();
    verdict(first(&building.doors, |door| {
        door.sources.status.hangs(now)
    }))
}

/// One that failed keeps the others from nothing: the process is ready when each of them is, or has failed, and one is.
async fn readyz(State(building): State<Building>) -> (StatusCode, String) {
    let doors = &building.doors;
    let working = |door: &Door| !door.sources.status.has_failed();
    if doors.iter().any(working) {
        return verdict(first(doors, |door| {
            door.sources.status.not_ready().filter(|_| working(door))
        }));
    }
    verdict(first(doors, |door| door.sources.status.not_ready()))
}

/// The first answer, with whose it is.
fn first(doors: &[Door], answer: impl Fn(&Door) -> Option<String>) -> Option<String> {
    doors
        .iter()
        .find_map(|door| Some(format!("{}: {}", door.name, answer(door)?)))
}

async fn status(State(building): State<Building>) -> Response {
    let all: Vec<Value> = building
        .doors
        .iter()
        .map(|door| json!(door.sources.status.view()))
        .collect();
    Json(json!({"detectors": all})).into_response()
}

/// Who may change one of them may make all read their configuration again: they have one token.
async fn read_again(State(building): State<Building>, headers: HeaderMap) -> Response {
    let command = format!("kill -HUP {}", std::process::id());
    let Some(door) = building.doors.first() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Err(refused) = api::admit(&door.sources.access, &headers, &command) {
        return *refused;
    }
    let reload = Arc::clone(&building.reload);
    let others = match tokio::task::spawn_blocking(move || reload()).await {
        Ok(others) => others,
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    };
    let all: Vec<Value> = building
        .doors
        .iter()
        .map(|door| json!({"detector": door.name, "reload": door.sources.status.view().reload}))
        .collect();
    Json(json!({"detectors": all, "needs_restart": others})).into_response()
}
