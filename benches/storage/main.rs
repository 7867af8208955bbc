//! Storage of repositories on Walrus compared with git.
//!
//! `make bench-storage` runs it: stored bytes of heads and of complete histories
//! compared with git's packs, billed bytes compared with one blob per file, the speed
//! of publishing, and the number of requests for a head after many publishes. Sizes are
//! exact; times have a limit.

// Shared with the other benchmarks, which use more of it.
#[allow(dead_code)]
#[path = "../mounts/corpora.rs"]
mod corpora;
#[allow(dead_code)]
#[path = "../mounts/link.rs"]
mod link;
#[path = "../../tests/shared/program.rs"]
mod program;
mod pushes;
#[allow(dead_code)]
#[path = "../mounts/report.rs"]
mod report;
mod sizes;
#[allow(dead_code)]
#[path = "../mounts/world.rs"]
mod world;

use report::Report;

fn main() {
    let mut report = Report::default();
    for (name, repo, _keep) in corpora::repositories() {
        sizes::run(&mut report, &name, &repo);
    }
    for (name, repo, _keep) in corpora::repositories() {
        pushes::run(&mut report, &name, &repo);
    }
    report.finish("storage");
}
