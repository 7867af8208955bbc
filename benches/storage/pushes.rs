//! Number of requests for a head after many publishes, and after compaction.

use std::path::Path;
use std::process::Command;

use super::report::Report;
use super::world::{Devnet, World, shell};

/// Upper limits of requests relative to a fresh head: before and after compaction.
const MAX_REQUEST_RATIO: f64 = 4.0;
const MAX_REQUEST_RATIO_COMPACTED: f64 = 1.5;
/// Numbers of publishes after which a head is read.
const PUBLISH_COUNTS: [usize; 3] = [1, 10, 100];

pub(crate) fn run(report: &mut Report, name: &str, repo: &Path) {
    let max_count = PUBLISH_COUNTS[PUBLISH_COUNTS.len() - 1];
    let commits = commits(repo, max_count);
    if commits.len() < PUBLISH_COUNTS[1] {
        println!(
            "{name} has {} commits: too few to push one by one",
            commits.len()
        );
        return;
    }
    let world = World::new();
    let mut first = 0.0;
    for (pushed, commit) in commits.iter().enumerate() {
        shell(&format!(
            "git -C {} checkout -q --detach {commit}",
            repo.display()
        ));
        let published = world.publish(repo, "it");
        if PUBLISH_COUNTS.contains(&(pushed + 1)) {
            let address = published["address"].as_str().unwrap();
            let requests = read(&world, address);
            if pushed == 0 {
                first = requests;
            }
            let what = format!("{name}: requests of a cold tar, {} pushes", pushed + 1);
            report.row(
                &what,
                requests,
                "after one",
                first,
                "requests",
                MAX_REQUEST_RATIO,
            );
        }
    }
    world.json(&["compact", "it", "--force"]);
    let refs = world.json(&["refs"]);
    let requests = read(&world, refs[0]["address"].as_str().unwrap());
    let what = format!("{name}: the same after compaction");
    report.row(
        &what,
        requests,
        "after one",
        first,
        "requests",
        MAX_REQUEST_RATIO_COMPACTED,
    );
}

/// The newest commits along first parents, oldest first.
fn commits(repo: &Path, count: usize) -> Vec<String> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args([
            "rev-list",
            "--first-parent",
            "-n",
            &count.to_string(),
            "HEAD",
        ])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut commits: Vec<String> = listed.lines().map(Into::into).collect();
    commits.reverse();
    commits
}

/// Mounts and reads everything with an empty cache; returns the number of requests.
fn read(from: &World, address: &str) -> f64 {
    let devnet = Devnet::over(from);
    let world = World::new().reading(&format!("http://127.0.0.1:{}", devnet.port));
    world.mount(address);
    let dir = world.mountpoint();
    shell(&format!("tar cf - -C {} . | cat >/dev/null", dir.display()));
    world.unmount();
    devnet.reads() as f64
}
