//! What is said and checked when a name moves.

use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::{Failure, output};
use crate::repo::refs::NamedRef;
use crate::repo::{Diverges, Lineage, Loader, RepoError, Repository};
use walgit_format::Address;
use walgit_format::ref_name::RefName;

/// What a name stood for before it was moved, and how to move it back.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Replaced {
    /// The old address.
    pub(super) address: String,
    /// What that is at, in words; empty where it could not be read.
    pub(super) was: String,
    /// The command that brings it back.
    pub(super) undo: String,
}

impl Replaced {
    /// For a name that stood for `old` and stands for `new` now.
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

    /// The same, with what the old address is at.
    pub(super) fn at(self, lineage: Option<&Lineage>) -> Self {
        Replaced {
            was: lineage.map(Lineage::summary).unwrap_or_default(),
            ..self
        }
    }

    /// As lines of a table.
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

/// The command that makes a name stand for an earlier address again, with the
/// flags that say where it is.
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

/// A word as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+@/:,=".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Why a name is not moved.
pub(super) fn refusal(name: &RefName, why: &Diverges, old: &str) -> Failure {
    format!(
        "{name} is not moved: {why} (it stands for {old}); add --force to replace it, or choose \
         another name"
    )
    .into()
}

/// Reads what a name is to stand for as a reader would, from where it is stored:
/// its head, and the root directory.
///
/// # Errors
/// Whatever keeps a reader from listing it.
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
    // What is not in our format was read whole to be opened.
    let snapshot = opened.snapshot(0)?;
    snapshot.directory(&snapshot.root()).await?;
    Ok(opened)
}

/// Prints what a name stood for, if it moved.
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
