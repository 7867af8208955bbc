//! Files of a git repository other than its objects.

use std::fs;
use std::path::Path;

use gix::bstr::ByteSlice as _;

use super::commits::ReachableObjects;
use super::error::ExportError;
use super::pack::PACK_DIR;
use crate::repo::archive::Archive;
use walgit_format::Address;
use walgit_format::archive::ArchivedRef;
use walgit_format::head::GitId;

/// Verifies that git allows the names of all refs, which are untrusted input.
///
/// # Errors
/// [`ExportError::RefName`] for a name that is not allowed, or that conflicts with
/// another.
pub(super) fn check_refs(refs: &[ArchivedRef]) -> Result<Vec<&ArchivedRef>, ExportError> {
    let mut sorted: Vec<&ArchivedRef> = refs.iter().collect();
    sorted.sort();
    for reference in &sorted {
        check_name(&reference.name)?;
    }
    for pair in sorted.windows(2) {
        if pair[0].name == pair[1].name {
            return Err(refused(&pair[1].name, "the name occurs twice"));
        }
    }
    // `a` and `a/b` exclude each other; others may sort between them.
    let named = |name: &[u8]| sorted.binary_search_by(|it| it.name[..].cmp(name)).is_ok();
    for reference in &sorted {
        let name = &reference.name[..];
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            if named(&name[..at]) {
                return Err(refused(name, "another ref has the name of its folder"));
            }
        }
    }
    Ok(sorted)
}

fn check_name(name: &[u8]) -> Result<(), ExportError> {
    match gix::validate::reference::name(name.as_bstr()) {
        Ok(_) if name.starts_with(b"refs/") => Ok(()),
        Ok(_) => Err(refused(name, "the name does not begin with refs/")),
        Err(why) => Err(refused(name, why)),
    }
}

fn refused(name: &[u8], why: impl std::fmt::Display) -> ExportError {
    ExportError::RefName {
        name: String::from_utf8_lossy(name).into_owned(),
        why: why.to_string(),
    }
}

/// Returns the content of `HEAD`: the branch that is checked out, else the commit `tip`.
pub(super) fn head(archive: &Archive, tip: &GitId) -> Result<String, ExportError> {
    let name = archive.head();
    if name.is_empty() || !archive.refs().iter().any(|it| it.name == name) {
        return Ok(tip.to_string());
    }
    check_name(name)?;
    match (name.starts_with(b"refs/heads/"), std::str::from_utf8(name)) {
        (true, Ok(name)) => Ok(format!("ref: {name}")),
        // Rare enough to give up the branch.
        _ => Ok(tip.to_string()),
    }
}

/// Creates the folders of a repository and the files by which git recognizes it.
pub(super) fn begin(
    git: &Path,
    hash: gix::hash::Kind,
    bare: bool,
    from: &Address,
) -> Result<(), ExportError> {
    for dir in [PACK_DIR, "objects/info", "refs/heads", "refs/tags", "info"] {
        let dir = git.join(dir);
        fs::create_dir_all(&dir).map_err(ExportError::io(&dir))?;
    }
    let sha256 = hash == gix::hash::Kind::Sha256;
    let mut config = format!(
        "[core]\n\trepositoryformatversion = {}\n\tfilemode = true\n\tbare = {bare}\n",
        u8::from(sha256)
    );
    if !bare {
        config.push_str("\tlogallrefupdates = true\n");
    }
    if sha256 {
        config.push_str("[extensions]\n\tobjectformat = sha256\n");
    }
    write(&git.join("config"), config.as_bytes())?;
    write(
        &git.join("description"),
        format!("exported from {from}\n").as_bytes(),
    )
}

/// Writes the refs, and the shallow boundary of the history if there is one.
pub(super) fn refs(
    git: &Path,
    refs: &[&ArchivedRef],
    head: &str,
    shallow: &[GitId],
    reached: &ReachableObjects,
) -> Result<(), ExportError> {
    let mut packed = b"# pack-refs with: peeled fully-peeled sorted \n".to_vec();
    for reference in refs {
        packed.extend_from_slice(format!("{} ", reference.id).as_bytes());
        packed.extend_from_slice(&reference.name);
        packed.push(b'\n');
        if let Some(peeled) = reached.peeled(&reference.id.0) {
            packed.extend_from_slice(format!("^{peeled}\n").as_bytes());
        }
    }
    write(&git.join("packed-refs"), &packed)?;
    let mut ends: Vec<String> = (shallow.iter())
        .filter(|commit| reached.holds(commit))
        .map(|commit| format!("{commit}\n"))
        .collect();
    if !ends.is_empty() {
        ends.sort();
        write(&git.join("shallow"), ends.concat().as_bytes())?;
    }
    write(&git.join("HEAD"), format!("{head}\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    fs::write(path, bytes).map_err(ExportError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str) -> ArchivedRef {
        ArchivedRef {
            name: bytes::Bytes::copy_from_slice(name.as_bytes()),
            id: GitId(vec![1; 20]),
        }
    }

    #[test]
    fn path_traversal_names_are_refused() {
        for name in [
            "refs/heads/../../../etc/passwd",
            "/etc/passwd",
            "refs/heads//a",
            "refs/heads/.hidden",
            "refs/heads/a.lock",
            "refs/heads/a\nb",
            "refs/heads/a b",
            "refs/heads/",
            "HEAD",
            "heads/a",
            "",
        ] {
            let error = check_refs(&[reference(name)]).unwrap_err();
            assert!(
                matches!(error, ExportError::RefName { .. }),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn refs_that_conflict_as_paths_are_refused() {
        let refs = |names: &[&str]| -> Vec<ArchivedRef> {
            names.iter().map(|name| reference(name)).collect()
        };
        let fine = refs(&[
            "refs/heads/a",
            "refs/heads/a-b",
            "refs/tags/a/b",
            "refs/tags/é",
        ]);
        assert_eq!(check_refs(&fine).unwrap().len(), 4);
        let twice = refs(&["refs/heads/a", "refs/heads/a"]);
        assert!(check_refs(&twice).is_err());
        // `a-b` sorts between them.
        let folder = refs(&["refs/heads/a", "refs/heads/a-b", "refs/heads/a/b"]);
        assert!(check_refs(&folder).is_err());
    }
}
