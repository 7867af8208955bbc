//! `/devnet/epoch` and `/devnet/blobs`: functions that the real network performs on
//! chain. Like all of `/devnet/…`, open only to the same user on this machine, and
//! exempt from faults and delays.
//!
//! `GET /devnet/epoch` returns the present epoch, `POST /devnet/epoch?advance=N` ends N
//! epochs. `GET /devnet/blobs` lists the stored blobs, `GET /devnet/blobs/ID` returns
//! the lifetime of a blob, `POST /devnet/blobs/ID?end=EPOCH` pays for it until that
//! epoch, and `DELETE /devnet/blobs/ID` deletes it.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::AdminError;
use super::state::Shared;
use walgit_format::chunk::BlobId;
use walrus_client::{Lifetime, LocalDir, StoreError};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/devnet/epoch", get(epoch).post(advance))
        .route("/devnet/blobs", get(list))
        .route(
            "/devnet/blobs/{blob_id}",
            get(lifetime).post(extend).delete(delete),
        )
}

fn store_error(error: StoreError) -> AdminError {
    let status = match &error {
        StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
        StoreError::Refused { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string())
}

fn parse(id: &str) -> Result<BlobId, AdminError> {
    id.parse()
        .map_err(|_| (StatusCode::BAD_REQUEST, format!("`{id}` is no blob ID")))
}

/// Runs a blocking operation on the store in a separate thread.
async fn on_store<T: Send + 'static>(
    server: &Shared,
    work: impl FnOnce(&LocalDir) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, AdminError> {
    let server = server.clone();
    let done = tokio::task::spawn_blocking(move || work(&server.store)).await;
    let ended =
        |error: tokio::task::JoinError| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    done.map_err(ended)?.map_err(store_error)
}

async fn epoch(State(server): State<Shared>) -> Result<Json<Value>, AdminError> {
    let epoch = on_store(&server, LocalDir::present_epoch).await?;
    Ok(Json(json!({ "epoch": epoch })))
}

#[derive(Deserialize)]
struct AdvanceParams {
    #[serde(default = "one")]
    advance: u32,
}

fn one() -> u32 {
    1
}

async fn advance(
    State(server): State<Shared>,
    Query(by): Query<AdvanceParams>,
) -> Result<Json<Value>, AdminError> {
    let epoch = on_store(&server, move |store| store.advance(by.advance)).await?;
    Ok(Json(json!({ "epoch": epoch })))
}

async fn list(State(server): State<Shared>) -> Result<Json<Vec<Value>>, AdminError> {
    let blobs = on_store(&server, |store| {
        let mut blobs = Vec::new();
        for blob in store.list()? {
            let len = store.stat(blob)?;
            if let Some(meta) = store.meta(blob) {
                blobs.push(json!({
                    "blob": blob,
                    "len": meta.size,
                    "end_epoch": meta.end_epoch,
                    "deletable": meta.deletable,
                    "object_id": meta.object_id,
                    "expired": len.is_none(),
                }));
            }
        }
        Ok(blobs)
    })
    .await?;
    Ok(Json(blobs))
}

async fn lifetime(
    State(server): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Lifetime>, AdminError> {
    let blob = parse(&id)?;
    let lifetime = on_store(&server, move |store| store.lifetime_blocking(blob)).await?;
    let not_found = || (StatusCode::NOT_FOUND, format!("blob {blob} is not stored"));
    Ok(Json(lifetime.ok_or_else(not_found)?))
}

#[derive(Deserialize)]
struct Extend {
    end: u32,
}

async fn extend(
    State(server): State<Shared>,
    Path(id): Path<String>,
    Query(until): Query<Extend>,
) -> Result<Json<Lifetime>, AdminError> {
    let blob = parse(&id)?;
    let extend = move |store: &LocalDir| {
        let extended = store.extend_blocking(blob, until.end)?;
        store.flush_blocking()?;
        Ok(extended)
    };
    Ok(Json(on_store(&server, extend).await?))
}

async fn delete(
    State(server): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Value>, AdminError> {
    let blob = parse(&id)?;
    let deleted = on_store(&server, move |store| {
        let deleted = store.delete_blocking(blob)?;
        store.flush_blocking()?;
        Ok(deleted)
    })
    .await?;
    Ok(Json(json!({ "deleted": deleted })))
}
