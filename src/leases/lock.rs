//! The lock that guards changes of leases, and the generation counter in its file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::error::{LeaseError, failed};
use walgit_durable::{FileLock, create_private_dir, open_regular};

const FILE_NAME: &str = "lock";

/// The held lock.
#[derive(Debug)]
pub(super) struct Locked {
    lock: FileLock,
    path: PathBuf,
}

/// Acquires the lock exclusively; creates the directory if needed.
pub(super) fn exclusive(dir: &Path) -> Result<Locked, LeaseError> {
    create_private_dir(dir).map_err(failed(dir))?;
    let path = dir.join(FILE_NAME);
    let lock = FileLock::exclusive(&path).map_err(failed(&path))?;
    Ok(Locked { lock, path })
}

/// Acquires the lock for reading; `None` if the directory does not exist.
pub(super) fn shared(dir: &Path) -> Result<Option<Locked>, LeaseError> {
    let path = dir.join(FILE_NAME);
    match FileLock::shared(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        lock => {
            let lock = lock.map_err(failed(&path))?;
            Ok(Some(Locked { lock, path }))
        }
    }
}

/// Returns the generation without the lock; 0 if the lock was never taken.
pub(super) fn generation(dir: &Path) -> Result<u64, LeaseError> {
    let path = dir.join(FILE_NAME);
    match open_regular(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        file => read(&file.map_err(failed(&path))?).map_err(failed(&path)),
    }
}

fn read(file: &File) -> io::Result<u64> {
    let mut number = [0; 8];
    match file.read_exact_at(&mut number, 0) {
        // Earlier versions leave it empty.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        done => done.map(|()| u64::from_le_bytes(number)),
    }
}

impl Locked {
    pub(super) fn generation(&self) -> Result<u64, LeaseError> {
        read(self.lock.as_file()).map_err(failed(&self.path))
    }

    /// Increases the generation. It need not survive a crash of the machine, because no
    /// collector that noted it does either.
    pub(super) fn advance(&self) -> Result<(), LeaseError> {
        let next = self.generation()?.wrapping_add(1);
        let file = self.lock.as_file();
        (file.write_all_at(&next.to_le_bytes(), 0)).map_err(failed(&self.path))
    }
}
