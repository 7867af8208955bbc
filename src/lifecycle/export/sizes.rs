//! Estimated size of a checkout.
//!
//! A tree with ten entries that all refer to the same tree of ten entries, nine levels
//! deep, takes two kilobytes and expands to a billion files. So files are counted before
//! a checkout, once per stored tree.

use std::path::Path;

use super::error::ExportError;

/// Approximate disk space of a file or directory besides its content, in bytes.
const ENTRY_DISK_BYTES: u64 = 4096;

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
pub struct CheckoutLimits {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl Default for CheckoutLimits {
    /// About twenty times the largest common checkouts.
    fn default() -> Self {
        CheckoutLimits {
            entries: 2_000_000,
            bytes: 64 << 30,
        }
    }
}

impl Size {
    /// Rejects a checkout that exceeds its limits or the free space at `dir`.
    pub(super) fn check(self, limits: CheckoutLimits, dir: &Path) -> Result<(), ExportError> {
        let entries = (
            self.entries,
            "files and directories",
            limits.entries,
            "--max-files",
        );
        let bytes = (self.bytes, "bytes of content", limits.bytes, "--max-size");
        for (found, unit, limit, option) in [entries, bytes] {
            if found > limit {
                return Err(ExportError::CheckoutLimit {
                    found,
                    unit,
                    limit,
                    option,
                });
            }
        }
        let disk = rustix::fs::statvfs(dir).map_err(std::io::Error::from);
        let disk = disk.map_err(ExportError::io(dir))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let needed = (self.entries.saturating_mul(ENTRY_DISK_BYTES)).saturating_add(self.bytes);
        // File systems without a fixed number of inodes report zero.
        let inodes = disk.f_files > 0 && disk.f_favail < self.entries;
        if needed > free || inodes {
            return Err(ExportError::NoSpace {
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
        let check =
            |entries, bytes| Size { entries, bytes }.check(CheckoutLimits::default(), dir.path());
        assert!(check(10, 1000).is_ok());
        let many = check(2_000_001, 0).unwrap_err();
        assert!(many.to_string().contains("--max-files"), "{many}");
        let large = check(1, (64 << 30) + 1).unwrap_err();
        assert!(large.to_string().contains("--max-size"), "{large}");
        let limits = CheckoutLimits {
            entries: u64::MAX,
            bytes: u64::MAX,
        };
        let endless = Size {
            entries: 1,
            bytes: u64::MAX / 2,
        };
        let full = endless.check(limits, dir.path());
        assert!(matches!(full, Err(ExportError::NoSpace { .. })));
    }
}
