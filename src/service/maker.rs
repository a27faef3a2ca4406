//! What makes metrics of a table of them: each has its name, labels and help in one place.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// What a metric is called, and says of itself.
pub(super) struct Entry {
    pub(super) name: &'static str,
    labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets.
    bounds: &'static [f64],
    pub(super) help: &'static str,
}

/// A counter or a gauge.
pub(super) const fn entry(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Entry {
    timer(name, labels, &[], help)
}

/// A histogram.
pub(super) const fn timer(
    name: &'static str,
    labels: &'static [&'static str],
    bounds: &'static [f64],
    help: &'static str,
) -> Entry {
    Entry {
        name,
        labels,
        bounds,
        help,
    }
}

/// A type of metric, made of what the table says.
pub(super) trait Made: prometheus::core::Collector + Clone + Sized + 'static {
    fn made(opts: Opts, entry: &Entry) -> prometheus::Result<Self>;
}

/// Types without labels, and those with.
macro_rules! made {
    ($($plain:ty)*; $($labelled:ty)*) => {
        $(impl Made for $plain {
            fn made(opts: Opts, _: &Entry) -> prometheus::Result<Self> {
                Self::with_opts(opts)
            }
        })*
        $(impl Made for $labelled {
            fn made(opts: Opts, entry: &Entry) -> prometheus::Result<Self> {
                Self::new(opts, entry.labels)
            }
        })*
    };
}

made!(IntCounter IntGauge Gauge; IntCounterVec IntGaugeVec GaugeVec);

impl Made for Histogram {
    fn made(opts: Opts, entry: &Entry) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::from(opts).buckets(entry.bounds.to_vec()))
    }
}

impl Made for HistogramVec {
    fn made(opts: Opts, entry: &Entry) -> prometheus::Result<Self> {
        let opts = HistogramOpts::from(opts).buckets(entry.bounds.to_vec());
        Self::new(opts, entry.labels)
    }
}

/// Makes metrics and registers them.
pub(super) struct Maker<'a> {
    pub(super) registry: &'a Registry,
    /// Whose metrics they are; `None`: those of the process, of no detector alone.
    pub(super) detector: Option<&'a str>,
    pub(super) table: &'static [Entry],
}

impl Maker<'_> {
    /// The metric of the table that is called so.
    pub(super) fn metric<M: Made>(&self, name: &str) -> prometheus::Result<M> {
        let entry = self.table.iter().find(|entry| entry.name == name);
        let entry =
            entry.ok_or_else(|| prometheus::Error::Msg(format!("{name} is in no table")))?;
        let mut opts = Opts::new(name, entry.help);
        if let Some(detector) = self.detector {
            opts = opts.const_label("detector", detector);
        }
        let metric = M::made(opts, entry)?;
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}
