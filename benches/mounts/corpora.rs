//! Real git histories to measure with.

use std::path::{Path, PathBuf};

use super::world::shell;

/// Bundles of `WALGIT_FS_CORPORA` if it is set, else the history of this project.
pub(crate) fn repositories() -> Vec<(String, PathBuf, tempfile::TempDir)> {
    let mut sources = Vec::new();
    if let Some(dir) = std::env::var_os("WALGIT_FS_CORPORA") {
        let files = std::fs::read_dir(dir).unwrap().flatten();
        sources.extend(
            files
                .map(|f| f.path())
                .filter(|p| p.extension().is_some_and(|e| e == "bundle")),
        );
    }
    if sources.is_empty() {
        sources.push(Path::new(env!("CARGO_MANIFEST_DIR")).into());
    }
    sources.sort();
    let cloned = sources.into_iter().map(|source| {
        let dir = tempfile::tempdir().unwrap();
        let name = source.file_stem().unwrap().to_str().unwrap().to_owned();
        let repo = dir.path().join(&name);
        shell(&format!(
            "git clone -q {} {}",
            source.display(),
            repo.display()
        ));
        (name, repo, dir)
    });
    cloned.collect()
}
