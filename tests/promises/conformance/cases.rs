//! The cases. Most are written by the descriptions themselves: for every
//! operation its parameters, with every kind of value, and its statuses, each
//! with the request that must be answered so. What a parameter means, and what
//! a body says, is told one by one.

use serde_json::{Value, json};

use super::api::{Api, Operation};
use super::call::{Answer, Call, Sent};
use super::ground::{Ground, IDENTIFIER, MAX_BODY, Target, reading, writing};
use crate::support::tree::noise;

/// A request and what must come of it.
pub(super) struct Case {
    pub(super) says: String,
    pub(super) call: Call,
    pub(super) status: u16,
    /// What goes wrong on order.
    pub(super) fault: Option<String>,
    pub(super) then: Box<dyn Fn(&Answer)>,
}

impl Case {
    fn new(says: impl Into<String>, call: Call, status: u16) -> Self {
        Case {
            says: says.into(),
            call,
            status,
            fault: None,
            then: Box::new(|_| {}),
        }
    }

    fn fault(mut self, fault: String) -> Self {
        self.fault = Some(fault);
        self
    }

    fn reason(self, reason: &'static str) -> Self {
        self.then(move |answer| assert_eq!(answer.reason(), reason))
    }

    /// This is in the answer.
    fn with(self, pointer: impl Into<String>, value: Value) -> Self {
        let pointer = pointer.into();
        self.then(move |answer| {
            let json = answer.json();
            assert_eq!(json.pointer(&pointer), Some(&value), "{pointer} in {json}");
        })
    }

    /// Something is there in the answer, or nothing.
    fn has(self, pointer: impl Into<String>, there: bool) -> Self {
        let pointer = pointer.into();
        self.then(move |answer| {
            let json = answer.json();
            let found = json.pointer(&pointer).is_some();
            assert_eq!(found, there, "{pointer} in {json}");
        })
    }

    fn then(mut self, then: impl Fn(&Answer) + 'static) -> Self {
        let before = self.then;
        self.then = Box::new(move |answer| {
            before(answer);
            then(answer);
        });
        self
    }
}

/// All cases, in the order in which they must be tried.
pub(super) fn all(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let aggregator = Api::aggregator();
    for operation in aggregator.operations() {
        read_statuses(ground, &operation, &mut cases);
        let good = read(&operation, &ground.fine);
        parameters(&aggregator, &operation, &good, &mut cases);
    }
    reads(ground, &mut cases);
    let publisher = Api::publisher();
    for operation in publisher.operations() {
        write_statuses(ground, &operation, &mut cases);
        // The same content again and again: what is there already is fine.
        let good = writing(&operation.path, noise(100, 9));
        parameters(&publisher, &operation, &good, &mut cases);
        writes(&operation.path, &mut cases);
    }
    quilts(&mut cases);
    cases
}

fn read(operation: &Operation, target: &Target) -> Call {
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

fn read_statuses(ground: &Ground, operation: &Operation, cases: &mut Vec<Case>) {
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
    cases.push(
        ordered(&says, &good, 429)
            .then(|answer| assert!(answer.header("content-type").starts_with("text/plain"))),
    );
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

fn write_statuses(ground: &Ground, operation: &Operation, cases: &mut Vec<Case>) {
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
            413 => Case::new(says.clone(), writing(path, vec![0; MAX_BODY + 1]), status),
            451 => {
                let forbidden = writing(path, ground.forbidden_content.clone());
                Case::new(says.clone(), forbidden, status).reason("FORBIDDEN_BLOB")
            }
            500 | 504 => ordered(&says, &good, status),
            other => panic!("{says}: no case for {other}"),
        });
    }
    cases.push(ordered(&says, &good, 429));
}

/// Each parameter with each kind of value: right ones, a wrong one, and none.
fn parameters(api: &Api, operation: &Operation, good: &Call, cases: &mut Vec<Case>) {
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

/// What readers get.
fn reads(ground: &Ground, cases: &mut Vec<Case>) {
    let content = ground.content.clone();
    let get = |path: &str| reading("GET", path, &ground.fine);
    let etag = ground.fine.blob.to_string();
    for path in [
        "/v1/blobs/{blob_id}",
        "/v1/blobs/by-object-id/{blob_object_id}",
    ] {
        let (whole, id) = (content.clone(), etag.clone());
        cases.push(
            Case::new("a whole blob", get(path), 200).then(move |answer| {
                assert_eq!(answer.body, whole);
                assert_eq!(answer.header("etag"), id);
                assert_eq!(
                    answer.header("cache-control"),
                    "public, max-age=86400, stale-while-revalidate=3600"
                );
                assert_eq!(answer.header("x-content-type-options"), "nosniff");
            }),
        );
        let part = content[10..20].to_vec();
        let ranged = get(path).header("range", "bytes=10-19");
        cases.push(Case::new("a part of it", ranged, 206).then(move |answer| {
            assert_eq!(answer.body, part);
            assert_eq!(answer.header("content-range"), "bytes 10-19/1000");
            assert_eq!(answer.header("content-length"), "10");
        }));
        for bad in [
            "bytes=-5",
            "bytes=0-1,3-4",
            "bytes=5-1000",
            "bytes=9-5",
            "lines=1-2",
        ] {
            let call = get(path).header("range", bad);
            cases.push(Case::new(bad, call, 416).reason("INVALID_BYTE_RANGE"));
        }
    }
    let (part, id) = (content[10..30].to_vec(), etag.clone());
    let byte_range = get("/v1/blobs/{blob_id}/byte-range");
    cases.push(
        Case::new("a range by numbers", byte_range.clone(), 200).then(move |answer| {
            assert_eq!(answer.body, part);
            assert_eq!(answer.header("etag"), format!("{id}-10-20"));
        }),
    );
    for (start, length) in [(999, 2), (u64::MAX, 1), (1, u64::MAX)] {
        let call = byte_range
            .clone()
            .with("start", start)
            .with("length", length);
        cases.push(Case::new("past the end", call, 400).reason("INVALID_BYTE_RANGE"));
    }
    let twice = [content.clone(), content.clone()].concat();
    for method in ["GET", "POST"] {
        let call = reading(method, "/v1alpha/blobs/concat", &ground.fine);
        let twice = twice.clone();
        cases.push(
            Case::new("by blob and by object, in that order", call, 200)
                .then(move |answer| assert_eq!(answer.body, twice)),
        );
    }
    let concat = |body: Value| Call::new("POST", "/v1alpha/blobs/concat").sending(Sent::Json(body));
    let id = etag.as_str();
    for (body, status) in [
        (json!({"ids": [id], "strict_consistency_check": true}), 200),
        (json!({"ids": [id], "skip_consistency_check": true}), 200),
        (json!({"ids": [id], "skip_consistency_check": null}), 200),
        (json!({"ids": []}), 400),
        (json!({"ids": ["nonsense"]}), 400),
        (json!({"ids": [id], "more": 1}), 400),
        (json!({}), 400),
    ] {
        cases.push(Case::new(format!("{body}"), concat(body), status));
    }
    cases.push(Case::new(
        "no object ID",
        get("/v1/blobs/by-object-id/{blob_object_id}").with("blob_object_id", "12"),
        400,
    ));
    let wanted = get("/v1/blobs/{blob_id}").header("accept", "application/octet-stream");
    cases.push(Case::new("the kind that is asked for", wanted, 200));
}

/// What writers get, of blobs and of quilts.
fn writes(path: &str, cases: &mut Vec<Case>) {
    // Where the result stands in the answer.
    let result = match path {
        "/v1/quilts" => "/blobStoreResult",
        _ => "",
    };
    let object = |name: &str| format!("{result}/newlyCreated/blobObject/{name}");
    let operation = |name: &str| format!("{result}/newlyCreated/resourceOperation/{name}");
    let scratch = operation("registerFromScratch/epochsAhead");
    let certified = |name: &str| format!("{result}/alreadyCertified/{name}");
    let shared = format!("{result}/newlyCreated/sharedBlobObject");
    let put = |number: u64| writing(path, noise(200, path.len() as u64 * 100 + number));
    let case = |says: &str, call: Call| Case::new(format!("{path}: {says}"), call, 200);
    let one = put(1);
    let longer = one.clone().with("epochs", 4);
    let longest = one.clone().with("epochs", 9);
    let forever = put(2).with("permanent", true);
    cases.extend([
        case("one epoch and deletable, if nothing is said", one.clone())
            .with(object("deletable"), json!(true))
            .with(object("storage/startEpoch"), json!(1))
            .with(object("storage/endEpoch"), json!(2))
            .with(scratch.clone(), json!(1)),
        case("what is there is not stored again", one.clone())
            .with(certified("endEpoch"), json!(2))
            .has(certified("object"), true),
        case("but anew if it must be", one.clone().with("force", true))
            .with(scratch.clone(), json!(1)),
        case("for longer, it is bought anew", longer)
            .with(scratch.clone(), json!(4))
            .with(object("storage/endEpoch"), json!(5)),
        case(
            "or extended, on request",
            longest.with("reuse_resources", true),
        )
        .with(operation("reuseAndExtend/epochsExtended"), json!(5))
        .with(object("storage/endEpoch"), json!(10)),
        case("permanent", forever.with("epochs", 3)).with(object("deletable"), json!(false)),
        case("a permanent one is certified by an event", put(2))
            .with(certified("event/eventSeq"), json!("0")),
        case(
            "a deletable one is not permanent",
            one.clone().with("permanent", true),
        )
        .with(object("deletable"), json!(false)),
        case(
            "what was sent to somebody",
            put(3).with("send_object_to", "0x5"),
        )
        .with(scratch.clone(), json!(1)),
        case("is not the publisher's any more", put(3)).with(scratch, json!(1)),
        case("shared", put(4).with("share", true)).has(shared.clone(), true),
        case("not shared", put(5).with("share", false)).has(shared, false),
    ]);
    for (word, key) in [
        ("marked-invalid", "markedInvalid/event"),
        ("error", "error/blobId"),
        ("error-early", "error/failurePhase"),
        ("uncertified", "newlyCreated/blobObject/certifiedEpoch"),
        (
            "reuse-storage",
            "newlyCreated/resourceOperation/reuseStorage",
        ),
        (
            "reuse-registration",
            "newlyCreated/resourceOperation/reuseRegistration",
        ),
        (
            "reuse-and-extend",
            "newlyCreated/resourceOperation/reuseAndExtend",
        ),
        (
            "reuse-and-extend-non-certified",
            "newlyCreated/resourceOperation/reuseAndExtendNonCertified",
        ),
    ] {
        let ordered = case(word, put(6)).fault(format!("put={word}"));
        cases.push(ordered.has(format!("{result}/{key}"), true));
    }
    let refusals = [
        ("epochs", "0"),
        ("epochs", "54"),
        ("send_object_to", "nobody"),
        ("quilt_version", "v2"),
    ];
    let bad = refusals.map(|(name, value)| put(1).with(name, value));
    let both = put(1).with("share", true).with("send_object_to", "0x5");
    for call in bad.into_iter().chain([both]) {
        let says = format!("{path}: {:?} is refused", call.given);
        cases.push(Case::new(says, call, 400).reason("MALFORMED_REQUEST"));
    }
}

/// Forms, and what is read of what they held.
fn quilts(cases: &mut Vec<Case>) {
    let put = |fields: &[(&str, &str)]| {
        let fields = fields.iter();
        let fields = fields.map(|(name, content)| ((*name).into(), content.as_bytes().into()));
        Call::new("PUT", "/v1/quilts").sending(Sent::Form(fields.collect()))
    };
    let tags = r#"[{"identifier": "b", "tags": {"content-type": "text/x-b", "n": 7}}]"#;
    let fields = [("b", "second"), ("a", "first"), ("_metadata", tags)];
    cases.push(
        Case::new("members are sorted and take columns", put(&fields), 200)
            .with("/storedQuiltBlobs/0/identifier", json!("a"))
            .with("/storedQuiltBlobs/0/range", json!([1, 2]))
            .with("/storedQuiltBlobs/1/range", json!([2, 3])),
    );
    let twice = r#"[{"identifier": "a"}, {"identifier": "a"}]"#;
    for (says, fields) in [
        ("no file", &[("_metadata", "[]")][..]),
        ("two of a name", &[("a", "1"), ("a", "2")]),
        (
            "tags of one file twice",
            &[("a", "1"), ("_metadata", twice)],
        ),
        (
            "tags that are none",
            &[("a", "1"), ("_metadata", "nonsense")],
        ),
        ("a name with a space at its end", &[("a ", "1")]),
    ] {
        cases.push(Case::new(says, put(fields), 400).reason("MALFORMED_REQUEST"));
    }
    let no_form = Call::new("PUT", "/v1/quilts").sending(Sent::Bytes(vec![1]));
    cases.push(Case::new("no form", no_form, 400));
}

/// A member of a quilt, for the tests beside the table.
pub(super) fn member(ground: &Ground, identifier: &str) -> Call {
    let path = "/v1/blobs/by-quilt-id/{quilt_id}/{identifier}";
    reading("GET", path, &ground.fine).with("identifier", identifier)
}

/// The only member there is.
pub(super) fn the_member(ground: &Ground) -> Call {
    member(ground, IDENTIFIER)
}
