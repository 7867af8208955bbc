//! An embedded Walrus with readable, oversized and forbidden blobs and quilts.

use std::fs;

use bytes::Bytes;
use walgit_format::chunk::BlobId;
use walrus_encoding::blob_id::blob_id;
use walrus_encoding::quilt::{self, Member, PatchId};

use super::request::{ApiRequest, RequestBody};
use crate::support::Server;
use crate::support::tree::noise;

/// Maximum size of a stored blob, and of the form of a quilt.
pub(super) const MAX_BODY: usize = 300_000;
/// Maximum size of a returned blob; a quilt of one symbol fits.
const MAX_READ: usize = 500_000;
/// Name of the file in each quilt.
pub(super) const IDENTIFIER: &str = "the file";

/// Readable content under all its IDs.
pub(super) struct Target {
    pub(super) blob: BlobId,
    object: String,
    quilt: BlobId,
    patch: PatchId,
}

pub(super) struct Testbed {
    pub(super) server: Server,
    pub(super) content: Vec<u8>,
    pub(super) forbidden_content: Vec<u8>,
    pub(super) fine: Target,
    pub(super) large: Target,
    pub(super) forbidden: Target,
    pub(super) missing: Target,
}

impl Testbed {
    pub(super) fn new() -> Self {
        let content = noise(1000, 1);
        let forbidden_content = noise(1000, 2);
        let fine = EncodedContent::of(&content);
        let large = EncodedContent::of(&noise(MAX_READ + 1, 3));
        let forbidden = EncodedContent::of(&forbidden_content);
        let missing = EncodedContent::of(&noise(1000, 4));
        let server = Server::with(&[
            "--max-body",
            &MAX_BODY.to_string(),
            "--max-quilt",
            &MAX_BODY.to_string(),
            "--max-read",
            &MAX_READ.to_string(),
            &format!("--forbid={}", forbidden.target.blob),
            &format!("--forbid={}", forbidden.target.quilt),
        ]);
        for content in [&fine, &large, &forbidden] {
            let target = &content.target;
            let put = |blob: BlobId, bytes: &[u8]| {
                fs::write(server.blobs().join(blob.to_string()), bytes).unwrap();
            };
            put(target.blob, &content.blob);
            put(target.quilt, &content.quilt);
        }
        Testbed {
            server,
            content,
            forbidden_content,
            fine: fine.target,
            large: large.target,
            forbidden: forbidden.target,
            missing: missing.target,
        }
    }
}

struct EncodedContent {
    target: Target,
    blob: Vec<u8>,
    quilt: Vec<u8>,
}

impl EncodedContent {
    /// The bytes as a blob, and as the only file of a quilt.
    fn of(bytes: &[u8]) -> Self {
        let blob = blob_id(bytes).unwrap();
        let member = Member {
            identifier: IDENTIFIER.into(),
            tags: [("kind".into(), "noise".into())].into(),
            content: Bytes::copy_from_slice(bytes),
        };
        let (encoded, patches) = quilt::encode(vec![member]).unwrap();
        let quilt = blob_id(&encoded).unwrap();
        EncodedContent {
            target: Target {
                blob,
                // As `devnet` derives it for the first object of a blob.
                object: format!("0x{}", blake3::hash(blob.as_bytes()).to_hex()),
                quilt,
                patch: PatchId {
                    quilt,
                    start: patches[0].start,
                    end: patches[0].end,
                },
            },
            blob: bytes.to_vec(),
            quilt: encoded,
        }
    }
}

/// A valid request to read from a path.
pub(super) fn read_request(method: &'static str, path: &str, target: &Target) -> ApiRequest {
    let mut request = ApiRequest::new(method, path);
    let both = [target.blob.to_string(), target.object.clone()];
    for (name, value) in [
        ("blob_id", target.blob.to_string()),
        ("blob_object_id", target.object.clone()),
        ("quilt_id", target.quilt.to_string()),
        ("quilt_patch_id", target.patch.to_string()),
        ("identifier", IDENTIFIER.into()),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            request = request.with(name, value);
        }
    }
    match (method, path) {
        ("GET", "/v1/blobs/{blob_id}/byte-range") => request.with("start", 10).with("length", 20),
        ("GET", "/v1alpha/blobs/concat") => request.with("ids", both.join(",")),
        ("POST", "/v1alpha/blobs/concat") => {
            request.sending(RequestBody::Json(serde_json::json!({ "ids": both })))
        }
        _ => request,
    }
}

/// A valid request to store bytes at a path.
pub(super) fn write_request(path: &str, bytes: Vec<u8>) -> ApiRequest {
    let request = ApiRequest::new("PUT", path);
    match path {
        "/v1/quilts" => request.sending(RequestBody::Form(vec![
            (IDENTIFIER.into(), bytes),
            (
                "_metadata".into(),
                format!(r#"[{{"identifier": "{IDENTIFIER}", "tags": {{"kind": "noise"}}}}]"#)
                    .into_bytes(),
            ),
        ])),
        _ => request.sending(RequestBody::Bytes(bytes)),
    }
}
