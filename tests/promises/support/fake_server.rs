//! A server that answers whatever a test wants it to.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) path: String,
    pub(crate) body: String,
}

/// A running server; it remembers what was asked.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeServer {
    /// Answers with what `handler` makes of a request and its number, from 0.
    pub(crate) fn with_handler(
        handler: impl Fn(&ReceivedRequest, usize) -> Response + Send + Sync + 'static,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<ReceivedRequest>>> = Arc::default();
        let (recorded, handler) = (requests.clone(), Arc::new(handler));
        let routes = Router::new().fallback(move |request: Request| {
            let (recorded, handler) = (recorded.clone(), handler.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
                let body = String::from_utf8_lossy(&body).into_owned();
                let requests = ReceivedRequest { path, body };
                let number = {
                    let mut recorded = recorded.lock().unwrap();
                    recorded.push(requests.clone());
                    recorded.len() - 1
                };
                handler(&requests, number)
            }
        });
        runtime.spawn(async move { axum::serve(listener, routes).await });
        FakeServer {
            url,
            requests,
            _runtime: runtime,
        }
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().unwrap().clone()
    }
}

/// An answer of JSON, or of what claims to be.
pub(crate) fn json(text: impl ToString) -> Response {
    with_status(200, text)
}

pub(crate) fn with_status(status: u16, text: impl ToString) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(text.to_string()))
        .unwrap()
}

/// A body that never ends: as fast as it goes, or a byte now and then.
pub(crate) fn endless_body(pause: Option<std::time::Duration>) -> Response {
    let stream = futures_util::stream::unfold((), move |()| async move {
        let part = match pause {
            Some(pause) => {
                tokio::time::sleep(pause).await;
                vec![b' ']
            }
            None => vec![b' '; 65536],
        };
        Some((Ok::<_, std::io::Error>(part), ()))
    });
    Response::builder()
        .header("content-type", "application/json")
        .body(Body::from_stream(stream))
        .unwrap()
}
