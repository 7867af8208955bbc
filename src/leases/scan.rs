//! Reads everything that leases protect.

use std::collections::HashSet;
use std::path::Path;

use super::error::LeaseError;
use super::lease_file::files;
use super::location::Leases;
use super::records::InUse;
use super::{lock, mount, publish, users};

impl Leases {
    /// Returns everything in use. Leases of ended processes count if they ended within
    /// `grace` seconds before `now`; an end that was not noticed before counts as `now`,
    /// and is recorded unless `read_only`. The leases named in `mounted` belong to mounts
    /// in the kernel's table: they count even if their process has ended, because the
    /// folder can be mounted again. Blocks.
    ///
    /// # Errors
    /// When a lease cannot be read, or is damaged: then nothing may be deleted.
    pub fn in_use(
        &self,
        now: u64,
        grace: u64,
        read_only: bool,
        mounted: &HashSet<String>,
    ) -> Result<InUse, LeaseError> {
        let mut in_use = InUse::default();
        // Without a lock file, no lease was ever taken.
        if let Some(locked) = lock::shared(&self.dir)? {
            in_use.generation = locked.generation()?;
            for (path, extension) in files(&self.dir)? {
                let mounted = is_in(mounted, &path);
                match extension.as_str() {
                    publish::EXTENSION => publish::read(&path, now, grace, &mut in_use)?,
                    users::EXTENSION => self.read_user(&path, &mut in_use)?,
                    mount::EXTENSION => {
                        mount::read(&path, now, grace, read_only, mounted, &mut in_use)?;
                    }
                    _ => {}
                }
            }
        }
        self.read_other_networks(now, grace, mounted, &mut in_use)?;
        self.read_former(now, grace, &mut in_use)?;
        Ok(in_use)
    }

    /// Adds the heads of other networks' mounts.
    fn read_other_networks(
        &self,
        now: u64,
        grace: u64,
        mounted: &HashSet<String>,
        in_use: &mut InUse,
    ) -> Result<(), LeaseError> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let mut dirs = vec![data.join("local/leases")];
        dirs.extend(files(&data.join("leases"))?.into_iter().map(|it| it.0));
        let mut others = InUse::default();
        for dir in dirs.iter().filter(|dir| **dir != self.dir && dir.is_dir()) {
            for (path, extension) in files(dir)? {
                if extension == mount::EXTENSION {
                    let mounted = is_in(mounted, &path);
                    mount::read(&path, now, grace, true, mounted, &mut others)?;
                }
            }
        }
        in_use.mounts.append(&mut others.mounts);
        Ok(())
    }

    fn read_former(&self, now: u64, grace: u64, in_use: &mut InUse) -> Result<(), LeaseError> {
        let Some(former) = &self.former else {
            return Ok(());
        };
        for (path, extension) in files(former)? {
            if extension == publish::EXTENSION {
                publish::read(&path, now, grace, in_use)?;
            }
        }
        Ok(())
    }
}

/// Whether the name of a lease is among these.
fn is_in(names: &HashSet<String>, lease: &Path) -> bool {
    let name = lease.file_stem().unwrap_or_default();
    names.contains(name.to_string_lossy().as_ref())
}
