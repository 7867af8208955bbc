//! A lying aggregator: it forwards requests to an honest one and corrupts the
//! responses.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

/// Kinds of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// None.
    None,
    /// One bit in the middle.
    Flip,
    /// The second half is missing.
    Truncate,
    /// More bytes than requested.
    Pad,
    /// As many other bytes.
    Swap,
    /// Status 500.
    Fail,
    /// No response.
    Hang,
}

/// A lying aggregator.
pub(crate) struct LyingGateway {
    pub(crate) url: String,
    lie: Arc<Mutex<Lie>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Upstream {
    url: String,
    client: reqwest::Client,
    lie: Arc<Mutex<Lie>>,
}

impl LyingGateway {
    /// In front of the honest aggregator at `url`.
    pub(crate) fn in_front_of(url: &str, lie: Lie) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let lie = Arc::new(Mutex::new(lie));
        let upstream = Upstream {
            url: url.into(),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            lie: lie.clone(),
        };
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(forward).with_state(upstream);
        runtime.spawn(async move { axum::serve(listener, routes).await });
        LyingGateway {
            url,
            lie,
            _runtime: runtime,
        }
    }

    pub(crate) fn set_lie(&self, lie: Lie) {
        *self.lie.lock().unwrap() = lie;
    }
}

async fn forward(State(upstream): State<Upstream>, request: Request) -> Response {
    let lie = *upstream.lie.lock().unwrap();
    if lie == Lie::Hang {
        std::future::pending::<()>().await;
    }
    let status = |status| {
        Response::builder()
            .status(status)
            .body(Body::empty())
            .unwrap()
    };
    if lie == Lie::Fail {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let is_head = request.method() == reqwest::Method::HEAD;
    let path = request.uri().path_and_query().unwrap();
    let mut upstream_request =
        (upstream.client).request(request.method().clone(), format!("{}{path}", upstream.url));
    if let Some(range) = request.headers().get("range") {
        upstream_request = upstream_request.header("range", range);
    }
    let Ok(upstream_response) = upstream_request.send().await else {
        return status(StatusCode::BAD_GATEWAY);
    };
    let mut response = Response::builder().status(upstream_response.status());
    for name in ["content-range", "etag", "content-type"] {
        if let Some(value) = upstream_response.headers().get(name) {
            response = response.header(name, value);
        }
    }
    // The length that a HEAD reports without a body.
    if let Some(len) = upstream_response.headers().get("content-length")
        && is_head
    {
        response = response.header("content-length", len);
    }
    let mut bytes = upstream_response.bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    match lie {
        Lie::Flip if !bytes.is_empty() => bytes[middle] ^= 1,
        Lie::Truncate => bytes.truncate(middle),
        Lie::Pad => bytes.extend_from_slice(&[0; 1000]),
        Lie::Swap => bytes.reverse(),
        _ => {}
    }
    response.body(Body::from(bytes)).unwrap()
}
