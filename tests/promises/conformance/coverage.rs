//! Facts that follow from the descriptions, and facts that a request and its response
//! demonstrate; as sentences, so that a missing fact is readable.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api::{Api, Operation, Parameter};
use super::request::{ApiRequest, ApiResponse, RequestBody};
use super::schema::{self, SchemaPaths};

/// Statuses that the files omit, and that their prose documents or layers in front of
/// the network's code send.
const UNDOCUMENTED_STATUSES: [(u16, &str); 3] = [
    (206, "a Range header; documented in the prose of `get_blob`"),
    (429, "rate limiting, in front of the API"),
    (400, "a path without an ID is refused in front of the API"),
];

/// All facts about an operation.
pub(super) fn expected_facts(api: &Api, operation: &Operation) -> BTreeSet<String> {
    let name = format!("{} {}", operation.method, operation.path);
    let mut all = BTreeSet::new();
    for response in &operation.responses {
        all.insert(status_fact(
            &name,
            response.status,
            response.content.as_ref(),
        ));
    }
    for parameter in &operation.parameters {
        let schema = api.resolved(&parameter.schema);
        for value in distinct(schema) {
            all.insert(accepted_fact(&name, parameter, value.as_deref()));
        }
        if constrained(schema) {
            all.insert(refused_fact(&name, parameter));
        }
        if parameter.required && !parameter.in_path {
            all.insert(missing_fact(&name, parameter));
        }
    }
    if let Some((kind, _)) = &operation.takes {
        all.insert(format!("{name} takes {kind}"));
    }
    let mut parts = SchemaPaths::new();
    operation.schemas(api, &mut parts);
    all.extend(
        parts
            .iter()
            .map(|part| format!("{name} goes through {part}")),
    );
    all
}

/// The facts that a request and its response demonstrate.
///
/// # Errors If the response does not match its description.
pub(super) fn observed_facts(
    api: &Api,
    operation: &Operation,
    request: &ApiRequest,
    response: &ApiResponse,
) -> Result<BTreeSet<String>, String> {
    let name = format!("{} {}", operation.method, operation.path);
    let mut all = BTreeSet::new();
    let mut parts = SchemaPaths::new();
    let fine = (200..300).contains(&response.status);
    let documented = operation
        .responses
        .iter()
        .find(|r| r.status == response.status);
    match documented {
        None if UNDOCUMENTED_STATUSES
            .iter()
            .any(|(status, _)| *status == response.status) => {}
        None => {
            return Err(format!(
                "{name}: status {} is not described",
                response.status
            ));
        }
        Some(documented) => {
            if let Some((kind, schema)) = &documented.content {
                let got = response.header("content-type");
                if got != kind {
                    return Err(format!("{name}: `{got}` instead of `{kind}`"));
                }
                let value = match kind.as_str() {
                    "application/json" => serde_json::from_slice(&response.body)
                        .map_err(|error| format!("{name}: {error}"))?,
                    // Bytes are documented as a list of numbers.
                    _ => response.body.iter().take(64).copied().collect::<Value>(),
                };
                schema::check(api, schema, &value, &mut parts)?;
            }
            let status = documented.status;
            all.insert(status_fact(&name, status, documented.content.as_ref()));
        }
    }
    let by_server = response.status >= 500;
    for parameter in &operation.parameters {
        let given = request
            .given
            .iter()
            .find(|(given, _)| *given == parameter.name);
        match given {
            Some((_, text)) => {
                let value = typed(api.resolved(&parameter.schema), text);
                let fits = schema::check(api, &parameter.schema, &value, &mut SchemaPaths::new());
                match (fits, fine) {
                    (Ok(()), true) => {
                        all.insert(accepted_fact(&name, parameter, None));
                        all.insert(accepted_fact(&name, parameter, Some(text)));
                    }
                    (Err(_), false) if !by_server => {
                        all.insert(refused_fact(&name, parameter));
                    }
                    (Err(error), true) => return Err(format!("{name} took `{text}`: {error}")),
                    _ => {}
                }
            }
            None if parameter.required && fine => {
                return Err(format!("{name} did without `{}`", parameter.name));
            }
            None if parameter.required && !by_server => {
                all.insert(missing_fact(&name, parameter));
            }
            None => {}
        }
    }
    if let (true, Some((kind, schema))) = (fine, &operation.takes)
        && request.takes() == Some(kind.as_str())
    {
        all.insert(format!("{name} takes {kind}"));
        if let Some(schema) = schema {
            let value = match &request.body {
                RequestBody::Json(value) => value.clone(),
                other => format!("{other:?}").into(),
            };
            schema::check(api, schema, &value, &mut parts)?;
        }
    }
    all.extend(
        parts
            .iter()
            .map(|part| format!("{name} goes through {part}")),
    );
    Ok(all)
}

fn status_fact(name: &str, status: u16, content: Option<&(String, String)>) -> String {
    let kind = content.map_or("nothing described", |(kind, _)| kind);
    format!("{name} answers {status} with {kind}")
}

fn accepted_fact(name: &str, parameter: &Parameter, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{name} accepts {}={value}", parameter.name),
        None => format!("{name} accepts {}", parameter.name),
    }
}

fn refused_fact(name: &str, parameter: &Parameter) -> String {
    format!("{name} refuses an invalid {}", parameter.name)
}

fn missing_fact(name: &str, parameter: &Parameter) -> String {
    format!("{name} misses {}", parameter.name)
}

/// Values to be tried separately; `None` stands for any.
fn distinct(schema: &Value) -> Vec<Option<String>> {
    if schema["type"] == "boolean" {
        return vec![Some("true".into()), Some("false".into())];
    }
    match schema["enum"].as_array() {
        Some(values) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect()
        }
        None => vec![None],
    }
}

/// Whether some texts are not valid values.
fn constrained(schema: &Value) -> bool {
    schema["type"] != "string" || !schema["format"].is_null() || !schema["enum"].is_null()
}

/// The value that a text in a URL represents.
fn typed(schema: &Value, text: &str) -> Value {
    match schema["type"] == "string" {
        true => text.into(),
        false => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
