//! The plant alone, for a daemon that runs elsewhere: its readings go to the configured input topic by the clock, and the story's faults come
//! again and again, until it is stopped.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::faults::routines;
use super::gateway::{Gateway, Target};
use super::run::{DemoError, HISTORY, LENGTH};
use super::story::{About, Story};
use crate::config::Config;
use crate::kafka::topic_reader::TopicReader;
use crate::kafka::watchdog::{Watchdog, end_process};
use crate::seed::Seed;
use crate::stream::TopicPartition;
use crate::time::{Clock, SystemClock, Timestamp};

/// How long the plant runs well before the first fault: a daemon that starts with it has its first model by then.
const CALM: Duration = Duration::from_secs(90);
/// How long it takes from one story to the next.
const EVERY: Duration = Duration::from_secs(600);
/// How often readings are sent.
const STEP: Duration = Duration::from_millis(50);

/// Sends the plant's readings to the first of the configuration's input topics, until `stop`, or for as long as `length`. What the plant did before
/// is only sent to a topic that is empty: nothing in it is ever repeated or out of order.
pub fn run(
    config: &Config,
    (seed, length): (u64, Option<Duration>),
    stop: Arc<AtomicBool>,
    mut story: Story<impl Write>,
) -> Result<(), DemoError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let watchdog = Watchdog::start(Arc::clone(&clock), end_process).with_stop(Arc::clone(&stop));
    let connection = config.connection();
    let topic = config.input.topics.first().cloned().unwrap_or_default();
    let reader = TopicReader::new(&connection, Arc::clone(&clock), watchdog.clone())?;
    let partitions = reader.partitions(&topic)?;
    let mut empty = true;
    for partition in 0..partitions {
        let (first, end) = reader.ends(&TopicPartition::new(&topic, partition))?;
        empty &= first == end;
    }
    let history = if empty { HISTORY } else { Duration::ZERO };

    let (origin, began) = (clock.now(), clock.monotonic());
    let target = Target {
        client: connection.idempotent(),
        topic: topic.clone(),
        partitions,
    };
    let faults = [super::faults::story(), routines()].concat();
    let mut gateway = Gateway::new(
        target,
        faults,
        (origin, history),
        Seed(seed),
        Arc::clone(&clock),
    )?;
    let sent = gateway.preload()?;
    let text =
        format!("{sent} records of the past are in {topic}; now the plant sends by the clock");
    story.line(Duration::ZERO, About::Setup, &text)?;
    let mut before = -1.0;
    while !stop.load(Ordering::Relaxed) {
        let live = clock.monotonic().saturating_sub(began);
        if length.is_some_and(|length| live >= length) {
            break;
        }
        gateway.catch_up(live, |time| place(origin, time))?;
        let now = place(origin, gateway.plant_time());
        for (fault, begins) in gateway.turns(before, now) {
            if let Some(text) = fault.turn(begins) {
                story.line(live, About::Fault, &text)?;
            }
        }
        before = now;
        // It ends early only when it is stopped, which the loop sees.
        watchdog.pause(STEP).unwrap_or_default();
    }
    gateway.finish()?;
    story.line(
        clock.monotonic().saturating_sub(began),
        About::Setup,
        &format!("{} records sent", gateway.sent()),
    )?;
    Ok(())
}

/// Where in a story a moment lies, as a share of it: below 0 before the first one, above 1 between two.
fn place(origin: Timestamp, time: Timestamp) -> f64 {
    let since = (time.0 - origin.0) as f64 / 1000.0 - CALM.as_secs_f64();
    if since < 0.0 {
        -1.0
    } else {
        since % EVERY.as_secs_f64() / LENGTH.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_comes_again_and_again_after_a_calm_while() {
        let at = |seconds: i64| place(Timestamp(5_000), Timestamp(5_000 + seconds * 1000));
        assert!(at(-500) < 0.0 && at(89) < 0.0);
        assert!((at(90 + 36) - 0.5).abs() < 1e-9);
        assert!(at(90 + 300) > 1.0);
        assert!((at(90 + 600 + 36) - 0.5).abs() < 1e-9);
    }
}
