//! Builds directories to publish.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory to publish: `Tree::new().file("a/b", "text").link("c", "a/b")`.
pub(crate) struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Tree {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn create_parent(&self, name: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(OsStr::from_bytes(name.as_ref()));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.create_parent(name), content).unwrap();
        self
    }

    pub(crate) fn program(self, name: &str, content: &str) -> Self {
        let path = self.create_parent(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Self {
        symlink(target, self.create_parent(name)).unwrap();
        self
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        fs::create_dir_all(self.path().join(name)).unwrap();
        self
    }

    /// Incompressible bytes, equal for equal seeds.
    pub(crate) fn noise(self, name: &str, len: usize, seed: u64) -> Self {
        let content = noise(len, seed);
        self.file(name, content)
    }

    /// Commits everything.
    pub(crate) fn commit(self, message: &str) -> Self {
        if !self.path().join(".git").exists() {
            self.git(&["init", "-q", "-b", "main"]);
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self
    }

    /// Runs git in the directory; returns its output.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(self.path(), args)
    }
}

/// Runs git in a directory with a fixed identity; returns its output.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let done = Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"])
        .args([
            "-c",
            "core.quotePath=false",
            "-c",
            "advice.detachedHead=false",
        ])
        .args(args)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "git {args:?}: {output}");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Incompressible bytes, equal for equal seeds.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let key = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    blake3::Hasher::new_keyed(&key)
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Everything in a directory except `.git`: path and description, for comparison.
pub(crate) fn listing(root: &Path) -> Vec<(Vec<u8>, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".git" {
                continue;
            }
            let path = entry.path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let what = if metadata.is_dir() {
                pending.push(path.clone());
                "folder".into()
            } else if metadata.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).unwrap())
            } else {
                let content = fs::read(&path).unwrap();
                assert_eq!(content.len() as u64, metadata.len(), "{path:?}");
                let executable = metadata.permissions().mode() & 0o111 != 0;
                format!("file {executable} {}", blake3::hash(&content).to_hex())
            };
            let name = path.strip_prefix(root).unwrap();
            found.push((name.as_os_str().as_bytes().to_vec(), what));
        }
    }
    found.sort();
    found
}

/// Asserts that two directories have the same content.
#[track_caller]
pub(crate) fn assert_same(expected: &Path, found: &Path) {
    let (expected, found) = (listing(expected), listing(found));
    let show = |list: &[(Vec<u8>, String)]| -> Vec<String> {
        list.iter()
            .map(|(name, what)| format!("{} {what}", String::from_utf8_lossy(name)))
            .collect()
    };
    let (expected, found) = (show(&expected), show(&found));
    let missing: Vec<_> = expected
        .iter()
        .filter(|e| !found.contains(e))
        .take(5)
        .collect();
    let extra: Vec<_> = found
        .iter()
        .filter(|f| !expected.contains(f))
        .take(5)
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}\nextra {extra:?}"
    );
}
