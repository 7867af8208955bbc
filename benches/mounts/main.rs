//! Mounts compared with lower bounds: a driver that answers from constants, the native
//! file system, and `git clone` over the same link.
//!
//! `make bench` runs it. Each figure is a ratio to a rival that ran immediately before
//! or after on the same machine, the median of a few rounds; figures of different runs
//! are not comparable. Results are printed as a table, and written to the target
//! directory as JSON and as a chart.

mod corpora;
mod link;
mod null;
#[path = "../../tests/shared/program.rs"]
mod program;
mod replay;
mod report;
mod scale;
#[path = "../../tests/shared/synthetic_repository.rs"]
mod synthetic_repository;
mod tool;
mod walk;
mod wide;
mod world;

use report::Report;

fn main() {
    // `cargo bench NAME` runs only benchmarks of that name; other flags are divan's.
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
