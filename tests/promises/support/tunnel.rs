//! Something on the way to a server that passes bytes on, until it forgets the
//! connections it has: they stay open, and nothing ever comes over them again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(crate) struct Tunnel {
    pub(crate) url: String,
    forget: Arc<Notify>,
    taken: Arc<AtomicU32>,
    _runtime: tokio::runtime::Runtime,
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
        let (forget, taken) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let (forgotten, counted) = (forget.clone(), taken.clone());
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(client, there, proxy, forgotten.clone()));
            }
        });
        Tunnel {
            url,
            forget,
            taken,
            _runtime: runtime,
        }
    }

    /// Forgets all connections there are.
    pub(crate) fn forget(&self) {
        self.forget.notify_waiters();
    }

    /// How many connections were made.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn pass(mut client: TcpStream, there: SocketAddr, proxy: bool, forgotten: Arc<Notify>) {
    if proxy {
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
    let mut server = TcpStream::connect(there).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = forgotten.notified() => std::future::pending().await,
    }
}
