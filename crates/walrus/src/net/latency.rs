//! Distribution of read times, to detect reads that take longer than usual.
//!
//! Times are counted in exponential buckets of 20 %, by size class. Halving all counts now
//! and then makes old values expire.

use std::time::Duration;

/// Buckets from 100 µs upwards, each 20 % longer than the one before; the last is above a
/// minute.
const BUCKETS: usize = 76;
const FIRST_BUCKET_S: f64 = 1e-4;
const BUCKET_RATIO: f64 = 1.2;
/// Number of counted reads at which all counts are halved.
const MAX_TOTAL: u32 = 512;
/// Fewest reads for a percentile.
const MIN_TOTAL: u32 = 20;
/// Upper bounds of the size classes, in bytes: latency only, a typical chunk or span, a
/// large one; anything larger is in the last class.
const SIZE_CLASSES: [u64; 3] = [64 << 10, 1 << 20, 8 << 20];

/// Read times of one server.
#[derive(Debug)]
pub(super) struct Latencies([Histogram; SIZE_CLASSES.len() + 1]);

impl Default for Latencies {
    fn default() -> Self {
        Latencies(std::array::from_fn(|_| Histogram {
            counts: [0; BUCKETS],
            total: 0,
        }))
    }
}

impl Latencies {
    /// Counts a read of `bytes` bytes.
    pub(super) fn record(&mut self, bytes: u64, took: Duration) {
        self.0[size_class(bytes)].record(took);
    }

    /// Time within which `percentile` of 100 reads of this size end; `None` with too few
    /// reads.
    pub(super) fn percentile(&self, bytes: u64, percentile: u8) -> Option<Duration> {
        self.0[size_class(bytes)].percentile(percentile)
    }
}

fn size_class(bytes: u64) -> usize {
    SIZE_CLASSES.partition_point(|upper_bound| *upper_bound < bytes)
}

#[derive(Debug)]
struct Histogram {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        let bucket = (took.as_secs_f64() / FIRST_BUCKET_S)
            .log(BUCKET_RATIO)
            .ceil();
        // A time of zero is a bucket of minus infinity, which becomes 0.
        let bucket = (bucket.max(0.0) as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        if self.total >= MAX_TOTAL {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    fn percentile(&self, percentile: u8) -> Option<Duration> {
        if self.total < MIN_TOTAL {
            return None;
        }
        let wanted = u64::from(self.total) * u64::from(percentile.min(100));
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen * 100 >= wanted
        })?;
        Some(Duration::from_secs_f64(
            FIRST_BUCKET_S * BUCKET_RATIO.powi(bucket as i32),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_percentile_is_right_to_a_fifth(mut times in prop::collection::vec(200..50_000_000u64, 20..500), percentile in 1..100u8) {
            let mut latency = Latencies::default();
            for micros in &times {
                latency.record(1000, Duration::from_micros(*micros));
            }
            times.sort_unstable();
            let place = (times.len() * percentile as usize).div_ceil(100).max(1) - 1;
            let truth = times[place] as f64 / 1e6;
            let found = latency.percentile(1000, percentile).unwrap().as_secs_f64();
            prop_assert!(found >= truth * 0.999 && found <= truth * 1.21, "{} for {}", found, truth);
        }
    }

    #[test]
    fn sizes_are_distinguished_and_old_times_expire() {
        let mut latency = Latencies::default();
        let (quick, slow) = (Duration::from_millis(10), Duration::from_secs(1));
        for _ in 0..40 {
            latency.record(1000, quick);
            latency.record(100 << 20, slow);
        }
        assert!(latency.percentile(1000, 95) < latency.percentile(100 << 20, 95));
        assert_eq!(latency.percentile(1 << 20, 95), None);
        for _ in 0..5000 {
            latency.record(1000, slow);
        }
        assert!(latency.percentile(1000, 2).unwrap() >= slow);
    }

    #[test]
    fn any_time_has_a_bucket() {
        let mut latency = Latencies::default();
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            (0..20).for_each(|_| latency.record(0, time));
        }
        assert!(latency.percentile(0, 99).unwrap() > Duration::from_secs(60));
    }
}
