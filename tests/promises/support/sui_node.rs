//! A Sui node: a GraphQL server with the part of the chain's schema that walgit-fs
//! uses, including its limits.
//!
//! It parses requests and answers them field by field: unselected fields are not in the
//! response, and unknown fields are errors. `make test-interop` checks the queries
//! against the chain's own schema.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::routing::post;
use graphql_parser::query::{
    Definition, Field, OperationDefinition, Selection, SelectionSet, TypeCondition, Value as Term,
};
use serde_json::{Map, Value, json};

/// Maximum number of keys per request and of entries per page, as on the chain.
const MAX_PAGE_SIZE: usize = 50;

#[derive(Default)]
struct Objects {
    objects: BTreeMap<String, (String, Value)>,
    tables: BTreeMap<String, BTreeMap<String, String>>,
    requests: usize,
}

type Shared = Arc<Mutex<Objects>>;

/// A running node.
pub(crate) struct SuiNode {
    pub(crate) url: String,
    objects: Shared,
    _runtime: tokio::runtime::Runtime,
}

impl SuiNode {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let objects = Shared::default();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}/graphql", listener.local_addr().unwrap());
        let routes = axum::Router::new()
            .route("/graphql", post(handle))
            .with_state(objects.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        SuiNode {
            url,
            objects,
            _runtime: runtime,
        }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets an object of WalGit's package.
    pub(crate) fn set_object(&self, id: &str, kind: &str, fields: Value) {
        let kind = format!("{}::git::{kind}", full_id("0x9a1"));
        self.objects().objects.insert(full_id(id), (kind, fields));
    }

    /// Sets an entry of a table.
    pub(crate) fn set_table_entry(&self, table: &str, name: &str, to: &str) {
        let mut objects = self.objects();
        let table = objects.tables.entry(full_id(table)).or_default();
        table.insert(name.into(), full_id(to));
    }

    /// Number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.objects().requests
    }
}

/// An ID in the chain's notation, with all digits.
pub(crate) fn full_id(id: &str) -> String {
    format!("0x{:0>64}", id.trim_start_matches("0x"))
}

#[derive(serde::Deserialize)]
struct GraphQlRequest {
    query: String,
    #[serde(default)]
    variables: Map<String, Value>,
}

async fn handle(
    State(objects): State<Shared>,
    axum::Json(request): axum::Json<GraphQlRequest>,
) -> axum::Json<Value> {
    let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
    objects.requests += 1;
    axum::Json(match execute(&objects, &request) {
        Ok(data) => json!({"data": data}),
        Err(message) => json!({"data": null, "errors": [{"message": message}]}),
    })
}

fn execute(objects: &Objects, request: &GraphQlRequest) -> Result<Value, String> {
    let parsed = graphql_parser::parse_query::<String>(&request.query);
    let parsed = parsed.map_err(|error| error.to_string())?;
    let [Definition::Operation(OperationDefinition::Query(query))] = &parsed.definitions[..] else {
        return Err("expected a single query".into());
    };
    for declared in &query.variable_definitions {
        let required = declared.var_type.to_string().ends_with('!');
        if required && !request.variables.contains_key(&declared.name) {
            return Err(format!("${} is missing", declared.name));
        }
    }
    let variables = &request.variables;
    select(
        &query.selection_set,
        "Query",
        &mut |field| match &*field.name {
            "multiGetObjects" => {
                let keys = argument(field, "keys", variables)?;
                let keys = keys.as_array().ok_or("keys must be a list")?;
                if keys.len() > MAX_PAGE_SIZE {
                    return Err(format!("{} keys are more than {MAX_PAGE_SIZE}", keys.len()));
                }
                let objects = keys.iter().map(|key| {
                    let id = key["address"].as_str().unwrap_or_default();
                    match objects.objects.get(id) {
                        Some((kind, fields)) => object(&field.selection_set, id, kind, fields),
                        None => Ok(Value::Null),
                    }
                });
                objects.collect()
            }
            "address" => {
                let id = argument(field, "address", variables)?;
                let id = id.as_str().unwrap_or_default().to_owned();
                select(
                    &field.selection_set,
                    "Address",
                    &mut |field| match &*field.name {
                        "address" => Ok(json!(id)),
                        "dynamicFields" => page(objects, &id, field, variables),
                        other => Err(format!("Address has no field {other}")),
                    },
                )
            }
            other => Err(format!("Query has no field {other}")),
        },
    )
}

/// The value of an argument, resolving a variable.
fn argument(
    field: &Field<'_, String>,
    name: &str,
    variables: &Map<String, Value>,
) -> Result<Value, String> {
    let given = field.arguments.iter().find(|(given, _)| given == name);
    match given {
        Some((_, Term::Variable(variable))) => {
            Ok(variables.get(variable).cloned().unwrap_or_default())
        }
        Some(_) => Err(format!("{name} must be a variable here")),
        None => Ok(Value::Null),
    }
}

/// The selected fields of a value of type `kind`.
fn select(
    selection: &SelectionSet<'_, String>,
    kind: &str,
    value: &mut dyn FnMut(&Field<'_, String>) -> Result<Value, String>,
) -> Result<Value, String> {
    let mut selected = Map::new();
    for item in &selection.items {
        match item {
            Selection::Field(field) => {
                selected.insert(field.name.clone(), value(field)?);
            }
            Selection::InlineFragment(fragment) => {
                let on = match &fragment.type_condition {
                    Some(TypeCondition::On(on)) => on,
                    None => kind,
                };
                if on == kind
                    && let Value::Object(more) = select(&fragment.selection_set, kind, value)?
                {
                    selected.extend(more);
                }
            }
            Selection::FragmentSpread(_) => return Err("fragments are not supported".into()),
        }
    }
    Ok(selected.into())
}

fn object(
    selection: &SelectionSet<'_, String>,
    id: &str,
    kind: &str,
    fields: &Value,
) -> Result<Value, String> {
    select(selection, "Object", &mut |field| match &*field.name {
        "address" => Ok(json!(id)),
        "asMoveObject" => select(
            &field.selection_set,
            "MoveObject",
            &mut |field| match &*field.name {
                "contents" => move_value(&field.selection_set, kind, fields),
                other => Err(format!("MoveObject has no field {other}")),
            },
        ),
        other => Err(format!("Object has no field {other}")),
    })
}

fn move_value(
    selection: &SelectionSet<'_, String>,
    kind: &str,
    value: &Value,
) -> Result<Value, String> {
    select(selection, "MoveValue", &mut |field| match &*field.name {
        "json" => Ok(value.clone()),
        "type" => select(
            &field.selection_set,
            "MoveType",
            &mut |field| match &*field.name {
                "repr" => Ok(json!(kind)),
                other => Err(format!("MoveType has no field {other}")),
            },
        ),
        other => Err(format!("MoveValue has no field {other}")),
    })
}

fn page(
    objects: &Objects,
    id: &str,
    field: &Field<'_, String>,
    variables: &Map<String, Value>,
) -> Result<Value, String> {
    let first = argument(field, "first", variables)?.as_u64().unwrap_or(20) as usize;
    if first > MAX_PAGE_SIZE {
        return Err(format!("a page of {first} is more than {MAX_PAGE_SIZE}"));
    }
    let after = argument(field, "after", variables)?;
    let skip = after.as_str().map_or(0, |cursor| cursor.parse().unwrap());
    let Some(table) = objects.tables.get(id) else {
        return Ok(Value::Null);
    };
    let entries: Vec<_> = table.iter().skip(skip).take(first).collect();
    let end = skip + entries.len();
    select(
        &field.selection_set,
        "DynamicFieldConnection",
        &mut |field| {
            let selection = &field.selection_set;
            match &*field.name {
                "pageInfo" => select(selection, "PageInfo", &mut |field| match &*field.name {
                    "hasNextPage" => Ok(json!(end < table.len())),
                    "endCursor" => Ok(json!(end.to_string())),
                    other => Err(format!("PageInfo has no field {other}")),
                }),
                "nodes" => {
                    let nodes = entries.iter().map(|(name, to)| {
                        select(selection, "DynamicField", &mut |field| {
                            let selection = &field.selection_set;
                            match &*field.name {
                                "name" => {
                                    move_value(selection, "0x1::string::String", &json!(name))
                                }
                                "value" => move_value(selection, "0x2::object::ID", &json!(to)),
                                other => Err(format!("DynamicField has no field {other}")),
                            }
                        })
                    });
                    nodes.collect()
                }
                other => Err(format!("DynamicFieldConnection has no field {other}")),
            }
        },
    )
}
