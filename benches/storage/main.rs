//! What repositories take on Walrus, beside what they take elsewhere.
//!
//! `make bench-storage` runs it: stored bytes of heads and of whole histories
//! beside git's packs, what the network bills beside one blob a file, how fast
//! content is published, and how many requests a head takes after many pushes.
//! Sizes are exact; for times a limit is told.

// Shared with the other benches, which use more of them.
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
