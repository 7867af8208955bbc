//! Real histories if present: `WALGIT_FS_CORPORA` names a directory of git bundles.

use std::fs;
use std::path::PathBuf;

use crate::support::tree::{assert_same, git};
use crate::support::{Server, World};

#[test]
fn real_repositories_equal_their_checkouts() {
    let Some(corpora) = std::env::var_os("WALGIT_FS_CORPORA").map(PathBuf::from) else {
        eprintln!("no corpora: WALGIT_FS_CORPORA is not set, so only generated trees were tested");
        return;
    };
    let server = Server::start();
    let world = World::on(&server);
    let mut tried = 0;
    for bundle in fs::read_dir(&corpora).unwrap() {
        let bundle = bundle.unwrap().path();
        if bundle.extension().is_none_or(|e| e != "bundle") {
            continue;
        }
        let name = bundle.file_stem().unwrap().to_str().unwrap();
        let checkout = world.path().join(name);
        git(
            world.path(),
            &["clone", "-q", bundle.to_str().unwrap(), name],
        );
        world.publish(&checkout, name);
        let dir = world.mount(name);
        assert_same(&checkout, &dir);
        let log = world.json(&["log", name, "-n", "100000"]);
        let commits = git(&checkout, &["rev-list", "--count", "HEAD"]);
        assert_eq!(log.as_array().unwrap().len().to_string(), commits);
        tried += 1;
    }
    assert!(tried > 0, "{} holds no bundle", corpora.display());
}
