//! Checks values against the schemas of a description, and records which parts of the
//! schemas they use.
//!
//! Only the keywords of the two descriptions are supported; any other is a failure. A
//! property that no schema lists is a failure, too: the network does not document it,
//! so clients cannot rely on it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::api::Api;

/// Parts of schemas, as pointers into the description.
pub(super) type SchemaPaths = BTreeSet<String>;

const SUPPORTED_KEYWORDS: [&str; 14] = [
    "$ref",
    "type",
    "format",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "propertyNames",
    "items",
    "prefixItems",
    "allOf",
    "oneOf",
    "minimum",
    "deprecated",
];

/// Every part that a value of the schema at `at` can use.
pub(super) fn schema_paths(api: &Api, at: &str, into: &mut SchemaPaths) {
    if !into.insert(at.to_owned()) {
        return;
    }
    let schema = api.at(at);
    for (word, value) in schema.as_object().into_iter().flatten() {
        assert!(
            SUPPORTED_KEYWORDS.contains(&word.as_str()),
            "{at}: `{word}` is new"
        );
        match word.as_str() {
            "$ref" => schema_paths(api, value.as_str().unwrap(), into),
            "properties" => {
                for name in value.as_object().unwrap().keys() {
                    schema_paths(api, &format!("{at}/properties/{name}"), into);
                }
            }
            "allOf" | "oneOf" | "prefixItems" => {
                for number in 0..value.as_array().unwrap().len() {
                    schema_paths(api, &format!("{at}/{word}/{number}"), into);
                }
            }
            "items" | "additionalProperties" | "propertyNames" if value.is_object() => {
                schema_paths(api, &format!("{at}/{word}"), into);
            }
            _ => {}
        }
    }
}

/// Property names that a schema allows; `None` allows any.
type Known = Option<BTreeSet<String>>;

/// Checks a value; adds the parts that it uses to `seen`.
pub(super) fn check(
    api: &Api,
    at: &str,
    value: &Value,
    seen: &mut SchemaPaths,
) -> Result<(), String> {
    let known = part(api, at, value, seen)?;
    let (Some(object), Some(known)) = (value.as_object(), known) else {
        return Ok(());
    };
    match object.keys().find(|name| !known.contains(*name)) {
        Some(name) => Err(format!("{at}: `{name}` is not described")),
        None => Ok(()),
    }
}

fn part(api: &Api, at: &str, value: &Value, seen: &mut SchemaPaths) -> Result<Known, String> {
    let schema = api.at(at);
    seen.insert(at.to_owned());
    let mut known: Known = Some(BTreeSet::new());
    let mut also = |more: Known| match (&mut known, more) {
        (Some(known), Some(more)) => known.extend(more),
        (known, _) => *known = None,
    };
    if let Some(target) = schema["$ref"].as_str() {
        also(part(api, target, value, seen)?);
    }
    kind(schema, at, value)?;
    for number in 0..schema["allOf"].as_array().map_or(0, Vec::len) {
        also(part(api, &format!("{at}/allOf/{number}"), value, seen)?);
    }
    if let Some(branches) = schema["oneOf"].as_array() {
        also(one_of(api, at, branches.len(), value, seen)?);
    }
    let composed = ["$ref", "allOf", "oneOf", "properties"];
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = api.wire_name(name.as_str().unwrap());
            if !object.contains_key(&name) {
                return Err(format!("{at}: `{name}` is missing in {value}"));
            }
        }
        for name in schema["properties"].as_object().into_iter().flatten() {
            let (at, name) = (format!("{at}/properties/{}", name.0), api.wire_name(name.0));
            match object.get(&name) {
                Some(value) => check(api, &at, value, seen)?,
                // A nullable property may be omitted, and is; but the property itself
                // is then untested.
                None => {
                    let mut through = SchemaPaths::new();
                    if check(api, &at, &Value::Null, &mut through).is_ok() {
                        through.remove(&at);
                        seen.extend(through);
                    }
                }
            }
            also(Some([name].into()));
        }
        if schema["additionalProperties"].is_object() {
            for (name, value) in object {
                let at = |word| format!("{at}/{word}");
                check(api, &at("additionalProperties"), value, seen)?;
                check(api, &at("propertyNames"), &name.as_str().into(), seen)?;
            }
            also(None);
        } else if !composed.iter().any(|word| !schema[word].is_null()) {
            also(None);
        }
    }
    if let Some(items) = value.as_array() {
        let first = schema["prefixItems"].as_array().map_or(0, Vec::len);
        for (number, item) in items.iter().enumerate() {
            match number < first {
                true => check(api, &format!("{at}/prefixItems/{number}"), item, seen)?,
                false if schema["items"] == false => {
                    return Err(format!("{at}: more than {first} items"));
                }
                false => check(api, &format!("{at}/items"), item, seen)?,
            }
        }
    }
    Ok(known)
}

fn one_of(
    api: &Api,
    at: &str,
    count: usize,
    value: &Value,
    seen: &mut SchemaPaths,
) -> Result<Known, String> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for number in 0..count {
        let mut through = SchemaPaths::new();
        match part(api, &format!("{at}/oneOf/{number}"), value, &mut through) {
            Ok(known) => found.push((known, through)),
            Err(error) => errors.push(error),
        }
    }
    let count = found.len();
    match (found.pop(), count) {
        (Some((known, through)), 1) => {
            seen.extend(through);
            Ok(known)
        }
        _ => Err(format!("{at}: {count} branches fit {value}: {errors:?}")),
    }
}

/// Type, format, values and bounds.
fn kind(schema: &Value, at: &str, value: &Value) -> Result<(), String> {
    let kinds = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let fits = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: type `{other}` is new"),
    };
    if !kinds.is_empty() && !kinds.iter().any(fits) {
        return Err(format!("{at}: {value} is not {kinds:?}"));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        return Err(format!("{at}: {value} is not one of {values:?}"));
    }
    if let (Some(least), Some(number)) = (schema["minimum"].as_i64(), value.as_i64())
        && number < least
    {
        return Err(format!("{at}: {value} is below {least}"));
    }
    let text = value.as_str().unwrap_or_default();
    let well_formed = match (schema["format"].as_str(), value.is_string()) {
        (Some("byte"), true) => text.parse::<walgit_format::chunk::BlobId>().is_ok(),
        (Some("quilt-patch-id"), true) => text.parse::<walrus_encoding::quilt::PatchId>().is_ok(),
        (Some("base58-digest"), true) => bs58::decode(text)
            .into_vec()
            .is_ok_and(|bytes| bytes.len() == 32),
        (Some("int32"), false) => value.as_i64().is_none_or(|n| n <= u32::MAX.into()),
        (None | Some("int64" | "binary"), _) => true,
        (other, _) => return Err(format!("{at}: format {other:?} does not fit {value}")),
    };
    match well_formed {
        true => Ok(()),
        false => Err(format!("{at}: {value} is not {}", schema["format"])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The checker itself must reject invalid values.
    #[test]
    fn schema_check_detects_invalid_responses() {
        let api = Api::publisher();
        let verdict = |schema: &str, value: Value| {
            let at = format!("#/components/schemas/{schema}");
            check(&api, &at, &value, &mut SchemaPaths::new())
        };
        let event = |digest: Value| json!({"txDigest": digest, "eventSeq": "0"});
        let digest = bs58::encode([7; 32]).into_string();
        assert_eq!(verdict("EventID", event(digest.into())), Ok(()));
        assert!(verdict("EventID", event("short".into())).is_err());
        assert!(verdict("EventID", json!({"eventSeq": "0"})).is_err());
        let error = |error: Value| verdict("BlobStoreResult", json!({"error": error}));
        let right = json!({"failurePhase": "a", "errorMsg": "b"});
        assert_eq!(error(right.clone()), Ok(()));
        for (name, value) in [
            ("failurePhase", json!(1)),
            ("blobId", json!("short")),
            ("error_msg", json!("b")),
            ("more", json!(null)),
        ] {
            let mut wrong = right.clone();
            wrong[name] = value;
            assert!(error(wrong).is_err(), "{name}");
        }
        assert!(verdict("BlobStoreResult", json!({})).is_err());
        assert!(verdict("EncodingType", json!("RS1")).is_err());
        assert!(verdict("u32", json!(-1)).is_err());
    }
}
