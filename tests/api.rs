//! The HTTP API against its description, and who may change what.
#![cfg(feature = "daemon")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::channel;

use anomalyd::service::api::{OPENAPI, endpoints};
use anomalyd::service::http::Server;
use schema::valid;
use serde_json::{Value, json};
use shown::{TOKEN, shown};

#[path = "shared/schema.rs"]
mod schema;
#[path = "shared/shown.rs"]
mod shown;

/// Status code, head and body of one request.
fn request(server: &Server, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let end = "Connection: close\r\nContent-Length: 0\r\n\r\n";
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost:1\r\n{headers}{end}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (
        head[9..12].parse().unwrap(),
        head.to_owned(),
        body.to_owned(),
    )
}

fn get(server: &Server, path: &str) -> (u16, Value) {
    let (code, _, body) = request(server, "GET", path, "");
    (code, serde_json::from_str(&body).unwrap())
}

fn post(server: &Server, path: &str, headers: &str) -> (u16, Value) {
    let (code, _, body) = request(server, "POST", path, headers);
    (code, serde_json::from_str(&body).unwrap())
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A schema with what it refers to in its place.
fn inlined(value: &Value, all: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get("$ref") {
            Some(to) => {
                let path = to.as_str().unwrap().trim_start_matches('#');
                inlined(all.pointer(path).unwrap(), all)
            }
            None => fields
                .iter()
                .map(|(name, part)| (name.clone(), inlined(part, all)))
                .collect(),
        },
        Value::Array(parts) => parts.iter().map(|part| inlined(part, all)).collect(),
        other => other.clone(),
    }
}

/// What the description says of an answer.
fn described(method: &str, path: &str, code: u16) -> Value {
    let all: Value = serde_json::from_str(OPENAPI).unwrap();
    let answer = &all["paths"][path][method]["responses"][code.to_string()];
    let schema = &answer["content"]["application/json"]["schema"];
    assert!(
        schema.is_object(),
        "{method} {path} {code} is not described"
    );
    inlined(schema, &all)
}

#[test]
fn the_description_has_what_can_be_asked_and_nothing_else() {
    let all: Value = serde_json::from_str(OPENAPI).unwrap();
    let described: BTreeSet<(String, String)> = all["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let there: BTreeSet<(String, String)> = endpoints()
        .iter()
        .map(|e| (e.method.to_owned(), e.path.to_owned()))
        .collect();
    assert_eq!(described, there);
    for endpoint in endpoints() {
        let asked = &all["paths"][endpoint.path][endpoint.method]["parameters"];
        let asked = asked.as_array().into_iter().flatten();
        let names = asked
            .filter(|asked| asked["in"] == "query")
            .map(|asked| asked["name"].as_str());
        let names: Vec<&str> = names.map(Option::unwrap).collect();
        assert_eq!(names, endpoint.parameters, "{}", endpoint.path);
    }
    let shown = shown(&[], true);
    assert_eq!(get(&shown.server, "/api/v1/openapi.json"), (200, all));
    // Whatever changes anything asks for the token, and nothing else does.
    let secret = |(method, path): &(String, String)| {
        let all: Value = serde_json::from_str(OPENAPI).unwrap();
        all["paths"][path][method].get("security").is_some()
    };
    assert!(there.iter().all(|e| secret(e) == (e.0 == "post")));
}

/// What is asked without changing anything: as it is described, as it is asked, and what comes of it.
const LOOKS: [(&str, &str, u16); 28] = [
    ("/api/v1/status", "/api/v1/status", 200),
    ("/api/v1/episodes", "/api/v1/episodes", 200),
    ("/api/v1/episodes/{id}", "/api/v1/episodes/d/t/0/1", 200),
    (
        "/api/v1/episodes/{id}",
        "/api/v1/episodes/d%2Ft%2F0%2F2",
        200,
    ),
    ("/api/v1/episodes/{id}", "/api/v1/episodes/d/t/0/9", 404),
    (
        "/api/v1/keys",
        "/api/v1/keys?search=PUMP&bins=5&most=3&minutes=10",
        200,
    ),
    (
        "/api/v1/keys/{key}/series",
        "/api/v1/keys/pump%201%2F%CE%B1/series?most=3",
        200,
    ),
    (
        "/api/v1/keys/{key}/series",
        "/api/v1/keys/nobody/series",
        404,
    ),
    (
        "/api/v1/keys/{key}/past",
        "/api/v1/keys/pump%201%2F%CE%B1/past?most=5",
        200,
    ),
    (
        "/api/v1/keys/{key}/past",
        "/api/v1/keys/pump%201%2F%CE%B1/past?episode=d/t/0/1",
        200,
    ),
    (
        "/api/v1/keys/{key}/past",
        "/api/v1/keys/nobody/past?episode=nothing",
        404,
    ),
    ("/api/v1/scores", "/api/v1/scores", 200),
    (
        "/api/v1/scores",
        "/api/v1/scores?key=nobody&p_max=0.1&most=2",
        200,
    ),
    ("/api/v1/scores", "/api/v1/scores?p_max=NaN", 400),
    ("/api/v1/scores", "/api/v1/scores?p_max=-0.1", 400),
    ("/api/v1/models", "/api/v1/models", 200),
    ("/api/v1/models/{version}", "/api/v1/models/3", 200),
    ("/api/v1/models/{version}", "/api/v1/models/4", 404),
    ("/api/v1/settings", "/api/v1/settings", 200),
    // What makes no sense is refused in words, and nothing is passed over.
    ("/api/v1/status", "/api/v1/status?pretty", 400),
    ("/api/v1/keys", "/api/v1/keys?most=few", 400),
    ("/api/v1/keys", "/api/v1/keys?mots=3", 400),
    (
        "/api/v1/keys/{key}/series",
        "/api/v1/keys/k/series?from=today",
        400,
    ),
    ("/api/v1/keys/{key}/series", "/api/v1/keys/%FF/series", 400),
    ("/api/v1/keys/{key}/past", "/api/v1/keys/nobody/past", 404),
    ("/api/v1/scores", "/api/v1/scores?most=-1", 400),
    ("/api/v1/models/{version}", "/api/v1/models/abc", 404),
    ("/api/v1/models/{version}", "/api/v1/models/3?full=1", 400),
];

#[test]
fn every_answer_is_as_it_is_described() {
    let shown = shown(&["http.token=0123456789abcdef"], true);
    for (path, asked, code) in LOOKS {
        let (found, body) = get(&shown.server, asked);
        assert_eq!(found, code, "{asked}: {body}");
        assert!(
            valid(&described("get", path, code), &body),
            "{asked}: {body}"
        );
    }
    let (_, detail) = get(&shown.server, "/api/v1/episodes/d/t/0/1");
    assert!(
        detail["cause"]
            .as_str()
            .unwrap()
            .starts_with("x 61.0, expected 49.0"),
        "{detail}"
    );
    assert_eq!(detail["similar"][0]["feedback"], "false_positive");
    let (_, series) = get(
        &shown.server,
        "/api/v1/keys/pump%201%2F%CE%B1/series?most=2",
    );
    assert_eq!(series["points"].as_array().unwrap().len(), 2);
    assert_eq!(series["points"][1]["values"], json!([61.0, null]));
    // The oldest that is remembered lies at offset 0; an episode's id says where it began.
    let asked = |before, after, place| {
        format!("past of pump 1/α at t[0] {place}: {before} before, {after} after")
    };
    assert_eq!(
        shown.notes.taken()[..2],
        [asked(600, 0, 0), asked(300, 400, 1)]
    );
    let (_, scores) = get(&shown.server, "/api/v1/scores?p_max=0.1&most=3");
    assert_eq!(scores["found"], 300, "{scores}");
    assert_eq!(scores["scores"][0]["input"]["offset"], 599);
    assert_eq!(scores["scores"].as_array().unwrap().len(), 3);
    let (_, settings) = get(&shown.server, "/api/v1/settings");
    assert!(!settings.to_string().contains(TOKEN), "{settings}");
    let (_, typo) = get(&shown.server, "/api/v1/keys?mots=3");
    assert_eq!(
        typo["error"],
        "there is no parameter `mots` here; is `most` meant?"
    );
    let (_, few) = get(&shown.server, "/api/v1/keys?most=few");
    let few = few["error"].as_str().unwrap();
    assert!(few.starts_with("`most` cannot be `few`: "), "{few}");
    let none = get(&shown.server, "/api/v1/nothing");
    assert_eq!(none.0, 404);
}

const CHANGES: [(&str, &str, u16, &str); 7] = [
    (
        "/api/v1/episodes/{id}/dismiss",
        "/api/v1/episodes/d/t/0/1/dismiss",
        200,
        "anomalyd episodes dismiss d/t/0/1 --config FILE",
    ),
    (
        "/api/v1/episodes/{id}/confirm",
        "/api/v1/episodes/d%2Ft%2F0%2F1/confirm",
        200,
        "anomalyd episodes confirm d/t/0/1 --config FILE",
    ),
    (
        "/api/v1/episodes/{id}/new-normal",
        "/api/v1/episodes/d/t/0/1/new-normal?undo=true",
        200,
        "anomalyd episodes new-normal d/t/0/1 --undo --config FILE",
    ),
    (
        "/api/v1/models/{version}/promote",
        "/api/v1/models/3/promote",
        200,
        "anomalyd models promote 3 --config FILE",
    ),
    (
        "/api/v1/models/rollback",
        "/api/v1/models/rollback",
        409,
        "anomalyd models rollback --config FILE",
    ),
    ("/api/v1/retrain", "/api/v1/retrain", 202, "kill -USR1"),
    ("/api/v1/reload", "/api/v1/reload", 200, "kill -HUP"),
];

#[test]
fn without_a_token_nothing_changes_and_the_answer_is_the_command_that_does() {
    let shown = shown(&[], true);
    for (path, asked, _, command) in CHANGES {
        for headers in [String::new(), bearer(TOKEN), bearer("")] {
            let (code, body) = post(&shown.server, asked, &headers);
            assert_eq!(code, 403, "{asked}");
            assert!(
                body["command"].as_str().unwrap().starts_with(command),
                "{body}"
            );
            assert!(valid(&described("post", path, 403), &body), "{body}");
        }
    }
    assert!(shown.notes.taken().is_empty());
}

#[test]
fn who_has_the_token_changes_things_and_nobody_else() {
    let shown = shown(&["http.token=0123456789abcdef"], true);
    let wrong = [
        String::new(),
        bearer("0123456789abcdeF"),
        bearer(""),
        format!("Authorization: {TOKEN}\r\n"),
    ];
    for (path, asked, _, _) in CHANGES {
        for headers in &wrong {
            let (code, head, body) = request(&shown.server, "POST", asked, headers);
            assert_eq!(code, 401, "{asked}");
            assert!(head.contains("www-authenticate: Bearer"), "{head}");
            let body = serde_json::from_str(&body).unwrap();
            assert!(valid(&described("post", path, 401), &body), "{body}");
        }
        // A page of somebody else that learnt the token gets nowhere, either.
        let foreign = bearer(TOKEN) + "Origin: http://evil:1\r\n";
        assert_eq!(post(&shown.server, asked, &foreign).0, 403);
    }
    assert!(shown.notes.taken().is_empty());
    for (path, asked, expected, _) in CHANGES {
        let own = bearer(TOKEN) + "Origin: http://localhost:1\r\n";
        let (code, body) = post(&shown.server, asked, &own);
        assert_eq!(code, expected, "{body}");
        assert!(valid(&described("post", path, code), &body), "{body}");
    }
    assert_eq!(
        shown.notes.taken(),
        [
            "d/t/0/1 false_positive false",
            "d/t/0/1 true_positive false",
            "d/t/0/1 new_normal true",
            "promote 3",
            "rollback",
            "retrain",
            "reload",
        ]
    );
    let asked = |path: &str| post(&shown.server, path, &bearer(TOKEN)).0;
    assert_eq!(asked("/api/v1/episodes/d/t/0/404/dismiss"), 404);
    assert_eq!(asked("/api/v1/episodes/d/t/0/1/praise"), 404);
    let (_, _, metrics) = request(&shown.server, "GET", "/metrics", "");
    let count =
        r#"anomalyd_http_requests_total{code="401",detector="d",endpoint="/api/v1/retrain"} 4"#;
    assert!(metrics.contains(count), "{metrics}");
}

#[test]
fn nothing_changes_before_there_is_something_to_change_and_one_change_comes_after_another() {
    let shown = shown(&["http.token=0123456789abcdef"], false);
    let retrain = || post(&shown.server, "/api/v1/retrain", &bearer(TOKEN));
    let (code, body) = retrain();
    assert_eq!(code, 503);
    assert!(
        body["error"].as_str().unwrap().contains("starting"),
        "{body}"
    );
    assert_eq!(get(&shown.server, "/api/v1/models").0, 503);
    shown.late.set(shown.notes.clone());
    let ((begun, begins), (go_on, goes_on)) = (channel(), channel());
    *shown.notes.hold.lock().unwrap() = Some((begun, goes_on));
    std::thread::scope(|scope| {
        let first = scope.spawn(retrain);
        begins.recv().unwrap();
        let (code, body) = retrain();
        assert_eq!(code, 503);
        assert!(body["error"].as_str().unwrap().contains("others"), "{body}");
        // Whoever only looks is not in the way.
        assert_eq!(get(&shown.server, "/api/v1/status").0, 200);
        go_on.send(()).unwrap();
        assert_eq!(first.join().unwrap().0, 202);
    });
    assert_eq!(retrain().0, 202);
}

/// The answer to a page of `origin` that was reached as `host`, whose visitor has the token.
fn from_page(server: &Server, host: &str, origin: &str) -> u16 {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let token = bearer(TOKEN);
    write!(
        stream,
        "POST /api/v1/retrain HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n{token}Connection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text[9..12].parse().unwrap()
}

#[test]
fn a_page_changes_things_only_where_it_is_ours() {
    let token = "http.token=0123456789abcdef";
    let shown_as = shown(&[token, "http.public_url=https://Plant.example:443"], true);
    let server = &shown_as.server;
    for (host, origin) in [
        ("127.0.0.1:9464", "http://127.0.0.1:9464"),
        ("[::1]:9464", "http://[::1]:9464"),
        ("LOCALHOST:9464", "http://localhost:9464"),
        ("10.1.2.3", "http://10.1.2.3"),
        // Behind a proxy that names the process as it knows it.
        ("anomalyd:9464", "https://plant.example"),
    ] {
        assert_eq!(from_page(server, host, origin), 202, "{host} {origin}");
    }
    for (host, origin) in [
        ("127.0.0.1:9464", "http://127.0.0.1:80"),
        ("127.0.0.1:9464", "null"),
        // A name that its owner let point here after the page was loaded.
        ("evil.example:9464", "http://evil.example:9464"),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
        ("evil.example", "https://plant.example.evil.example"),
    ] {
        assert_eq!(from_page(server, host, origin), 403, "{host} {origin}");
    }
}

/// The next event, or comment, of a stream, without the empty line after it.
fn event(stream: &mut impl BufRead) -> String {
    let mut lines = String::new();
    loop {
        let mut line = String::new();
        // An answer without a length comes in chunks: a line of hexadecimal digits, and an empty one after each.
        assert!(stream.read_line(&mut line).unwrap() > 0, "it ended");
        let text = line.trim_end();
        if text.is_empty() && lines.contains(':') {
            return lines;
        }
        if text.contains(':') {
            lines += text;
            lines += "\n";
        }
    }
}

fn watch(server: &Server) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    .unwrap();
    BufReader::new(stream)
}

#[test]
fn who_watches_is_told_of_each_change_and_only_so_many_may() {
    let shown = shown(&[], true);
    let mut stream = watch(&shown.server);
    let head = event(&mut stream);
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(event(&mut stream), "retry: 2000\n");
    let status = |text: &str| -> Value {
        let data = text.strip_prefix("event: status\ndata: ").unwrap();
        serde_json::from_str(data).unwrap()
    };
    let told = status(&event(&mut stream));
    assert!(valid(&described("get", "/api/v1/status", 200), &told));
    assert_eq!(told["training_waits"], Value::Null);
    shown.status.training_waits(Some("more records".to_owned()));
    let told = status(&event(&mut stream));
    assert_eq!(told["training_waits"], "more records");

    let mut others: Vec<BufReader<TcpStream>> = (1..16).map(|_| watch(&shown.server)).collect();
    for other in &mut others {
        assert!(event(other).contains("text/event-stream"));
    }
    let (code, refused) = get(&shown.server, "/api/v1/events");
    assert_eq!(code, 503, "{refused}");
    assert!(valid(&described("get", "/api/v1/events", 503), &refused));
}
