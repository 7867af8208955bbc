//! Many small files: a second session from the disk cache, and the warm case.

use std::fs;

use super::null::{NullMount, Shape, name};
use super::report::{Report, in_turn, seconds};
use super::world::{World, shell};

const SHAPE: Shape = Shape {
    folders: 100,
    files: 200,
    bytes: 8192,
};
const ROUNDS: usize = 5;

pub(crate) fn run(report: &mut Report) {
    let native = tempfile::tempdir().unwrap();
    for folder in 0..SHAPE.folders {
        let dir = native.path().join(name(folder));
        fs::create_dir(&dir).unwrap();
        for file in 0..SHAPE.files {
            let seed = folder * SHAPE.files + file;
            fs::write(dir.join(name(file)), text(seed)).unwrap();
        }
    }
    let world = World::new();
    world.publish(native.path(), "wide");
    world.mount("wide");
    let ours = world.mountpoint();
    let read = |dir: &std::path::Path| {
        let script = format!("tar cf - -C '{}' . | cat >/dev/null", dir.display());
        seconds(|| shell(&script))
    };
    let grep = |dir: &std::path::Path| {
        let script = format!("grep -r no-such-word '{}' || true", dir.display());
        seconds(|| shell(&script))
    };
    let stat = |dir: &std::path::Path| {
        let script = format!("find '{}' -size +1000k", dir.display());
        seconds(|| shell(&script))
    };
    // Fills the disk cache.
    read(&ours);
    world.unmount();
    let cold = |of: &dyn Fn(&std::path::Path) -> f64| {
        in_turn(
            ROUNDS,
            || {
                world.end_daemon();
                world.mount("wide");
                let took = of(&ours);
                world.unmount();
                took
            },
            || {
                let null = NullMount::new(SHAPE);
                of(null.path())
            },
        )
    };
    let (one, other) = cold(&read);
    report.times(
        "tar, 20,000 files, second session",
        one,
        "null driver",
        other,
        1.5,
    );
    let (one, other) = cold(&grep);
    report.times("grep -r, second session", one, "null driver", other, 1.5);
    let (one, other) = cold(&stat);
    report.times("find -size, second session", one, "null driver", other, 1.5);
    world.mount("wide");
    for (what, of) in [
        (
            "tar, kernel-warm",
            &read as &dyn Fn(&std::path::Path) -> f64,
        ),
        ("grep -r, kernel-warm", &grep),
        ("find -size, kernel-warm", &stat),
    ] {
        of(&ours);
        of(native.path());
        let (one, other) = in_turn(ROUNDS, || of(&ours), || of(native.path()));
        report.times(what, one, "native", other, 1.0 / 0.9);
    }
    world.unmount();
}

/// Text of the right length, different for each file.
fn text(seed: u64) -> Vec<u8> {
    let words = (0u64..).flat_map(|n| {
        let word = (n + seed * 7919).wrapping_mul(2_654_435_761) % 5000;
        format!("word{word} ").into_bytes()
    });
    let content = format!("file {seed} ").into_bytes();
    content
        .into_iter()
        .chain(words)
        .take(SHAPE.bytes as usize)
        .collect()
}
