//! Mounts against what they could be at best: a driver that answers from
//! constants, the native file system, `git clone` over the same link.
//!
//! `make bench` runs it. Every figure is a ratio to a rival that ran a moment
//! before or after on the same machine, the median of a few rounds; nothing is
//! compared across runs. Results go to standard output as a table, and to the
//! target directory as JSON and as a chart.

mod corpora;
mod link;
mod null;
#[path = "../../tests/shared/synthetic_repository.rs"]
mod synthetic_repository;
#[path = "../../tests/shared/program.rs"]
mod program;
mod replay;
mod report;
mod scale;
mod tool;
mod walk;
mod wide;
mod world;

use report::Report;

fn main() {
    // `cargo bench NAME` runs only what is called so; other flags are divan's.
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|o| name.contains(o.as_str()));
    assert!(
        std::path::Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing, and nothing can be mounted without it"
    );
    let mut report = Report::default();
    if wanted("wide") {
        wide::run(&mut report);
    }
    if wanted("walk") {
        walk::run(&mut report);
    }
    if wanted("tool") {
        tool::run(&mut report);
    }
    if wanted("replay") {
        replay::run(&mut report);
    }
    if wanted("scale") {
        scale::run(&mut report);
    }
    report.finish("mounts");
}
