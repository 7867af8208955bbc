//! Recorded sessions of real tools, replayed over a simulated link: the time spent
//! waiting, compared with fetching each file on its own on demand.
//!
//! `WALGIT_FS_TRACES` names a directory: `NAME.tree.tsv` lists the files of a tree,
//! `NAME.N.tsv` the opens of a session.

use std::path::{Path, PathBuf};

use super::report::Report;
use super::world::World;

/// Goals for sessions never seen before, and for sessions seen once.
const WAIT_RATIO_GOALS: [f64; 2] = [0.10, 0.03];

pub(crate) fn run(report: &mut Report) {
    let Some(dir) = std::env::var_os("WALGIT_FS_TRACES").map(PathBuf::from) else {
        println!("no recorded sessions are replayed: WALGIT_FS_TRACES is not set");
        return;
    };
    let world = World::new();
    let found = std::fs::read_dir(&dir).unwrap().flatten();
    let mut traces: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    traces.retain(|path| tree_of(path).is_some_and(|tree| tree != *path && tree.exists()));
    traces.sort();
    for trace in &traces {
        let tree = tree_of(trace).unwrap();
        let [tree, trace] = [&tree, trace].map(|path| path.to_str().unwrap());
        let replayed = world.json(&["debug", "replay", "--tree", tree, trace, trace]);
        let name = Path::new(trace).file_stem().unwrap().to_str().unwrap();
        for (session, (how, goal)) in ["never seen", "seen once"]
            .iter()
            .zip(WAIT_RATIO_GOALS)
            .enumerate()
        {
            let session = &replayed["sessions"][session];
            let seconds = |key: &str| session[key].as_f64().unwrap();
            report.times(
                &format!("{name}, replayed, {how}"),
                seconds("stall_with_s"),
                "each file alone",
                seconds("stall_without_s"),
                goal,
            );
        }
    }
}

/// The tree of a session: `NAME.tree.tsv` for `NAME.N.tsv`.
fn tree_of(trace: &Path) -> Option<PathBuf> {
    let name = trace.file_name()?.to_str()?.strip_suffix(".tsv")?;
    let (name, _) = name.rsplit_once('.')?;
    Some(trace.with_file_name(format!("{name}.tree.tsv")))
}
