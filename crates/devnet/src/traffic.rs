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

use super::connection::Peer;
use super::faults::apply;
use super::link::SimulatedLink;
use super::reading::WrongBlob;
use super::state::Shared;

/// Delays, throttles, corrupts and logs every exchange.
pub(super) async fn transmit(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let range = header_text(&request, &RANGE).unwrap_or_else(|| "-".into());
    let uploaded = header_text(&request, &CONTENT_LENGTH);
    let plan = server.faults.plan(&method, &path);
    peer.delay_bytes(plan.byte_delay);
    let limited =
        (plan.bandwidth).map(|mbit| Arc::new(SimulatedLink::new(Duration::ZERO, Some(mbit))));
    let throttled = |body: Body| {
        let body = match limited.clone() {
            Some(limited) => Body::from_stream(limited.throttle(body.into_data_stream())),
            None => body,
        };
        Body::from_stream(server.link.clone().throttle(body.into_data_stream()))
    };
    let mut request = request.map(throttled);
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
    let response = match apply::replacement(&plan) {
        Some(response) => {
            drain(request.into_body()).await;
            response
        }
        None => {
            request.extensions_mut().insert(plan.put);
            request.extensions_mut().insert(WrongBlob(plan.wrong_blob));
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
    response.map(throttled)
}

/// Reads the rest of a request body: a client that is still sending would see a broken
/// connection instead of the answer.
async fn drain(body: Body) {
    let mut parts = body.into_data_stream();
    while let Some(Ok(_)) = parts.next().await {}
}

fn header_text(request: &Request, name: &HeaderName) -> Option<String> {
    let value = request.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}
