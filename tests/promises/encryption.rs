//! Repositories published with `--encrypt` work like others for holders of the key, and
//! reveal nothing to anyone else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use walgit_format::chunk::{BlobId, ByteRange, PrivateKeys, SecretKey, private_len};
use walrus_client::{
    BlobReader as _, BlobWriter as _, EncryptedHeaders, EncryptedStore, LocalDir, PutOptions,
    ReadRange, StoreError,
};
use walrus_encoding::blob_id::blob_id;

use crate::support::manifests::{address_of, fixture, manifests, world_with_fixture};
use crate::support::tree::{assert_same, noise};
use crate::support::world::mount_table;
use crate::support::{Lie, LyingGateway, Server, Tree, World, block_on, eventually};

const SECRET: &str = "a secret line that must never be readable on the disk\n";
const NAME: &str = "a-name-that-tells-too-much";

/// Without a session bus, keys go to sealed files and the user's own keyring is not
/// touched.
fn without_session_bus(world: World) -> World {
    world.with("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
}

fn sample() -> Tree {
    Tree::new()
        .file(format!("{NAME}/inline"), SECRET)
        .file(format!("{NAME}/chunked"), SECRET.repeat(500))
        .file("empty", "")
        .link("link", NAME)
        .program("bin/run", "#!/bin/sh\necho hi\n")
        .noise("noise", 300_000, 1)
        .noise("a-blob-of-its-own", 9 << 20, 2)
        .noise("what-makes-it-more-than-a-blob", 1 << 20, 3)
        .commit("a message that tells too much")
}

#[track_caller]
fn publish(world: &World, tree: &Tree, more: &[&str]) -> Value {
    let path = tree.path().to_str().unwrap();
    world.json(&[&["publish", path, "--name", "it", "--force"], more].concat())
}

/// A file that contains the key of a repository.
fn key_file(world: &World, published: &Value) -> PathBuf {
    let name = published["key"]["name"].as_str().unwrap();
    let path = world.path().join(format!("{name}.hex"));
    fs::write(&path, world.run(&["key", "show", name])).unwrap();
    path
}

/// Every file below some directories.
fn files(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let (mut pending, mut found) = (dirs.to_vec(), Vec::new());
    while let Some(path) = pending.pop() {
        match path.is_dir() {
            true => pending.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path())),
            false => found.push(path),
        }
    }
    found
}

#[track_caller]
fn assert_absent(dirs: &[PathBuf], needles: &[&[u8]]) {
    let mut seen = 0;
    for file in files(dirs) {
        let bytes = fs::read(&file).unwrap_or_default();
        seen += bytes.len();
        for needle in needles {
            let found = bytes.windows(needle.len()).any(|part| part == *needle);
            let what = String::from_utf8_lossy(needle);
            assert!(!found, "{what} is in {}", file.display());
        }
    }
    assert!(seen > 1000, "the cache has content");
}

#[test]
fn encrypted_repository_mounts_with_its_key_and_is_unchanged() {
    let world = without_session_bus(World::new());
    let tree = sample();
    let published = publish(&world, &tree, &["--encrypt"]);
    assert_eq!(published["encrypted"], true);
    assert_eq!(published["key"]["made"], true);
    assert_eq!(published["key"]["name"], "local.it");
    // Its key is found automatically.
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    let table = mount_table();
    let line = table
        .lines()
        .find(|line| line.contains(&dir.display().to_string().replace(' ', "\\040")));
    // The kernel escapes `#`.
    assert!(line.unwrap().starts_with("encrypted\\043"), "{line:?}");
    world.unmount(&dir);
    // The same by address.
    let dir = world.mount(published["address"].as_str().unwrap());
    assert_same(tree.path(), &dir);
    let commit = tree.git(&["rev-parse", "HEAD"]);
    assert!(world.run(&["log", "it"]).contains("tells too much"));
    assert!(world.run(&["refs", "it"]).contains(&commit));
    let cost = world.json(&["cost", "it"]);
    assert_eq!(cost["now"]["billed"], published["bytes_billed"]);
    assert_eq!(cost["now"]["blobs"], published["blobs_uploaded"]);
    let doctor = world.json(&["doctor"]);
    assert_eq!(doctor["ok"], true, "{doctor}");
    world.unmount(&dir);
    // And without a root.
    let bare = format!("walrus://{}", published["blob"].as_str().unwrap());
    assert_same(tree.path(), &world.mount(&bare));
}

#[test]
fn missing_or_wrong_key_opens_nothing_and_names_the_remedy() {
    let world = without_session_bus(World::new());
    let tree = sample();
    let published = publish(&world, &tree, &["--encrypt"]);
    let key = key_file(&world, &published);
    let address = published["address"].as_str().unwrap();
    let bare = address.split('?').next().unwrap();
    world.run(&["key", "remove", "local.it", "--force"]);
    let wrong = world.path().join("wrong");
    fs::write(&wrong, [7; 32]).unwrap();
    world.run(&["cache", "clear"]);
    for address in ["it", address, bare] {
        let dir = world.mountpoint();
        let dir = dir.to_str().unwrap();
        let output = world.fail(&["mount", address, dir]);
        assert!(
            output.contains("encrypted") && output.contains("--key FILE"),
            "{output}"
        );
        let output = world.fail(&["mount", address, dir, "--key", wrong.to_str().unwrap()]);
        assert!(output.contains("a different key"), "{output}");
        world.run(&["mount", address, dir, "--key", key.to_str().unwrap()]);
        assert_same(tree.path(), Path::new(dir));
        world.unmount(Path::new(dir));
        // Cached content is locked, too.
        let output = world.fail(&["mount", address, dir]);
        assert!(output.contains("--key FILE"), "{output}");
    }
    for command in ["log", "cost", "refs"] {
        let output = world.fail(&[command, "it"]);
        assert!(output.contains("--key FILE"), "{output}");
        world.run(&[command, "it", "--key", key.to_str().unwrap()]);
    }
    // Without the key, a publish does not continue in plaintext.
    let path = tree.path().to_str().unwrap();
    let output = world.fail(&["publish", path, "--name", "it"]);
    assert!(output.contains("key is not stored here"), "{output}");
    // Damage is not reported as a wrong key.
    let blob = world.blobs().join(published["blob"].as_str().unwrap());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[20] ^= 1;
    fs::write(&blob, bytes).unwrap();
    world.run(&["cache", "clear"]);
    let dir = world.mountpoint();
    let key = key.to_str().unwrap();
    let output = world.fail(&["mount", address, dir.to_str().unwrap(), "--key", key]);
    assert!(output.contains("damaged"), "{output}");
}

#[test]
fn storage_and_disk_reveal_no_plaintext() {
    let server = Server::start();
    let world = without_session_bus(World::on(&server));
    let tree = sample();
    let published = publish(&world, &tree, &["--encrypt"]);
    let dir = world.mount("it");
    assert_same(tree.path(), &dir);
    let folder = dir.join(NAME);
    world.run(&["cache", "pin", folder.to_str().unwrap()]);
    world.unmount(&dir);
    world.crash();
    let chunk = SECRET.repeat(500);
    let noise = noise(300_000, 1);
    let hash = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    let (inline, chunked, noisy) = (
        hash(SECRET.as_bytes()),
        hash(chunk.as_bytes()),
        hash(&noise),
    );
    let hex = blake3::Hash::from_bytes(chunked).to_hex();
    let commit = tree.git(&["rev-parse", "HEAD"]);
    let raw: Vec<u8> = (0..20)
        .map(|i| u8::from_str_radix(&commit[2 * i..2 * i + 2], 16).unwrap())
        .collect();
    let key = world.run(&["key", "show", published["key"]["name"].as_str().unwrap()]);
    let needles = [
        SECRET.trim().as_bytes(),
        NAME.as_bytes(),
        b"a-blob-of-its-own",
        b"tells too much",
        b"WALGITFS",
        &noise[1000..1040],
        &inline,
        &chunked,
        &noisy,
        hex.as_bytes(),
        &raw,
        key.trim().as_bytes(),
    ];
    let stored = server.blobs().parent().unwrap().to_owned();
    assert_absent(&[stored], &needles);
    let kept = ["cache", "state"].map(|dir| world.path().join(dir));
    assert_absent(&kept, &needles);
    // It is cached: the next session needs the key and no network.
    server.clear_requests();
    assert_same(tree.path(), &world.mount("it"));
    assert!(
        server.requests("GET").is_empty(),
        "{:?}",
        server.requests("")
    );
}

#[test]
fn encrypted_content_is_reported_as_cached() {
    let server = Server::start();
    let world = without_session_bus(World::on(&server));
    let tree = (0..12).fold(Tree::new(), |tree, n| {
        tree.noise(&format!("d/{n:02}"), 200_000, n)
    });
    publish(&world, &tree, &["--encrypt"]);
    world.run(&["cache", "clear"]);
    let dir = world.mount("it");
    let warm = |dir: &Path| world.json(&["cache", "warm", dir.to_str().unwrap()]);
    let cached = |dir: &Path| xattr::get(dir.join("d/07"), "user.walgit.cached").unwrap();
    assert_eq!(cached(&dir).as_deref(), Some(&b"no"[..]));
    assert!(warm(&dir)["fetched"].as_u64() > Some(0));
    assert_eq!(warm(&dir)["fetched"], 0);
    assert_eq!(cached(&dir).as_deref(), Some(&b"yes"[..]));
    world.unmount(&dir);
    world.crash();
    server.clear_requests();
    let dir = world.mount("it");
    assert_eq!(cached(&dir).as_deref(), Some(&b"yes"[..]), "on disk only");
    assert_eq!(warm(&dir)["fetched"], 0);
    // A walk preloads it into memory.
    let stats = || world.json(&["cache", "stats"]);
    assert_eq!(fs::read_dir(dir.join("d")).unwrap().count(), 12);
    for n in 0..4 {
        fs::read(dir.join(format!("d/{n:02}"))).unwrap();
    }
    eventually("the next files are preloaded", || {
        stats()["preloaded"].as_u64() > Some(0)
    });
    assert_eq!(server.requests("GET"), Vec::<String>::new());
}

#[test]
fn encrypted_mount_and_first_read_need_no_extra_requests() {
    let server = Server::start();
    let world = without_session_bus(World::on(&server));
    let tree = Tree::new().file("a", "text ".repeat(1000)).file("d/b", "b");
    publish(&world, &tree, &["--encrypt"]);
    world.run(&["cache", "clear"]);
    server.clear_requests();
    assert_same(tree.path(), &world.mount("it"));
    server.assert_read_count(1);
}

#[test]
fn encrypted_change_is_one_blob_and_the_mount_follows() {
    let world = without_session_bus(World::new());
    let tree = sample();
    let first = publish(&world, &tree, &["--encrypt"]);
    let again = publish(&world, &tree, &[]);
    assert_eq!(again["unchanged"], true, "{again}");
    assert_eq!(again["encrypted"], true);
    assert_eq!(again["address"], first["address"]);
    let dir = world.mountpoint();
    world.run(&["mount", "--follow=1", "it", dir.to_str().unwrap()]);
    assert_same(tree.path(), &dir);
    let tree = tree.file("bin/added", "changed").commit("second");
    let trial = publish(&world, &tree, &["--dry-run"]);
    let second = publish(&world, &tree, &[]);
    assert_eq!(second["encrypted"], true);
    assert_eq!(second["key"]["made"], false);
    assert_eq!(second["blobs_uploaded"], 1, "{second}");
    assert_eq!(second["bytes_stored"].as_u64(), private_len(65_536));
    assert_eq!(trial["bytes_stored"], second["bytes_stored"]);
    eventually("the mount has moved", || dir.join("bin/added").exists());
    assert_same(tree.path(), &dir);
    assert_eq!(world.json(&["key", "list"]).as_object().unwrap().len(), 1);
}

#[test]
fn same_input_and_key_produce_same_blobs_so_a_publish_resumes() {
    let world = without_session_bus(World::new());
    let tree = sample();
    let first = publish(&world, &tree, &["--encrypt"]);
    // As if it had been killed before it set the name.
    world.run(&["refs", "--remove", "it"]);
    let second = publish(&world, &tree, &["--encrypt"]);
    assert_eq!(second["address"], first["address"]);
    assert_eq!(second["bytes_stored"], 0);
    assert_eq!(second["key"]["made"], false);
    // With another key all blobs differ.
    let file = world.path().join("key");
    fs::write(&file, [9; 32]).unwrap();
    let path = tree.path().to_str().unwrap();
    let key = file.to_str().unwrap();
    let other = world.json(&[
        "publish",
        path,
        "--name",
        "other",
        "--encrypt",
        "--key",
        key,
    ]);
    assert_eq!(other["blobs_present"], 0, "{other}");
    assert_ne!(other["root"], first["root"]);
    assert_same(tree.path(), &world.mount("other"));
}

#[test]
fn name_changes_between_private_and_public_only_on_request_and_shares_nothing() {
    let world = without_session_bus(World::new());
    let tree = sample();
    let path = tree.path().to_str().unwrap();
    let public = publish(&world, &tree, &[]);
    assert_eq!(public["encrypted"], false);
    let output = world.fail(&["publish", path, "--name", "it", "--encrypt"]);
    assert!(output.contains("--fresh"), "{output}");
    assert_eq!(world.json(&["key", "list"]), serde_json::json!({}));
    let file = world.path().join("key");
    fs::write(&file, [9; 32]).unwrap();
    // Otherwise the command warns that others can read it.
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let key = file.to_str().unwrap();
    let output = world.fail(&["publish", path, "--name", "it", "--key", key]);
    assert!(output.contains("--encrypt"), "{output}");
    let private = publish(&world, &tree, &["--encrypt", "--fresh"]);
    assert_eq!(private["blobs_present"], 0, "{private}");
    assert_same(tree.path(), &world.mount("it"));
    // Another key is another repository.
    let output = world.fail(&["publish", path, "--name", "it", "--encrypt", "--key", key]);
    assert!(
        output.contains("encrypted with a different key"),
        "{output}"
    );
    let rotated = publish(&world, &tree, &["--encrypt", "--key", key, "--fresh"]);
    assert_eq!(rotated["blobs_present"], 0, "{rotated}");
    // The earlier key is kept.
    assert_ne!(rotated["key"]["name"], private["key"]["name"]);
    let older = private["address"].as_str().unwrap();
    assert_same(tree.path(), &world.mount(older));
    let tree = tree.file("bin/added", "more").commit("second");
    assert_eq!(publish(&world, &tree, &[])["encrypted"], true);
    let clear = publish(&world, &tree, &["--plaintext"]);
    assert_eq!(clear["encrypted"], false);
    let head = fs::read(world.blobs().join(clear["blob"].as_str().unwrap())).unwrap();
    assert!(head.starts_with(b"WALGITFS"));
    let after = publish(&world, &tree, &[]);
    assert_eq!(after["unchanged"], true);
}

#[test]
fn corrupting_gateway_is_skipped_for_encrypted_blobs() {
    let server = Server::start();
    let world = without_session_bus(World::on(&server));
    let tree = sample();
    publish(&world, &tree, &["--encrypt"]);
    for lie in [Lie::Flip, Lie::Truncate, Lie::Pad, Lie::Swap] {
        let liar = LyingGateway::in_front_of(&server.url, lie);
        let reader = without_session_bus(World::new().reading(&[&liar.url, &server.url]));
        let kept = world.path().join("data/walgit-fs");
        let theirs = reader.path().join("data/walgit-fs");
        copy(&kept, &theirs);
        let dir = reader.mount("it");
        assert_same(tree.path(), &dir);
    }
}

/// Copies names and keys of a user.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let done = std::process::Command::new("cp")
        .args(["-a", "-T"])
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn encrypted_manifest_repository_is_rewritten_encrypted() {
    let world = without_session_bus(world_with_fixture());
    let [_, second] = manifests("encrypted");
    let dek = fixture("dek.hex");
    let from = address_of(&second);
    let args = [
        "publish",
        "--from",
        &from,
        "--name",
        "it",
        "--key",
        dek.to_str().unwrap(),
    ];
    let output = world.fail(&args);
    assert!(output.contains("--encrypt"), "{output}");
    let done = world.json(&[&args[..], &["--encrypt"]].concat());
    assert_eq!(done["encrypted"], true);
    assert!(done["compared"]["files"].as_u64().unwrap() > 0);
    assert_same(&fixture("expected/2"), &world.mount("it"));
}

/// Implements section 11 of `contrib/FORMAT.md` independently.
fn decrypt_by_specification(key: [u8; 32], stored: &[u8]) -> Vec<u8> {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let derived =
        |of: &str| blake3::derive_key(&format!("walgit-fs 2026 private blob 1: {of}"), &key);
    let (fields, rest) = stored.split_at(48);
    let (check, rest) = rest.split_at(16);
    let (checksum, blocks) = rest.split_at(16);
    assert_eq!(&fields[..12], b"WGSEALED\x01\0\0\0");
    let count = u32::from_le_bytes(fields[12..16].try_into().unwrap());
    assert_eq!(stored.len(), 80 + count as usize * 16_400);
    assert_eq!(checksum, &blake3::hash(&stored[..64]).as_bytes()[..16]);
    let expected = blake3::keyed_hash(&derived("key check"), fields);
    assert_eq!(check, &expected.as_bytes()[..16]);
    let salt = &fields[16..48];
    let own = blake3::keyed_hash(&derived("key of a blob"), salt);
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, own.as_bytes()).unwrap());
    let mut plain = Vec::new();
    for (number, block) in blocks.chunks(16_400).enumerate() {
        let number = (number as u32).to_le_bytes();
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&number);
        let additional = [fields, &number].concat();
        let mut block = block.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = cipher.open_in_place(nonce, Aad::from(additional), &mut block);
        plain.extend_from_slice(opened.unwrap());
    }
    assert_eq!(
        blake3::keyed_hash(&derived("salt"), &plain).as_bytes(),
        salt
    );
    plain
}

#[test]
fn independent_reader_decrypts_according_to_the_specification() {
    let world = without_session_bus(World::new());
    let file = world.path().join("key");
    let key = [9; 32];
    fs::write(&file, key).unwrap();
    let tree = sample();
    let published = publish(
        &world,
        &tree,
        &["--encrypt", "--key", file.to_str().unwrap()],
    );
    let head = published["blob"].as_str().unwrap();
    let mut seen = 0;
    for blob in fs::read_dir(world.blobs()).unwrap() {
        let blob = blob.unwrap();
        let plain = decrypt_by_specification(key, &fs::read(blob.path()).unwrap());
        if blob.file_name() == head {
            assert!(plain.starts_with(b"WALGITFS\x01\0\x01\0"));
            let roots = "walgit-fs 2026 private blob 1: root of an address";
            let roots = blake3::derive_key(roots, &key);
            let root = blake3::keyed_hash(&roots, &plain[24..56]);
            assert_eq!(published["root"], root.to_hex().to_string());
        } else if plain.starts_with(&noise(100, 2)) {
            assert_eq!(plain[..9 << 20], noise(9 << 20, 2), "a separate blob");
        }
        seen += 1;
    }
    assert_eq!(published["blobs_uploaded"], seen);
    // The layout never changes.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/private/seed-0");
    let golden = fs::read(golden).unwrap();
    let keys = PrivateKeys::of(&SecretKey::from_bytes([1; 32]));
    assert_eq!(keys.seal(b"text").unwrap(), golden);
    assert!(decrypt_by_specification([1; 32], &golden).starts_with(b"text\0"));
}

/// A store of one encrypted blob in a directory.
struct SealedBlob {
    dir: tempfile::TempDir,
    plain: Vec<u8>,
    blob: BlobId,
}

impl SealedBlob {
    fn new(len: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plain = noise(len, 5);
        let sealed = SealedBlob {
            dir,
            plain,
            blob: BlobId::from_bytes([0; 32]),
        };
        let (_, store) = sealed.open();
        let body = store.seal(sealed.plain.clone().into()).unwrap();
        let blob = blob_id(&body).unwrap();
        block_on(store.put(blob, body, &PutOptions::default())).unwrap();
        SealedBlob { blob, ..sealed }
    }

    /// The directory, and a store over it that has not read the header yet.
    fn open(&self) -> (LocalDir, EncryptedStore) {
        let local = LocalDir::open(self.dir.path(), 10 << 20).unwrap();
        let key = SecretKey::from_bytes([1; 32]);
        let headers = Arc::new(EncryptedHeaders::default());
        let store = EncryptedStore::new(Arc::new(local.clone()), &key, headers);
        (local, store)
    }
}

fn read(store: &EncryptedStore, blob: BlobId, extent: ReadRange) -> Result<Bytes, StoreError> {
    let mut found = Bytes::new();
    let mut accept = |bytes: Bytes| {
        found = bytes;
        Ok(())
    };
    block_on(store.read(blob, extent, &mut accept))?;
    Ok(found)
}

#[test]
fn store_refuses_data_not_encrypted_with_the_key() {
    let sealed = SealedBlob::new(100);
    let (_, store) = sealed.open();
    let other = EncryptedStore::new(
        Arc::new(sealed.open().0),
        &SecretKey::from_bytes([2; 32]),
        Arc::default(),
    );
    for body in [
        Bytes::from_static(b"plaintext"),
        other.seal(Bytes::new()).unwrap(),
    ] {
        let blob = blob_id(&body).unwrap();
        let refused = block_on(store.put(blob, body, &PutOptions::default()));
        assert!(
            matches!(refused, Err(StoreError::Plaintext { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn range_past_the_end_is_out_of_bounds_with_or_without_known_header() {
    let sealed = SealedBlob::new(200_000);
    let (_, store) = sealed.open();
    for (start, len) in [
        (0, 1 << 20),
        (190_000, 100_000),
        (1 << 40, 1),
        (u64::MAX - 5, 5),
    ] {
        let part = ReadRange::Part(ByteRange::new(start, len));
        for _ in 0..2 {
            let refused = read(&store, sealed.blob, part);
            assert!(
                matches!(refused, Err(StoreError::OutOfRange { .. })),
                "{refused:?}"
            );
        }
    }
    let whole = read(&store, sealed.blob, ReadRange::Whole { at_most: 200_000 }).unwrap();
    assert_eq!(whole, sealed.plain);
    assert!(read(&store, sealed.blob, ReadRange::Whole { at_most: 1000 }).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_range_decrypts_and_every_flipped_bit_is_refused(
        len in 1usize..300_000,
        a in any::<proptest::sample::Index>(),
        b in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let sealed = SealedBlob::new(len);
        let (a, b) = (a.index(len), b.index(len));
        let range = ByteRange::new(a.min(b) as u64, a.abs_diff(b) as u64 + 1);
        let wanted = &sealed.plain[range.start() as usize..range.end() as usize];
        let (local, store) = sealed.open();
        // Without and with a known header.
        for _ in 0..2 {
            prop_assert_eq!(&read(&store, sealed.blob, ReadRange::Part(range)).unwrap()[..], wanted);
        }
        let path = local.blob_path(sealed.blob);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        for store in [&store, &sealed.open().1] {
            if let Ok(found) = read(store, sealed.blob, ReadRange::Part(range)) {
                prop_assert_eq!(&found[..], wanted, "wrong bytes were served");
            }
            let all = ReadRange::Whole { at_most: len as u64 };
            let all = read(store, sealed.blob, all);
            prop_assert!(matches!(all, Err(StoreError::Corrupt { .. })), "{:?}", all);
        }
    }
}
