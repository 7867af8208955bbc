//! Something on the way to a server that passes bytes on: a proxy, a router, a
//! name that leads elsewhere from one day to the next.
//!
//! It can forget the connections it has (they stay open, and nothing ever comes
//! over them again), end them, or lead new ones to another server.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(crate) struct Tunnel {
    pub(crate) url: String,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

struct State {
    /// Whether a client says first where it wants to go (`CONNECT`).
    proxy: bool,
    leads_to: Mutex<SocketAddr>,
    forget: Notify,
    hang_up: Notify,
    taken: AtomicU32,
}

impl Tunnel {
    /// In front of the server at `there`.
    pub(crate) fn before(there: SocketAddr) -> Self {
        Tunnel::new(there, false)
    }

    /// A proxy (`CONNECT`) that leads to the server at `there`, whatever is
    /// asked for.
    pub(crate) fn proxy_to(there: SocketAddr) -> Self {
        Tunnel::new(there, true)
    }

    fn new(there: SocketAddr, proxy: bool) -> Self {
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
            leads_to: Mutex::new(there),
            forget: Notify::new(),
            hang_up: Notify::new(),
            taken: AtomicU32::new(0),
        });
        let shared = state.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                shared.taken.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, shared.clone()));
            }
        });
        Tunnel {
            url,
            state,
            _runtime: runtime,
        }
    }

    /// Leads elsewhere from now on, for new connections alone: those there are
    /// stay where they led, as they do when a name changes.
    pub(crate) fn leads_to(&self, there: SocketAddr) {
        *self.state.leads_to.lock().unwrap() = there;
    }

    /// Forgets all connections there are.
    pub(crate) fn forget(&self) {
        self.state.forget.notify_waiters();
    }

    /// Ends all connections there are.
    pub(crate) fn hang_up(&self) {
        self.state.hang_up.notify_waiters();
    }

    /// How many connections were made.
    pub(crate) fn taken(&self) -> u32 {
        self.state.taken.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, state: Arc<State>) {
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
    let there = *state.leads_to.lock().unwrap();
    let Ok(mut server) = TcpStream::connect(there).await else {
        return; // it hangs up
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = state.hang_up.notified() => {}
        () = state.forget.notified() => std::future::pending().await,
    }
}
