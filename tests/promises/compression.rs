//! Published content is compressed according to its kind, reproducibly.

use std::fmt::Write as _;
use std::fs;

use crate::support::tree::{assert_same, noise};
use crate::support::{Tree, World};

/// Many small similar files.
fn similar_files(count: usize) -> Tree {
    (0..count).fold(Tree::new(), |tree, n| {
        let mut code = String::from("use std::collections::BTreeMap;\nuse std::io::Result;\n\n");
        for line in 0..25 {
            let seed = n * 31 + line * 7;
            let _ = writeln!(
                code,
                "pub fn value_{seed}(input: &BTreeMap<u64, String>) -> Result<usize> {{\n    \
                 Ok(input.values().filter(|it| it.len() > {line}).count() + {seed})\n}}"
            );
        }
        tree.file(format!("src/m{n:03}/mod.rs"), code)
    })
}

fn stored(report: &serde_json::Value) -> u64 {
    report["bytes_stored"].as_u64().unwrap()
}

fn raw(tree: &Tree) -> u64 {
    let list = walk(tree.path());
    list.iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum()
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => walk(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn equal_input_produces_equal_blobs() {
    let tree = similar_files(120).noise("noise", 900_000, 5).commit("one");
    let tree = tree
        .file("src/m001/mod.rs", "fn changed() {}\n".repeat(40))
        .commit("two");
    let addresses = [(), ()].map(|()| {
        let world = World::new();
        let report = world.publish(tree.path(), "it");
        report["address"].as_str().unwrap().to_owned()
    });
    assert_eq!(addresses[0], addresses[1]);
}

#[test]
fn similar_small_files_are_compressed_with_a_shared_dictionary() {
    let world = World::new();
    let (few, many) = (similar_files(150), similar_files(300));
    let one = stored(&world.publish(few.path(), "few"));
    let both = stored(&world.publish(many.path(), "many"));
    // On its own such a file shrinks to a quarter; half of these are stored already,
    // and the others use the dictionary of the first half.
    assert!(one < raw(&few) / 6, "{one} of {}", raw(&few));
    assert!(both < raw(&many) / 6, "{both} of {}", raw(&many));
    assert_same(few.path(), &world.mount("few"));
    assert_same(many.path(), &world.mount("many"));
}

#[test]
fn later_publish_reuses_the_previous_dictionary() {
    let world = World::new();
    let mut tree = similar_files(200);
    world.publish(tree.path(), "it");
    for n in 0..5 {
        let one = similar_files(1);
        let code = fs::read_to_string(one.path().join("src/m000/mod.rs")).unwrap();
        let code = code.replace("value_", &format!("other_{n}_"));
        tree = tree.file(format!("src/new{n}.rs"), code);
        let report = world.publish(tree.path(), "it");
        // Directories and one file: the dictionary is not stored again.
        assert!(stored(&report) < 70_000, "{report}");
    }
    let fresh = World::new();
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let blob = blob.unwrap();
        fs::create_dir_all(fresh.blobs()).unwrap();
        fs::copy(blob.path(), fresh.blobs().join(blob.file_name())).unwrap();
    }
    let address = world.json(&["refs"])[0]["address"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_same(tree.path(), &fresh.mount(&address));
}

#[test]
fn incompressible_content_is_stored_uncompressed() {
    let world = World::new();
    let tree = Tree::new()
        .file("noise", noise(700_000, 3))
        .file("text", "text ".repeat(9000));
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    let blobs: Vec<Vec<u8>> = (fs::read_dir(world.blobs()).unwrap())
        .filter_map(|it| fs::read(it.unwrap().path()).ok())
        .collect();
    let plain = |part: &[u8]| {
        let mut windows = blobs.iter().flat_map(|blob| blob.windows(part.len()));
        windows.any(|window| window == part)
    };
    assert!(plain(&noise(700_000, 3)[300_000..300_064]));
    assert!(!plain("text ".repeat(900).as_bytes()));
    assert_same(tree.path(), &dir);
}

#[test]
fn best_compression_is_no_larger_and_reads_the_same() {
    let world = World::new();
    let tree = similar_files(150).file(
        "long.txt",
        (0..40_000)
            .map(|n| format!("{n} {}\n", n * n))
            .collect::<String>(),
    );
    let usual = stored(&world.publish(tree.path(), "usual"));
    let path = tree.path().to_str().unwrap();
    let other = World::new();
    let best = stored(&other.json(&["publish", path, "--name", "best", "--best"]));
    assert!(best <= usual, "{best} {usual}");
    assert_same(tree.path(), &other.mount("best"));
}
