//! The embedded Walrus answers to the network's own description of its API.
//!
//! The network describes its API in two OpenAPI files. From them follows all
//! that is to be seen ([`facts::demanded`]): every operation, parameter, kind of
//! value, status, content type, and every part of every schema of what is sent
//! and received. [`cases`] make real requests to a real `devnet`; every answer
//! is checked against its schema, and what was seen of the description is
//! counted ([`facts::seen`]). What remains is a failure, by name. So nothing
//! here has to be believed: a description that grows, or a case that is taken
//! away, fails.
//!
//! - [`api`]: the descriptions, and where they differ from the network;
//! - [`schema`]: the checker;
//! - [`described`], [`meanings`]: the cases, tried on what [`ground`] has;
//! - [`call`]: requests and answers.

mod api;
mod call;
mod cases;
mod described;
mod facts;
mod ground;
mod meanings;
mod schema;

use std::collections::BTreeSet;

use api::Api;
use ground::Ground;

use crate::support::block_on;

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[test]
fn every_documented_endpoint_answers_as_documented() {
    let ground = Ground::new();
    let apis = [Api::aggregator(), Api::publisher()];
    let described: Vec<_> = (apis.iter())
        .flat_map(|api| api.operations().into_iter().map(move |o| (api, o)))
        .collect();
    let mut open: BTreeSet<String> = BTreeSet::new();
    for (api, operation) in &described {
        open.extend(facts::demanded(api, operation));
    }
    let (http, url) = (http(), &ground.server.url);
    let faults = format!("{url}/devnet/faults");
    block_on(async {
        for case in cases::all(&ground) {
            if let Some(fault) = &case.fault {
                let set = http.put(&faults).body(format!("{fault},first=1"));
                assert_eq!(set.send().await.unwrap().status(), 200, "{fault}");
            }
            let answer = case.call.send(&http, url).await;
            let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]);
            let about = format!("{}\n{:?}\n{text}", case.says, case.call.given);
            assert_eq!(answer.status, case.status, "{about}");
            (case.then)(&answer);
            let (api, operation) = (described.iter())
                .find(|(_, o)| o.method == case.call.method && o.path == case.call.path)
                .unwrap_or_else(|| panic!("{} is not described", case.call.path));
            let seen = facts::seen(api, operation, &case.call, &answer);
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

/// What no operation leads to cannot be seen; it must be known by name, so that
/// nothing hides there.
#[test]
fn api_descriptions_contain_two_unused_schemas() {
    assert_eq!(Api::aggregator().unreachable(), ["ConcatQueryParams"]);
    assert_eq!(Api::publisher().unreachable(), ["Epoch"]);
}

/// Every file of a quilt is answered whole, as the network does; a range that
/// makes no sense is refused as its description says.
#[test]
fn quilt_patches_are_returned_completely() {
    let ground = Ground::new();
    let (http, url) = (http(), &ground.server.url);
    block_on(async {
        let ranged = meanings::the_member(&ground).header("range", "bytes=1-2");
        let answer = ranged.send(&http, url).await;
        assert_eq!((answer.status, &answer.body), (200, &ground.content));
        assert_eq!(answer.header("x-quilt-patch-identifier"), "the file");
        let unknown = meanings::member(&ground, "another").send(&http, url).await;
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.reason(), "QUILT_PATCH_NOT_FOUND");
    });
}
