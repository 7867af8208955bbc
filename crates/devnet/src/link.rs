//! Simulated link with limited bandwidth and latency.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Bytes sent at once; small, so that responses share the link.
const MAX_SLICE_BYTES: usize = 16 << 10;
/// Sends per second on a slow link, so that it is slow rather than silent.
const SLICES_PER_SECOND: f64 = 20.0;

/// One link shared by all clients.
#[derive(Debug)]
pub(super) struct SimulatedLink {
    latency: Duration,
    bytes_per_second: Option<f64>,
    /// When the link will have sent all queued bytes.
    free: Mutex<Instant>,
}

impl SimulatedLink {
    pub(super) fn new(latency: Duration, mbit: Option<f64>) -> Self {
        SimulatedLink {
            latency,
            bytes_per_second: mbit.map(|mbit| mbit * 1e6 / 8.0),
            free: Mutex::new(Instant::now()),
        }
    }

    /// Waits for the latency of a request and its response.
    pub(super) async fn round_trip(&self) {
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }

    /// Limits a body to the bandwidth of the link.
    pub(super) fn throttle<E: Send + 'static>(
        self: Arc<Self>,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, E>> + Send + 'static {
        let slice_len =
            |speed: f64| ((speed / SLICES_PER_SECOND) as usize).clamp(1, MAX_SLICE_BYTES);
        let paced = self.bytes_per_second.map(slice_len);
        let slices = body.flat_map(move |part| {
            let mut slices = Vec::new();
            match (part, paced) {
                (Ok(mut bytes), Some(slice)) => {
                    while bytes.len() > slice {
                        slices.push(Ok(bytes.split_to(slice)));
                    }
                    slices.push(Ok(bytes));
                }
                (part, _) => slices.push(part),
            }
            futures_util::stream::iter(slices)
        });
        slices.then(move |part| {
            let link = self.clone();
            async move {
                if let Ok(bytes) = &part {
                    link.send(bytes.len()).await;
                }
                part
            }
        })
    }

    async fn send(&self, bytes: usize) {
        let Some(speed) = self.bytes_per_second else {
            return;
        };
        let sent = {
            let mut free = self.free.lock();
            *free = (*free).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / speed);
            *free
        };
        tokio::time::sleep_until(sent).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_bodies_share_one_bandwidth() {
        let link = Arc::new(SimulatedLink::new(Duration::ZERO, Some(8.0)));
        let body = || futures_util::stream::iter([Ok::<_, ()>(Bytes::from(vec![0; 500_000]))]);
        let started = Instant::now();
        let body_task = link.clone().throttle(body()).count();
        let two = link.throttle(body()).count();
        futures_util::future::join(body_task, two).await;
        // 1 MB at 1 MB a second.
        let took = started.elapsed().as_secs_f64();
        assert!((0.99..1.1).contains(&took), "{took}");
    }
}
