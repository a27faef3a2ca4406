//! OAUTHBEARER: the program gets its tokens from an endpoint, and shows them to a broker that looks at little but when they expire.

use std::time::{Duration, Instant};

use crate::binary::{self, NO_TRAINING, PARTITIONS};
use crate::cluster;
use crate::daemon::{Daemon, Site, Start};
use crate::endpoint::{Answer, Endpoint};
use crate::plant::{self, Plant};

const SECRET: &str = "hunter2-is-not-a-password";

/// How long a token lasts, in seconds. Brokers end sessions whose token is not renewed.
const LASTS: u64 = 5;

const GOOD: Answer = Answer::Token {
    seconds: LASTS,
    told: true,
};

struct Scene {
    site: Site,
    plant: Plant,
    endpoint: Endpoint,
    set: Vec<String>,
    _own: cluster::Own,
    fed: usize,
}

impl Scene {
    fn new(name: &str) -> Option<Self> {
        Self::with_endpoint(name, Endpoint::start(GOOD))
    }

    /// With an endpoint over TLS, whose authority is in a file.
    fn over_tls(name: &str) -> Option<Self> {
        let (endpoint, authority) = Endpoint::start_tls(GOOD);
        let mut scene = Self::with_endpoint(name, endpoint)?;
        let file = scene.site.path("ca.pem");
        std::fs::write(&file, authority).unwrap();
        let file = file.display();
        scene
            .set
            .push(format!("kafka.properties.https.ca.location={file}"));
        Some(scene)
    }

    fn with_endpoint(name: &str, endpoint: Endpoint) -> Option<Self> {
        let (own, address) = cluster::Own::with_tokens()?;
        let plant = plant::seeded(8, 2_000, 100);
        let site = binary::site(&own.brokers, name, &plant);
        let secret = site.path("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let property = |name: &str, value: &str| format!("kafka.properties.{name}={value}");
        let set = vec![
            format!("kafka.brokers={address}"),
            property("security.protocol", "SASL_PLAINTEXT"),
            property("sasl.mechanism", "OAUTHBEARER"),
            property("sasl.oauthbearer.method", "oidc"),
            property("sasl.oauthbearer.client.id", "pumps"),
            property(
                "sasl.oauthbearer.client.secret",
                &format!("${{file:{}}}", secret.display()),
            ),
            property("sasl.oauthbearer.token.endpoint.url", &endpoint.url()),
            property("sasl.oauthbearer.extensions", "tenant=one"),
            NO_TRAINING.to_owned(),
            "workers=2".to_owned(),
            "batch.records_max=50".to_owned(),
        ];
        Some(Self {
            site,
            plant,
            endpoint,
            set,
            _own: own,
            fed: 0,
        })
    }

    fn with<T>(&self, act: impl FnOnce(&Site, Start<'_>) -> T) -> T {
        let set: Vec<&str> = self.set.iter().map(String::as_str).collect();
        act(&self.site, binary::start("g", &set))
    }

    /// Feeds a few rows and waits until they are consumed.
    fn works(&mut self, daemon: &mut Daemon) {
        let to = self.fed + 10;
        let records = self.plant.records(self.fed, to, PARTITIONS as usize);
        binary::feed(&self.site, records);
        self.fed = to;
        binary::wait_until_consumed(&self.site, "g", 8 * to, &mut [daemon]);
    }

    /// The same, again and again.
    fn works_for(&mut self, length: Duration, daemon: &mut Daemon) {
        let until = Instant::now() + length;
        while Instant::now() < until {
            self.works(daemon);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn waits(daemon: &mut Daemon, url: &str) {
    cluster::wait_for("that it says so", Duration::from_secs(30), || {
        daemon.must_live();
        daemon.log().contains("waiting for it")
    });
    let (code, text) = daemon.ask("/readyz").expect("an answer");
    assert!(code == 503 && text.contains(url), "{text}");
    assert_eq!(daemon.ask("/healthz").expect("an answer").0, 200);
}

#[test]
fn tokens_are_renewed_while_it_runs_and_an_endpoint_that_is_away_is_waited_for() {
    let Some(mut scene) = Scene::new("tokens") else {
        return;
    };
    scene.with(Site::create_topics);
    let url = scene.endpoint.url();
    scene.endpoint.answer(Answer::HangUp);
    let mut daemon = scene.with(Site::run);
    waits(&mut daemon, &url);
    let said = daemon.log().matches("no token: trying on").count();
    assert_eq!(said, 1, "{}", daemon.log());

    scene.endpoint.answer(GOOD);
    let before = scene.endpoint.asked().len();
    scene.works_for(Duration::from_secs(4 * LASTS), &mut daemon);
    let asked = scene.endpoint.asked().len() - before;
    assert!(
        (4..=12).contains(&asked),
        "asked {asked} times, and for all clients at once"
    );
    assert!(!daemon.log().contains("joined again"), "{}", daemon.log());

    // For less than a token lasts nobody notices; for longer brokers end the sessions, and it goes on as soon as there is a token.
    scene.endpoint.answer(Answer::Hang);
    cluster::wait_for(
        "that the token has expired",
        Duration::from_secs(60),
        || {
            daemon.must_live();
            daemon.log().contains("joined again")
        },
    );
    std::thread::sleep(Duration::from_secs(LASTS));
    scene.endpoint.answer(GOOD);
    scene.works_for(Duration::from_secs(LASTS), &mut daemon);

    let scores = cluster::read_committed(&scene.site.brokers, &scene.site.output("g", "scores"));
    assert_eq!(scores.len(), 8 * scene.fed);
    let alerts = cluster::read_committed(&scene.site.brokers, &scene.site.output("g", "alerts"));
    assert!(!alerts.is_empty(), "a plant without alerts shows nothing");
    let (status, took) = daemon.terminate();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} after {took:?}"
    );
    let log = daemon.log();
    assert!(!log.contains(SECRET) && !log.contains("eyJ"), "{log}");
}

#[test]
fn tokens_come_over_tls_from_whom_a_file_of_authorities_vouches_for() {
    let Some(mut scene) = Scene::over_tls("tokens-tls") else {
        return;
    };
    scene.with(Site::create_topics);
    let mut daemon = scene.with(Site::run);
    scene.works_for(Duration::from_secs(2 * LASTS), &mut daemon);
    assert!(
        scene.endpoint.asked().len() >= 2,
        "they are renewed over TLS"
    );
    let (status, _) = daemon.terminate();
    assert!(status.success(), "{status}: {}", daemon.log());
}

#[test]
fn credentials_that_the_endpoint_refuses_are_named_at_the_start_and_by_validate() {
    let Some(scene) = Scene::new("refused-token") else {
        return;
    };
    scene.with(Site::create_topics);
    let validate = || scene.with(|site, start| site.ask(&["validate", "--connect"], start));
    binary::feed(&scene.site, scene.plant.records(0, 1, PARTITIONS as usize));
    let (code, text) = validate();
    assert_eq!(code, 0, "{text}");
    let error = r#"{"error":"invalid_client"}"#;
    scene.endpoint.answer(Answer::Status(401, error.to_owned()));
    let mut daemon = scene.with(Site::run);
    let status = daemon.ended(Duration::from_secs(60));
    for (code, text) in [validate(), (status.code().unwrap(), daemon.log())] {
        assert_eq!(code, 78, "{text}");
        let named = text.contains(&scene.endpoint.url()) && text.contains("401: invalid_client");
        assert!(named && !text.contains(SECRET), "{text}");
    }
}
