//! Stored and billed bytes, and the speed of publishing.

use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use walrus_encoding::Price;
use walrus_encoding::cost::Bill;

use super::report::{Report, median, seconds};
use super::world::{World, shell};

/// Bytes of input per second that a publish should reach.
const TARGET_BYTES_PER_SECOND: f64 = 100e6;
/// Smaller inputs do not measure speed: they are compressed more thoroughly.
const MIN_TIMED_INPUT: f64 = 32e6;
/// Epochs that prices are computed for: a year.
const EPOCHS_PER_YEAR: u32 = 26;
const ROUNDS: usize = 3;

pub(crate) fn run(report: &mut Report, name: &str, repo: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let pack = |args: &str| {
        let clone = dir.path().join("clone.git");
        let (from, to) = (repo.display(), clone.display());
        shell(&format!("git clone -q --bare {args} file://{from} {to}"));
        if args.is_empty() {
            // Packed by git again, independent of how it was cloned.
            shell(&format!("git -C {to} repack -adfq"));
        }
        let bytes = packs(&clone);
        fs::remove_dir_all(&clone).unwrap();
        bytes
    };
    let published = |args: &[&str]| {
        let world = World::new();
        let path = repo.to_str().unwrap();
        world.json(&[&["publish", path, "--name", "it"], args].concat())
    };
    let number = |report: &serde_json::Value, key: &str| report[key].as_f64().unwrap();
    let head = published(&["--history", "none"]);
    let stored = number(&head, "bytes_stored");
    let what = |of: &str| format!("{name}: {of}");
    let shallow = pack("--depth 1");
    report.row(
        &what("head, stored"),
        stored,
        "pack of clone --depth 1",
        shallow,
        "B",
        0.85,
    );
    let best = published(&["--history", "none", "--best"]);
    let best = number(&best, "bytes_stored");
    report.row(
        &what("head, --best"),
        best,
        "pack of clone --depth 1",
        shallow,
        "B",
        0.85,
    );
    let all = published(&[]);
    let stored = number(&all, "bytes_stored");
    let full = pack("");
    report.row(
        &what("history, stored"),
        stored,
        "pack of git repack -adf",
        full,
        "B",
        0.6,
    );
    let best = published(&["--best"]);
    let best = number(&best, "bytes_stored");
    report.row(
        &what("history, --best"),
        best,
        "pack of git repack -adf",
        full,
        "B",
        0.6,
    );

    let files: Bill = sizes(repo).into_iter().collect();
    let billed = number(&all, "bytes_billed");
    let one_each = "a blob a file, head alone";
    report.row(
        &what("billed, with history"),
        billed,
        one_each,
        files.billed as f64,
        "B",
        0.01,
    );
    let ours = Bill {
        blobs: 1,
        bytes: 0,
        billed: billed as u64,
    };
    let price = Price::mainnet();
    let (ours, theirs) = (
        ours.price(&price, EPOCHS_PER_YEAR),
        files.price(&price, EPOCHS_PER_YEAR),
    );
    report.row(
        &what("price of a year"),
        ours,
        one_each,
        theirs,
        "USD",
        0.01,
    );

    let versions = dir.path().join("versions");
    let bytes = unpack(repo, &versions);
    let publishing = |path: &Path| {
        let path = path.to_str().unwrap();
        let rounds = (0..ROUNDS).map(|_| {
            let world = World::new();
            seconds(|| {
                world.json(&["publish", path, "--name", "it"]);
            })
        });
        median(rounds.collect())
    };
    if bytes < MIN_TIMED_INPUT {
        return;
    }
    // The fixed cost of a publish: the ID of its blob.
    let nothing = dir.path().join("nothing");
    fs::create_dir(&nothing).unwrap();
    fs::write(nothing.join("a file"), "next to nothing").unwrap();
    let took = publishing(&versions) - publishing(&nothing);
    let what = what(&format!(
        "publish {:.0} MB, every version as a file, compared with one file",
        bytes / 1e6
    ));
    report.times(
        &what,
        took,
        "100 MB/s",
        bytes / TARGET_BYTES_PER_SECOND,
        1.0,
    );
}

/// Bytes of the packs of a bare repository.
fn packs(repo: &Path) -> f64 {
    let packs = fs::read_dir(repo.join("objects/pack")).unwrap().flatten();
    let packs = packs.filter(|it| it.path().extension().is_some_and(|end| end == "pack"));
    packs.map(|it| it.metadata().unwrap().len() as f64).sum()
}

/// Sizes of the files of the checked-out commit.
fn sizes(repo: &Path) -> Vec<u64> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["ls-tree", "-rl", "HEAD"])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let size = |line: &str| line.split_whitespace().nth(3)?.parse().ok();
    listed.lines().filter_map(size).collect()
}

/// Writes every version of every file of a history to a file; returns their bytes.
fn unpack(repo: &Path, to: &Path) -> f64 {
    let git = |args: &[&str], input: Stdio| {
        let mut git = Command::new("git");
        git.arg("-C").arg(repo).args(args).stdin(input);
        git.output().unwrap().stdout
    };
    let listed = git(&["rev-list", "--all", "--objects"], Stdio::null());
    let listed = String::from_utf8_lossy(&listed);
    let named = listed.lines().filter_map(|line| line.split_once(' '));
    let named: Vec<(&str, &str)> = named.filter(|(_, path)| !path.is_empty()).collect();
    let mut ids = tempfile::tempfile().unwrap();
    for (id, _) in &named {
        writeln!(ids, "{id}").unwrap();
    }
    ids.rewind().unwrap();
    let objects = git(&["cat-file", "--batch"], ids.into());
    let (mut rest, mut bytes) = (&objects[..], 0);
    for (id, path) in named {
        let end = rest.iter().position(|&byte| byte == b'\n').unwrap();
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let [_, kind, len] = head.split(' ').collect::<Vec<_>>()[..] else {
            panic!("git says {head}");
        };
        let len: usize = len.parse().unwrap();
        let content = &rest[end + 1..][..len];
        rest = &rest[end + 1 + len + 1..];
        if kind == "blob" {
            let dir = to.join(&id[..2]);
            fs::create_dir_all(&dir).unwrap();
            let name = path.rsplit('/').next().unwrap();
            fs::write(dir.join(format!("{}-{name}", &id[2..12])), content).unwrap();
            bytes += len;
        }
    }
    bytes as f64
}
