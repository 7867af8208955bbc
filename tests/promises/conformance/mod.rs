//! The embedded Walrus conforms to the network's own description of its API.
//!
//! The network describes its API in two OpenAPI files. They imply a set of facts
//! ([`coverage::expected_facts`]): every operation, parameter, kind of value, status,
//! content type, and every part of every schema of requests and responses. [`cases`]
//! sends real requests to a real `devnet`; each response is checked against its schema,
//! and the facts that it demonstrates are counted ([`coverage::observed_facts`]). Each
//! remaining fact is a failure. An extended description or a removed case therefore
//! fails.
//!
//! - [`api`]: the descriptions, and corrections to match the network;
//! - [`schema`]: the schema checker;
//! - [`generated_cases`], [`semantic_cases`]: the cases, run on the [`testbed`];
//! - [`request`]: requests and responses.

mod api;
mod cases;
mod coverage;
mod generated_cases;
mod request;
mod schema;
mod semantic_cases;
mod testbed;

use std::collections::BTreeSet;

use api::Api;
use testbed::Testbed;

use crate::support::block_on;

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[test]
fn every_documented_endpoint_answers_as_documented() {
    let testbed = Testbed::new();
    let apis = [Api::aggregator(), Api::publisher()];
    let documented: Vec<_> = (apis.iter())
        .flat_map(|api| api.operations().into_iter().map(move |o| (api, o)))
        .collect();
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (api, operation) in &documented {
        open.extend(coverage::expected_facts(api, operation));
    }
    let (http, url) = (http(), &testbed.server.url);
    let faults = format!("{url}/devnet/faults");
    block_on(async {
        for case in cases::all(&testbed) {
            if let Some(fault) = &case.fault {
                let set = http.put(&faults).body(format!("{fault},first=1"));
                assert_eq!(set.send().await.unwrap().status(), 200, "{fault}");
            }
            let response = case.request.send(&http, url).await;
            let text = String::from_utf8_lossy(&response.body[..response.body.len().min(400)]);
            let about = format!("{}\n{:?}\n{text}", case.title, case.request.given);
            assert_eq!(response.status, case.status, "{about}");
            (case.check)(&response);
            let (api, operation) = (documented.iter())
                .find(|(_, o)| o.method == case.request.method && o.path == case.request.path)
                .unwrap_or_else(|| panic!("{} is not described", case.request.path));
            let seen = coverage::observed_facts(api, operation, &case.request, &response);
            for fact in seen.unwrap_or_else(|error| panic!("{about}\n{error}")) {
                open.remove(&fact);
            }
            if case.fault.is_some() {
                let none = http.put(&faults).body("").send().await.unwrap();
                assert_eq!(none.status(), 200);
            }
        }
    });
    let open: Vec<String> = open.into_iter().collect();
    assert!(
        open.is_empty(),
        "described and never seen:\n{}",
        open.join("\n")
    );
}

/// Schemas that no operation uses cannot be tested, so they are listed by name.
#[test]
fn api_descriptions_contain_two_unused_schemas() {
    assert_eq!(Api::aggregator().unreachable(), ["ConcatQueryParams"]);
    assert_eq!(Api::publisher().unreachable(), ["Epoch"]);
}

/// Every file of a quilt is returned completely, as the network does; an invalid range
/// is refused as documented.
#[test]
fn quilt_patches_are_returned_completely() {
    let testbed = Testbed::new();
    let (http, url) = (http(), &testbed.server.url);
    block_on(async {
        let ranged = semantic_cases::only_member(&testbed).header("range", "bytes=1-2");
        let response = ranged.send(&http, url).await;
        assert_eq!((response.status, &response.body), (200, &testbed.content));
        assert_eq!(response.header("x-quilt-patch-identifier"), "the file");
        let unknown = semantic_cases::member(&testbed, "another")
            .send(&http, url)
            .await;
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.reason(), "QUILT_PATCH_NOT_FOUND");
    });
}
