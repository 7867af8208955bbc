//! A server whose responses a test defines.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) path: String,
    pub(crate) body: String,
}

/// A running server that records its requests.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<ReceivedRequest>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeServer {
    /// Answers each request with the result of `handler`, which gets the request and
    /// its number, from 0.
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

    /// Requests so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.requests.lock().unwrap().clone()
    }
}

/// A response with JSON, valid or not.
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

/// An endless body: as fast as possible, or a byte per pause.
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
