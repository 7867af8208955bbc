//! Large directories, and many mounts.

use std::collections::BTreeSet;
use std::fs;

use walgit_format::Kind;
use walgit_format::blob::BlobBuilder;
use walgit_format::directory::{self, PlannedContent, PlannedEntry};

use crate::support::{Tree, World};
use crate::synthetic_repository;

#[test]
fn directory_of_200000_entries_is_listed_completely_and_each_is_found() {
    const FILES: u64 = 200_000;
    let world = World::new();
    let entries: Vec<PlannedEntry> = (0..FILES)
        .map(|n| PlannedEntry {
            name: format!("{n:06}").into(),
            kind: Kind::File { executable: false },
            size: 6,
            content: PlannedContent::Inline(format!("{:06}", n / 3).into_bytes().into()),
        })
        .collect();
    let mut builder = BlobBuilder::new();
    let root =
        builder.push_node(&directory::encode_unchecked(&entries, builder.next_node_end()).unwrap());
    let address =
        synthetic_repository::store(world.path(), builder, root, FILES + 1, FILES * 6, &[]);
    let dir = world.mount(&address);
    let names: BTreeSet<_> = (fs::read_dir(&dir).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len() as u64, FILES);
    assert!((0..FILES).all(|n| names.contains(&format!("{n:06}"))));
    for n in [0, 1, 99_999, 123_456, FILES - 1] {
        let text = fs::read_to_string(dir.join(format!("{n:06}"))).unwrap();
        assert_eq!(text, format!("{:06}", n / 3));
    }
}

#[test]
fn one_daemon_serves_fifty_mounts() {
    let world = World::new();
    let trees: Vec<(Tree, String)> = (0..5)
        .map(|n| {
            let tree =
                Tree::new()
                    .file("text", format!("of tree {n}"))
                    .noise("deep/noise", 100_000, n);
            let address = world.publish(tree.path(), &format!("tree-{n}"));
            (tree, address["address"].as_str().unwrap().to_owned())
        })
        .collect();
    let mounts: Vec<_> = (trees.iter().cycle().take(50))
        .map(|(tree, address)| (tree, world.mount(address)))
        .collect();
    let status = world.json(&["status"]);
    assert_eq!(status["mounts"].as_array().unwrap().len(), 50);
    std::thread::scope(|scope| {
        for (tree, dir) in &mounts {
            scope.spawn(|| crate::support::tree::assert_same(tree.path(), dir));
        }
    });
    // A single process, which exits with the last mount.
    let daemon = world.daemon();
    mounts.iter().for_each(|(_, dir)| world.unmount(dir));
    assert_eq!(world.json(&["status"])["mounts"], serde_json::json!([]));
    assert_eq!(world.daemon(), daemon);
}
