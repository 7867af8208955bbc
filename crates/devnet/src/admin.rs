//! `/devnet/…`: admin API for developers, not part of the network's API: not in
//! `/v1/api`, and exempt from faults and delays.
//!
//! It is open only to processes of the same user on this machine (and root), according
//! to the kernel's table of sockets. Web pages in that user's browser are refused as
//! well: by the headers that browsers send, and by a foreign `Host`, as sent by a page
//! with DNS rebinding.
//!
//! `GET /devnet/faults` returns the active faults with their counts;
//! `PUT /devnet/faults` replaces them, from a JSON list or from one fault per line. An
//! empty body removes them.

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::http::header::{HOST, ORIGIN};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};

use reqwest::Url;

use super::connection::Peer;
use super::faults::{Fault, FaultCounts};
use super::peer_uid::peer_uid;
use super::state::Shared;
use walrus_client::auth::is_loopback;

pub(super) type AdminError = (StatusCode, String);

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/devnet/faults", get(faults).put(set_faults))
}

/// Refuses requests of web pages, for another host, and of clients on other machines or of
/// other users.
pub(super) async fn restrict(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Result<Response, AdminError> {
    let refused = |message: &str| Err((StatusCode::FORBIDDEN, message.to_owned()));
    let headers = request.headers();
    // A page opened from the address bar does not belong to another site.
    let site = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "none");
    if site || headers.contains_key(ORIGIN) {
        return refused("web pages may not do this");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let url = host.and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    if !url.is_some_and(|url| is_loopback(&url)) {
        return refused("only requests to localhost, 127.0.0.1 or [::1] may do this");
    }
    // Resets a fault of the previous request on this connection.
    peer.delay_bytes(None);
    if !peer.address.ip().to_canonical().is_loopback() {
        return refused("only clients on the same machine may do this");
    }
    // The table is long if there are many sockets.
    let uid = tokio::task::spawn_blocking(move || peer_uid(peer.address, peer.local_address?));
    let own_uid = rustix::process::geteuid().as_raw();
    match uid.await {
        Ok(Some(uid)) if uid == own_uid || uid == 0 => Ok(next.run(request).await),
        _ => refused("only processes of the user who runs the server may do this"),
    }
}

async fn faults(State(server): State<Shared>) -> Json<Vec<FaultCounts>> {
    Json(server.faults.counts())
}

async fn set_faults(
    State(server): State<Shared>,
    body: String,
) -> Result<Json<Vec<FaultCounts>>, AdminError> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let specs: Vec<String> = if body.trim_start().starts_with('[') {
        serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?
    } else {
        body.lines().map(str::trim).map(str::to_owned).collect()
    };
    let specs = specs.iter().filter(|spec| !spec.is_empty());
    let faults: Result<Vec<Fault>, _> = specs.map(|spec| spec.parse()).collect();
    server
        .faults
        .set(faults.map_err(|error| bad(error.to_string()))?);
    Ok(Json(server.faults.counts()))
}
