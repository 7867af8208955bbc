//! A request to the embedded Walrus, and its response.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct ApiRequest {
    pub(super) method: &'static str,
    /// The path as documented.
    pub(super) path: String,
    /// Values of path and query parameters.
    pub(super) given: Vec<(String, String)>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: RequestBody,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub(super) enum RequestBody {
    Nothing,
    Bytes(Vec<u8>),
    Json(Value),
    /// Fields of a form.
    Form(Vec<(String, Vec<u8>)>),
}

/// A response.
pub(super) struct ApiResponse {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

const BOUNDARY: &str = "walgit-fs-frontier";

impl ApiRequest {
    pub(super) fn new(method: &'static str, path: &str) -> Self {
        ApiRequest {
            method,
            path: path.into(),
            given: Vec::new(),
            headers: Vec::new(),
            body: RequestBody::Nothing,
        }
    }

    /// Sets a parameter.
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.given.retain(|(given, _)| given != name);
        self.given.push((name.into(), value.to_string()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.given.retain(|(given, _)| given != name);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn sending(mut self, body: RequestBody) -> Self {
        self.body = body;
        self
    }

    /// Sends it.
    pub(super) async fn send(&self, http: &reqwest::Client, server: &str) -> ApiResponse {
        let mut url = format!("{server}{}", self.path);
        let mut separator = '?';
        for (name, value) in &self.given {
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
            let place = format!("{{{name}}}");
            if url.contains(&place) {
                url = url.replace(&place, &value);
            } else {
                url.push_str(&format!("{separator}{name}={value}"));
                separator = '&';
            }
        }
        let method = self.method.parse().unwrap();
        let mut request = http.request(method, url);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = match &self.body {
            RequestBody::Nothing => request,
            RequestBody::Bytes(bytes) => request
                .header("content-type", "application/octet-stream")
                .body(bytes.clone()),
            RequestBody::Json(value) => request.json(value),
            RequestBody::Form(fields) => request
                .header(
                    "content-type",
                    format!("multipart/form-data; boundary={BOUNDARY}"),
                )
                .body(form(fields)),
        };
        let response = request.send().await.unwrap();
        ApiResponse {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await.unwrap().to_vec(),
        }
    }

    /// The content type of its body.
    pub(super) fn takes(&self) -> Option<&'static str> {
        match self.body {
            RequestBody::Nothing => None,
            RequestBody::Bytes(_) => Some("application/octet-stream"),
            RequestBody::Json(_) => Some("application/json"),
            RequestBody::Form(_) => Some("multipart/form-data"),
        }
    }
}

fn form(fields: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in fields {
        body.extend(format!("--{BOUNDARY}\r\n").bytes());
        body.extend(format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

impl ApiResponse {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// The reason of an error.
    pub(super) fn reason(&self) -> String {
        let json = self.json();
        let reason = json["error"]["details"][0]["reason"].as_str();
        reason.unwrap_or_default().to_owned()
    }
}
