//! Cases for the meaning of parameters and responses.

use serde_json::{Value, json};

use super::cases::Case;
use super::request::{ApiRequest, RequestBody};
use super::testbed::{IDENTIFIER, Testbed, read_request, write_request};
use crate::support::tree::noise;

/// Reads.
pub(super) fn reads(testbed: &Testbed, cases: &mut Vec<Case>) {
    let content = testbed.content.clone();
    let get = |path: &str| read_request("GET", path, &testbed.fine);
    let etag = testbed.fine.blob.to_string();
    for path in [
        "/v1/blobs/{blob_id}",
        "/v1/blobs/by-object-id/{blob_object_id}",
    ] {
        let (whole, id) = (content.clone(), etag.clone());
        cases.push(
            Case::new("a whole blob", get(path), 200).check(move |response| {
                assert_eq!(response.body, whole);
                assert_eq!(response.header("etag"), id);
                assert_eq!(
                    response.header("cache-control"),
                    "public, max-age=86400, stale-while-revalidate=3600"
                );
                assert_eq!(response.header("x-content-type-options"), "nosniff");
            }),
        );
        let part = content[10..20].to_vec();
        let ranged = get(path).header("range", "bytes=10-19");
        cases.push(
            Case::new("a part of it", ranged, 206).check(move |response| {
                assert_eq!(response.body, part);
                assert_eq!(response.header("content-range"), "bytes 10-19/1000");
                assert_eq!(response.header("content-length"), "10");
            }),
        );
        for bad in [
            "bytes=-5",
            "bytes=0-1,3-4",
            "bytes=5-1000",
            "bytes=9-5",
            "lines=1-2",
        ] {
            let request = get(path).header("range", bad);
            cases.push(Case::new(bad, request, 416).reason("INVALID_BYTE_RANGE"));
        }
    }
    let (part, id) = (content[10..30].to_vec(), etag.clone());
    let byte_range = get("/v1/blobs/{blob_id}/byte-range");
    cases.push(
        Case::new("a range by numbers", byte_range.clone(), 200).check(move |response| {
            assert_eq!(response.body, part);
            assert_eq!(response.header("etag"), format!("{id}-10-20"));
        }),
    );
    for (start, length) in [(999, 2), (u64::MAX, 1), (1, u64::MAX)] {
        let request = byte_range
            .clone()
            .with("start", start)
            .with("length", length);
        cases.push(Case::new("past the end", request, 400).reason("INVALID_BYTE_RANGE"));
    }
    let twice = [content.clone(), content.clone()].concat();
    for method in ["GET", "POST"] {
        let request = read_request(method, "/v1alpha/blobs/concat", &testbed.fine);
        let twice = twice.clone();
        cases.push(
            Case::new("by blob and by object, in that order", request, 200)
                .check(move |response| assert_eq!(response.body, twice)),
        );
    }
    let concat = |body: Value| {
        ApiRequest::new("POST", "/v1alpha/blobs/concat").sending(RequestBody::Json(body))
    };
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

/// Stores of blobs and quilts.
pub(super) fn writes(path: &str, cases: &mut Vec<Case>) {
    // Position of the result in the response.
    let result = match path {
        "/v1/quilts" => "/blobStoreResult",
        _ => "",
    };
    let object = |name: &str| format!("{result}/newlyCreated/blobObject/{name}");
    let operation = |name: &str| format!("{result}/newlyCreated/resourceOperation/{name}");
    let scratch = operation("registerFromScratch/epochsAhead");
    let certified = |name: &str| format!("{result}/alreadyCertified/{name}");
    let shared = format!("{result}/newlyCreated/sharedBlobObject");
    let put = |number: u64| write_request(path, noise(200, path.len() as u64 * 100 + number));
    let case =
        |title: &str, request: ApiRequest| Case::new(format!("{path}: {title}"), request, 200);
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
        case("existing content is not stored again", one.clone())
            .with(certified("endEpoch"), json!(2))
            .with_presence(certified("object"), true),
        case("except with force", one.clone().with("force", true)).with(scratch.clone(), json!(1)),
        case("for longer, a new object is registered", longer)
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
            "an object sent to another address",
            put(3).with("send_object_to", "0x5"),
        )
        .with(scratch.clone(), json!(1)),
        case("no longer belongs to the publisher", put(3)).with(scratch, json!(1)),
        case("shared", put(4).with("share", true)).with_presence(shared.clone(), true),
        case("not shared", put(5).with("share", false)).with_presence(shared, false),
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
        let injected_status = case(word, put(6)).fault(format!("put={word}"));
        cases.push(injected_status.with_presence(format!("{result}/{key}"), true));
    }
    let refusals = [
        ("epochs", "0"),
        ("epochs", "54"),
        ("send_object_to", "no-address"),
        ("quilt_version", "v2"),
    ];
    let bad = refusals.map(|(name, value)| put(1).with(name, value));
    let both = put(1).with("share", true).with("send_object_to", "0x5");
    for request in bad.into_iter().chain([both]) {
        let title = format!("{path}: {:?} is refused", request.given);
        cases.push(Case::new(title, request, 400).reason("MALFORMED_REQUEST"));
    }
}

/// Forms, and the quilts that they create.
pub(super) fn quilts(cases: &mut Vec<Case>) {
    let put = |fields: &[(&str, &str)]| {
        let fields = fields.iter();
        let fields = fields.map(|(name, content)| ((*name).into(), content.as_bytes().into()));
        ApiRequest::new("PUT", "/v1/quilts").sending(RequestBody::Form(fields.collect()))
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
    for (title, fields) in [
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
        cases.push(Case::new(title, put(fields), 400).reason("MALFORMED_REQUEST"));
    }
    let no_form = ApiRequest::new("PUT", "/v1/quilts").sending(RequestBody::Bytes(vec![1]));
    cases.push(Case::new("no form", no_form, 400));
}

/// A request for a file of a quilt.
pub(super) fn member(testbed: &Testbed, identifier: &str) -> ApiRequest {
    let path = "/v1/blobs/by-quilt-id/{quilt_id}/{identifier}";
    read_request("GET", path, &testbed.fine).with("identifier", identifier)
}

/// The only file of the quilt.
pub(super) fn only_member(testbed: &Testbed) -> ApiRequest {
    member(testbed, IDENTIFIER)
}
