//! Cases that the descriptions write themselves: for every operation its
//! parameters with every kind of value, and its statuses, each with the request
//! that must be answered so.

use serde_json::{Value, json};

use super::api::{Api, Operation};
use super::call::{Call, Sent};
use super::cases::Case;
use super::ground::{Ground, MAX_BODY, Target, reading, writing};

pub(super) fn read(operation: &Operation, target: &Target) -> Call {
    let method = match operation.method.as_str() {
        "POST" => "POST",
        _ => "GET",
    };
    reading(method, &operation.path, target)
}

/// One in the network's words, ordered: what a directory never does.
fn ordered(says: &str, good: &Call, status: u16) -> Case {
    let fault = format!("status={status},retry-after=7");
    Case::new(format!("{says}: ordered {status}"), good.clone(), status)
        .fault(fault)
        .then(|answer| assert_eq!(answer.header("retry-after"), "7"))
}

pub(super) fn read_statuses(ground: &Ground, operation: &Operation, cases: &mut Vec<Case>) {
    let says = format!("{} {}", operation.method, operation.path);
    let good = read(operation, &ground.fine);
    for response in &operation.responses {
        let status = response.status;
        let case = |target: &Target| Case::new(says.clone(), read(operation, target), status);
        cases.push(match status {
            200 => case(&ground.fine),
            403 => case(&ground.large).reason("BLOB_TOO_LARGE"),
            404 => case(&ground.missing),
            451 => case(&ground.forbidden).reason("FORBIDDEN_BLOB"),
            500 | 503 => ordered(&says, &good, status),
            416 if operation.path.ends_with("/patches") => ordered(&says, &good, status),
            416 => Case::new(
                says.clone(),
                good.clone().header("range", "bytes=5-"),
                status,
            )
            .reason("INVALID_BYTE_RANGE"),
            400 if operation.path.ends_with("/byte-range") => {
                Case::new(says.clone(), good.clone().with("length", 0), status)
                    .reason("INVALID_BYTE_RANGE")
            }
            400 => Case::new(says.clone(), both_checks(&good), status)
                .reason("INVALID_CONSISTENCY_CHECK"),
            other => panic!("{says}: no case for {other}"),
        });
    }
    cases.push(in_plain_text(ordered(&says, &good, 429)));
}

/// What the layers in front of the network's own code say.
fn in_plain_text(case: Case) -> Case {
    case.then(|answer| assert!(answer.header("content-type").starts_with("text/plain")))
}

/// Both consistency checks at once, where a client can say so.
fn both_checks(good: &Call) -> Call {
    let names = ["strict_consistency_check", "skip_consistency_check"];
    let mut call = good.clone();
    for name in names {
        match &mut call.body {
            Sent::Json(body) => body[name] = json!(true),
            _ => call = call.with(name, true),
        }
    }
    call
}

pub(super) fn write_statuses(ground: &Ground, operation: &Operation, cases: &mut Vec<Case>) {
    let path = &operation.path;
    let says = format!("{} {path}", operation.method);
    let good = writing(path, ground.content.clone());
    for response in &operation.responses {
        let status = response.status;
        cases.push(match status {
            200 => Case::new(says.clone(), good.clone(), status),
            400 => {
                let both = good.clone().with("deletable", true).with("permanent", true);
                Case::new(says.clone(), both, status).reason("INVALID_BLOB_PERSISTENCE")
            }
            413 => {
                let large = writing(path, vec![0; MAX_BODY + 1]);
                in_plain_text(Case::new(says.clone(), large, status))
            }
            451 => {
                let forbidden = writing(path, ground.forbidden_content.clone());
                Case::new(says.clone(), forbidden, status).reason("FORBIDDEN_BLOB")
            }
            500 | 504 => ordered(&says, &good, status),
            other => panic!("{says}: no case for {other}"),
        });
    }
    cases.push(in_plain_text(ordered(&says, &good, 429)));
}

/// Each parameter with each kind of value: right ones, a wrong one, and none.
pub(super) fn parameters(api: &Api, operation: &Operation, good: &Call, cases: &mut Vec<Case>) {
    for parameter in &operation.parameters {
        let name = parameter.name.as_str();
        let says = format!("{} {}: {name}", operation.method, operation.path);
        let schema = api.resolved(&parameter.schema);
        let right: Vec<String> = match (schema["type"].as_str(), &schema["enum"]) {
            (Some("boolean"), _) => vec!["true".into(), "false".into()],
            (_, Value::Array(values)) => {
                let texts = values
                    .iter()
                    .map(|value| value.as_str().unwrap().to_owned());
                texts.collect()
            }
            _ if parameter.required => Vec::new(), // `good` has it
            _ if name == "epochs" => vec!["1".into(), "53".into()],
            _ => vec![format!("0x{:064x}", 5)],
        };
        for value in right {
            let call = good.clone().with(name, &value);
            cases.push(Case::new(format!("{says}={value}"), call, 200));
        }
        if schema["type"] != "string" || !schema["format"].is_null() || !schema["enum"].is_null() {
            let wrong = good.clone().with(name, "no such value");
            cases.push(Case::new(format!("{says} is wrong"), wrong, 400));
        }
        if parameter.required && !parameter.in_path {
            let without = good.clone().without(name);
            cases.push(Case::new(format!("{says} is missing"), without, 400));
        }
    }
    let unknown = good.clone().with("nonsense", 1);
    let quilts = operation.path.contains("quilt") && operation.method == "GET";
    if !quilts
        && operation
            .takes
            .as_ref()
            .is_none_or(|(kind, _)| !kind.ends_with("json"))
    {
        cases.push(Case::new("an unknown parameter is refused", unknown, 400));
    }
}
