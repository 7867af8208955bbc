//! Transmission of a request and its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_LENGTH, HeaderName, RANGE};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::StreamExt as _;

use super::Shared;
use super::connection::Peer;
use super::faults::apply;
use super::link::Link;
use super::reading::Mistaken;

/// Delays, throttles, corrupts and logs every exchange.
pub(super) async fn on_the_way(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let range = text_of(&request, &RANGE).unwrap_or_else(|| "-".into());
    let uploaded = text_of(&request, &CONTENT_LENGTH);
    let plan = server.faults.meet(&method, &path);
    peer.drip(plan.drip);
    let narrow = (plan.bandwidth).map(|mbit| Arc::new(Link::new(Duration::ZERO, Some(mbit))));
    let carried = |body: Body| {
        let body = match narrow.clone() {
            Some(narrow) => Body::from_stream(narrow.carry(body.into_data_stream())),
            None => body,
        };
        Body::from_stream(server.link.clone().carry(body.into_data_stream()))
    };
    let mut request = request.map(carried);
    server.link.round_trip().await;
    if !plan.delay.is_zero() {
        tokio::time::sleep(plan.delay).await;
    }
    if plan.hang {
        std::future::pending::<()>().await;
    }
    if plan.reset {
        peer.reset();
    }
    let response = match apply::instead(&plan) {
        Some(response) => {
            drain(request.into_body()).await;
            response
        }
        None => {
            request.extensions_mut().insert(plan.put);
            request.extensions_mut().insert(Mistaken(plan.wrong_blob));
            next.run(request).await
        }
    };
    let response = apply::body(&plan, response);
    if let Some(log) = &server.config.log {
        let downloaded = response.headers().get(CONTENT_LENGTH);
        let downloaded = downloaded.and_then(|v| v.to_str().ok()).map(str::to_owned);
        let bytes = match method {
            Method::PUT => uploaded,
            _ => downloaded,
        };
        let bytes = bytes.unwrap_or_else(|| "-".into());
        let status = response.status().as_u16();
        log(format!("{method} {path} {range} {status} {bytes}"));
    }
    response.map(carried)
}

/// Reads the rest of a request body: a client that is still sending would see a broken
/// connection instead of the answer.
async fn drain(body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(Ok(_)) = parts.next().await {}
}

fn text_of(request: &Request, name: &HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}
