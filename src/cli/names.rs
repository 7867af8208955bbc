//! Checks and messages of commands that move a name.

use std::sync::Arc;

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::context::Context;
use crate::repo::refs::{Expected, NamedRef, RefStore, RefStoreError};
use crate::repo::{Diverges, Lineage, Loader, RepoError, Repository};
use walgit_format::Address;
use walgit_format::names::RefName;

/// The former target of a moved name, and the command that restores it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FormerTarget {
    address: String,
    /// Summary of its commits; empty if it could not be read.
    was: String,
    /// Command that restores it.
    undo: String,
}

impl FormerTarget {
    /// For a name that moved from `old`, with the lineage of that, to `new`.
    pub(super) fn new(
        context: &Context,
        name: &RefName,
        (old, lineage): (Option<&NamedRef>, Option<&Lineage>),
        new: Option<&Address>,
    ) -> Option<Self> {
        let old = old.filter(|old| !old.address.is_empty())?;
        if new.is_some_and(|new| new.to_string() == old.address) {
            return None;
        }
        Some(FormerTarget {
            address: old.address.clone(),
            was: lineage.map(Lineage::summary).unwrap_or_default(),
            undo: undo(context, name, &old.address),
        })
    }

    /// The details to print.
    pub(super) fn details(&self) -> [(&'static str, String); 2] {
        let was = if self.was.is_empty() {
            self.address.clone()
        } else {
            format!("{} ({})", self.address, self.was)
        };
        [("was", was), ("undo", self.undo.clone())]
    }
}

/// The current target of a name. If it is damaged: `None` with `replaces_damaged`, else an
/// error.
pub(super) fn current(
    refs: &RefStore,
    name: &RefName,
    replaces_damaged: bool,
) -> Result<Option<NamedRef>> {
    match refs.get(name) {
        Err(RefStoreError::Damaged { .. }) if replaces_damaged => Ok(None),
        named => Ok(named?),
    }
}

/// The target that a name must have to be moved from `named`; any with `replaces_damaged`.
pub(super) fn expected(named: Option<&NamedRef>, replaces_damaged: bool) -> Expected<'_> {
    match named {
        None if replaces_damaged => Expected::Any,
        named => Expected::Address(named.map(|named| named.address.as_str())),
    }
}

/// Branch positions of a name's target.
pub(super) async fn lineage_of(
    repository: &Repository,
    named: &NamedRef,
) -> Result<Lineage, RepoError> {
    let mut lineage = Lineage::of(repository).await?;
    if let Some(folder) = &mut lineage.folder {
        folder.path = named.source.clone();
    }
    Ok(lineage)
}

/// Command that restores an earlier address of a name, with the flags that select its
/// network and config file.
pub(super) fn undo(context: &Context, name: &RefName, address: &str) -> String {
    let mut command = String::from("walgit-fs");
    for (flag, value) in context.flags() {
        command.push_str(&format!(" {flag} {}", quoted(&value)));
    }
    format!(
        "{command} refs --restore {} {}",
        quoted(name.as_str()),
        quoted(address)
    )
}

/// Quotes a word for a shell, if necessary.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@/:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Error for a name that is not moved.
pub(super) fn refusal(name: &RefName, why: &Diverges, old: &str) -> anyhow::Error {
    anyhow!(
        "{name} is not moved: {why} (it stands for {old}); add --force to replace it, or choose \
         another name"
    )
}

/// Opens the new target of a name from the store, as a reader does: its head and the root
/// directory.
///
/// # Errors
/// Any error that prevents a reader from listing it.
pub(super) async fn open_stored(
    loader: &Arc<Loader>,
    repository: Repository,
) -> Result<Repository, RepoError> {
    let (blob, root) = (repository.blob(), repository.root());
    if let (Some(blob), Some(root), false) = (blob, root, repository.is_derived()) {
        return loader.open_stored(repository.access(), blob, root).await;
    }
    // Opening a repository in a foreign format reads it completely.
    let snapshot = repository.snapshot(0)?;
    snapshot.directory(&snapshot.root()).await?;
    Ok(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_shell_metacharacters_are_quoted() {
        assert_eq!(quoted("a/b.c-1"), "a/b.c-1");
        assert_eq!(quoted("walrus://x?root=y"), "'walrus://x?root=y'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
