//! `anomalyd demo`: a simulated plant, an embedded broker, and the real daemon against it, told as a story on the terminal.
//!
//! The embedded broker is librdkafka's mock cluster: no setup, but it ignores aborts, drops transactional offsets and fences nobody,
//! so the demo runs at-least-once on it. `--brokers` tells the same story on a real Kafka, exactly-once.
//!
//! Next: `plant` and `faults` (the simulation, pure), `scoreboard` (alerts against faults), `acts` (what people do in the story), `story` (the terminal), `feed` (the plant alone, for a daemon elsewhere).

pub mod acts;
pub mod broker;
pub mod faults;
pub mod feed;
pub mod gateway;
pub mod plant;
pub mod run;
pub mod scoreboard;
pub mod story;
