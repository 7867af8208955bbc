//! Permissions of an export: the same as from `git clone`, according to the user's umask.
//! The process itself has a stricter one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Sets the permissions of a folder and everything in it.
pub(super) fn apply(root: &Path, umask: u32) -> io::Result<()> {
    let mut folders = vec![root.to_owned()];
    let mut at = 0;
    while at < folders.len() {
        for entry in fs::read_dir(&folders[at])? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() {
                let own = metadata.permissions().mode();
                let mode = match (own & 0o100 != 0, own & 0o200 != 0) {
                    (true, _) => 0o777,
                    (false, true) => 0o666,
                    // Packs are read-only.
                    (false, false) => 0o444,
                };
                fs::set_permissions(entry.path(), Permissions::from_mode(mode & !umask))?;
            }
        }
        at += 1;
    }
    // Deepest first: a umask may remove the permission to descend.
    for folder in folders.iter().rev() {
        fs::set_permissions(folder, Permissions::from_mode(0o777 & !umask))?;
    }
    Ok(())
}
