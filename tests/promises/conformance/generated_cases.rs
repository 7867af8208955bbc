//! Cases generated from the descriptions: for each operation its parameters with each
//! kind of value, and its statuses, each with a request that provokes it.

use serde_json::{Value, json};

use super::api::{Api, Operation};
use super::cases::Case;
use super::request::{ApiRequest, RequestBody};
use super::testbed::{MAX_BODY, Target, Testbed, read_request, write_request};

pub(super) fn read(operation: &Operation, target: &Target) -> ApiRequest {
    let method = match operation.method.as_str() {
        "POST" => "POST",
        _ => "GET",
    };
    read_request(method, &operation.path, target)
}

/// A status in the network's format, injected as a fault, because a directory never
/// causes it.
fn injected_status(title: &str, good: &ApiRequest, status: u16) -> Case {
    let fault = format!("status={status},retry-after=7");
    Case::new(format!("{title}: ordered {status}"), good.clone(), status)
        .fault(fault)
        .check(|response| assert_eq!(response.header("retry-after"), "7"))
}

pub(super) fn read_statuses(testbed: &Testbed, operation: &Operation, cases: &mut Vec<Case>) {
    let title = format!("{} {}", operation.method, operation.path);
    let good = read(operation, &testbed.fine);
    for response in &operation.responses {
        let status = response.status;
        let case = |target: &Target| Case::new(title.clone(), read(operation, target), status);
        cases.push(match status {
            200 => case(&testbed.fine),
            403 => case(&testbed.large).reason("BLOB_TOO_LARGE"),
            404 => case(&testbed.missing),
            451 => case(&testbed.forbidden).reason("FORBIDDEN_BLOB"),
            500 | 503 => injected_status(&title, &good, status),
            416 if operation.path.ends_with("/patches") => injected_status(&title, &good, status),
            416 => Case::new(
                title.clone(),
                good.clone().header("range", "bytes=5-"),
                status,
            )
            .reason("INVALID_BYTE_RANGE"),
            400 if operation.path.ends_with("/byte-range") => {
                Case::new(title.clone(), good.clone().with("length", 0), status)
                    .reason("INVALID_BYTE_RANGE")
            }
            400 => Case::new(title.clone(), both_checks(&good), status)
                .reason("INVALID_CONSISTENCY_CHECK"),
            other => panic!("{title}: no case for {other}"),
        });
    }
    cases.push(expect_plain_text(injected_status(&title, &good, 429)));
}

/// Responses of the layers in front of the network's own code.
fn expect_plain_text(case: Case) -> Case {
    case.check(|response| assert!(response.header("content-type").starts_with("text/plain")))
}

/// Both consistency checks at once, if the operation allows it.
fn both_checks(good: &ApiRequest) -> ApiRequest {
    let names = ["strict_consistency_check", "skip_consistency_check"];
    let mut request = good.clone();
    for name in names {
        match &mut request.body {
            RequestBody::Json(body) => body[name] = json!(true),
            _ => request = request.with(name, true),
        }
    }
    request
}

pub(super) fn write_statuses(testbed: &Testbed, operation: &Operation, cases: &mut Vec<Case>) {
    let path = &operation.path;
    let title = format!("{} {path}", operation.method);
    let good = write_request(path, testbed.content.clone());
    for response in &operation.responses {
        let status = response.status;
        cases.push(match status {
            200 => Case::new(title.clone(), good.clone(), status),
            400 => {
                let both = good.clone().with("deletable", true).with("permanent", true);
                Case::new(title.clone(), both, status).reason("INVALID_BLOB_PERSISTENCE")
            }
            413 => {
                let large = write_request(path, vec![0; MAX_BODY + 1]);
                expect_plain_text(Case::new(title.clone(), large, status))
            }
            451 => {
                let forbidden = write_request(path, testbed.forbidden_content.clone());
                Case::new(title.clone(), forbidden, status).reason("FORBIDDEN_BLOB")
            }
            500 | 504 => injected_status(&title, &good, status),
            other => panic!("{title}: no case for {other}"),
        });
    }
    cases.push(expect_plain_text(injected_status(&title, &good, 429)));
}

/// Each parameter with valid values, an invalid value, and without a value.
pub(super) fn parameters(
    api: &Api,
    operation: &Operation,
    good: &ApiRequest,
    cases: &mut Vec<Case>,
) {
    for parameter in &operation.parameters {
        let name = parameter.name.as_str();
        let title = format!("{} {}: {name}", operation.method, operation.path);
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
            let request = good.clone().with(name, &value);
            cases.push(Case::new(format!("{title}={value}"), request, 200));
        }
        if schema["type"] != "string" || !schema["format"].is_null() || !schema["enum"].is_null() {
            let wrong = good.clone().with(name, "no such value");
            cases.push(Case::new(format!("{title} is wrong"), wrong, 400));
        }
        if parameter.required && !parameter.in_path {
            let without = good.clone().without(name);
            cases.push(Case::new(format!("{title} is missing"), without, 400));
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
