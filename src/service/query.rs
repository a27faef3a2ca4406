//! What a request asks for by its address: read, or refused in words, as all of the API is refused.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Json, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How many keys are listed unless told otherwise, over how much of the past, in minutes, and in how many bins.
const KEYS: usize = 50;
const MINUTES: u32 = 60;
const BINS: usize = 60;

/// What the path names.
pub(super) struct InPath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for InPath {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(found)) => Ok(Self(found)),
            Err(_) => Err(bad("the address is no UTF-8 once it is unescaped")),
        }
    }
}

/// Parameters, in the struct that has them.
pub(super) struct InQuery<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(found)) => Ok(Self(found)),
            Err(error) => Err(bad(&wrong(&parts.uri, &error))),
        }
    }
}

/// Refuses a request that has other parameters than `known`.
pub(super) async fn only(known: &[&str], request: Request, next: Next) -> Response {
    let given = given(request.uri());
    let unknown = given
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()));
    match unknown {
        Some((name, _)) => bad(&is_none(name, known)),
        None => next.run(request).await,
    }
}

/// An answer that says why not, and which command would do it.
pub(super) fn refuse(status: StatusCode, why: &str, command: Option<&str>) -> Response {
    let mut body = BTreeMap::from([("error", why)]);
    body.extend(command.map(|command| ("command", command)));
    (status, Json(body)).into_response()
}

fn bad(why: &str) -> Response {
    refuse(StatusCode::BAD_REQUEST, why, None)
}

fn given(uri: &Uri) -> Vec<(String, String)> {
    // Pairs of texts can be read from anything.
    Query::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .unwrap_or_default()
}

/// That there is no such parameter, and which one is likely meant.
fn is_none(name: &str, known: &[&str]) -> String {
    let known_ones = known.iter().copied();
    let near = known_ones.map(|other| (strsim::normalized_damerau_levenshtein(name, other), other));
    let nearest = near.max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, nearest)) if likeness >= 0.5 => {
            format!("there is no parameter `{name}` here; is `{nearest}` meant?")
        }
        Some(_) => format!(
            "there is no parameter `{name}` here, but {}",
            known.join(", ")
        ),
        None => format!("there is no parameter `{name}` here, nor any other"),
    }
}

/// What is wrong with a parameter, by what the library says of it: `...: NAME: PROBLEM`.
fn wrong(uri: &Uri, error: &QueryRejection) -> String {
    let text = error.body_text();
    let said = text
        .split_once(": ")
        .map_or(text.as_str(), |(_, said)| said);
    let name = said.split(':').next().unwrap_or_default();
    let found = given(uri).into_iter().find(|(given, _)| given == name);
    match found {
        Some((name, value)) => {
            format!("`{name}` cannot be `{value}`: /api/v1/openapi.json says what it can be")
        }
        None => format!("the parameters cannot be read: {said}"),
    }
}

/// `/api/v1/keys?search=...`
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct KeysQuery {
    pub(super) search: String,
    pub(super) most: usize,
    pub(super) minutes: u32,
    pub(super) bins: usize,
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

/// `/api/v1/keys/{key}/series?from=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SeriesQuery {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) most: Option<usize>,
}

/// `/api/v1/keys/{key}/past?episode=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PastQuery {
    pub(super) episode: Option<String>,
    pub(super) most: Option<usize>,
}

/// `/api/v1/scores?key=...`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ScoresQuery {
    pub(super) key: Option<String>,
    pub(super) p_max: Option<f64>,
    pub(super) most: Option<usize>,
}

/// `?undo=true`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Undo {
    pub(super) undo: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_not_there_is_refused_with_the_one_that_is_meant() {
        let known = ["search", "most", "minutes"];
        let said = is_none("mots", &known);
        assert_eq!(said, "there is no parameter `mots` here; is `most` meant?");
        assert!(is_none("x", &known).ends_with("here, but search, most, minutes"));
        assert!(is_none("x", &[]).ends_with("nor any other"));
    }

    #[test]
    fn what_is_wrong_with_a_parameter_is_said_with_its_value() {
        #[derive(Debug, Deserialize)]
        struct Most {
            #[expect(dead_code, reason = "only read")]
            most: u32,
        }
        let said = |uri: &'static str| {
            let uri = Uri::from_static(uri);
            wrong(&uri, &Query::<Most>::try_from_uri(&uri).unwrap_err())
        };
        let most = said("/keys?most=a%20few");
        assert!(most.starts_with("`most` cannot be `a few`: "), "{most}");
        assert!(said("/keys?most=1&most=2").ends_with("duplicate field `most`"));
    }
}
