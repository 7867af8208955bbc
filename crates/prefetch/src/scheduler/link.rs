//! What the link is worth: how long a request takes, and how many bytes come
//! in the meantime.

/// An estimate of the link, from what was fetched over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Seconds from asking to the first byte.
    rtt: f64,
    /// Bytes a second, all requests together.
    rate: f64,
}

/// A usual line to a distant aggregator: 50 ms, 100 Mbit/s.
const USUAL_RTT: f64 = 0.05;
const USUAL_RATE: f64 = 100e6 / 8.0;

/// Bounds that an estimate is kept in, whatever is measured.
const RTT: (f64, f64) = (0.000_1, 10.0);
const RATE: (f64, f64) = (1e3, 1e10);

/// A transfer of fewer bytes tells how long a request takes, not how wide the
/// link is.
const TELLING: u64 = 64 << 10;

impl Default for Link {
    /// Before anything was fetched.
    fn default() -> Self {
        Link::new(USUAL_RTT, USUAL_RATE)
    }
}

impl Link {
    /// A link of `rtt` seconds and `rate` bytes a second.
    pub fn new(rtt: f64, rate: f64) -> Self {
        Link {
            rtt: kept(rtt, RTT, USUAL_RTT),
            rate: kept(rate, RATE, USUAL_RATE),
        }
    }

    /// Seconds a request takes before its first byte.
    pub fn rtt(&self) -> f64 {
        self.rtt
    }

    /// Seconds that so many bytes keep the link busy.
    pub fn seconds(&self, bytes: u64) -> f64 {
        bytes as f64 / self.rate
    }

    /// Bytes that come in half a round trip: a request longer by as much is
    /// hardly slower.
    pub fn nearly_free(&self) -> u64 {
        (self.rtt / 2.0 * self.rate) as u64
    }

    /// Notes a fetch: seconds until its first file was there and until its
    /// last, the bytes of the first and of all. Requests share the link, so
    /// what one gets of it is a lower bound: the estimate rises at once and
    /// falls slowly; that of the round trip the other way round.
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
