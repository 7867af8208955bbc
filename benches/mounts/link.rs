//! A remote link simulated on one machine: a proxy that delays bytes by half a round
//! trip in each direction and limits the bandwidth of all connections together.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Round trip and bandwidth of all benchmarks.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(50);
pub(crate) const BANDWIDTH_MBIT: f64 = 100.0;

/// Bytes that one transfer forwards.
const MAX_TRANSFER: usize = 16 << 10;

/// A proxy to a local port; dropping it stops it.
pub(crate) struct Link {
    pub(crate) port: u16,
    _runtime: tokio::runtime::Runtime,
}

impl Link {
    pub(crate) fn to(port: u16, round_trip: Duration, mbit: f64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let there = SocketAddr::from(([127, 0, 0, 1], port));
        let pipe = Pipe {
            delay: round_trip / 2,
            bytes_per_second: mbit * 1e6 / 8.0,
            free: Arc::new(Mutex::new(Instant::now())),
        };
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let pipe = pipe.clone();
                tokio::spawn(async move {
                    // The handshake takes a round trip.
                    tokio::time::sleep(round_trip).await;
                    let Ok(far) = TcpStream::connect(there).await else {
                        return;
                    };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let (near_read, near_write) = near.into_split();
                    let (far_read, far_write) = far.into_split();
                    tokio::spawn(pipe.clone().carry(near_read, far_write, false));
                    pipe.carry(far_read, near_write, true).await;
                });
            }
        });
        Link {
            port: own_port,
            _runtime: runtime,
        }
    }
}

#[derive(Clone)]
struct Pipe {
    delay: Duration,
    bytes_per_second: f64,
    free: Arc<Mutex<Instant>>,
}

impl Pipe {
    /// Forwards bytes with a delay; `paced` bytes no faster than the link.
    async fn carry(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin + Send + 'static,
        paced: bool,
    ) {
        let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(4096);
        tokio::spawn(async move {
            while let Some((due, bytes)) = receiver.recv().await {
                sleep_until(due).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        let mut buffer = vec![0; MAX_TRANSFER];
        while let Ok(len) = from.read(&mut buffer).await {
            if len == 0 {
                return;
            }
            let now = Instant::now();
            let sent = match paced {
                false => now,
                true => {
                    let mut free = self.free.lock().unwrap();
                    *free = (*free).max(now)
                        + Duration::from_secs_f64(len as f64 / self.bytes_per_second);
                    *free
                }
            };
            if sender
                .send((sent + self.delay, buffer[..len].to_vec()))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}
