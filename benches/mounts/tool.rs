//! A real tool on a remote mount, with and without prefetching: `rustfmt --check` of
//! this project, which follows modules from file to file in an order that the layout
//! does not reveal.
//!
//! The figure is the time spent waiting for files: the duration, minus that on the
//! native file system.

use std::path::Path;
use std::process::Command;

use super::report::{Report, median, seconds};
use super::world::{RemoteReader, World, shell};

const ROUNDS: usize = 7;

pub(crate) fn run(report: &mut Report) {
    let found = Command::new("rustfmt").arg("--version").output();
    assert!(
        found.is_ok_and(|it| it.status.success()),
        "rustfmt is missing: rustup component add rustfmt"
    );
    let dir = tempfile::tempdir().unwrap();
    let clone = dir.path().join("clone");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    shell(&format!(
        "git clone -q '{}' '{}'",
        project.display(),
        clone.display()
    ));
    let world = World::new();
    world.publish(&clone, "it");
    let far = RemoteReader::from(world);
    let (world, address) = (&far.world, &far.address);
    let tool = |tree: &Path| {
        let lib = tree.join("src/lib.rs");
        let script = format!("rustfmt --check --edition 2024 '{}'", lib.display());
        seconds(|| shell(&script))
    };
    tool(&clone);
    let native = median((0..ROUNDS).map(|_| tool(&clone)).collect());
    let over_mount = |how: &str| {
        let mountpoint = world.mountpoint();
        let mountpoint = mountpoint.to_str().unwrap();
        world.run(&["mount", "--prefetch", how, address, mountpoint]);
        let took = tool(&world.mountpoint());
        world.unmount();
        world.end_daemon();
        took - native
    };
    let forget = |flags: &[&str]| {
        let clear = ["cache", "clear"].iter().chain(flags);
        world.run(&clear.copied().collect::<Vec<_>>());
    };
    let mut waited: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (waited, how) in waited.iter_mut().zip(["off", "related", "learned"]) {
            forget(&[]);
            if how == "learned" {
                // One session to learn from.
                over_mount(how);
                forget(&["--keep-learned"]);
            }
            waited.push(over_mount(how));
        }
    }
    let [off, related, learned] = waited.map(median);
    let what = |how: &str| format!("rustfmt's wait for files, cold, 50 ms, {how}");
    // It must pay off. The replays measure the savings compared with fetching each file
    // on its own: here adjacent chunks are fetched together and walks are streamed
    // without prefetching, too.
    let mut row = |how, ours| report.times(&what(how), ours, "prefetch off", off, 1.0);
    row("nothing learned", related);
    row("seen once before", learned);
}
