//! Estimate of the link: latency and bandwidth.

/// Estimate of the link, from fetches over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkEstimate {
    /// Seconds from request to first byte.
    rtt: f64,
    /// Bytes per second of all requests together.
    rate: f64,
}

/// Initial estimate, typical for a distant aggregator: 50 ms, 100 Mbit/s.
const DEFAULT_RTT: f64 = 0.05;
const DEFAULT_RATE: f64 = 100e6 / 8.0;

/// Range of the estimate, regardless of measurements.
const RTT_RANGE: (f64, f64) = (0.000_1, 10.0);
const RATE_RANGE: (f64, f64) = (1e3, 1e10);

/// Minimum bytes of a transfer that measures bandwidth; a smaller one measures only
/// latency.
const MIN_SAMPLE_BYTES: u64 = 64 << 10;

/// Timing of a completed request: seconds to its first and last file, bytes of the
/// first file and in total.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestTiming {
    pub(super) first: f64,
    pub(super) last: f64,
    pub(super) first_bytes: u64,
    pub(super) bytes: u64,
}

impl Default for LinkEstimate {
    /// Returns the estimate before any fetch.
    fn default() -> Self {
        LinkEstimate::new(DEFAULT_RTT, DEFAULT_RATE)
    }
}

impl LinkEstimate {
    /// Creates a link with `rtt` in seconds and `rate` in bytes per second.
    pub fn new(rtt: f64, rate: f64) -> Self {
        LinkEstimate {
            rtt: clamp_or(rtt, RTT_RANGE, DEFAULT_RTT),
            rate: clamp_or(rate, RATE_RANGE, DEFAULT_RATE),
        }
    }

    /// Seconds from request to first byte.
    pub fn rtt(&self) -> f64 {
        self.rtt
    }

    /// Seconds for which a number of bytes occupies the link.
    pub fn seconds(&self, bytes: u64) -> f64 {
        bytes as f64 / self.rate
    }

    /// Bytes transferred in half a round trip: a request longer by this much is
    /// hardly slower.
    pub fn nearly_free(&self) -> u64 {
        (self.rtt / 2.0 * self.rate) as u64
    }

    /// Records a request. Requests share the link, so the bandwidth of one is a lower
    /// bound: the estimate rises at once and falls slowly; the round trip behaves
    /// inversely.
    pub(super) fn record(&mut self, timing: RequestTiming) {
        let RequestTiming {
            first,
            last,
            first_bytes,
            bytes,
        } = timing;
        let rtt = first - self.seconds(first_bytes);
        if rtt > 0.0 {
            let weight = if rtt < self.rtt { 0.5 } else { 0.1 };
            self.rtt = clamp_or(self.rtt + (rtt - self.rtt) * weight, RTT_RANGE, self.rtt);
        }
        let behind = bytes.saturating_sub(first_bytes);
        let (bytes, time) = if behind >= MIN_SAMPLE_BYTES {
            (behind, last - first)
        } else {
            (bytes, last - self.rtt)
        };
        if bytes >= MIN_SAMPLE_BYTES && time > 0.0 {
            let rate = bytes as f64 / time;
            let weight = if rate > self.rate { 0.5 } else { 0.05 };
            self.rate = clamp_or(
                self.rate + (rate - self.rate) * weight,
                RATE_RANGE,
                self.rate,
            );
        }
    }
}

/// Returns the value within the range, or `otherwise` if it is not finite.
fn clamp_or(value: f64, (least, most): (f64, f64), otherwise: f64) -> f64 {
    if value.is_finite() {
        value.clamp(least, most)
    } else {
        otherwise
    }
}
