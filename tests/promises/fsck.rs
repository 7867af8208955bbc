//! Fsck finds damage without reading file by file, and reports the affected files.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::manifests::{address_of, manifests, world_with_fixture};
use crate::support::tree::noise;
use crate::support::{Lie, LyingGateway, Server, Tree, World};

/// Runs `fsck`; returns its report and whether it succeeded.
#[track_caller]
pub(super) fn fsck(world: &World, args: &[&str]) -> (Value, bool) {
    let done = world.try_run(&[&["fsck", "--json"], args].concat());
    let output = String::from_utf8_lossy(&done.stderr);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{output}"));
    let sound = report["sound"].as_bool().unwrap();
    assert_eq!(done.status.code(), Some(i32::from(!sound)), "{report}");
    (report, sound)
}

/// Paths that are reported as unreadable.
fn affected(report: &Value) -> Vec<&str> {
    let all = report["report"]["affected"].as_array().unwrap();
    all.iter().map(|it| it["what"].as_str().unwrap()).collect()
}

fn kinds(report: &Value) -> Vec<&str> {
    let all = report["report"]["faults"].as_array().unwrap();
    all.iter().map(|it| it["kind"].as_str().unwrap()).collect()
}

fn count(report: &Value, name: &str) -> u64 {
    report["report"][name].as_u64().unwrap()
}

/// Two blobs: the content of `large/first` fills one.
fn sample() -> Tree {
    (0..100)
        .fold(Tree::new(), |tree, n| {
            tree.noise(&format!("small/{}/{n}", n % 10), 2000 + n as usize, n)
        })
        .noise("large/first", 9 << 20, 1001)
        .noise("large/second", 3 << 20, 1002)
}

/// The blob of a directory that contains these bytes, and their offset.
fn find_blob_with(blobs: &Path, bytes: &[u8]) -> (PathBuf, u64) {
    for entry in fs::read_dir(blobs).unwrap() {
        let path = entry.unwrap().path();
        let content = fs::read(&path).unwrap();
        let found = content
            .windows(bytes.len())
            .position(|window| window == bytes);
        if let Some(at) = found {
            return (path, at as u64);
        }
    }
    panic!("no blob contains these bytes");
}

/// Flips a bit of a stored file.
fn flip_bit(path: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn fsck_reads_everything_and_finds_a_publish_intact() {
    let world = World::new();
    world.publish(sample().path(), "it");
    let (report, sound) = fsck(&world, &["it"]);
    assert!(sound, "{report}");
    assert_eq!(count(&report, "sound"), count(&report, "chunks"));
    assert!(count(&report, "bytes") > 12 << 20);
    assert_eq!(count(&report, "nodes"), 13, "directories: {report}");
    assert!(world.run(&["fsck", "it"]).starts_with("it: sound"));
}

#[test]
fn fsck_reads_a_repository_in_few_requests() {
    let server = Server::start();
    let world = World::on(&server);
    let published = world.publish(sample().path(), "it");
    server.clear_requests();
    let (report, sound) = fsck(&world, &["it", "--remote"]);
    assert!(sound, "{report}");
    assert_eq!(count(&report, "unread"), 0);
    // The first read, reads of up to 4 MiB per blob, and a probe of each.
    let blobs = published["blobs_uploaded"].as_u64().unwrap();
    let most = 2 + 2 * blobs + count(&report, "bytes").div_ceil(4 << 20) + blobs;
    let requests = server.requests("GET").len() + server.requests("HEAD").len();
    assert!(requests as u64 <= most, "{requests} of {most}: {report}");
}

#[test]
fn fsck_without_remote_checks_the_cache_and_probes_the_rest() {
    let server = Server::start();
    let world = World::on(&server).config("[daemon]\nidle_exit_s = 0\n");
    let tree = sample();
    world.publish(tree.path(), "it");
    let dir = world.mount("it");
    fs::read(dir.join("small/3/33")).unwrap();
    world.unmount_and_wait_for_exit(&dir);
    server.clear_requests();
    let (report, sound) = fsck(&world, &["it"]);
    assert!(sound, "{report}");
    assert!(count(&report, "sound") >= 1, "{report}");
    assert!(count(&report, "unread") >= 1, "{report}");
    assert_eq!(
        count(&report, "sound") + count(&report, "unread"),
        count(&report, "chunks")
    );
}

#[test]
fn fsck_reports_a_flipped_bit_by_its_file() {
    let world = World::new();
    world.publish(sample().path(), "it");
    let (blob, at) = find_blob_with(&world.blobs(), &noise(2042, 42)[..64]);
    flip_bit(&blob, at + 1000);
    let (report, sound) = fsck(&world, &["it"]);
    assert!(!sound);
    assert_eq!(kinds(&report), ["wrong"], "{report}");
    assert_eq!(affected(&report), ["small/2/42"], "{report}");
    assert_eq!(
        count(&report, "sound") + 1,
        count(&report, "chunks"),
        "{report}"
    );
    let done = world.try_run(&["fsck", "it"]);
    let output = String::from_utf8(done.stdout).unwrap();
    assert!(
        output.contains("small/2/42") && output.contains("to do: "),
        "{output}"
    );
}

#[test]
fn fsck_reports_a_missing_or_truncated_blob_by_its_files() {
    let server = Server::start();
    let world = World::on(&server);
    world.publish(sample().path(), "it");
    let (blob, _) = find_blob_with(&server.blobs(), &noise(9 << 20, 1001)[..64]);
    // Truncated to part of its length.
    let file = fs::File::options().write(true).open(&blob).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 1000).unwrap();
    let (report, sound) = fsck(&world, &["it", "--remote"]);
    assert!(!sound && kinds(&report) == ["short"], "{report}");
    assert_eq!(count(&report, "affected_count"), 1, "{report}");
    fs::remove_file(&blob).unwrap();
    for how in [&["it"][..], &["it", "--remote"], &["it", "--sample", "2"]] {
        let (report, sound) = fsck(&world, how);
        assert!(!sound, "{how:?}: {report}");
        assert_eq!(kinds(&report), ["missing"], "{how:?}: {report}");
        assert!(
            affected(&report).contains(&"large/first"),
            "{how:?}: {report}"
        );
        let others = affected(&report)
            .into_iter()
            .filter(|it| it.starts_with("small"));
        assert_eq!(others.count(), 0, "{how:?}: {report}");
    }
    let done = world.try_run(&["doctor", "it"]);
    assert_eq!(done.status.code(), Some(1));
    let output = String::from_utf8(done.stdout).unwrap();
    assert!(output.contains("large/first"), "{output}");
}

#[test]
fn fsck_sample_reads_the_requested_number_of_chunks() {
    let server = Server::start();
    let world = World::on(&server);
    world.publish(sample().path(), "it");
    let (report, sound) = fsck(&world, &["it", "--sample", "5"]);
    assert!(sound, "{report}");
    // Content that came with the head counts as read, too.
    assert!(count(&report, "unread") >= 40, "{report}");
    assert!(count(&report, "sound") >= 5, "{report}");
    let all = count(&report, "sound") + count(&report, "unread");
    assert_eq!(all, count(&report, "chunks"), "{report}");
}

#[test]
fn fsck_reports_the_damaged_file_of_an_encrypted_repository() {
    let world = World::new();
    let tree = sample();
    let path = tree.path().to_str().unwrap();
    world.run(&["publish", path, "--name", "it", "--encrypt"]);
    assert!(fsck(&world, &["it"]).1);
    // The middle of the blob that one file's content fills.
    let largest = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let all = fs::read_dir(world.blobs()).unwrap();
    let blob = all
        .map(|it| it.unwrap().path())
        .max_by_key(largest)
        .unwrap();
    flip_bit(&blob, largest(&blob) / 2);
    let (report, sound) = fsck(&world, &["it"]);
    assert!(!sound && kinds(&report).contains(&"wrong"), "{report}");
    assert!(kinds(&report).len() <= 2, "one block: {report}");
    assert_eq!(affected(&report), ["large/first"], "{report}");
}

#[test]
fn fsck_checks_manifests_with_their_ancestors() {
    let world = world_with_fixture();
    let manifests = manifests("plain");
    let newest = manifests.last().unwrap();
    let (report, sound) = fsck(&world, &[&address_of(newest)]);
    assert!(sound, "{report}");
    assert_eq!(
        count(&report, "sound"),
        count(&report, "chunks"),
        "{report}"
    );
    // An earlier manifest is needed, too.
    fs::remove_file(world.blobs().join(&manifests[0])).unwrap();
    let (report, sound) = fsck(&world, &[&address_of(newest)]);
    assert!(!sound, "{report}");
    assert_eq!(kinds(&report), ["missing"], "{report}");
}

#[test]
fn fsck_reports_an_outage_as_error_and_not_as_damage() {
    let mut server = Server::start();
    let world = World::on(&server).config("[mount]\ndeadline_s = 2\n");
    world.publish(sample().path(), "it");
    server.stop();
    let output = world.fail(&["fsck", "it", "--remote"]);
    assert!(output.contains("unavailable"), "{output}");
}

#[test]
fn publish_verify_reads_back_before_setting_the_name() {
    let server = Server::start();
    let gateway = LyingGateway::in_front_of(&server.url, Lie::None);
    let world = World::new()
        .reading(&[&gateway.url])
        .writing(&server.url)
        .config("[mount]\ndeadline_s = 2\n");
    let tree = sample();
    let path = tree.path().to_str().unwrap();
    let publish = ["publish", path, "--name", "it", "--verify"];
    let report = world.json(&publish);
    assert!(report["verified"]["sound"].as_u64() > Some(100), "{report}");
    assert_eq!(report["verified"]["unread"], 0);
    // Only new content is read back.
    fs::write(tree.path().join("small/new"), noise(5000, 7)).unwrap();
    let report = world.json(&publish);
    assert!(report["verified"]["sound"].as_u64() < Some(20), "{report}");
    let before = world.json(&["refs"]);
    fs::write(tree.path().join("small/newer"), noise(500_000, 8)).unwrap();
    gateway.set_lie(Lie::Flip);
    let done = world.try_run(&publish);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(world.json(&["refs"])[0]["address"], before[0]["address"]);
}
