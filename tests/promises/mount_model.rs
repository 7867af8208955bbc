//! Reference model: for any published tree, the mount shows exactly that tree.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::tree::assert_same;
use crate::support::{Tree, World};

#[derive(Clone, Debug)]
enum Item {
    File {
        len: usize,
        seed: u64,
        text: bool,
        executable: bool,
    },
    Link(String),
    Folder,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-e]{1,2}",
        2 => "[a-z]{1,12}\\.(rs|md|txt)",
        1 => "[ -.0-~äöü€]{1,20}".prop_filter("no dots alone", |name| {
            name != "." && name != ".." && !name.eq_ignore_ascii_case(".git")
        }),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    // Sizes around every limit: inline, one chunk, cut, many chunks.
    let len = prop_oneof![
        Just(0usize),
        1usize..300,
        250usize..260,
        300usize..50_000,
        Just(1 << 20),
        Just((1 << 20) + 1),
        1_100_000usize..3_000_000
    ];
    prop_oneof![
        8 => (len, any::<u64>(), any::<bool>(), any::<bool>())
            .prop_map(|(len, seed, text, executable)| Item::File { len, seed, text, executable }),
        1 => "[a-z/.]{1,40}".prop_map(Item::Link),
        1 => Just(Item::Folder),
    ]
}

fn tree() -> impl Strategy<Value = BTreeMap<Vec<String>, Item>> {
    let path = proptest::collection::vec(name(), 1..5);
    proptest::collection::btree_map(path, item(), 0..25)
}

fn build(items: &BTreeMap<Vec<String>, Item>) -> Tree {
    let mut tree = Tree::new();
    for (path, item) in items {
        let name = path.join("/");
        // Items that conflict with an earlier one are omitted.
        let parents: Vec<_> = (1..path.len())
            .map(|n| tree.path().join(path[..n].join("/")))
            .collect();
        let blocked = parents
            .iter()
            .any(|p| p.symlink_metadata().is_ok_and(|m| !m.is_dir()));
        if blocked || tree.path().join(&name).symlink_metadata().is_ok() {
            continue;
        }
        tree = match item {
            Item::Folder => tree.folder(&name),
            Item::Link(target) => tree.link(&name, target),
            Item::File {
                len,
                seed,
                text: true,
                executable,
            } => {
                let line = format!("line {seed} of a text\n");
                let content: String = line.chars().cycle().take(*len).collect();
                match executable {
                    true => tree.program(&name, &content),
                    false => tree.file(&name, content),
                }
            }
            Item::File { len, seed, .. } => tree.noise(&name, *len, *seed),
        };
    }
    tree
}

#[test]
fn mount_shows_exactly_the_published_tree() {
    let world = World::new();
    let mut runner = TestRunner::new(Config {
        cases: 12,
        ..Config::default()
    });
    let cases = (tree(), tree(), any::<bool>());
    let ran = runner.run(&cases, |(first, second, git)| {
        // Twice under one name, so that the second reuses the first.
        for items in [first, second] {
            let tree = build(&items);
            let tree = if git { tree.commit("generated") } else { tree };
            world.publish(tree.path(), "it");
            let dir = world.mount("it");
            if git {
                let checkout = world.path().join("checkout");
                let _ = fs::remove_dir_all(&checkout);
                tree.git(&["clone", "-q", ".", checkout.to_str().unwrap()]);
                assert_same(&checkout, &dir);
            } else {
                assert_same(tree.path(), &dir);
            }
            world.unmount(&dir);
            fs::remove_dir(&dir).unwrap();
        }
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn arbitrary_reads_equal_the_checkout() {
    let world = World::new();
    let tree = Tree::new()
        .file("tiny", "tiny")
        .noise("one-chunk", 900_000, 1)
        .noise("cut", 2_500_000, 2)
        .noise("listed", 24 << 20, 3);
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let names = ["tiny", "one-chunk", "cut", "listed"];
    let files: Vec<_> = names
        .iter()
        .map(|name| {
            let open = |dir: &std::path::Path| fs::File::open(dir.join(name)).unwrap();
            (open(tree.path()), open(&dir))
        })
        .collect();
    let mut runner = TestRunner::new(Config {
        cases: 300,
        ..Config::default()
    });
    let reads = (0..names.len(), 0u64..(26 << 20), 0usize..300_000);
    let ran = runner.run(&reads, |(file, at, len)| {
        let (expected, found) = &files[file];
        let size = expected.metadata().unwrap().len();
        let at = at % (size + 10);
        let read = |file: &fs::File| {
            let mut part = vec![0; len];
            let got = file.read_at(&mut part, at).unwrap();
            part.truncate(got);
            part
        };
        prop_assert!(
            read(expected) == read(found),
            "{} at {at}+{len}",
            names[file]
        );
        Ok(())
    });
    ran.unwrap();
}
