//! The token of all clients of the process: one thread gets it, gives it to all clients there are, gets the next one before it expires, and tries
//! again while the endpoint is away. Only whoever makes a client waits for the first one. So no call into librdkafka waits for an endpoint, and as
//! long as a token is good nobody notices that the endpoint is away.
//!
//! librdkafka asks for tokens by itself, too, but only when a client is polled: some are not for hours, and those for administration never.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anomalyd_librdkafka as librdkafka;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use tracing::Span;

use super::oauth::{NoToken, OauthSettings, Token};
use super::watchdog::Watchdog;
use super::{CALL_MAX, KafkaFailure, SAY_AFTER};
use crate::time::{Clock, SystemClock};

/// The next token is asked for when so much of this one's time is over: well before librdkafka and brokers begin to mind.
const RENEWED_AT: f64 = 0.7;

/// The shortest time between two tokens, and between two attempts, and the longest between two attempts.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// How long an answer is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long one look for the first token lasts.
const LOOK: Duration = Duration::from_millis(50);

/// Where all clients of the process get their token from. Clones share it; its thread ends with the last one.
#[derive(Clone)]
pub struct TokenSource(Arc<Inner>);

struct Inner {
    settings: OauthSettings,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Locked before `state` where both are. Who holds it may hold clients; nobody else does but their owners.
    clients: Mutex<Vec<Weak<dyn NativeClient>>>,
    state: Mutex<State>,
    /// Notified of every outcome, and of the end.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    started: bool,
    ended: bool,
    token: Option<Token>,
    /// Why the latest attempt brought none.
    failure: Option<NoToken>,
}

impl PartialEq for TokenSource {
    fn eq(&self, other: &Self) -> bool {
        self.0.settings == other.0.settings
    }
}

impl Eq for TokenSource {}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.settings.fmt(f)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.changed.notify_all();
    }
}

impl TokenSource {
    /// Asks for nothing before somebody needs a token.
    pub fn new(settings: OauthSettings) -> Self {
        Self::by_clock(settings, Arc::new(SystemClock::default()))
    }

    fn by_clock(settings: OauthSettings, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            settings,
            clock,
            shared: Arc::default(),
        }))
    }

    /// Waits until there is a token that is good, in short steps for those that `watchdog` looks after; [`Limits::retry`] at most, without one
    /// [`CALL_MAX`].
    ///
    /// [`Limits::retry`]: super::watchdog::Limits::retry
    fn wait(&self, watchdog: Option<&Watchdog>) -> Result<(), KafkaFailure> {
        let clock = &*self.0.clock;
        let begun = clock.monotonic();
        let patience = watchdog.map_or(CALL_MAX, |watchdog| watchdog.limits().retry);
        let mut said = false;
        self.start()?;
        loop {
            let Err(why) = self.look() else {
                if let (Some(watchdog), true) = (watchdog, said) {
                    watchdog.waits(None);
                }
                return Ok(());
            };
            let lasted = clock.monotonic().saturating_sub(begun);
            let failure = self.0.settings.failure(why.clone());
            if why.refused || patience < lasted {
                return Err(failure);
            }
            let Some(watchdog) = watchdog else {
                continue;
            };
            if SAY_AFTER < lasted && !said {
                said = true;
                watchdog.waits(Some(failure.to_string()));
            }
            watchdog.pause(Duration::ZERO)?;
        }
    }

    /// Whether there is a token now, or within a moment; if not, why.
    fn look(&self) -> Result<(), NoToken> {
        let state = lock(&self.0.shared.state);
        let bad = |state: &mut State| !state.ended && !self.is_good(state);
        let waited = self.0.shared.changed.wait_timeout_while(state, LOOK, bad);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if self.is_good(&state) {
            return Ok(());
        }
        let slow = || NoToken {
            problem: "it has not answered yet".to_owned(),
            refused: false,
        };
        Err(state.failure.clone().unwrap_or_else(slow))
    }

    fn is_good(&self, state: &State) -> bool {
        let now = self.0.clock.now();
        state
            .token
            .as_ref()
            .is_some_and(|token| now < token.expires_at)
    }

    /// Starts the thread, the first time.
    fn start(&self) -> Result<(), KafkaFailure> {
        let mut state = lock(&self.0.shared.state);
        if std::mem::replace(&mut state.started, true) {
            return Ok(());
        }
        let Inner {
            settings,
            clock,
            shared,
        } = &*self.0;
        let (settings, clock, shared) = (settings.clone(), Arc::clone(clock), Arc::clone(shared));
        let whose = Span::current();
        let spawned = std::thread::Builder::new()
            .name("tokens".to_owned())
            .spawn(move || whose.in_scope(|| keep(&settings, &*clock, &shared)));
        spawned.map(drop).map_err(|error| {
            state.started = false;
            self.0.settings.failure(NoToken {
                problem: format!("no thread to ask it: {error}"),
                refused: false,
            })
        })
    }

    /// Gives `client` the token, and those to come.
    fn adopt(&self, client: Weak<dyn NativeClient>) {
        let mut clients = lock(&self.0.shared.clients);
        clients.push(client);
        hand_over(
            &self.0.settings,
            &self.0.shared,
            &clients[clients.len() - 1..],
        );
    }

    /// Gives a client that is about to be closed nothing more.
    fn forget(&self, client: *const ()) {
        let same = |other: &Weak<dyn NativeClient>| other.as_ptr().cast::<()>() == client;
        lock(&self.0.shared.clients).retain(|other| !same(other));
    }
}

/// Gives the token to `clients`.
fn hand_over(settings: &OauthSettings, shared: &Shared, clients: &[Weak<dyn NativeClient>]) {
    let Some(token) = lock(&shared.state).token.clone() else {
        return;
    };
    let token = librdkafka::Token {
        value: &token.value,
        principal: settings.client(),
        expires_at: token.expires_at.0,
        extensions: settings.extensions(),
    };
    for client in clients.iter().filter_map(Weak::upgrade) {
        if let Err(problem) = client.set_token(token) {
            tracing::warn!(problem, "librdkafka does not take a token");
        }
    }
}

/// Gets tokens until nobody needs any.
fn keep(settings: &OauthSettings, clock: &dyn Clock, shared: &Shared) {
    let mut attempts = 0;
    loop {
        let now = clock.now();
        let fetched = settings.fetch(now, ANSWER_MAX);
        let wait = match fetched {
            Ok(token) => {
                attempts = 0;
                let wait = token.expires_at.since(now).mul_f64(RENEWED_AT);
                note_token(&mut lock(&shared.state), token);
                hand_over(settings, shared, &lock(&shared.clients));
                wait.max(WAIT.0)
            }
            Err(why) => {
                attempts += 1;
                note_failure(settings, &mut lock(&shared.state), why);
                WAIT.1.min(WAIT.0 * 2_u32.saturating_pow(attempts - 1))
            }
        };
        shared.changed.notify_all();
        if ends_within(shared, clock, wait) {
            return;
        }
    }
}

/// Waits, and says whether nobody needs tokens any more.
fn ends_within(shared: &Shared, clock: &dyn Clock, wait: Duration) -> bool {
    let until = clock.monotonic() + wait;
    let mut state = lock(&shared.state);
    while !state.ended {
        let left = until.saturating_sub(clock.monotonic());
        if left.is_zero() {
            break;
        }
        let waited = shared.changed.wait_timeout(state, left);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    state.ended
}

fn note_token(state: &mut State, token: Token) {
    if state.failure.take().is_some() {
        tracing::info!("the endpoint gives tokens again");
    }
    tracing::debug!(expires_at = %token.expires_at.rfc3339(), "a token");
    state.token = Some(token);
}

/// Says it once, and again where it gets worse or better.
fn note_failure(settings: &OauthSettings, state: &mut State, why: NoToken) {
    let refused = why.refused;
    if state.failure.as_ref().map(|before| before.refused) != Some(refused) {
        let error = settings.failure(why.clone());
        tracing::warn!(%error, "no token: trying on");
    }
    state.failure = Some(why);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Clients that can be given a token.
pub(super) trait NativeClient: Send + Sync {
    /// See [`librdkafka::set_token`].
    fn set_token(&self, token: librdkafka::Token<'_>) -> Result<(), String>;
}

impl<C: ConsumerContext> NativeClient for BaseConsumer<C> {
    fn set_token(&self, token: librdkafka::Token<'_>) -> Result<(), String> {
        librdkafka::set_token(self.client(), token)
    }
}

impl<C: ProducerContext> NativeClient for BaseProducer<C> {
    fn set_token(&self, token: librdkafka::Token<'_>) -> Result<(), String> {
        librdkafka::set_token(self.client(), token)
    }
}

impl<C: ClientContext> NativeClient for AdminClient<C> {
    fn set_token(&self, token: librdkafka::Token<'_>) -> Result<(), String> {
        librdkafka::set_token(self.inner(), token)
    }
}

/// A client that is given each new token. Without OAUTHBEARER it is just the client.
pub(super) struct Authenticated<T: NativeClient> {
    client: Arc<T>,
    source: Option<TokenSource>,
}

impl<T: NativeClient> Authenticated<T> {
    /// Makes a client, after waiting for a token where `source` has to give one: see [`TokenSource::wait`].
    pub(super) fn create<C: ClientContext>(
        (config, context): (&ClientConfig, C),
        source: Option<&TokenSource>,
        watchdog: Option<&Watchdog>,
    ) -> Result<Self, KafkaFailure>
    where
        T: FromClientConfigAndContext<C> + 'static,
    {
        if let Some(source) = source {
            source.wait(watchdog)?;
        }
        let client = config.create_with_context(context);
        let client: Arc<T> = Arc::new(client.map_err(KafkaFailure::Client)?);
        if let Some(source) = source {
            let weak: Weak<T> = Arc::downgrade(&client);
            source.adopt(weak);
        }
        Ok(Self {
            client,
            source: source.cloned(),
        })
    }
}

impl<T: NativeClient> Deref for Authenticated<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

impl<T: NativeClient> Drop for Authenticated<T> {
    /// The client is closed on this thread: once it is forgotten nobody else has it.
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.forget(Arc::as_ptr(&self.client).cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::context::PlainContext;
    use super::super::endpoint::{Answer, Endpoint};
    use super::super::oauth::take_settings;
    use super::super::watchdog::Limits;
    use super::*;
    use crate::time::Timestamp;

    fn source(endpoint: &Endpoint, extensions: &str) -> TokenSource {
        let properties = [
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "hunter2"),
            ("sasl.oauthbearer.token.endpoint.url", &endpoint.url()),
            ("sasl.oauthbearer.extensions", extensions),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut properties: BTreeMap<String, String> = properties.into_iter().map(own).collect();
        TokenSource::new(take_settings(&mut properties).unwrap().unwrap())
    }

    fn brief() -> Watchdog {
        let watchdog = Watchdog::start(Arc::new(SystemClock::default()), |_| {});
        let retry = Duration::from_millis(300);
        watchdog.with_limits(Limits { call: retry, retry })
    }

    const MINUTE: Answer = Answer::Token {
        seconds: 60,
        told: true,
    };

    #[test]
    fn the_first_token_is_waited_for_within_limits() {
        let endpoint = Endpoint::start(Answer::Hang);
        let failure = source(&endpoint, "").wait(Some(&brief())).unwrap_err();
        assert!(failure.passes() && !failure.is_configuration(), "{failure}");
        assert!(
            failure.to_string().contains("not answered yet"),
            "{failure}"
        );
        endpoint.answer(Answer::HangUp);
        let source = source(&endpoint, "");
        let failure = source.wait(Some(&brief())).unwrap_err();
        assert!(
            failure.passes() && failure.to_string().contains(&endpoint.url()),
            "{failure}"
        );
        // It is asked on, and whoever waits hears of it at once.
        endpoint.answer(MINUTE);
        source.wait(None).unwrap();
        let asked = endpoint.asked().len();
        source.wait(Some(&brief())).unwrap();
        assert_eq!(endpoint.asked().len(), asked, "one token for all");
    }

    #[test]
    fn credentials_that_are_refused_end_the_wait_and_a_stop_does() {
        let endpoint = Endpoint::start(Answer::Status(401, String::new()));
        let failure = source(&endpoint, "").wait(None).unwrap_err();
        assert!(!failure.passes() && failure.is_configuration() && failure.is_authentication());
        assert!(failure.to_string().contains("401"), "{failure}");
        endpoint.answer(Answer::Hang);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let stopped = source(&endpoint, "").wait(Some(&brief().with_stop(stop)));
        assert!(matches!(stopped, Err(KafkaFailure::Stopped)));
    }

    #[test]
    fn a_token_is_renewed_before_it_expires_and_nothing_is_asked_when_nobody_is_left() {
        let seconds = 3;
        let endpoint = Endpoint::start(Answer::Token {
            seconds,
            told: true,
        });
        let source = source(&endpoint, "");
        source.wait(None).unwrap();
        let expires = || {
            let token = lock(&source.0.shared.state).token.clone();
            token.unwrap().expires_at
        };
        let first = expires();
        let lasts = Duration::from_secs(seconds);
        while expires() == first {
            assert!(source.0.clock.now() < first.plus(10 * lasts), "not renewed");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        // From then on it lasts as long as the first one did.
        assert!(expires() < first.plus(lasts), "renewed when it had expired");
        let (clock, shared) = (
            Arc::clone(&source.0.clock),
            Arc::downgrade(&source.0.shared),
        );
        let limit = clock.monotonic() + Duration::from_secs(20);
        drop(source);
        while shared.upgrade().is_some() {
            assert!(clock.monotonic() < limit, "the thread goes on");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What a client says when it is given tokens.
    #[derive(Default)]
    struct Client(Mutex<Vec<Given>>);

    /// When a token expires, and its extensions.
    type Given = (i64, Vec<(String, String)>);

    impl NativeClient for Client {
        fn set_token(&self, token: librdkafka::Token<'_>) -> Result<(), String> {
            lock(&self.0).push((token.expires_at, token.extensions.to_vec()));
            Ok(())
        }
    }

    #[test]
    fn every_client_is_given_every_token_until_it_is_forgotten() {
        let endpoint = Endpoint::start(Answer::Token {
            seconds: 1,
            told: true,
        });
        let source = source(&endpoint, "logicalCluster=lkc");
        source.wait(None).unwrap();
        let [early, late, gone] = [(); 3].map(|()| Arc::new(Client::default()));
        let adopt = |client: &Arc<Client>| {
            let weak: Weak<Client> = Arc::downgrade(client);
            source.adopt(weak);
        };
        adopt(&early);
        adopt(&gone);
        source.forget(Arc::as_ptr(&gone).cast());
        let given = |client: &Arc<Client>| lock(&client.0).clone();
        let limit = source.0.clock.monotonic() + Duration::from_secs(20);
        while given(&early).len() < 3 {
            assert!(source.0.clock.monotonic() < limit, "{:?}", given(&early));
            std::thread::park_timeout(Duration::from_millis(20));
        }
        adopt(&late);
        let newest = given(&late)[0].clone();
        assert!(given(&early).contains(&newest) && given(&gone).len() == 1);
        assert_eq!(newest.1, [("logicalCluster".to_owned(), "lkc".to_owned())]);
    }

    #[test]
    fn librdkafka_takes_a_token_with_its_extensions_or_says_why_not() {
        let endpoint = Endpoint::start(MINUTE);
        let source = source(&endpoint, "a=b");
        let mut config = ClientConfig::new();
        config.set("security.protocol", "SASL_PLAINTEXT");
        config.set("sasl.mechanism", "OAUTHBEARER");
        let made: Authenticated<BaseProducer<PlainContext>> =
            Authenticated::create((&config, PlainContext::default()), Some(&source), None).unwrap();
        let never = Timestamp(i64::MAX / 10_000).0;
        let set = |client: &BaseProducer<PlainContext>, expires_at, name: &str| {
            let extensions = [(name.to_owned(), "x".to_owned())];
            client.set_token(librdkafka::Token {
                value: "abc.def.",
                principal: "p",
                expires_at,
                extensions: &extensions,
            })
        };
        assert_eq!(set(&made, never, "logicalCluster"), Ok(()));
        assert!(set(&made, 1, "a").unwrap_err().contains("unexpired"));
        assert!(set(&made, never, "a1").unwrap_err().contains("a1"));
        assert!(set(&made, never, "a\0").unwrap_err().contains("NUL"));
        let plain = ClientConfig::new()
            .create_with_context(PlainContext::default())
            .unwrap();
        assert!(
            set(&plain, never, "a")
                .unwrap_err()
                .contains("not the configured")
        );
        assert_eq!(lock(&source.0.shared.clients).len(), 1);
        drop(made);
        assert_eq!(lock(&source.0.shared.clients).len(), 0);
    }
}
