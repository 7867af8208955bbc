//! Estimated size of a checkout.
//!
//! A tree with ten entries that all refer to the same tree of ten entries, nine levels
//! deep, takes two kilobytes and expands to a billion files. So files are counted before
//! a checkout, once per stored tree.

use std::path::Path;
use std::sync::Arc;

use super::ExportError;
use crate::repo::archive::Archive;
use walgit_format::archive::{Segment, StoredEntry, Target};

/// Approximate disk space of a file or directory besides its content, in bytes.
const PER_ENTRY: u64 = 4096;

/// Size of a checkout of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Files, links and directories.
    pub(super) entries: u64,
    /// Bytes of content.
    pub(super) bytes: u64,
}

/// Limits of a checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl Default for Limits {
    /// About twenty times the largest common checkouts.
    fn default() -> Self {
        Limits {
            entries: 2_000_000,
            bytes: 64 << 30,
        }
    }
}

/// The sizes of the trees of an archive that have been read.
#[derive(Debug)]
pub(super) struct Sizes {
    archive: Arc<Archive>,
    /// The number of the first tree of each segment, and the sizes of its trees.
    segments: Vec<(u64, Vec<Size>)>,
}

impl Sizes {
    pub(super) fn new(archive: &Arc<Archive>) -> Self {
        Sizes {
            archive: archive.clone(),
            segments: Vec::new(),
        }
    }

    /// Begins the next segment.
    pub(super) fn begin(&mut self, segment: &Segment) {
        self.segments.push((segment.before, Vec::new()));
    }

    /// Adds the next tree of the segment, after all trees that it refers to.
    pub(super) fn tree(&mut self, entries: &[StoredEntry]) -> Result<(), ExportError> {
        let mut size = Size::default();
        for entry in entries {
            let below = match entry.target {
                Target::Number(number) if entry.is_tree() => self.of(number).unwrap_or_default(),
                Target::Number(number) => Size {
                    entries: 0,
                    bytes: self.archive.content(number)?.len(),
                },
                Target::Id(_) => Size::default(),
            };
            size.entries = size.entries.saturating_add(1).saturating_add(below.entries);
            size.bytes = size.bytes.saturating_add(below.bytes);
        }
        if let Some((_, sizes)) = self.segments.last_mut() {
            sizes.push(size);
        }
        Ok(())
    }

    /// Returns the size of the tree with this number.
    pub(super) fn of(&self, number: u64) -> Option<Size> {
        let after = self.segments.partition_point(|(first, _)| *first <= number);
        let (first, sizes) = self.segments.get(after.checked_sub(1)?)?;
        sizes.get(usize::try_from(number - first).ok()?).copied()
    }
}

impl Size {
    /// Rejects a checkout that exceeds its limits or the free space at `dir`.
    pub(super) fn check(self, limits: Limits, dir: &Path) -> Result<(), ExportError> {
        if self.entries > limits.entries {
            return Err(ExportError::TooManyFiles {
                found: self.entries,
                most: limits.entries,
            });
        }
        if self.bytes > limits.bytes {
            return Err(ExportError::TooLarge {
                found: self.bytes,
                most: limits.bytes,
            });
        }
        let disk = rustix::fs::statvfs(dir).map_err(std::io::Error::from);
        let disk = disk.map_err(ExportError::io(dir))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = (self.entries.saturating_mul(PER_ENTRY)).saturating_add(self.bytes);
        // File systems without a fixed number of inodes report zero.
        let inodes = disk.f_files > 0 && disk.f_favail < self.entries;
        if needed > free || inodes {
            return Err(ExportError::NoRoom {
                dir: dir.to_owned(),
                needed,
                free,
                entries: self.entries,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_beyond_its_limits_or_the_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let check = |entries, bytes| Size { entries, bytes }.check(Limits::default(), dir.path());
        assert!(check(10, 1000).is_ok());
        let many = check(2_000_001, 0);
        assert!(matches!(many, Err(ExportError::TooManyFiles { .. })));
        let large = check(1, (64 << 30) + 1);
        assert!(matches!(large, Err(ExportError::TooLarge { .. })));
        let limits = Limits {
            entries: u64::MAX,
            bytes: u64::MAX,
        };
        let endless = Size {
            entries: 1,
            bytes: u64::MAX / 2,
        };
        let full = endless.check(limits, dir.path());
        assert!(matches!(full, Err(ExportError::NoRoom { .. })));
    }
}
