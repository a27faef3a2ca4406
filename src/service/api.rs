//! `/api/v1`: what the page shows and does, for programs. docs/openapi.json describes it, and a test holds the two together.
//!
//! Whoever reaches it may look. To change anything takes `http.token`; without one it answers with the command that does it. What changes anything
//! goes the way of the command line (`change`), on a thread of its own, one at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::Span;

use super::change::{ChangeError, Changes, follows};
use super::past::{Asked, COURSE, LEAD, TAIL};
use super::recent::Wanted;
use super::scored::Which;
use super::sources::{Access, LateChanges, Sources};
use super::{events, told};
use crate::config::Setting;
use crate::model::card::{Feedback, ModelVersion};
use crate::stream::EpisodeId;

/// Answers of lists that may be long have so many entries unless told otherwise, and at most.
const KEYS: usize = 50;
const KEYS_MAX: usize = 500;
const POINTS: usize = 600;
const POINTS_MAX: usize = 5_000;
const SCORES: usize = 100;
const SCORES_MAX: usize = 5_000;
/// How much of the past keys are shown over, in minutes, and in how many bins.
const MINUTES: u32 = 60;
const MINUTES_MAX: u32 = 60 * 24 * 30;
const BINS: usize = 60;
const BINS_MAX: usize = 500;

/// What the program answers: the description of all this.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// One thing that can be asked.
#[derive(Debug)]
pub struct Endpoint {
    /// `get` or `post`.
    pub method: &'static str,
    /// Its path as OpenAPI writes it.
    pub path: &'static str,
    /// Its path as the router takes it.
    route: &'static str,
    handler: MethodRouter<Sources>,
}

fn endpoint(method: &'static str, path: &'static str, handler: MethodRouter<Sources>) -> Endpoint {
    Endpoint {
        method,
        path,
        // Ids of episodes have slashes: they are taken as they are, and escaped.
        route: match path {
            "/api/v1/episodes/{id}" => "/api/v1/episodes/{*id}",
            path => path,
        },
        handler,
    }
}

/// All that can be asked.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        endpoint("get", "/api/v1/status", get(status)),
        endpoint("get", "/api/v1/events", get(watch)),
        endpoint("get", "/api/v1/episodes", get(episodes)),
        endpoint("get", "/api/v1/episodes/{id}", get(episode).post(say)),
        endpoint("post", "/api/v1/episodes/{id}/dismiss", MethodRouter::new()),
        endpoint("post", "/api/v1/episodes/{id}/confirm", MethodRouter::new()),
        endpoint(
            "post",
            "/api/v1/episodes/{id}/new-normal",
            MethodRouter::new(),
        ),
        endpoint("get", "/api/v1/keys", get(keys)),
        endpoint("get", "/api/v1/keys/{key}/series", get(series)),
        endpoint("get", "/api/v1/keys/{key}/past", get(past)),
        endpoint("get", "/api/v1/scores", get(scores)),
        endpoint("get", "/api/v1/models", get(models)),
        endpoint("get", "/api/v1/models/{version}", get(model)),
        endpoint("post", "/api/v1/models/{version}/promote", post(promote)),
        endpoint("post", "/api/v1/models/rollback", post(rollback)),
        endpoint("post", "/api/v1/retrain", post(retrain)),
        endpoint("post", "/api/v1/reload", post(reload)),
        endpoint("get", "/api/v1/settings", get(settings)),
        endpoint("get", "/api/v1/openapi.json", get(openapi)),
    ]
}

/// The routes of all endpoints; what is said of an episode is routed with the episode.
pub(super) fn router() -> Router<Sources> {
    let routed = endpoints()
        .into_iter()
        .filter(|e| !e.path.starts_with("/api/v1/episodes/{id}/"));
    routed
        .fold(Router::new(), |router, e| router.route(e.route, e.handler))
        .route("/api/{*path}", axum::routing::any(nowhere))
}

async fn nowhere() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "there is no such address; /api/v1/openapi.json has all",
        None,
    )
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn status(State(sources): State<Sources>) -> Response {
    Json(sources.status.view()).into_response()
}

/// Tells of each change, if there is a place.
async fn watch(State(sources): State<Sources>) -> Response {
    match Arc::clone(&sources.access.watching).try_acquire_owned() {
        Ok(place) => {
            let latest = Arc::clone(&sources.access.latest);
            events::told(Arc::clone(&sources.status), latest, place)
        }
        Err(_) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many watch as can be told: ask /api/v1/status now and then instead",
            None,
        ),
    }
}

async fn episodes(State(sources): State<Sources>) -> Response {
    let (open, closed) = sources.status.episodes();
    Json(json!({"open": open, "closed": closed})).into_response()
}

async fn episode(State(sources): State<Sources>, Path(id): Path<String>) -> Response {
    match sources.status.episode(&id) {
        Some(found) => Json(found).into_response(),
        None => refuse(
            StatusCode::NOT_FOUND,
            &format!(
                "no open or recent episode `{id}` is known here; another process of the group may know it, and its alerts do"
            ),
            None,
        ),
    }
}

/// `/api/v1/keys?search=...`
#[derive(Debug, Deserialize)]
#[serde(default)]
struct KeysQuery {
    search: String,
    most: usize,
    minutes: u32,
    bins: usize,
}

impl Default for KeysQuery {
    fn default() -> Self {
        Self {
            search: String::new(),
            most: KEYS,
            minutes: MINUTES,
            bins: BINS,
        }
    }
}

async fn keys(State(sources): State<Sources>, Query(query): Query<KeysQuery>) -> Response {
    let wanted = Wanted {
        search: &query.search,
        most: query.most.min(KEYS_MAX),
        span: i64::from(query.minutes.clamp(1, MINUTES_MAX)) * 60_000,
        bins: query.bins.clamp(1, BINS_MAX),
    };
    Json(sources.status.overview(wanted)).into_response()
}

/// `/api/v1/keys/{key}/series?from=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SeriesQuery {
    from: Option<i64>,
    to: Option<i64>,
    most: Option<usize>,
}

async fn series(
    State(sources): State<Sources>,
    Path(key): Path<String>,
    Query(query): Query<SeriesQuery>,
) -> Response {
    let between = (query.from.unwrap_or(i64::MIN), query.to.unwrap_or(i64::MAX));
    let most = query.most.unwrap_or(POINTS).min(POINTS_MAX);
    match sources.status.series(&key, between, most) {
        Some(found) => Json(found).into_response(),
        None => refuse(
            StatusCode::NOT_FOUND,
            &format!("no record of the key `{key}` was seen here lately"),
            None,
        ),
    }
}

/// `/api/v1/keys/{key}/past?episode=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PastQuery {
    episode: Option<String>,
    most: Option<usize>,
}

/// Reads records that are not remembered again from the log, one question at a time.
async fn past(
    State(sources): State<Sources>,
    Path(key): Path<String>,
    Query(query): Query<PastQuery>,
) -> Response {
    let asked = match query.episode {
        Some(id) => match EpisodeId::from(id.as_str()).place() {
            Some((at, onset)) => Asked {
                key: key.clone(),
                at: Some(at),
                place: Some(onset),
                before: LEAD,
                after: TAIL,
            },
            None => {
                let why = format!("`{id}` is the id of no episode");
                return refuse(StatusCode::NOT_FOUND, &why, None);
            }
        },
        None => {
            let oldest = sources.status.oldest(&key);
            let (at, place) = oldest.map(|input| (input.at, input.offset)).unzip();
            Asked {
                key: key.clone(),
                at,
                place,
                before: COURSE,
                after: 0,
            }
        }
    };
    let access = &sources.access;
    let found = run(&access.changes, &access.reading, move |changes| {
        changes.past(&asked)
    });
    let most = query.most.unwrap_or(POINTS).min(POINTS_MAX);
    match found.await {
        Ok(found) => Json(found.told(&key, most)).into_response(),
        Err(refused) => refused,
    }
}

/// `/api/v1/scores?key=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScoresQuery {
    key: Option<String>,
    p_max: Option<f64>,
    most: Option<usize>,
}

async fn scores(State(sources): State<Sources>, Query(query): Query<ScoresQuery>) -> Response {
    let p_max = query.p_max.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&p_max) {
        let why = format!("`p_max` is a probability, from 0 to 1, but is {p_max}");
        return refuse(StatusCode::BAD_REQUEST, &why, None);
    }
    let which = Which {
        key: query.key.as_deref(),
        p_max,
        most: query.most.unwrap_or(SCORES).min(SCORES_MAX),
    };
    Json(sources.status.scores(which)).into_response()
}

async fn settings(State(sources): State<Sources>) -> Response {
    let settings: &[Setting] = &sources.access.settings.get();
    Json(json!({"settings": settings})).into_response()
}

async fn models(State(sources): State<Sources>) -> Response {
    let found = ask(&sources, |changes| changes.models()).await;
    match found {
        Ok((cards, champion)) => {
            let models: Vec<Value> = cards
                .iter()
                .rev()
                .map(|card| told::model(card, champion))
                .collect();
            Json(json!({"in_use": champion, "models": models})).into_response()
        }
        Err(refused) => refused,
    }
}

/// The whole card of a model.
async fn model(State(sources): State<Sources>, Path(version): Path<u64>) -> Response {
    let found = ask(&sources, |changes| changes.models()).await;
    let card = found.map(|(cards, _)| {
        cards
            .into_iter()
            .find(|card| card.version == ModelVersion(version))
    });
    match card {
        Ok(Some(card)) => Json(card).into_response(),
        Ok(None) => refuse(
            StatusCode::NOT_FOUND,
            &format!("there is no model {version}"),
            None,
        ),
        Err(refused) => refused,
    }
}

/// `?undo=true`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Undo {
    undo: bool,
}

async fn say(
    State(sources): State<Sources>,
    Path(path): Path<String>,
    Query(Undo { undo }): Query<Undo>,
    headers: HeaderMap,
) -> Response {
    let said = path
        .rsplit_once('/')
        .and_then(|(id, word)| Some((id.to_owned(), meant(word)?, word)));
    let Some((id, says, word)) = said else {
        return refuse(
            StatusCode::NOT_FOUND,
            "what can be said of an episode is dismiss, confirm and new-normal",
            None,
        );
    };
    let back = if undo { " --undo" } else { "" };
    let command = format!("anomalyd episodes {word} {id}{back} {FILE}");
    let done = change(&sources, &headers, &command, {
        let id = id.clone();
        move |changes| changes.say(&id, says, undo)
    });
    match done.await {
        Ok(judged) => Json(json!({
            "episode": id,
            "feedback": judged.says.map(Feedback::name),
            "message": follows(&id, judged),
        }))
        .into_response(),
        Err(refused) => refused,
    }
}

/// What a word of the command line means.
fn meant(word: &str) -> Option<Feedback> {
    match word {
        "dismiss" => Some(Feedback::FalsePositive),
        "confirm" => Some(Feedback::TruePositive),
        "new-normal" => Some(Feedback::NewNormal),
        _ => None,
    }
}

async fn promote(
    State(sources): State<Sources>,
    Path(version): Path<u64>,
    headers: HeaderMap,
) -> Response {
    let command = format!("anomalyd models promote {version} {FILE}");
    let version = ModelVersion(version);
    let done = change(&sources, &headers, &command, move |changes| {
        changes.promote(version)
    });
    done.await
        .map_or_else(|refused| refused, |()| in_use(version))
}

async fn rollback(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let command = format!("anomalyd models rollback {FILE}");
    let done = change(&sources, &headers, &command, |changes| changes.rollback());
    done.await.map_or_else(|refused| refused, in_use)
}

fn in_use(version: ModelVersion) -> Response {
    let message =
        format!("model {version} is in use; running daemons take it up with their next batch");
    Json(json!({"in_use": version, "message": message})).into_response()
}

async fn retrain(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let command = format!("kill -USR1 {}", std::process::id());
    let done = change(&sources, &headers, &command, |changes| changes.retrain());
    let message = "a training begins now, or when the one under way has ended";
    match done.await {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({"message": message}))).into_response(),
        Err(refused) => refused,
    }
}

async fn reload(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let command = format!("kill -HUP {}", std::process::id());
    let done = change(&sources, &headers, &command, |changes| changes.reload());
    done.await
        .map_or_else(|refused| refused, |told| Json(told).into_response())
}

/// What stands for the configuration in a command.
const FILE: &str = "--config FILE";

/// An answer that says why not, and which command would do it.
fn refuse(status: StatusCode, why: &str, command: Option<&str>) -> Response {
    let mut body = BTreeMap::from([("error", why)]);
    body.extend(command.map(|command| ("command", command)));
    (status, Json(body)).into_response()
}

/// Whether somebody may change something; if not, the answer that says so.
pub(super) fn admit(
    access: &Access,
    headers: &HeaderMap,
    command: &str,
) -> Result<(), Box<Response>> {
    let refuse = |status, why| Err(Box::new(refuse(status, why, Some(command))));
    let Some(token) = &access.token else {
        return refuse(
            StatusCode::FORBIDDEN,
            "nothing can be changed here, for `http.token` is not set; this command does it",
        );
    };
    if !same_origin(headers, access.public_host.as_deref()) {
        return refuse(
            StatusCode::FORBIDDEN,
            "this comes from a page of somebody else, or from an address that is not `http.public_url`",
        );
    }
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    if given.is_some_and(|given| token.is_of(given.trim())) {
        return Ok(());
    }
    let why = match given {
        None => "this takes the token: `Authorization: Bearer TOKEN`",
        Some(_) => "this is not the token",
    };
    refuse(StatusCode::UNAUTHORIZED, why).map_err(|mut response| {
        let scheme = HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, scheme);
        response
    })
}

/// Whether a browser says that the request comes from a page of ours; programs say nothing. A page of somebody else may have been served under a name that
/// points here since (DNS rebinding): a name is ours only if it is `localhost` or that of `http.public_url`.
fn same_origin(headers: &HeaderMap, public_host: Option<&str>) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_ascii_lowercase);
    let Some(origin) = text(origin) else {
        return false;
    };
    let Some((_, from)) = origin.split_once("://") else {
        return false;
    };
    if public_host == Some(from) {
        return true;
    }
    let host = headers.get(header::HOST).and_then(text);
    host.is_some_and(|host| host == from) && is_a_place(from)
}

/// Whether a host, perhaps with a port, is an address or `localhost`: no name that somebody else has a say in.
fn is_a_place(host: &str) -> bool {
    if let Ok(uri) = host.parse::<Authority>() {
        let name = uri.host().trim_start_matches('[').trim_end_matches(']');
        return name == "localhost" || name.parse::<IpAddr>().is_ok();
    }
    false
}

/// Changes something, if whoever asks may.
async fn change<T: Send + 'static>(
    sources: &Sources,
    headers: &HeaderMap,
    command: &str,
    what: impl FnOnce(&dyn Changes) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Response> {
    admit(&sources.access, headers, command).map_err(|refused| *refused)?;
    tracing::info!(command, "asked for by HTTP");
    run(&sources.access.changes, &sources.access.changing, what).await
}

/// Asks Kafka for something.
async fn ask<T: Send + 'static>(
    sources: &Sources,
    what: impl FnOnce(&dyn Changes) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Response> {
    run(&sources.access.changes, &sources.access.asking, what).await
}

/// Runs something that takes its time on a thread of its own, unless as many as may run already do.
async fn run<T: Send + 'static>(
    changes: &LateChanges,
    places: &Arc<Semaphore>,
    what: impl FnOnce(&dyn Changes) -> Result<T, ChangeError> + Send + 'static,
) -> Result<T, Response> {
    let busy = |why| refuse(StatusCode::SERVICE_UNAVAILABLE, why, None);
    let Some(changes) = changes.get() else {
        return Err(busy("the process is still starting, or waits for Kafka"));
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        return Err(busy("others are at it already: try again in a moment"));
    };
    let whose = Span::current();
    let done = tokio::task::spawn_blocking(move || {
        let done = whose.in_scope(|| what(&*changes));
        drop(place);
        done
    });
    match done.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failed(&error)),
        Err(error) => Err(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            &error.to_string(),
            None,
        )),
    }
}

fn failed(error: &ChangeError) -> Response {
    let status = match error {
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        ChangeError::Impossible(_) => StatusCode::CONFLICT,
        ChangeError::Settings(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ChangeError::Store(_) | ChangeError::Kafka(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    refuse(status, &error.to_string(), None)
}
