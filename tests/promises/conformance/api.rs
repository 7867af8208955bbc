//! The network's two API descriptions, and all facts that follow from them.
//!
//! `tests/data/{aggregator,publisher}_api.json` are the network's own OpenAPI files, as
//! JSON and without prose. They are generated from the network's code; where they
//! differ from what the network sends, this module corrects them:
//!
//! - in a publisher's responses, property names are in camelCase; the file has those of
//!   enum variants in snake_case;
//! - a transaction's digest is base58, and a patch ID is base64, as the examples in the
//!   files show; the schemas describe the types inside;
//! - the version of quilts refers to a schema that the file lacks; its values are in
//!   the prose;
//! - a query parameter that is an object stands for its properties, each a separate
//!   parameter (OpenAPI's style `form`), and is not itself required.

use serde_json::{Value, json};

use super::schema::{SchemaPaths, schema_paths};

/// A corrected API description.
pub(super) struct Api {
    document: Value,
    camel: bool,
}

/// An operation of the API.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// `GET`, ...
    pub(super) method: String,
    /// The path, with its parameters in braces.
    pub(super) path: String,
    /// Pointer to its description.
    pub(super) at: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) responses: Vec<Response>,
    /// Content type of the request body, and pointer to its schema if there is one.
    pub(super) takes: Option<(String, Option<String>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) in_path: bool,
    pub(super) required: bool,
    /// Pointer to its schema.
    pub(super) schema: String,
}

#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    /// Content type and pointer to the schema, if a body is documented.
    pub(super) content: Option<(String, String)>,
}

impl Api {
    pub(super) fn aggregator() -> Self {
        let text = include_str!("../../data/aggregator_api.json");
        let mut document: Value = serde_json::from_str(text).unwrap();
        let patch_id = &mut document["components"]["schemas"]["QuiltPatchId"];
        assert_eq!(
            patch_id["type"], "object",
            "the file was corrected upstream"
        );
        *patch_id = json!({"type": "string", "format": "quilt-patch-id"});
        Api {
            document,
            camel: false,
        }
    }

    pub(super) fn publisher() -> Self {
        let text = include_str!("../../data/publisher_api.json");
        let mut document: Value = serde_json::from_str(text).unwrap();
        let schemas = &mut document["components"]["schemas"];
        let digest = &mut schemas["EventID"]["properties"]["txDigest"];
        assert_eq!(digest["type"], "array", "the file was corrected upstream");
        *digest = json!({"type": "string", "format": "base58-digest"});
        assert!(schemas["QuiltVersionEnum"].is_null());
        schemas["QuiltVersionEnum"] = json!({"type": "string", "enum": ["v1", "V1", "1"]});
        Api {
            document,
            camel: true,
        }
    }

    /// The value at a pointer, which must exist.
    pub(super) fn at(&self, pointer: &str) -> &Value {
        let pointer = pointer.strip_prefix('#').unwrap();
        let found = self.document.pointer(pointer);
        found.unwrap_or_else(|| panic!("{pointer} is not in the file"))
    }

    /// The name of a property on the wire.
    pub(super) fn wire_name(&self, name: &str) -> String {
        if !self.camel {
            return name.to_owned();
        }
        let mut words = name.split('_');
        let mut camel = words.next().unwrap_or_default().to_owned();
        for word in words {
            camel.push_str(&word[..1].to_uppercase());
            camel.push_str(&word[1..]);
        }
        camel
    }

    pub(super) fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, item) in self.document["paths"].as_object().unwrap() {
            for (method, documented) in item.as_object().unwrap() {
                let at = format!("#/paths/{}/{method}", escaped(path));
                operations.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    parameters: self.parameters(&at, documented),
                    responses: responses(&at, documented),
                    takes: takes(&at, documented),
                    at,
                });
            }
        }
        operations
    }

    fn parameters(&self, at: &str, documented: &Value) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        let list = documented["parameters"].as_array();
        for (number, parameter) in list.into_iter().flatten().enumerate() {
            let schema = format!("{at}/parameters/{number}/schema");
            let in_path = parameter["in"] == "path";
            assert!(in_path || parameter["in"] == "query", "{parameter}");
            let mut leaves = Vec::new();
            self.leaves(parameter["name"].as_str().unwrap(), &schema, &mut leaves);
            let object = leaves.len() > 1;
            for (name, schema) in leaves {
                parameters.push(Parameter {
                    name,
                    in_path,
                    required: parameter["required"] == true && !object,
                    schema,
                });
            }
        }
        parameters
    }

    /// A parameter, or the properties of an object parameter.
    fn leaves(&self, name: &str, at: &str, into: &mut Vec<(String, String)>) {
        let schema = self.at(at);
        if let Some(target) = schema["$ref"].as_str() {
            return self.leaves(name, target, into);
        }
        if let Some(branches) = schema["oneOf"].as_array() {
            for number in 0..branches.len() {
                self.leaves(name, &format!("{at}/oneOf/{number}"), into);
            }
            return;
        }
        match schema["properties"].as_object() {
            Some(properties) => {
                for name in properties.keys() {
                    let at = format!("{at}/properties/{name}");
                    into.push((name.clone(), at));
                }
            }
            None => into.push((name.to_owned(), at.to_owned())),
        }
    }

    /// The schema that a chain of references leads to.
    pub(super) fn resolved(&self, at: &str) -> &Value {
        let schema = self.at(at);
        match schema["$ref"].as_str() {
            Some(target) => self.resolved(target),
            None => schema,
        }
    }

    /// Schemas that no operation uses.
    pub(super) fn unreachable(&self) -> Vec<String> {
        let mut reached = SchemaPaths::new();
        for operation in self.operations() {
            operation.schemas(self, &mut reached);
            let parameters = self.at(&operation.at)["parameters"].as_array();
            for number in 0..parameters.map_or(0, Vec::len) {
                let at = format!("{}/parameters/{number}/schema", operation.at);
                schema_paths(self, &at, &mut reached);
            }
        }
        let schemas = self.at("#/components/schemas").as_object().unwrap().keys();
        schemas
            .filter(|name| !reached.contains(&format!("#/components/schemas/{name}")))
            .cloned()
            .collect()
    }
}

impl Operation {
    /// All parts of the schemas of request and response bodies.
    pub(super) fn schemas(&self, api: &Api, into: &mut SchemaPaths) {
        let received = self.responses.iter().filter_map(|r| r.content.as_ref());
        for (_, schema) in received {
            schema_paths(api, schema, into);
        }
        if let Some((_, Some(schema))) = &self.takes {
            schema_paths(api, schema, into);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

fn responses(at: &str, documented: &Value) -> Vec<Response> {
    let all = documented["responses"].as_object().unwrap();
    let content = |status: &str, response: &Value| {
        let content = response["content"].as_object()?;
        assert_eq!(content.len(), 1, "{at}: several kinds of body");
        let kind = content.keys().next()?.clone();
        let escaped = escaped(&kind);
        let schema = format!("{at}/responses/{status}/content/{escaped}/schema");
        Some((kind, schema))
    };
    all.iter()
        .map(|(status, response)| Response {
            status: status.parse().unwrap(),
            content: content(status, response),
        })
        .collect()
}

fn takes(at: &str, documented: &Value) -> Option<(String, Option<String>)> {
    let content = documented["requestBody"]["content"].as_object()?;
    let (kind, body) = content.iter().next()?;
    let schema = format!("{at}/requestBody/content/{}/schema", escaped(kind));
    Some((kind.clone(), body["schema"].is_object().then_some(schema)))
}
