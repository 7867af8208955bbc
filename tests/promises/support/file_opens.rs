//! A program that opens files.

use std::fs;
use std::path::Path;

use super::Tree;

/// Files of a program, each too large to be fetched with another one, and their names.
pub(crate) fn program_files() -> (Tree, Vec<String>) {
    let mut tree = Tree::new();
    let mut names = Vec::new();
    for n in 0..200u64 {
        let name = format!("p{:02}/module-{n:03}", n * 7 % 20);
        tree = tree.noise(&name, 40_000, n);
        names.push(name);
    }
    (tree.commit("a program"), names)
}

/// Names in a pseudo-random order.
pub(crate) fn shuffled(mut names: Vec<String>) -> Vec<String> {
    names.sort_by_key(|name| *blake3::hash(name.as_bytes()).as_bytes());
    names
}

/// Opens files in this order, with pauses like a program that also computes.
pub(crate) fn open_in_order(dir: &Path, order: &[String]) {
    for name in order {
        assert_eq!(fs::read(dir.join(name)).unwrap().len(), 40_000);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
