//! Admin API of an embedded Walrus: ends epochs, extends and deletes blobs, which on the
//! real network is done on chain. It has its own URL (`admin` in a profile) and is
//! called without retries, because it runs on this machine.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::HttpStore;
use crate::net::{cause, http};
use crate::{BlobLifetimes, Lifetime, StoreError};
use walgit_format::chunk::BlobId;

/// Time limit for an answer.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const MAX_RESPONSE_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
struct Present {
    epoch: u32,
}

#[derive(Deserialize)]
struct Deleted {
    deleted: bool,
}

impl HttpStore {
    /// URL of `path` below the admin URL; `None` if none is configured.
    fn admin_url(&self, path: &str) -> Result<Option<Url>, StoreError> {
        let Some(admin) = &self.admin else {
            return Ok(None);
        };
        let joined = admin.join(&format!("devnet/{path}"));
        joined.map(Some).map_err(|error| StoreError::BadEndpoint {
            url: admin.to_string(),
            why: error.to_string(),
        })
    }

    /// Sends a request; `None` if the answer is "not found".
    async fn admin<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Option<T>, StoreError> {
        let place = || self.admin.as_ref().map(Url::to_string).unwrap_or_default();
        let unavailable = |why: String| StoreError::unavailable(place(), why);
        let sent = request.timeout(ADMIN_TIMEOUT).send().await;
        let response = sent.map_err(|error| unavailable(cause(&error)))?;
        let status = response.status();
        let body = http::body(response, MAX_RESPONSE_BYTES).await;
        let body = body.map_err(|error| unavailable(cause(&error)))?;
        let body = body.unwrap_or_default();
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| unavailable(format!("its answer cannot be read: {error}"))),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(StoreError::Refused {
                place: place(),
                status: status.as_u16(),
                why: String::from_utf8_lossy(&body).chars().take(200).collect(),
            }),
        }
    }
}

#[async_trait]
impl BlobLifetimes for HttpStore {
    async fn epoch(&self) -> Result<Option<u32>, StoreError> {
        let Some(url) = self.admin_url("epoch")? else {
            return Ok(None);
        };
        let present = self.admin::<Present>(self.writer.client().get(url)).await?;
        Ok(present.map(|it| it.epoch))
    }

    async fn advance(&self, epochs: u32) -> Result<Option<u32>, StoreError> {
        let Some(url) = self.admin_url("epoch")? else {
            return Ok(None);
        };
        let request = self.writer.client().post(url);
        let request = request.query(&[("advance", epochs)]);
        Ok(self.admin::<Present>(request).await?.map(|it| it.epoch))
    }

    async fn lifetime(&self, blob: BlobId) -> Result<Option<Lifetime>, StoreError> {
        match self.admin_url(&format!("blobs/{blob}"))? {
            Some(url) => self.admin(self.writer.client().get(url)).await,
            None => Ok(None),
        }
    }

    async fn extend(&self, blob: BlobId, end: u32) -> Result<Option<Lifetime>, StoreError> {
        let Some(url) = self.admin_url(&format!("blobs/{blob}"))? else {
            return Ok(None);
        };
        let place = url.to_string();
        let request = self.writer.client().post(url).query(&[("end", end)]);
        let extended = self.admin(request).await?;
        extended
            .map(Some)
            .ok_or(StoreError::NotFound { blob, place })
    }

    async fn delete(&self, blob: BlobId) -> Result<bool, StoreError> {
        let Some(url) = self.admin_url(&format!("blobs/{blob}"))? else {
            return Ok(false);
        };
        let deleted = self.admin::<Deleted>(self.writer.client().delete(url));
        // A missing blob counts as gone.
        Ok(deleted.await?.is_none_or(|it| it.deleted))
    }
}
