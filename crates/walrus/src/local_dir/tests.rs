//! State of a directory of blobs after a power loss.

use std::path::Path;

use super::*;
use walgit_durable::power_loss::Recording;
use walgit_durable::write_atomic;

use walrus_encoding::blob_id::blob_id;

const MAX_BODY: u64 = 1 << 20;

fn open(root: &Path) -> LocalDir {
    LocalDir::open(&root.join("store"), MAX_BODY).unwrap()
}

fn write(dir: &LocalDir, body: &[u8], end_epoch: u32) -> BlobId {
    let blob = blob_id(body).unwrap();
    let meta = BlobMeta {
        end_epoch,
        ..BlobMeta::unknown(blob, body.len() as u64, 1)
    };
    dir.write(blob, body, &meta).unwrap();
    blob
}

fn read(dir: &LocalDir, blob: BlobId) -> Option<Bytes> {
    let full_range = ReadRange::Whole { at_most: MAX_BODY };
    dir.read_blocking(blob, full_range).ok()
}

/// Durably writes the blob that a name refers to.
fn set_name(root: &Path, blob: BlobId) {
    write_atomic(&root.join("name"), blob.to_string().as_bytes()).unwrap();
}

fn name(root: &Path) -> BlobId {
    let text = std::fs::read_to_string(root.join("name")).unwrap();
    text.parse().unwrap()
}

#[test]
fn a_name_that_survives_power_loss_refers_to_complete_and_paid_blobs() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = open(scratch.path());
    let before = write(&dir, b"the head before", 9);
    dir.flush_blocking().unwrap();
    set_name(scratch.path(), before);
    let recording = Recording::of(scratch.path());
    let bodies: [&[u8]; 2] = [b"a blob of content", b"the head"];
    let blobs = bodies.map(|body| write(&dir, body, 7));
    dir.flush_blocking().unwrap();
    recording.reported();
    set_name(scratch.path(), blobs[1]);
    recording.reported();
    let states = recording.check_all(|root, reported| {
        let dir = open(root);
        let named = name(root);
        let is_new = named == blobs[1];
        assert!(is_new || named == before && reported < 2, "{named}");
        assert_eq!(read(&dir, before).unwrap(), &b"the head before"[..]);
        for (blob, body) in blobs.iter().zip(bodies) {
            let found = read(&dir, *blob);
            assert!(found.is_some() || !is_new && reported == 0);
            assert!(found.is_none_or(|found| found == body), "torn");
            let meta = dir.meta(*blob);
            assert!(meta.is_some_and(|it| it.end_epoch == 7) || reported == 0);
        }
    });
    assert!(states > 100, "{states}");
}

#[test]
fn flushed_extensions_and_deletions_survive_power_loss() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = open(scratch.path());
    let (extended, deleted) = (write(&dir, b"kept", 2), write(&dir, b"gone", 2));
    dir.flush_blocking().unwrap();
    let recording = Recording::of(scratch.path());
    dir.extend_blocking(extended, 20).unwrap();
    assert!(dir.delete_blocking(deleted).unwrap());
    dir.flush_blocking().unwrap();
    recording.reported();
    dir.advance(3).unwrap();
    recording.reported();
    recording.check_all(|root, reported| {
        let dir = open(root);
        let epoch = dir.present_epoch().unwrap();
        assert!(epoch == 4 || epoch == 1 && reported < 2, "{epoch}");
        let end = dir.meta(extended).unwrap().end_epoch;
        assert!(end == 20 || end == 2 && reported == 0, "{end}");
        assert!(reported == 0 || !dir.blob_path(deleted).exists());
        assert_eq!(read(&dir, extended).unwrap(), &b"kept"[..]);
    });
}
