//! The embedded broker: librdkafka's mock cluster, speaking Kafka's protocol on a port of this machine.
//!
//! It keeps about 5 MB a partition in memory, ignores aborts, drops transactional offsets and fences nobody: good for a demo and for
//! quick tests, and no evidence of exactly-once.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A broker that lives as long as this value.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl std::fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("EmbeddedBroker")
            .field(&self.address())
            .finish()
    }
}

impl EmbeddedBroker {
    /// Starts one broker with `topics` (name and number of partitions).
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1)?;
        }
        Ok(Self { cluster })
    }

    /// `host:port`, for any Kafka client on this machine.
    pub fn address(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};

    use super::*;
    use crate::demo::faults::story;
    use crate::demo::gateway::{Gateway, Target};
    use crate::seed::Seed;
    use crate::time::{Clock, SystemClock};

    #[test]
    fn nine_minutes_of_history_fit() {
        let broker = EmbeddedBroker::start(&[("readings", 3)]).expect("a broker");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let target = Target {
            client: ClientConfig::new()
                .set("bootstrap.servers", broker.address())
                .clone(),
            topic: "readings".to_owned(),
            partitions: 3,
        };
        let history = Duration::from_secs(540);
        let origin = clock.now();
        let mut gateway =
            Gateway::new(target, story(), (origin, history), Seed(1), clock).expect("a gateway");
        let sent = gateway.preload().expect("history arrives");
        assert_eq!(sent, 6 * 10_800);
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker.address())
            .set("group.id", "test")
            .create()
            .expect("a consumer");
        let held: i64 = (0..3)
            .map(|partition| {
                let (low, high) = consumer
                    .fetch_watermarks("readings", partition, Duration::from_secs(10))
                    .expect("watermarks");
                high - low
            })
            .sum();
        assert_eq!(held, 6 * 10_800);
    }
}
