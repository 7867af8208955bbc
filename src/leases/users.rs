//! Registry of the users who publish into a directory store.
//!
//! Several name stores may refer to one directory: those of several users, or of one user
//! with several data directories. Each is registered when it first publishes there, so a
//! collector started with one of them knows the others.

use std::fs;
use std::path::Path;

use super::error::{LeaseError, failed};
use super::lease_file::LeaseFile;
use super::location::Leases;
use super::lock::Locked;
use super::records::{InUse, OtherUser, StoreUser};

pub(super) const EXTENSION: &str = "user";

impl Leases {
    /// Registers this user, once.
    pub(super) fn register(&self, locked: &Locked) -> Result<(), LeaseError> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        // If the directory is missing later, it was lost.
        walgit_durable::create_private_dir(&user.names).map_err(failed(&user.names))?;
        let user = absolute(user)?;
        let name = blake3::hash(user.names.as_os_str().as_encoded_bytes()).to_hex();
        let file = self.dir.join(format!("{}.{EXTENSION}", &name[..16]));
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
        let own_path = self.user.as_ref().map(absolute).transpose()?;
        if own_path.as_ref() != Some(&user) {
            let file = path.to_owned();
            in_use.others.push(OtherUser { user, file });
        }
        Ok(())
    }
}

/// Makes both paths absolute, and that of the names canonical if it exists.
fn absolute(user: &StoreUser) -> Result<StoreUser, LeaseError> {
    let names = match fs::canonicalize(&user.names) {
        Ok(names) => names,
        Err(_) => std::path::absolute(&user.names).map_err(failed(&user.names))?,
    };
    let ledger = std::path::absolute(&user.ledger).map_err(failed(&user.ledger))?;
    Ok(StoreUser { names, ledger })
}
