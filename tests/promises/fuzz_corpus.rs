//! Replays `fuzz/corpus`, which holds every input that reached new code: each check
//! passes on each input.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use walgit_format::chunk::{PrivateKeys, SecretKey, seal_payload};
use walrus_encoding::quilt::{self, Member};

use crate::format::nodes;

#[path = "../../fuzz/checks.rs"]
mod checks;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

#[test]
fn decoders_survive_the_fuzzing_corpus() {
    // Set by hand for a new check, to write its first inputs.
    if std::env::var_os("WALGIT_FS_WRITE_CORPUS").is_some() {
        write_seeds();
    }
    for (name, check) in checks::ALL {
        let mut inputs = 0;
        for entry in fs::read_dir(Path::new(CORPUS).join(name)).unwrap() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let done = std::panic::catch_unwind(|| check(&input));
            assert!(done.is_ok(), "{} breaks a promise", path.display());
            inputs += 1;
        }
        assert_ne!(inputs, 0, "fuzz/corpus/{name} is empty");
    }
}

#[test]
fn every_corpus_directory_has_a_fuzz_check() {
    let mut names: Vec<_> = fs::read_dir(CORPUS)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, checks::ALL.map(|(name, _)| name));
}

/// A few valid inputs for each check.
fn write_seeds() {
    let seed = |check: &str, number: usize, input: &[u8]| {
        let dir = Path::new(CORPUS).join(check);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("seed-{number}")), input).unwrap();
    };
    let [head, root, below, list] = nodes().try_into().unwrap();
    seed("head", 0, &head);
    seed("directory", 0, &root);
    seed("directory", 1, &below);
    seed("list", 0, &list);
    for (number, text) in [
        "walrus://OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0",
        "walrus://OxEGFEyAQVc4UL_-JKbykm5e6YS8kMfjVlEQOahIbY0?root=\
         a458d1551becf1cf96a185d51ab923916715354802e0e2a9e0a4d84eb3c00b34",
        "sui://0x7c0f/feature/x",
        "name/of-a.repository",
        "uIiEbhP2qgZYygEGxJX1GeB-rQATo2yufC2DCp7B4iABAQANAA",
    ]
    .iter()
    .enumerate()
    {
        seed("address", number, text.as_bytes());
    }
    let raw = b"some text, some text, some text".repeat(20);
    let zstd = zstd::bulk::compress(&raw, 3).unwrap();
    let len = &(raw.len() as u32).to_le_bytes()[..3];
    seed("chunk", 0, &[len, &[0], &raw].concat());
    seed("chunk", 1, &[len, &[1], &zstd].concat());
    let sealed = seal_payload(&SecretKey::from_bytes([2; 32]), [9; 12], b"text");
    seed("payload", 0, &sealed.unwrap());
    for (number, key) in [1, 3].into_iter().enumerate() {
        let keys = PrivateKeys::of(&SecretKey::from_bytes([key; 32]));
        seed("private", number, &keys.seal(b"text").unwrap());
    }
    let manifest = format!("{CORPUS}/../../tests/data/walgit/blobs");
    let manifest = format!("{manifest}/vYIqYdDL8Jgj7VFMeSCxW6x24T7dotNLUYAm6ovEkps");
    seed("manifest", 0, &fs::read(manifest).unwrap());
    seed("prior", 0, b"P\x01\x02aaaa\x04bbbb\x04\x01\x01\x04\x00");
    let empty = walgit_prefetch::Profile::default().encode();
    seed("profile", 0, &empty[8..empty.len() - 8]);
    let member = |identifier: &str| Member {
        identifier: identifier.into(),
        tags: [("key".into(), "value".into())].into(),
        content: Bytes::from_static(b"content"),
    };
    let (blob, _) = quilt::encode(vec![member("a"), member("b")]).unwrap();
    seed("quilt", 0, &checks::columns_of(&blob)[..3 * 668]);
    let id = format!("0x{}", "01".repeat(32));
    let object = |kind: &str, fields: serde_json::Value| {
        json!({"data": {"multiGetObjects": [{"address": id, "asMoveObject": {"contents":
            {"type": {"repr": format!("0x2::git::{kind}")}, "json": fields}}}]}})
    };
    let entries = json!([{"name": "a", "object_id": {"id": "0x3"}}]);
    let table = json!({"data": {"address": {"dynamicFields": {
        "nodes": [{"name": {"json": "main"}, "value": {"json": {"id": "0x4"}}}],
        "pageInfo": {"hasNextPage": true, "endCursor": "x"}}}}});
    for (number, answer) in [
        object(
            "Repository",
            json!({"head_commit_id": {"vec": ["0x2"]}, "branches": {"id": "0x3"}}),
        ),
        object(
            "GitCommitObject",
            json!({"tree_id": "0x2", "timestamp": "1700000000000"}),
        ),
        object("GitTreeObject", json!({"entries": entries})),
        object(
            "GitBlobObject",
            json!({"size": "3", "storage_type": 0, "inline_content": "YWJj"}),
        ),
        json!({"data": {"size": 3, "storage_type": 0, "inline_content": [97, 98, 99]}}),
        json!({"errors": [{"message": "no"}]}),
        table,
    ]
    .iter()
    .enumerate()
    {
        seed("chain", number, answer.to_string().as_bytes());
    }
}
