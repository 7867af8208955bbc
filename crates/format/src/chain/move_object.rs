//! Objects on the chain.

use serde_json::Value;

use crate::id::ObjectId;

/// An object on the chain.
#[derive(Clone, Debug)]
pub struct MoveObject {
    /// Its ID.
    pub id: ObjectId,
    /// Type, as `0xPACKAGE::module::Name`.
    pub kind: String,
    /// Fields of the object.
    pub fields: Value,
}

/// Parses an ID in any representation that nodes use.
pub(super) fn id_in(value: &Value) -> Option<ObjectId> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Object(fields) => ["id", "bytes"]
            .iter()
            .find_map(|name| id_in(fields.get(*name)?)),
        _ => None,
    }
}
