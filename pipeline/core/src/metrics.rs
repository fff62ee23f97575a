//! What a process counts: one place for every metric of the pipeline, with unit and help.
//!
//! Labels are stage names and fixed words only: never an identifier, never a free text (I4).

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Latencies from a tenth of a millisecond to a minute.
const SECONDS: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];
/// Batch sizes in powers of four.
const MESSAGES: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0];

/// The metrics of the pipeline.
pub struct Metrics {
    registry: Registry,
    /// Messages by stage and outcome: done, parked, failed, dead, job.
    pub messages: IntCounterVec,
    /// Panics of workers by stage.
    pub panics: IntCounterVec,
    /// Seconds from taking a batch to its commit, by stage.
    pub step_seconds: HistogramVec,
    /// Messages per batch, by stage.
    pub batch_messages: HistogramVec,
    /// Seconds from a message's making to its commit, by stage.
    pub age_seconds: HistogramVec,
    /// Parked messages by stage and partition.
    pub parked: IntGaugeVec,
    /// Jobs that run now, by stage.
    pub jobs_running: IntGaugeVec,
    /// 1 while a downstream's breaker is open.
    pub breaker_open: IntGaugeVec,
    /// 1 while this process owns the slot, by stage and partition.
    pub owned: IntGaugeVec,
    /// Seconds by which the machine's clock is away while it is not followed.
    pub clock_away: IntGauge,
    /// How many time sources agree with the clock.
    pub time_sources: IntGauge,
}

impl Metrics {
    /// A fresh set.
    ///
    /// # Errors
    /// When a name is registered twice, which a test would show.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let histograms = |name: &str, help: &str, buckets: &[f64]| {
            HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &["stage"])
        };
        let metrics = Metrics {
            registry: Registry::new(),
            messages: counters("zegel_messages_total", "Messages by stage and outcome.", &["stage", "outcome"])?,
            panics: counters("zegel_panics_total", "Panics of workers, caught.", &["stage"])?,
            step_seconds: histograms("zegel_step_seconds", "Time from taking a batch to its commit.", SECONDS)?,
            batch_messages: histograms("zegel_batch_messages", "Messages per batch.", MESSAGES)?,
            age_seconds: histograms("zegel_message_age_seconds", "Time from making a message to its effect.", SECONDS)?,
            parked: gauges("zegel_parked_messages", "Messages that wait, parked.", &["stage", "partition"])?,
            jobs_running: gauges("zegel_jobs_running", "Heavy jobs that run now.", &["stage"])?,
            breaker_open: gauges("zegel_breaker_open", "1 while the downstream's breaker is open.", &["downstream"])?,
            owned: gauges("zegel_slot_owned", "1 while this process owns the slot.", &["stage", "partition"])?,
            clock_away: IntGauge::new("zegel_clock_away_seconds", "How far the clock is away while not followed.")?,
            time_sources: IntGauge::new("zegel_time_sources_agreeing", "Time sources that agree with the clock.")?,
        };
        metrics.register()?;
        Ok(metrics)
    }

    /// For other parts of the process to add their own.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text exposition format, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            Ok(()) => String::from_utf8(out).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                String::new()
            }
        }
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let all: [Box<dyn prometheus::core::Collector>; 11] = [
            Box::new(self.messages.clone()),
            Box::new(self.panics.clone()),
            Box::new(self.step_seconds.clone()),
            Box::new(self.batch_messages.clone()),
            Box::new(self.age_seconds.clone()),
            Box::new(self.parked.clone()),
            Box::new(self.jobs_running.clone()),
            Box::new(self.breaker_open.clone()),
            Box::new(self.owned.clone()),
            Box::new(self.clock_away.clone()),
            Box::new(self.time_sources.clone()),
        ];
        all.into_iter().try_for_each(|metric| self.registry.register(metric))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_and_appears_in_the_text() {
        let metrics = Metrics::new().unwrap();
        metrics.messages.with_label_values(&["ttp", "done"]).inc();
        let text = metrics.text();
        assert!(text.contains("# HELP zegel_messages_total"));
        assert!(text.contains("zegel_messages_total{outcome=\"done\",stage=\"ttp\"} 1"));
    }
}
