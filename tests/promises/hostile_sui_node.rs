//! A lying Sui node costs a bounded number of requests, bytes and seconds, and the
//! error names it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::World;
use crate::support::fake_server::{FakeServer, ReceivedRequest, endless_body, json as answer};
use crate::support::sui_node::full_id;

/// The object IDs of a request; `None` for a request for a table.
fn keys(request: &ReceivedRequest) -> Option<Vec<String>> {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let keys = body["variables"]["keys"].as_array()?;
    let id = |key: &Value| key["address"].as_str().unwrap().to_owned();
    Some(keys.iter().map(id).collect())
}

fn object(id: &str, kind: &str, fields: &Value) -> Value {
    json!({"address": id, "asMoveObject": {"contents": {
        "type": {"repr": format!("0x9::git::{kind}")}, "json": fields,
    }}})
}

fn repository(id: &str) -> Value {
    let fields = json!({"default_branch": "main", "head_commit_id": full_id("0x40"),
                        "branches": {"id": full_id("0xb")}, "tags": null});
    object(id, "Repository", &fields)
}

fn commit(id: &str) -> Value {
    let fields =
        json!({"tree_id": full_id("0x30"), "author": "0xa", "message": "m", "timestamp": "1"});
    object(id, "GitCommitObject", &fields)
}

fn objects(found: Vec<Value>) -> Value {
    json!({"data": {"multiGetObjects": found}})
}

fn page(entries: Vec<Value>, next: Option<&str>) -> Value {
    json!({"data": {"address": {"dynamicFields": {
        "nodes": entries, "pageInfo": {"hasNextPage": next.is_some(), "endCursor": next},
    }}}})
}

fn entry(name: &str) -> Value {
    json!({"name": {"json": name}, "value": {"json": full_id("0x40")}})
}

/// A node that is honest except for trees.
fn node_with_trees(tree: impl Fn(&str) -> Value + Send + Sync + 'static) -> FakeServer {
    FakeServer::with_handler(move |request, _| {
        let Some(keys) = keys(request) else {
            return answer(page(Vec::new(), None));
        };
        let found = keys.iter().map(|id| match id {
            id if *id == full_id("0x1") => repository(id),
            id if *id == full_id("0x40") => commit(id),
            id => tree(id),
        });
        answer(objects(found.collect()))
    })
}

/// Reads a repository from a node within the memory limit of a command; returns success
/// and output.
#[track_caller]
fn read_repository(node: &FakeServer) -> (bool, String) {
    read_repository_within(node, 15)
}

/// The same, with a time limit in seconds for each request.
#[track_caller]
fn read_repository_within(node: &FakeServer, seconds: u32) -> (bool, String) {
    let world = World::new()
        .with("WALGIT_FS_SUI_RPC", &node.url)
        .config(&format!("[mount]\ndeadline_s = {seconds}\n"));
    let started = Instant::now();
    // KiB of data: heap and stacks of all threads.
    let done = world.run_after("ulimit -d 900000", &["log", "sui://0x1"]);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    let output = String::from_utf8(done.stderr).unwrap();
    let code = done.status.code();
    assert!(code == Some(0) || code == Some(1), "{code:?}: {output}");
    assert!(
        output.len() < 5000 && !output.contains("panicked"),
        "{output}"
    );
    (code == Some(0), output)
}

#[track_caller]
fn assert_refused(node: &FakeServer, requests: usize, why: &str) {
    let (fine, output) = read_repository(node);
    assert!(!fine && output.contains(why), "{output}");
    assert!(output.contains(&node.url), "the node is named: {output}");
    let sent = node.requests().len();
    assert!(sent <= requests, "{sent} requests");
}

#[test]
fn endless_pages_are_refused() {
    type Page = fn(usize) -> Value;
    let endless_body: Page = |number| {
        let entries = (0..50).map(|n| entry(&format!("b-{number}-{n}")));
        page(entries.collect(), Some(&number.to_string()))
    };
    let circling: Page = |number| page(vec![entry("a")], Some(["x", "y", "z"][number % 3]));
    let empty: Page = |number| page(Vec::new(), Some(&number.to_string()));
    for (pages, requests, why) in [
        (endless_body, 2010, "over 100000 entries"),
        (circling, 10, "form a cycle"),
        (empty, 10, "form a cycle"),
    ] {
        let node = FakeServer::with_handler(move |request, number| match keys(request) {
            Some(keys) => answer(objects(keys.iter().map(|id| repository(id)).collect())),
            None => answer(pages(number)),
        });
        assert_refused(&node, requests, why);
    }
}

#[test]
fn exponential_trees_are_refused() {
    // Each tree contains the next one 600 times: 216 million paths.
    let node = node_with_trees(|id| {
        let number = u64::from_str_radix(id.trim_start_matches("0x"), 16).unwrap();
        let entries = (0..600).map(
            |n| json!({"name": format!("d{n}"), "object_id": full_id(&format!("0x{:x}", number + 1))}),
        );
        object(
            id,
            "GitTreeObject",
            &json!({"entries": entries.collect::<Vec<_>>()}),
        )
    });
    assert_refused(&node, 20, "multiplies");
    // A tree with long names that contains itself: the paths alone would take
    // gigabytes.
    let node = node_with_trees(|id| {
        let name = "n".repeat(200);
        let entries = [
            json!({"name": format!("a{name}"), "object_id": id}),
            json!({"name": format!("b{name}"), "object_id": id}),
        ];
        object(id, "GitTreeObject", &json!({"entries": entries}))
    });
    assert_refused(&node, 20, "multiplies");
    // New objects each time.
    let node = node_with_trees(|id| {
        let number = u64::from_str_radix(id.trim_start_matches("0x"), 16).unwrap();
        let entries = (0..400).map(|n| {
            let to = format!("0x{:x}", number * 1000 + n + 1);
            json!({"name": format!("d{n}"), "object_id": full_id(&to)})
        });
        object(
            id,
            "GitTreeObject",
            &json!({"entries": entries.collect::<Vec<_>>()}),
        )
    });
    assert_refused(&node, 2100, "exceeds a limit");
}

#[test]
fn large_file_at_many_paths_is_held_once_in_memory() {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(vec![7; 150_000]);
    let node = node_with_trees(move |id| {
        let tree = |to: &str, count: usize| {
            let entries =
                (0..count).map(|n| json!({"name": format!("e{n}"), "object_id": full_id(to)}));
            object(
                id,
                "GitTreeObject",
                &json!({"entries": entries.collect::<Vec<_>>()}),
            )
        };
        match id {
            id if *id == full_id("0x30") => tree("0x31", 300),
            id if *id == full_id("0x31") => tree("0x32", 300),
            id => object(
                id,
                "GitBlobObject",
                &json!({"size": "150000", "storage_type": 0, "hash": "", "inline_content": content}),
            ),
        }
    });
    let (fine, output) = read_repository(&node);
    assert!(fine, "{output}");
}

#[test]
fn long_slow_or_deeply_nested_responses_are_refused() {
    assert_refused(
        &FakeServer::with_handler(|_, _| endless_body(None)),
        5,
        "exceeds a limit",
    );
    let slow = FakeServer::with_handler(|_, _| endless_body(Some(Duration::from_millis(100))));
    assert_refused(&slow, 5, "unavailable");
    let deep = format!("{{\"data\": {}", "[".repeat(1_000_000));
    assert_refused(
        &FakeServer::with_handler(move |_, _| answer(&deep)),
        5,
        "the response is not GraphQL",
    );
    // A short response that takes much memory.
    let wide = format!(
        "{{\"data\": {{\"multiGetObjects\": [{}0]}}}}",
        "0,".repeat(1_900_000)
    );
    let (fine, output) = read_repository(&FakeServer::with_handler(move |_, _| answer(&wide)));
    assert!(!fine, "{output}");
}

#[test]
fn jointly_oversized_objects_are_requested_individually() {
    let node = node_with_trees(|id| match id {
        id if *id == full_id("0x30") => {
            let entries = (0..40).map(
                |n| json!({"name": format!("e{n}"), "object_id": full_id(&format!("0x10{n:02}"))}),
            );
            object(
                id,
                "GitTreeObject",
                &json!({"entries": entries.collect::<Vec<_>>()}),
            )
        }
        id => object(
            id,
            "GitBlobObject",
            &json!({"size": "50000", "storage_type": 0, "hash": "", "inline_content": vec![200; 50_000]}),
        ),
    });
    let (fine, output) = read_repository_within(&node, 30);
    assert!(fine, "{output}");
}

#[test]
fn objects_that_expand_in_memory_are_not_retained() {
    // Two bytes of a number take thirty in memory: a gigabyte in total.
    let content = format!("[{}1]", "1,".repeat(449_999));
    let node = FakeServer::with_handler(move |request, _| {
        let Some(keys) = keys(request) else {
            return answer(page(Vec::new(), None));
        };
        let found = keys.iter().map(|id| match id {
            id if *id == full_id("0x1") => repository(id),
            id if *id == full_id("0x40") => commit(id),
            id if *id == full_id("0x30") => {
                let entries = (0..60).map(
                    |n| json!({"name": format!("e{n}"), "object_id": full_id(&format!("0x10{n:02}"))}),
                );
                let entries: Vec<_> = entries.collect();
                object(id, "GitTreeObject", &json!({"entries": entries}))
            }
            id => object(
                id,
                "GitBlobObject",
                &json!({"size": "450000", "storage_type": 0, "hash": "", "inline_content": "HERE"}),
            ),
        });
        let text = objects(found.collect()).to_string();
        answer(text.replace("\"HERE\"", &content))
    });
    let (fine, output) = read_repository_within(&node, 30);
    assert!(fine, "{output}");
}

#[test]
fn values_of_the_wrong_type_are_errors() {
    let wrong = [
        json!(null),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!({}),
        json!([[]]),
        json!({"id": -5}),
        json!("0x"),
        json!("-7"),
        json!(true),
    ];
    for value in wrong {
        let fields = [
            (
                "GitCommitObject",
                json!({"tree_id": value, "parent_commit_id": value, "timestamp": value}),
            ),
            (
                "Repository",
                json!({"latest_commit_manifest_cid": value, "default_branch": value}),
            ),
            (
                "Repository",
                json!({"head_commit_id": value, "branches": value, "tags": value}),
            ),
        ];
        for (kind, fields) in fields {
            let node = FakeServer::with_handler(move |request, _| match keys(request) {
                Some(keys) => answer(objects(
                    keys.iter().map(|id| object(id, kind, &fields)).collect(),
                )),
                None => answer(page(Vec::new(), None)),
            });
            let (_, output) = read_repository(&node);
            assert!(node.requests().len() < 10, "{output}");
        }
        for entry in [
            json!({"entries": value}),
            json!({"entries": [{"name": value, "object_id": value}]}),
            json!({"size": value, "storage_type": 0, "inline_content": value, "hash": value}),
            json!({"size": "1", "storage_type": value, "inline_content": "YQ==", "hash": ""}),
            json!({"size": value, "storage_type": 1, "walrus_blob_id": value, "hash": value}),
        ] {
            let node = node_with_trees(move |id| object(id, "GitTreeOrBlob", &entry));
            read_repository(&node);
        }
    }
    // Complete responses of the wrong type.
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{\"data\": []}",
        "{\"data\": -1}",
        "{\"errors\": 5}",
        "{\"data\": {\"multiGetObjects\": {}}}",
        "\u{0}",
        "<html>",
    ] {
        let node = FakeServer::with_handler(move |_, _| answer(body));
        let (fine, output) = read_repository(&node);
        assert!(!fine, "{body}: {output}");
    }
}

#[test]
fn names_that_git_refuses_are_omitted() {
    let node = FakeServer::with_handler(|request, _| match keys(request) {
        Some(keys) => {
            let found = keys.iter().map(|id| match id {
                id if *id == full_id("0x1") => repository(id),
                id if *id == full_id("0x40") => commit(id),
                id => object(id, "GitTreeObject", &json!({"entries": []})),
            });
            answer(objects(found.collect()))
        }
        None => {
            let names = ["main", "a\u{1b}[2Jb", "../up", "two\nlines", "", "fine"];
            answer(page(names.map(entry).into(), None))
        }
    });
    let world = World::new().with("WALGIT_FS_SUI_RPC", &node.url);
    let done = world.try_run(&["refs", "sui://0x1"]);
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(shown.contains("main") && shown.contains("fine"), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let output = String::from_utf8(done.stderr).unwrap();
    assert!(
        output.contains(r"a\u{1b}[2Jb") && !output.contains('\u{1b}'),
        "{output}"
    );
}
