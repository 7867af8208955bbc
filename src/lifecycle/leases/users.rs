//! Who else publishes into a directory store.
//!
//! Several sets of names may lead into one directory: of several users, or of one
//! with several data directories. Each is written down when it first publishes there,
//! so a collector that was started with one of them knows of the others.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::lock::Locked;
use super::{InUse, LeaseError, LeaseFile, Leases, failed};

pub(super) const ENDING: &str = "user";

/// Where somebody who publishes into a store keeps what leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreUser {
    /// The directory of names.
    pub names: PathBuf,
    /// The ledger.
    pub ledger: PathBuf,
}

/// Another user of a store, and the file that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherUser {
    /// Who.
    pub user: StoreUser,
    /// The file.
    pub file: PathBuf,
}

impl Leases {
    /// Writes down that this user publishes here, once.
    pub(super) fn register(&self, locked: &Locked) -> Result<(), LeaseError> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        // A directory that is missing later is one that was lost.
        walgit_durable::create_private_dir(&user.names).map_err(failed(&user.names))?;
        let user = absolute(user)?;
        let name = blake3::hash(user.names.as_os_str().as_encoded_bytes()).to_hex();
        let file = self.dir.join(format!("{}.{ENDING}", &name[..16]));
        if file.exists() {
            return Ok(());
        }
        let text = serde_json::to_vec(&user).map_err(|error| failed(&file)(error.into()))?;
        walgit_durable::write_atomic(&file, &text).map_err(failed(&file))?;
        locked.advance()
    }

    /// Reads a file that [`Leases::register`] wrote.
    pub(super) fn read_user(&self, path: &Path, in_use: &mut InUse) -> Result<(), LeaseError> {
        let Some(file) = LeaseFile::open(path)? else {
            return Ok(());
        };
        let user: StoreUser =
            serde_json::from_slice(&file.text).map_err(|error| LeaseError::Damaged {
                path: path.into(),
                why: error.to_string(),
            })?;
        let own = self.user.as_ref().map(absolute).transpose()?;
        if own.as_ref() != Some(&user) {
            let file = path.to_owned();
            in_use.others.push(OtherUser { user, file });
        }
        Ok(())
    }
}

/// The same, whatever the current directory is and however it was reached.
fn absolute(user: &StoreUser) -> Result<StoreUser, LeaseError> {
    let names = match fs::canonicalize(&user.names) {
        Ok(names) => names,
        Err(_) => std::path::absolute(&user.names).map_err(failed(&user.names))?,
    };
    let ledger = std::path::absolute(&user.ledger).map_err(failed(&user.ledger))?;
    Ok(StoreUser { names, ledger })
}
