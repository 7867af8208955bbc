//! The kernel's mount table, in the view of this process.
//!
//! Commands read `/proc/self/mountinfo` first because it never waits for a file
//! system: `stat` on a folder whose daemon hangs does not return.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The file system type of mounts of this program.
pub(super) const FS_TYPE: &str = "fuse.walgit-fs";
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Its ID, unique among the existing mounts.
    pub id: u64,
    /// ID of the mount that it is attached to.
    pub parent: u64,
    /// Minor number of its device, which equals the number of its FUSE connection.
    pub device: u32,
    /// Its mountpoint.
    pub mountpoint: PathBuf,
    /// The file system type.
    pub fs_type: String,
    /// The source; for mounts of this program, the user's name for the repository.
    pub source: String,
    /// The user who mounted it, for FUSE file systems.
    pub uid: Option<u32>,
}

impl MountEntry {
    /// Whether it is a mount of this program, by any user.
    pub fn is_ours(&self) -> bool {
        self.fs_type == FS_TYPE
    }

    /// Whether the calling user mounted it.
    pub fn is_mine(&self) -> bool {
        self.uid == Some(rustix::process::getuid().as_raw())
    }
}

/// All mounts of this mount namespace, in order of creation.
#[derive(Clone, Debug)]
pub struct MountTable {
    entries: Vec<MountEntry>,
    ids: HashSet<u64>,
}

impl MountTable {
    /// Reads the table.
    pub fn read() -> io::Result<Self> {
        let text = std::fs::read(MOUNTINFO).map_err(|error| {
            let message =
                format!("the mount table cannot be read ({MOUNTINFO}: {error}); mount /proc");
            io::Error::new(error.kind(), message)
        })?;
        Ok(MountTable::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        let lines = text.split(|&byte| byte == b'\n');
        let entries: Vec<MountEntry> = lines.filter_map(parse_line).collect();
        let ids = entries.iter().map(|entry| entry.id).collect();
        MountTable { entries, ids }
    }

    /// The mounts of this program that the calling user may modify: all for root,
    /// otherwise the user's own.
    pub fn ours(&self) -> impl DoubleEndedIterator<Item = &MountEntry> {
        let root = rustix::process::geteuid().is_root();
        (self.entries.iter()).filter(move |entry| entry.is_ours() && (root || entry.is_mine()))
    }

    /// All mounts.
    pub fn entries(&self) -> &[MountEntry] {
        &self.entries
    }

    /// Whether the visible mount at `dir`, an absolute path without symlinks, is one of
    /// this program. Reads only `/proc`, so it cannot hang.
    pub fn is_ours_at(dir: &Path) -> bool {
        let table = MountTable::read();
        table.is_ok_and(|table| table.mounted_at(dir).is_some_and(MountEntry::is_ours))
    }

    /// Whether a mount with this ID exists.
    pub fn contains(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    /// The mount that contains a path without symlinks. Takes into account mounts
    /// that cover other mounts or their parent folders.
    pub fn at(&self, path: &Path) -> Option<&MountEntry> {
        let mut current: Option<&MountEntry> = None;
        loop {
            let attached = self.entries.iter().filter(|entry| {
                let here = match current {
                    Some(current) => entry.parent == current.id && entry.id != current.id,
                    // Mounts whose parent lies outside of this namespace or root.
                    None => !self.ids.contains(&entry.parent) || entry.parent == entry.id,
                };
                here && path.starts_with(&entry.mountpoint)
            });
            // Resolution starts at the root: the mount with the shortest path comes
            // first.
            match attached.min_by_key(|entry| entry.mountpoint.as_os_str().len()) {
                Some(next) => current = Some(next),
                None => return current,
            }
        }
    }

    /// The mount whose root is this path without symlinks.
    pub fn mounted_at(&self, path: &Path) -> Option<&MountEntry> {
        self.at(path).filter(|entry| entry.mountpoint == path)
    }

    /// Whether the mountpoint leads to this mount, not to one that covers it.
    pub fn is_visible(&self, entry: &MountEntry) -> bool {
        self.at(&entry.mountpoint)
            .is_some_and(|top| top.id == entry.id)
    }

    /// The mounts inside a mount.
    pub fn inside(&self, entry: &MountEntry) -> impl Iterator<Item = &MountEntry> {
        let id = entry.id;
        (self.entries.iter()).filter(move |other| other.parent == id && other.id != id)
    }
}

/// `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || text(fields.next()?).parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = text(fields.next()?).split_once(':')?.1.parse().ok()?;
    let mountpoint = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = text(rest.next()?);
    let source = text(&unescape(rest.next()?));
    let options = text(rest.next().unwrap_or_default());
    let mut options = options.split(',');
    let uid = options.find_map(|option| option.strip_prefix("user_id=")?.parse().ok());
    Some(MountEntry {
        id,
        parent,
        device,
        mountpoint,
        fs_type,
        source,
        uid,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Spaces, newlines and backslashes are written as octal escapes such as `\040`.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    while let Some((&byte, rest)) = field.split_first() {
        let digits = rest.get(..3).filter(|_| byte == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(byte));
        field = if octal.is_some() { &rest[3..] } else { rest };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: &str = "27 1 254:0 / / rw - ext4 /dev/vda rw\n";

    proptest! {
        /// Other users control the names in the table.
        #[test]
        fn no_table_causes_a_panic(text in r"([a-z0-9\\ /:-]{0,20}( - )?\PC?\n?){0,12}") {
            let table = MountTable::parse(text.as_bytes());
            let _ = table.at(Path::new("/mnt"));
            prop_assert!(unescape(text.as_bytes()).len() <= text.len());
        }
    }

    #[test]
    fn a_line_is_parsed_with_escapes_tags_and_options() {
        let line = "42 27 0:39 / /mnt/a\\040b\\012\\134 ro,nosuid shared:1 master:2 - \
                    fuse.walgit-fs it ro,user_id=1000,group_id=0";
        let entry = parse_line(line.as_bytes()).unwrap();
        assert_eq!(entry.mountpoint, Path::new("/mnt/a b\n\\"));
        assert_eq!((entry.id, entry.parent, entry.device), (42, 27, 39));
        assert_eq!((entry.source.as_str(), entry.uid), ("it", Some(1000)));
        assert!(entry.is_ours());
    }

    #[test]
    fn a_path_that_is_not_utf8_hides_no_other_mount() {
        let mut text = b"40 27 0:8 / /mnt/\xff\xfe rw - tmpfs none rw\n".to_vec();
        text.extend_from_slice(b"41 27 0:9 / /m rw - fuse.walgit-fs it rw,user_id=0\n");
        let table = MountTable::parse(&[ROOT.as_bytes(), &text].concat());
        assert!(table.mounted_at(Path::new("/m")).unwrap().is_ours());
        assert_eq!(table.entries().len(), 3);
    }

    #[test]
    fn stacked_mounts_resolve_to_the_topmost() {
        let under = "30 27 0:9 / /mnt/a rw - fuse.walgit-fs it rw\n";
        let over = "31 30 0:10 / /mnt/a rw shared:1 - tmpfs none rw\n";
        let parent = "32 27 0:11 / /mnt rw - tmpfs none rw\n";
        let dir = Path::new("/mnt/a");
        let table =
            |lines: &[&str]| MountTable::parse((ROOT.to_owned() + &lines.concat()).as_bytes());
        let mounts = table(&[under]);
        assert!(mounts.mounted_at(dir).unwrap().is_ours());
        assert!(mounts.at(Path::new("/mnt/a/b")).unwrap().is_ours());
        assert!(!mounts.at(Path::new("/mnt/ab")).unwrap().is_ours());
        let two = table(&[under, over]);
        assert_eq!(two.mounted_at(dir).unwrap().fs_type, "tmpfs");
        assert_eq!(two.inside(&two.entries()[1]).count(), 1);
        // A mount over the parent folder also hides it.
        let hidden = table(&[under, parent]);
        assert_eq!(hidden.at(dir).unwrap().id, 32);
        assert!(hidden.mounted_at(dir).is_none());
        assert!(!hidden.is_visible(&hidden.entries()[1]));
    }
}
