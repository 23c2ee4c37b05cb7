//! What was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::channel::CallError;
use super::process::{Readings, Usage};
use crate::base::Instant;

/// Latencies are told to a thousandth of their value, up to [`LATENCY_MAX`].
const SIGNIFICANT_DIGITS: u8 = 3;
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Different error texts that are kept apart.
const ERROR_TEXTS_MAX: usize = 20;

/// One second of the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its end, counted from the start of the measurement.
    pub at: Duration,
    /// How long it was.
    pub length: Duration,
    /// Answers.
    pub count: u64,
    /// Errors.
    pub errors: u64,
    /// Latencies, in nanoseconds: p50, p99, the highest.
    pub latency: [u64; 3],
    /// CPU time of the server.
    pub cpu: Option<Duration>,
    /// The server's resident memory, in bytes.
    pub resident: Option<u64>,
}

/// Everything that was measured.
pub struct Meter {
    from: Option<Instant>,
    sample_from: Instant,
    kinds: Vec<(&'static str, Histogram<u64>)>,
    sample: Histogram<u64>,
    sample_errors: u64,
    errors: BTreeMap<String, u64>,
    samples: Vec<Sample>,
    first: Readings,
    last: Readings,
    is_peak_ours: bool,
    length: Duration,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, nanos(LATENCY_MAX), SIGNIFICANT_DIGITS).expect("the bounds are constants")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Meter {
    /// A meter of these kinds of requests; it measures from [`Meter::begin`] on.
    pub fn new(kinds: &[&'static str]) -> Meter {
        Meter {
            from: None,
            sample_from: Instant::ZERO,
            kinds: kinds.iter().map(|name| (*name, histogram())).collect(),
            sample: histogram(),
            sample_errors: 0,
            errors: BTreeMap::new(),
            samples: Vec::new(),
            first: Readings::default(),
            last: Readings::default(),
            is_peak_ours: false,
            length: Duration::ZERO,
        }
    }

    /// The warm-up is over. `is_peak_ours`: the server's highest memory counts from here.
    pub fn begin(&mut self, now: Instant, readings: Readings, is_peak_ours: bool) {
        self.from = Some(now);
        self.sample_from = now;
        (self.first, self.last) = (readings, readings);
        self.is_peak_ours = is_peak_ours;
    }

    /// Whether it measures.
    pub fn has_begun(&self) -> bool {
        self.from.is_some()
    }

    /// A request of kind `kind` that counts from `due` was answered. One that was due in the warm-up does not count.
    pub fn record(&mut self, kind: usize, due: Instant, now: Instant) {
        if self.from.is_none_or(|from| due < from) {
            return;
        }
        let latency = nanos(now.since(due)).max(1);
        self.kinds[kind].1.saturating_record(latency);
        self.sample.saturating_record(latency);
    }

    /// It failed.
    pub fn fail(&mut self, due: Instant, error: &CallError) {
        if self.from.is_none_or(|from| due < from) {
            return;
        }
        self.sample_errors += 1;
        let text = error.to_string();
        let text =
            if self.errors.len() < ERROR_TEXTS_MAX || self.errors.contains_key(&text) { text } else { "others".to_owned() };
        *self.errors.entry(text).or_default() += 1;
    }

    /// A second is over, or the measurement is.
    pub fn tick(&mut self, now: Instant, readings: Readings) -> Option<Sample> {
        let from = self.from?;
        let quantile = |q| self.sample.value_at_quantile(q);
        let cpu = readings.server.zip(self.last.server).map(|(now, last)| now.cpu.saturating_sub(last.cpu));
        let sample = Sample {
            at: now.since(from),
            length: now.since(self.sample_from),
            count: self.sample.len(),
            errors: self.sample_errors,
            latency: [quantile(0.5), quantile(0.99), self.sample.max()],
            cpu,
            resident: readings.server.map(|usage| usage.resident),
        };
        self.sample.reset();
        self.sample_errors = 0;
        self.sample_from = now;
        self.length = now.since(from);
        self.last = readings;
        self.samples.push(sample);
        Some(sample)
    }

    /// How long was measured.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Latencies in nanoseconds, per kind of request that was answered at all.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        self.kinds.iter().filter(|(_, histogram)| !histogram.is_empty()).map(|(name, histogram)| (*name, histogram))
    }

    /// Answers of all kinds.
    pub fn count(&self) -> u64 {
        self.kinds.iter().map(|(_, histogram)| histogram.len()).sum()
    }

    /// Errors, by their text.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Second by second.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What the server used over the measurement.
    pub fn server(&self) -> Option<Server> {
        let (first, last) = self.first.server.zip(self.last.server)?;
        Some(Server {
            cpu: last.cpu.saturating_sub(first.cpu),
            resident: last.resident,
            resident_max: last.resident_max,
            resident_extra: self.is_peak_ours.then(|| last.resident_max.saturating_sub(first.resident)),
        })
    }

    /// CPU time of the server from the beginning of the measurement until these readings.
    pub fn server_cpu_until(&self, now: &Readings) -> Option<Duration> {
        now.server.zip(self.first.server).map(|(now, first): (Usage, Usage)| now.cpu.saturating_sub(first.cpu))
    }

    /// CPU time of this process over the measurement.
    pub fn generator(&self) -> Duration {
        self.last.generator.saturating_sub(self.first.generator)
    }
}

/// What the server used over a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// CPU time.
    pub cpu: Duration,
    /// Resident memory at the end, in bytes.
    pub resident: u64,
    /// The most that was resident, in bytes.
    pub resident_max: u64,
    /// How much more that was than at the beginning; not known when the kernel did not let go of an earlier peak.
    pub resident_extra: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_warm_up_is_in_no_figure() {
        let mut meter = Meter::new(&["put"]);
        meter.record(0, at(1), at(2));
        meter.begin(at(1000), Readings::default(), false);
        meter.record(0, at(999), at(5000));
        meter.fail(at(999), &CallError::Transport("early".to_owned()));
        meter.record(0, at(1000), at(1010));
        let sample = meter.tick(at(2000), Readings::default()).expect("it measures");
        assert_eq!((sample.count, sample.errors, meter.count(), meter.errors().len()), (1, 0, 1, 0));
        assert!((9_990_000..=10_010_000).contains(&sample.latency[2]), "{sample:?}");
    }

    #[test]
    fn latency_counts_from_when_a_request_was_due() {
        let mut meter = Meter::new(&["put"]);
        meter.begin(at(1000), Readings::default(), false);
        // Ten requests due at even intervals are answered together after a stall of a second.
        (0..10).for_each(|i| meter.record(0, at(1000 + 100 * i), at(2000)));
        let (_, histogram) = meter.kinds().next().expect("one kind");
        assert!(histogram.value_at_quantile(0.5) >= 500_000_000);
    }

    #[test]
    fn error_texts_are_counted_and_bounded() {
        let mut meter = Meter::new(&["put"]);
        meter.begin(at(0), Readings::default(), false);
        (0..100).for_each(|i| meter.fail(at(1), &CallError::Status(14, format!("text {i}"))));
        assert_eq!(meter.errors().len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(meter.errors().values().sum::<u64>(), 100);
    }
}
