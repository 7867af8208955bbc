//! Connections without send delay, which can be reset or slowed to single bytes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

/// A listener whose connections are [`FaultyConnection`]s.
pub(super) struct FaultyListener(pub(super) TcpListener);

/// A client's connection.
pub(super) struct FaultyConnection {
    stream: TcpStream,
    faults: Arc<ConnectionFaults>,
    /// Pause before the next byte.
    pause: Option<Pin<Box<Sleep>>>,
}

/// Per-connection faults, set by handlers.
#[derive(Debug, Default)]
struct ConnectionFaults {
    is_reset: AtomicBool,
    /// Milliseconds before each byte; 0 for none.
    byte_delay_ms: AtomicU64,
}

/// Peer of a request's connection.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Local address.
    pub(super) local_address: Option<SocketAddr>,
    faults: Arc<ConnectionFaults>,
}

impl Peer {
    /// Resets the connection instead of sending further bytes.
    pub(super) fn reset(&self) {
        self.faults.is_reset.store(true, Ordering::Relaxed);
    }

    /// Sends all further bytes, including headers, one by one with this pause before
    /// each; without a pause for `None`.
    pub(super) fn delay_bytes(&self, pause: Option<Duration>) {
        let pause = pause.map_or(0, |pause| pause.as_millis() as u64);
        self.faults.byte_delay_ms.store(pause, Ordering::Relaxed);
    }
}

impl Connected<IncomingStream<'_, FaultyListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, FaultyListener>) -> Self {
        Peer {
            address: *stream.remote_addr(),
            local_address: stream.io().stream.local_addr().ok(),
            faults: stream.io().faults.clone(),
        }
    }
}

impl Listener for FaultyListener {
    type Io = FaultyConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (FaultyConnection, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // A response in two segments must not wait for an acknowledgement between them.
        let _ = stream.set_nodelay(true);
        let connection = FaultyConnection {
            stream,
            faults: Arc::default(),
            pause: None,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl FaultyConnection {
    fn pause(&mut self, ms: u64) -> &mut Pin<Box<Sleep>> {
        let pause = || Box::pin(tokio::time::sleep(Duration::from_millis(ms)));
        self.pause.get_or_insert_with(pause)
    }

    fn check(&self) -> io::Result<()> {
        if !self.faults.is_reset.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Closing without linger sends a reset.
        let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for FaultyConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FaultyConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let bytes = match self.faults.byte_delay_ms.load(Ordering::Relaxed) {
            0 => bytes,
            ms => {
                ready!(self.pause(ms).as_mut().poll(context));
                self.pause = None;
                &bytes[..bytes.len().min(1)]
            }
        };
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        if self.faults.byte_delay_ms.load(Ordering::Relaxed) != 0 {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
