//! Quilts: several files in one blob, in the network's encoding (see `quilt`). Any blob
//! that is a quilt can be read as one, regardless of its origin.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use axum::body::Body;
use axum::extract::{FromRequest as _, Multipart, Path, Request, State};
use axum::http::header::{CONTENT_LENGTH, RANGE};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::faults::PutFault;
use super::params::{Params, StoreOptions};
use super::state::{Server, Shared, blocking};
use super::{reading, storing};
use walgit_durable::open_regular;
use walgit_format::chunk::BlobId;
use walrus_encoding::quilt::{self, Member, Patch, PatchId, Quilt, Tags};

/// Tags that become headers of an answer (the network's defaults).
const TAG_HEADERS: [&str; 7] = [
    "content-type",
    "authorization",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-location",
    "link",
];

/// Entry of a file in `_metadata`.
#[derive(Debug, Deserialize)]
struct Metadata {
    identifier: String,
    #[serde(default)]
    tags: BTreeMap<String, Value>,
}

/// `PUT /v1/quilts`.
pub(super) async fn store(
    State(server): State<Shared>,
    Extension(fault): Extension<Option<PutFault>>,
    Params(options): Params<StoreOptions>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    options.check()?;
    let (parts, body) = request.into_parts();
    let body = storing::collect(body, server.config.max_quilt).await?;
    let request = Request::from_parts(parts, Body::from(body));
    let members = members(request).await?;
    let encode = move || quilt::encode(members).map_err(|error| ApiError::bad(error.to_string()));
    let (blob, patches) = blocking(encode).await?;
    let (quilt, result) = storing::store_body(&server, blob.into(), options, fault).await?;
    let stored = patches.iter().map(|patch| {
        json!({
            "identifier": patch.identifier,
            "quiltPatchId": id_of(quilt, patch).to_string(),
            "range": [patch.start, patch.end],
        })
    });
    let stored: Vec<Value> = stored.collect();
    Ok(Json(json!({
        "blobStoreResult": result,
        "storedQuiltBlobs": stored,
    })))
}

/// Reads the files of a form, with their tags.
async fn members(request: Request) -> Result<Vec<Member>, ApiError> {
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| ApiError::bad(error.body_text()))?;
    let bad = |error: axum::extract::multipart::MultipartError| ApiError::bad(error.body_text());
    let mut members = Vec::new();
    let mut tags: HashMap<String, Tags> = HashMap::new();
    while let Some(field) = form.next_field().await.map_err(bad)? {
        let name = field.name().unwrap_or_default().to_owned();
        if name != "_metadata" {
            members.push(Member {
                identifier: name,
                tags: Tags::new(),
                content: field.bytes().await.map_err(bad)?,
            });
            continue;
        }
        let text = field.text().await.map_err(bad)?;
        let list: Vec<Metadata> = serde_json::from_str(&text)
            .map_err(|error| ApiError::bad(format!("_metadata: {error}")))?;
        for Metadata {
            identifier,
            tags: these,
        } in list
        {
            let these = these.into_iter().map(|(key, value)| match value {
                Value::String(text) => (key, text),
                other => (key, other.to_string()),
            });
            if tags.insert(identifier.clone(), these.collect()).is_some() {
                let message = format!("_metadata names `{identifier}` twice");
                return Err(ApiError::bad(message));
            }
        }
    }
    for member in &mut members {
        member.tags = tags.remove(&member.identifier).unwrap_or_default();
    }
    Ok(members)
}

fn id_of(quilt: BlobId, patch: &Patch) -> PatchId {
    let Patch { start, end, .. } = *patch;
    PatchId { quilt, start, end }
}

/// `GET /v1/blobs/by-quilt-id/{quilt_id}/{identifier}`.
pub(super) async fn read_by_identifier(
    State(server): State<Shared>,
    Path((quilt, identifier)): Path<(String, String)>,
    request: Parts,
) -> Result<Response, ApiError> {
    let quilt = reading::parse(&quilt)?;
    read(server, quilt, request, move |patch| {
        patch.identifier == identifier
    })
    .await
}

/// `GET /v1/blobs/by-quilt-patch-id/{quilt_patch_id}`.
pub(super) async fn read_by_patch(
    State(server): State<Shared>,
    Path(id): Path<String>,
    request: Parts,
) -> Result<Response, ApiError> {
    let wanted: PatchId = id.parse().map_err(|_| ApiError::bad_id(&id))?;
    let quilt = wanted.quilt;
    read(server, quilt, request, move |patch| {
        id_of(quilt, patch) == wanted
    })
    .await
}

/// `GET /v1/quilts/{quilt_id}/patches`.
pub(super) async fn list(
    State(server): State<Shared>,
    Path(quilt): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let quilt = reading::parse(&quilt)?;
    let patches = blocking(move || Ok(open(&server, quilt)?.index()?)).await?;
    let items = patches.iter().map(|patch| {
        json!({
            "identifier": patch.identifier,
            "patch_id": id_of(quilt, patch).to_string(),
            "tags": patch.tags,
        })
    });
    Ok(Json(items.collect()))
}

/// Returns the first wanted member, always whole: the network supports no ranges of
/// members. Refuses an unsatisfiable `Range` as the API description says.
async fn read(
    server: Shared,
    quilt: BlobId,
    request: Parts,
    wanted: impl Fn(&Patch) -> bool + Send + 'static,
) -> Result<Response, ApiError> {
    let (patch, content) = blocking(move || {
        let quilt = open(&server, quilt)?;
        let patches = quilt.index()?;
        let patch = patches.into_iter().find(|patch| wanted(patch));
        let patch = patch.ok_or_else(ApiError::patch_not_found)?;
        let content = quilt.content(&patch)?;
        Ok((patch, content))
    })
    .await?;
    if let Some(range) = request.headers.get(RANGE) {
        reading::closed_range(range, content.len() as u64)?;
    }
    let len = content.len();
    let body = match request.method {
        Method::HEAD => Body::empty(),
        _ => Body::from(content),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    reading::headers(headers, &quilt.to_string(), &request)?;
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let mirrored = reading::mirrored(&request).is_some();
    for (name, value) in &patch.tags {
        let known = TAG_HEADERS
            .iter()
            .find(|known| name.eq_ignore_ascii_case(known));
        // The content type that the reader accepts takes precedence.
        let known = known.filter(|name| !(mirrored && **name == "content-type"));
        if let (Some(name), Ok(value)) = (known, HeaderValue::from_str(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    if let Ok(identifier) = HeaderValue::from_str(&patch.identifier) {
        let name = HeaderName::from_static("x-quilt-patch-identifier");
        headers.insert(name, identifier);
    }
    Ok(response)
}

fn open(server: &Server, quilt: BlobId) -> Result<Quilt<File>, ApiError> {
    let len = server.readable(quilt)?;
    let path = server.store.blob_path(quilt);
    let file = open_regular(&path).map_err(ApiError::internal)?;
    Ok(Quilt::open(file, len)?)
}
