//! Errors in the network's format: its statuses, reasons and domain.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use walrus_encoding::quilt::QuiltError;

/// Domain of the network's errors.
const ERROR_DOMAIN: &str = "daemon.walrus.space";
/// Domain of authentication errors.
const AUTH_ERROR_DOMAIN: &str = "auth.publisher.walrus.space";

/// Error sent to a client.
#[derive(Debug)]
pub(super) struct ApiError {
    code: StatusCode,
    reason: &'static str,
    message: String,
    domain: &'static str,
}

impl ApiError {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            code,
            reason,
            message: message.into(),
            domain: ERROR_DOMAIN,
        }
    }

    /// Authentication or authorization error.
    pub(super) fn auth(code: StatusCode, reason: &'static str, message: &str) -> Self {
        ApiError {
            domain: AUTH_ERROR_DOMAIN,
            ..ApiError::new(code, reason, message)
        }
    }

    pub(super) fn blob_not_found(blob: impl std::fmt::Display) -> Self {
        let message = format!("the requested blob {blob} does not exist on Walrus");
        ApiError::new(StatusCode::NOT_FOUND, "BLOB_NOT_FOUND", message)
    }

    pub(super) fn object_not_found(object: &str) -> Self {
        let message = format!("no blob belongs to object {object}");
        ApiError::new(
            StatusCode::NOT_FOUND,
            "OBJECT_ID_RESOLUTION_FAILED",
            message,
        )
    }

    pub(super) fn patch_not_found() -> Self {
        let message = "the requested quilt patch does not exist on Walrus";
        ApiError::new(StatusCode::NOT_FOUND, "QUILT_PATCH_NOT_FOUND", message)
    }

    pub(super) fn blob_too_large(limit: u64) -> Self {
        let message = format!("the blob size exceeds the maximum allowed size: {limit}");
        ApiError::new(StatusCode::FORBIDDEN, "BLOB_TOO_LARGE", message)
    }

    pub(super) fn forbidden() -> Self {
        let code = StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS;
        ApiError::new(code, "FORBIDDEN_BLOB", "the requested blob is blocked")
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message)
    }

    pub(super) fn bad_id(id: &str) -> Self {
        let message = format!("invalid ID format: `{id}`");
        ApiError::new(StatusCode::BAD_REQUEST, "INVALID_ID_FORMAT", message)
    }

    pub(super) fn both_checks() -> Self {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "INVALID_CONSISTENCY_CHECK",
            "cannot set both strict and skip consistency check options",
        )
    }

    pub(super) fn both_kinds() -> Self {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "INVALID_BLOB_PERSISTENCE",
            "a blob cannot be both deletable and permanent",
        )
    }

    /// Invalid `Range` header.
    pub(super) fn range() -> Self {
        ApiError::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "INVALID_BYTE_RANGE",
            "the requested byte range is not one closed range within the blob",
        )
    }

    /// Invalid numbers in a query.
    pub(super) fn byte_range(message: String) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "INVALID_BYTE_RANGE", message)
    }

    pub(super) fn too_large() -> Self {
        let message = "Failed to buffer the request body: length limit exceeded";
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "", message)
    }

    pub(super) fn no_such_path() -> Self {
        let message = "no such path; see /v1/api";
        ApiError::new(StatusCode::NOT_FOUND, "PATH_NOT_FOUND", message)
    }

    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(code, "INTERNAL_ERROR", error.to_string())
    }

    /// The network's error for this status, independent of the cause.
    pub(super) fn with_status(code: StatusCode) -> Self {
        let (reason, message) = match code.as_u16() {
            400 => ("MALFORMED_REQUEST", "the request is malformed"),
            403 => (
                "BLOB_TOO_LARGE",
                "the blob size exceeds the maximum allowed size",
            ),
            404 => (
                "BLOB_NOT_FOUND",
                "the requested blob ID does not exist on Walrus",
            ),
            413 => return ApiError::too_large(),
            416 => return ApiError::range(),
            429 => (
                "",
                "the service is receiving too many requests; please try again later",
            ),
            451 => return ApiError::forbidden(),
            503 => (
                "BLOB_UNAVAILABLE",
                "the requested blob is currently not retrievable from Walrus; \
                 this may be transient, retry with backoff",
            ),
            504 => (
                "INSUFFICIENT_CONFIRMATIONS",
                "the service timed-out while waiting for confirmations, please try again",
            ),
            _ => ("INTERNAL_ERROR", "an internal server error has occurred"),
        };
        ApiError::new(code, reason, message)
    }

    /// General type of the error, as the network names it; `None` for answers in plain
    /// text, which come from layers in front of the network's own code.
    fn status(&self) -> Option<&'static str> {
        let auth = self.domain == AUTH_ERROR_DOMAIN;
        Some(match self.code.as_u16() {
            400 if auth => "FAILED_PRECONDITION",
            401 => "UNAUTHENTICATED",
            429 if auth => "RESOURCE_EXHAUSTED",
            400 => "INVALID_ARGUMENT",
            403 => "SIZE_EXCEEDED",
            404 => "NOT_FOUND",
            413 | 429 => return None,
            416 => "RANGE_NOT_SATISFIABLE",
            451 => "UNAVAILABLE_FOR_LEGAL_REASONS",
            503 => "UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            _ => "INTERNAL",
        })
    }
}

impl From<QuiltError> for ApiError {
    /// The blob exists, but is not a valid quilt.
    fn from(error: QuiltError) -> Self {
        ApiError::internal(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Some(status) = self.status() else {
            return (self.code, self.message).into_response();
        };
        let body = json!({"error": {
            "status": status,
            "code": self.code.as_u16(),
            "message": self.message,
            "details": [{
                "@type": "ErrorInfo",
                "reason": self.reason,
                "domain": self.domain,
            }],
        }});
        (self.code, Json(body)).into_response()
    }
}
