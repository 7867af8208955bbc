//! A TCP proxy in front of a server, as HTTP proxy, router, or host name whose address
//! changes.
//!
//! It can blackhole its connections (they stay open without traffic), close them, or
//! direct new ones to another server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(crate) struct TcpProxy {
    pub(crate) url: String,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

struct State {
    /// Whether clients send `CONNECT` first.
    proxy: bool,
    target: Mutex<SocketAddr>,
    blackhole: Notify,
    close: Notify,
    connection_count: AtomicU32,
}

impl TcpProxy {
    /// In front of the server at `target`.
    pub(crate) fn in_front_of(target: SocketAddr) -> Self {
        TcpProxy::new(target, false)
    }

    /// An HTTP proxy (`CONNECT`) that always connects to the server at `target`.
    pub(crate) fn proxy_to(target: SocketAddr) -> Self {
        TcpProxy::new(target, true)
    }

    fn new(target: SocketAddr, proxy: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(listener).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            proxy,
            target: Mutex::new(target),
            blackhole: Notify::new(),
            close: Notify::new(),
            connection_count: AtomicU32::new(0),
        });
        let shared = state.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.connection_count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(forward(client, shared.clone()));
            }
        });
        TcpProxy {
            url,
            state,
            _runtime: runtime,
        }
    }

    /// Directs new connections to another server; existing ones stay, as when a DNS
    /// record changes.
    pub(crate) fn redirect_to(&self, target: SocketAddr) {
        *self.state.target.lock().unwrap() = target;
    }

    /// Stops traffic on all connections without closing them.
    pub(crate) fn blackhole_connections(&self) {
        self.state.blackhole.notify_waiters();
    }

    /// Closes all connections.
    pub(crate) fn close_connections(&self) {
        self.state.close.notify_waiters();
    }

    /// Number of accepted connections.
    pub(crate) fn connection_count(&self) -> u32 {
        self.state.connection_count.load(Ordering::Relaxed)
    }
}

async fn forward(mut client: TcpStream, state: Arc<State>) {
    if state.proxy {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match client.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        assert!(head.starts_with(b"CONNECT "), "{head:?}");
        let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
        client.write_all(established).await.unwrap();
    }
    let target = *state.target.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(target).await else {
        return; // it hangs up
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = state.close.notified() => {}
        () = state.blackhole.notified() => std::future::pending().await,
    }
}
