//! Errors in the network's own shape.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An error a client sees.
#[derive(Debug)]
pub(super) struct ApiError {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(super) fn blob_not_found(blob: impl std::fmt::Display) -> Self {
        let message = format!("the requested blob {blob} does not exist on Walrus");
        ApiError::new(StatusCode::NOT_FOUND, "BLOB_NOT_FOUND", message)
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(super) fn range() -> Self {
        ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "INVALID_BYTE_RANGE",
            "the requested byte range is not one closed range within the blob",
        )
    }

    pub(super) fn too_large(limit: u64) -> Self {
        let message = format!("the body is over the limit of {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
    }

    pub(super) fn no_such_path() -> Self {
        let message = "no such path; see /v1/api";
        ApiError::new(StatusCode::NOT_FOUND, "PATH_NOT_FOUND", message)
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(code, "INTERNAL", error.to_string())
    }
}

/// The general type of an error, as the network names it.
fn status(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "INVALID_ARGUMENT",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE => "OUT_OF_RANGE",
        _ => "INTERNAL",
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "status": status(self.code),
            "code": self.code.as_u16(),
            "message": self.message,
            "details": [{
                "@type": "ErrorInfo",
                "reason": self.reason,
                "domain": "devnet.walgit-fs",
            }],
        }});
        (self.code, Json(body)).into_response()
    }
}
