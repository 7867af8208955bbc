//! Values of names, and errors.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use walgit_format::Address;
use walgit_format::names::RefName;
use walrus_client::clock::unix_seconds;

/// The value of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRef {
    /// The address of the newest head, as text.
    pub address: String,
    /// Time of the update, in seconds since 1970.
    pub updated: u64,
    /// Name of the encryption key among the user's keys; `None` for a public
    /// repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The plain folder that it was published from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl NamedRef {
    /// Creates a value for this address, with the current time.
    pub fn now(address: &Address) -> Self {
        NamedRef {
            address: address.to_string(),
            updated: unix_seconds(),
            ..NamedRef::default()
        }
    }
}

/// An entry in the history of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastRef {
    /// The value from then on; `None` if the name was removed.
    pub named: Option<NamedRef>,
    /// Time of the change, in seconds since 1970.
    pub at: u64,
    /// The command that made the change; empty if unknown.
    pub by: String,
}

/// A name with its value, or with the reason why its file is invalid.
pub type ListedRef = (String, Result<NamedRef, RefStoreError>);

/// Version of the list of names; differs after each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Number of changes under the lock.
    pub(super) set: u64,
    /// Modification time of the directory: earlier versions of this program do not
    /// count changes.
    pub(super) changed: Option<SystemTime>,
}

/// Why a name cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RefStoreError {
    /// No such name.
    #[error("no repository is called `{name}`; {known}")]
    Unknown {
        /// The requested name.
        name: RefName,
        /// Description of the known names.
        known: String,
    },
    /// Another command changed the name.
    #[error(
        "another command changed `{name}` concurrently (it is {now} now); it was not updated; \
         run the command again to replace it"
    )]
    Moved {
        /// The name.
        name: RefName,
        /// Its current value.
        now: String,
    },
    /// The file is not valid.
    #[error(
        "{} is damaged ({why}); walgit-fs refs --restore restores an earlier head, publish \
         --force replaces it", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why it is invalid.
        why: String,
    },
    /// A disk error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
}

impl RefStoreError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| RefStoreError::Io { path, source }
    }
}

/// The value that a name must have for a change to succeed.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// Any value.
    Any,
    /// This address, or no value.
    Address(Option<&'a str>),
}
