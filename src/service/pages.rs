//! The pages: one document whose script asks the API, with nothing from elsewhere and no build step. What the script draws follows from the address.

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::sources::Sources;

/// The document of all pages.
const PAGE: &str = include_str!("page/index.html");

/// The document that lists the detectors of a process.
pub(super) const SEVERAL: &str = include_str!("page/several.html");

/// Elements, numbers and times in a browser; a backtest's report has them, too.
pub(crate) const DOM: &str = include_str!("page/dom.js");
/// Charts over time.
pub(crate) const CHARTS: &str = include_str!("page/charts.js");
/// How pages look.
pub(crate) const STYLE: &str = include_str!("page/style.css");

/// What it loads: name, type and content.
const ASSETS: [(&str, &str, &str); 14] = [
    ("app.js", SCRIPT, include_str!("page/app.js")),
    ("home.js", SCRIPT, include_str!("page/home.js")),
    ("several.js", SCRIPT, include_str!("page/several.js")),
    ("key.js", SCRIPT, include_str!("page/key.js")),
    ("episode.js", SCRIPT, include_str!("page/episode.js")),
    ("models.js", SCRIPT, include_str!("page/models.js")),
    ("settings.js", SCRIPT, include_str!("page/settings.js")),
    ("past.js", SCRIPT, include_str!("page/past.js")),
    ("course.js", SCRIPT, include_str!("page/course.js")),
    ("episodes.js", SCRIPT, include_str!("page/episodes.js")),
    ("charts.js", SCRIPT, CHARTS),
    ("dom.js", SCRIPT, DOM),
    ("tools.js", SCRIPT, include_str!("page/tools.js")),
    ("style.css", "text/css; charset=utf-8", STYLE),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The addresses of pages.
pub(super) fn router() -> Router<Sources> {
    let page = || get(async || Html(PAGE));
    Router::new()
        .route("/", page())
        .route("/episode/{*id}", page())
        .route("/key/{*key}", page())
        .route("/models", page())
        .route("/settings", page())
        .route("/assets/{name}", get(asset))
}

pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, content)) => ([(header::CONTENT_TYPE, *kind)], *content).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
