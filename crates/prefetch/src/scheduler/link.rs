//! Estimate of the link: latency and bandwidth.

/// Estimate of the link, from fetches over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds from request to first byte.
    rtt: f64,
    /// Bytes per second of all requests together.
    rate: f64,
}

/// Initial estimate, typical for a distant aggregator: 50 ms, 100 Mbit/s.
const USUAL_RTT: f64 = 0.05;
const USUAL_RATE: f64 = 100e6 / 8.0;

/// Range of the estimate, regardless of measurements.
const RTT: (f64, f64) = (0.000_1, 10.0);
const RATE: (f64, f64) = (1e3, 1e10);

/// Minimum bytes of a transfer that measures bandwidth; a smaller one measures only
/// latency.
const TELLING: u64 = 64 << 10;

impl Default for Link {
    /// Returns the estimate before any fetch.
    fn default() -> Self {
        Link::new(USUAL_RTT, USUAL_RATE)
    }
}

impl Link {
    /// Creates a link with `rtt` in seconds and `rate` in bytes per second.
    pub fn new(rtt: f64, rate: f64) -> Self {
        Link {
            rtt: kept(rtt, RTT, USUAL_RTT),
            rate: kept(rate, RATE, USUAL_RATE),
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

    /// Records a fetch: seconds until its first and last file arrived, bytes of the
    /// first file and in total. Requests share the link, so the bandwidth of one is
    /// a lower bound: the estimate rises at once and falls slowly; the round trip
    /// behaves inversely.
    pub fn note(&mut self, first: f64, last: f64, first_bytes: u64, bytes: u64) {
        let rtt = first - self.seconds(first_bytes);
        if rtt > 0.0 {
            let weight = if rtt < self.rtt { 0.5 } else { 0.1 };
            self.rtt = kept(self.rtt + (rtt - self.rtt) * weight, RTT, self.rtt);
        }
        let behind = bytes.saturating_sub(first_bytes);
        let (bytes, time) = match behind >= TELLING {
            true => (behind, last - first),
            false => (bytes, last - self.rtt),
        };
        if bytes >= TELLING && time > 0.0 {
            let rate = bytes as f64 / time;
            let weight = if rate > self.rate { 0.5 } else { 0.05 };
            self.rate = kept(self.rate + (rate - self.rate) * weight, RATE, self.rate);
        }
    }
}

fn kept(value: f64, (least, most): (f64, f64), otherwise: f64) -> f64 {
    match value.is_finite() {
        true => value.clamp(least, most),
        false => otherwise,
    }
}
