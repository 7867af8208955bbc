//! Pages for the user.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

/// A page without resources or scripts.
pub(super) fn page(status: StatusCode, body: &str) -> Response {
    let html = format!("<!doctype html><title>walgit-fs devnet</title>{body}\n");
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ];
    (status, headers, html).into_response()
}

/// Escapes text for a page.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Form to allow or deny a request.
pub(super) fn form(action: &str, hidden: (&str, &str), about: &str) -> String {
    let (name, value) = hidden;
    let (value, about) = (escaped(value), escaped(about));
    format!(
        "<p>{about}</p><form method=\"post\" action=\"{action}\">\
         <input type=\"hidden\" name=\"{name}\" value=\"{value}\">\
         <label>Your name <input name=\"user\" required maxlength=\"80\"></label> \
         <button name=\"decision\" value=\"allow\">Allow</button> \
         <button name=\"decision\" value=\"deny\" formnovalidate>Deny</button></form>"
    )
}

/// Fields of the form: `request` is the ID of an authorization, `user_code` the code of a
/// device.
#[derive(Debug, Deserialize)]
pub(super) struct SignInDecision {
    #[serde(default)]
    pub(super) request: String,
    #[serde(default)]
    pub(super) user_code: String,
    #[serde(default)]
    user: String,
    decision: String,
}

impl SignInDecision {
    /// Name of the user who allowed the request; `None` if denied.
    pub(super) fn allowed_by(&self) -> Option<String> {
        let user = self.user.trim();
        (self.decision == "allow" && !user.is_empty()).then(|| user.to_owned())
    }
}
