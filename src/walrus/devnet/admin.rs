//! `/devnet/…`: what a developer asks of this server and no client would ask of
//! the network. It stands apart from the network's API: not in `/v1/api`, met
//! by no fault and no delay, and open to clients on this machine only, since a
//! server that listens for others should not be broken by them. Nor by a web page
//! that somebody on this machine looks at: what a browser sends on behalf of one
//! says so, and is refused.
//!
//! `GET /devnet/faults` tells the faults in force and how often each was met;
//! `PUT /devnet/faults` replaces them, from a JSON list or one fault a line. An
//! empty body ends them.

use std::net::IpAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};

use super::Shared;
use super::faults::{Fault, Tally};
use super::wire::Peer;

pub(super) type Refusal = (StatusCode, String);

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/devnet/faults", get(faults).put(set_faults))
}

/// Refuses what a browser sends for a web page.
pub(super) async fn no_web_page(request: Request, next: Next) -> Result<Response, Refusal> {
    if request.headers().contains_key(ORIGIN) {
        let message = "web pages may not do this".into();
        return Err((StatusCode::FORBIDDEN, message));
    }
    Ok(next.run(request).await)
}

/// Refuses clients on other machines.
pub(super) fn local(peer: &Peer) -> Result<(), Refusal> {
    // A fault of the request before on this connection.
    peer.drip(None);
    match peer.address.ip() {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()) => Ok(()),
        ip if ip.is_loopback() => Ok(()),
        _ => {
            let message = "only clients on the same machine may do this".into();
            Err((StatusCode::FORBIDDEN, message))
        }
    }
}

async fn faults(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Vec<Tally>>, Refusal> {
    local(&peer)?;
    Ok(Json(server.faults.tally()))
}

async fn set_faults(
    State(server): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: String,
) -> Result<Json<Vec<Tally>>, Refusal> {
    local(&peer)?;
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let specs: Vec<String> = match body.trim_start().starts_with('[') {
        true => serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?,
        false => body.lines().map(str::trim).map(str::to_owned).collect(),
    };
    let specs = specs.iter().filter(|spec| !spec.is_empty());
    let faults = specs
        .map(|spec| spec.parse())
        .collect::<Result<Vec<Fault>, _>>();
    server
        .faults
        .set(faults.map_err(|error| bad(error.to_string()))?);
    Ok(Json(server.faults.tally()))
}
