//! `/api/v1`: what the page shows and does, for programs. docs/openapi.json describes it, and a test holds the two together.
//!
//! Whoever reaches it may look. To change anything takes `http.token`; without one it answers with the command that does it. What changes anything
//! goes the way of the command line (`change`), on a thread of its own, one at a time.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tracing::Span;

use super::change::{ChangeError, Changes, follows};
use super::past::{Asked, COURSE, LEAD, TAIL};
use super::query::{
    InPath, InQuery, KeysQuery, PastQuery, ScoresQuery, SeriesQuery, Undo, only, refuse,
};
use super::recent::Wanted;
use super::scored::Which;
use super::sources::{Access, LateChanges, Sources};
use super::{events, told};
use crate::config::Setting;
use crate::model::card::{Feedback, ModelVersion};
use crate::stream::EpisodeId;

/// What takes back what was said.
const UNDO: &[&str] = &["undo"];

/// Answers of lists that may be long have so many entries unless told otherwise, and at most; those of keys unless told otherwise are in `query`.
const KEYS_MAX: usize = 500;
const POINTS: usize = 600;
const POINTS_MAX: usize = 5_000;
const SCORES: usize = 100;
const SCORES_MAX: usize = 5_000;
/// How much of the past keys are shown over at most, in minutes, and in how many bins.
const MINUTES_MAX: u32 = 60 * 24 * 30;
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
    /// Its parameters behind the question mark: no others are taken.
    pub parameters: &'static [&'static str],
    /// Its path as the router takes it.
    route: &'static str,
    handler: MethodRouter<Sources>,
}

fn endpoint(
    method: &'static str,
    path: &'static str,
    parameters: &'static [&'static str],
    handler: MethodRouter<Sources>,
) -> Endpoint {
    Endpoint {
        method,
        path,
        parameters,
        // Ids of episodes have slashes: they are taken as they are, and escaped. So is what is said of them, whatever that is.
        route: match path {
            "/api/v1/episodes/{id}" | "/api/v1/episodes/{id}/dismiss" => "/api/v1/episodes/{*id}",
            path => path,
        },
        handler,
    }
}

/// All that can be asked.
#[must_use]
pub fn endpoints() -> Vec<Endpoint> {
    let asked = |path, parameters, handler| endpoint("get", path, parameters, handler);
    let changed = |path, parameters, handler| endpoint("post", path, parameters, handler);
    vec![
        asked("/api/v1/status", &[], get(status)),
        asked("/api/v1/events", &[], get(watch)),
        asked("/api/v1/episodes", &[], get(episodes)),
        asked("/api/v1/episodes/{id}", &[], get(episode)),
        changed("/api/v1/episodes/{id}/dismiss", UNDO, post(say)),
        changed("/api/v1/episodes/{id}/confirm", UNDO, MethodRouter::new()),
        changed(
            "/api/v1/episodes/{id}/new-normal",
            UNDO,
            MethodRouter::new(),
        ),
        asked(
            "/api/v1/keys",
            &["search", "most", "minutes", "bins"],
            get(keys),
        ),
        asked(
            "/api/v1/keys/{key}/series",
            &["from", "to", "most"],
            get(series),
        ),
        asked("/api/v1/keys/{key}/past", &["episode", "most"], get(past)),
        asked("/api/v1/scores", &["key", "p_max", "most"], get(scores)),
        asked("/api/v1/models", &[], get(models)),
        asked("/api/v1/models/{version}", &[], get(model)),
        changed("/api/v1/models/{version}/promote", &[], post(promote)),
        changed("/api/v1/models/rollback", &[], post(rollback)),
        changed("/api/v1/retrain", &[], post(retrain)),
        changed("/api/v1/reload", &[], post(reload)),
        asked("/api/v1/settings", &[], get(settings)),
        asked("/api/v1/openapi.json", &[], get(openapi)),
    ]
}

/// The routes of all endpoints; all that is said of an episode has one.
pub(super) fn router() -> Router<Sources> {
    let routed = endpoints()
        .into_iter()
        .filter(|e| !e.path.ends_with("/confirm") && !e.path.ends_with("/new-normal"));
    routed
        .fold(Router::new(), |router, e| {
            let asked = move |request, next| only(e.parameters, request, next);
            router.route(e.route, e.handler.layer(from_fn(asked)))
        })
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

async fn episode(State(sources): State<Sources>, InPath(id): InPath) -> Response {
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

async fn keys(State(sources): State<Sources>, InQuery(query): InQuery<KeysQuery>) -> Response {
    let wanted = Wanted {
        search: &query.search,
        most: query.most.min(KEYS_MAX),
        span: i64::from(query.minutes.clamp(1, MINUTES_MAX)) * 60_000,
        bins: query.bins.clamp(1, BINS_MAX),
    };
    Json(sources.status.overview(wanted)).into_response()
}

async fn series(
    State(sources): State<Sources>,
    InPath(key): InPath,
    InQuery(query): InQuery<SeriesQuery>,
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

/// Reads records that are not remembered again from the log, one question at a time.
async fn past(
    State(sources): State<Sources>,
    InPath(key): InPath,
    InQuery(query): InQuery<PastQuery>,
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
    let (access, known) = (&sources.access, sources.status.oldest(&key).is_some());
    let found = run(&access.changes, &access.reading, move |changes| {
        changes.past(&asked)
    });
    let most = query.most.unwrap_or(POINTS).min(POINTS_MAX);
    match found.await {
        Ok(found) if found.records.is_empty() && !known => {
            let why = found.told(&key, most).message;
            refuse(StatusCode::NOT_FOUND, &why, None)
        }
        Ok(found) => Json(found.told(&key, most)).into_response(),
        Err(refused) => refused,
    }
}

async fn scores(State(sources): State<Sources>, InQuery(query): InQuery<ScoresQuery>) -> Response {
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
async fn model(State(sources): State<Sources>, InPath(version): InPath) -> Response {
    let Some(number) = version_of(&version) else {
        return no_model(&version);
    };
    let found = ask(&sources, |changes| changes.models()).await;
    let card = found.map(|(cards, _)| cards.into_iter().find(|card| card.version == number));
    match card {
        Ok(Some(card)) => Json(card).into_response(),
        Ok(None) => no_model(&version),
        Err(refused) => refused,
    }
}

fn version_of(text: &str) -> Option<ModelVersion> {
    text.parse().ok().map(ModelVersion)
}

fn no_model(version: &str) -> Response {
    let why = format!("there is no model `{version}`; /api/v1/models has those there are");
    refuse(StatusCode::NOT_FOUND, &why, None)
}

async fn say(
    State(sources): State<Sources>,
    InPath(path): InPath,
    InQuery(Undo { undo }): InQuery<Undo>,
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
    InPath(version): InPath,
    headers: HeaderMap,
) -> Response {
    let Some(version) = version_of(&version) else {
        return no_model(&version);
    };
    let command = format!("anomalyd models promote {version} {FILE}");
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
