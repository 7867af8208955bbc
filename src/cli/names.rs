//! Checks and messages of commands that move a name.

use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::{Failure, output};
use crate::repo::refs::NamedRef;
use crate::repo::{Diverges, Lineage, Loader, RepoError, Repository};
use walgit_format::Address;
use walgit_format::ref_name::RefName;

/// The former target of a moved name, and the command that restores it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Replaced {
    /// The old address.
    pub(super) address: String,
    /// Summary of its commits; empty if it could not be read.
    pub(super) was: String,
    /// Command that restores it.
    pub(super) undo: String,
}

impl Replaced {
    /// For a name that moved from `old` to `new`.
    pub(super) fn of(
        context: &Context,
        name: &RefName,
        old: Option<&NamedRef>,
        new: Option<&Address>,
    ) -> Option<Self> {
        let old = old.filter(|old| !old.address.is_empty())?;
        if new.is_some_and(|new| new.to_string() == old.address) {
            return None;
        }
        Some(Replaced {
            address: old.address.clone(),
            was: String::new(),
            undo: undo(context, name, &old.address),
        })
    }

    /// Adds a summary of the old address.
    pub(super) fn at(self, lineage: Option<&Lineage>) -> Self {
        Replaced {
            was: lineage.map(Lineage::summary).unwrap_or_default(),
            ..self
        }
    }

    /// Formats this as rows of a table.
    pub(super) fn rows(&self) -> [Vec<String>; 2] {
        let was = match self.was.is_empty() {
            true => self.address.clone(),
            false => format!("{} ({})", self.address, self.was),
        };
        [
            vec!["  was".into(), was],
            vec!["  undo".into(), self.undo.clone()],
        ]
    }
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
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Error for a name that is not moved.
pub(super) fn refusal(name: &RefName, why: &Diverges, old: &str) -> Failure {
    format!(
        "{name} is not moved: {why} (it stands for {old}); add --force to replace it, or choose \
         another name"
    )
    .into()
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
    let opened = match (blob, root, repository.is_implied()) {
        (Some(blob), Some(root), false) => {
            return loader.open_stored(repository.access(), blob, root).await;
        }
        _ => repository,
    };
    // Opening a repository in a foreign format reads it completely.
    let snapshot = opened.snapshot(0)?;
    snapshot.directory(&snapshot.root()).await?;
    Ok(opened)
}

/// Prints the former target of a name, if it moved.
pub(super) fn print_replaced(replaced: Option<&Replaced>) -> Result<(), Failure> {
    match replaced {
        Some(replaced) => output::table(&replaced.rows()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_more_into_them() {
        assert_eq!(quoted("a/b.c-1"), "a/b.c-1");
        assert_eq!(quoted("walrus://x?root=y"), "'walrus://x?root=y'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
