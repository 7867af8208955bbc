//! Parsing of full node responses.
//!
//! A full node is not trusted. The caller limits the length of its response; this module
//! parses it and treats missing or mistyped fields as errors.

use serde::Deserialize;
use serde_json::Value;

use super::error::ChainError;
use super::move_object::{MoveObject, id_in};
use crate::id::ObjectId;

#[derive(Deserialize)]
struct GraphQlResponse {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<GraphQlError>,
}

#[derive(Deserialize)]
struct GraphQlError {
    message: String,
}

/// Returns the data of a response.
///
/// # Errors
/// The error message of the node, or a description of the malformed response.
pub fn data(text: &[u8]) -> Result<Value, String> {
    let answer: GraphQlResponse = serde_json::from_slice(text)
        .map_err(|error| format!("the response is not GraphQL ({error})"))?;
    match answer.errors.into_iter().next() {
        Some(complaint) => Err(complaint.message),
        None => answer.data.ok_or_else(|| "the response is empty".into()),
    }
}

/// Returns the requested objects, in order.
///
/// # Errors
/// [`ChainError::NoObject`] for the first object that does not exist.
pub fn objects(data: &Value, asked: &[ObjectId]) -> Result<Vec<MoveObject>, ChainError> {
    let found = data["multiGetObjects"].as_array();
    let parse_object = |(at, &id): (usize, &ObjectId)| {
        let object = found.and_then(|found| found.get(at));
        let object = object.filter(|object| !object.is_null());
        let object = object.ok_or(ChainError::NoObject(id))?;
        let named = object["address"].as_str().and_then(|id| id.parse().ok());
        let contents = &object["asMoveObject"]["contents"];
        match contents["type"]["repr"].as_str() {
            Some(kind) if named == Some(id) => Ok(MoveObject {
                id,
                kind: kind.into(),
                fields: contents["json"].clone(),
            }),
            _ => Err(ChainError::NotThat {
                id,
                expected: "a Move object",
                why: "the node returns no fields".into(),
            }),
        }
    };
    asked.iter().enumerate().map(parse_object).collect()
}

/// Entries of a table: names, and their objects.
type TableEntries = Vec<(String, ObjectId)>;

/// Returns a page of the entries of table `id`, and the cursor of the next page.
///
/// # Errors
/// [`ChainError::NotThat`] if the object is not a table of names.
pub fn table(data: &Value, id: ObjectId) -> Result<(TableEntries, Option<Value>), ChainError> {
    let fields = &data["address"]["dynamicFields"];
    let mut entries = Vec::new();
    for node in fields["nodes"].as_array().into_iter().flatten() {
        let name = node["name"]["json"].as_str();
        match (name, id_in(&node["value"]["json"])) {
            (Some(name), Some(value)) => entries.push((name.into(), value)),
            _ => return Err(no_table(id, "an entry has no name or no object")),
        }
    }
    let page = &fields["pageInfo"];
    let more = page["hasNextPage"].as_bool() == Some(true);
    Ok((entries, more.then(|| page["endCursor"].clone())))
}

/// Returns the error of an object that is not a table of names.
pub(super) fn no_table(id: ObjectId, why: &str) -> ChainError {
    ChainError::NotThat {
        id,
        expected: "a table of names",
        why: why.into(),
    }
}
