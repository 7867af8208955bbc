//! The directory of names.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::value::{Expected, Generation, ListedRef, NamedRef, PastRef, RefStoreError};
use walgit_durable::{AppendLog, FileLock, open_regular, read_regular};
use walgit_format::Address;
use walgit_format::names::RefName;
use walrus_client::clock::unix_seconds;

/// Characters that file names are not percent-encoded for.
const FILE_NAME_CHARS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Minimum number of earlier values to keep per name.
const MIN_HISTORY: usize = 100;
/// Directory of the histories; not a valid repository name.
const HISTORY_DIR: &str = ".history";
/// Lock file held while a name is set or removed; not a valid repository name.
/// Contains the number of changes.
const LOCK_FILE: &str = ".lock";

/// Maximum size of the file of a name, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The names of one network, in a directory.
#[derive(Clone, Debug)]
pub struct RefStore {
    dir: PathBuf,
}

impl RefStore {
    /// Creates a store of names in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        RefStore { dir: dir.into() }
    }

    fn file(&self, name: &RefName) -> PathBuf {
        self.dir.join(file_name(name))
    }

    fn log(&self, name: &RefName) -> AppendLog {
        let file = format!("{}.jsonl", file_name(name));
        AppendLog::new(self.dir.join(HISTORY_DIR).join(file))
    }

    /// Returns the value of `name`, if any.
    pub fn get(&self, name: &RefName) -> Result<Option<NamedRef>, RefStoreError> {
        let path = self.file(name);
        let why = match read_regular(&path, MAX_FILE_BYTES) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(named) => return Ok(Some(named)),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {
                return Ok(None);
            }
            Err(error) if is_of_this_file(&error, &path) => error.to_string(),
            Err(source) => return Err(RefStoreError::Io { path, source }),
        };
        Err(RefStoreError::Damaged { path, why })
    }

    /// Resolves `name` to its address.
    ///
    /// # Errors
    /// [`RefStoreError::Unknown`], which lists the known names.
    pub fn resolve(&self, name: &RefName) -> Result<Address, RefStoreError> {
        let Some(named) = self.get(name)? else {
            let names: Vec<_> = self.list()?.iter().map(|(n, _)| n.to_string()).collect();
            let known = if names.is_empty() {
                "nothing is published here yet (walgit-fs publish PATH --name NAME)".into()
            } else {
                format!("there are: {}", names.join(", "))
            };
            let name = name.clone();
            return Err(RefStoreError::Unknown { name, known });
        };
        (named.address.parse()).map_err(|why| RefStoreError::Damaged {
            path: self.file(name),
            why: format!("{why}"),
        })
    }

    /// Sets `name` to `to` if its current value is `expected`. The old value stays
    /// until the new one is durable. `by` is the command to record in the history.
    ///
    /// # Errors
    /// [`RefStoreError::Moved`], or a disk error.
    pub fn update(
        &self,
        name: &RefName,
        expected: Expected<'_>,
        to: NamedRef,
        by: &str,
    ) -> Result<(), RefStoreError> {
        let _lock = self.lock()?;
        let before = self.expect(name, expected)?;
        let path = self.file(name);
        let bytes = serde_json::to_vec_pretty(&to)
            .map_err(|error| RefStoreError::io(&path)(error.into()))?;
        // A failure between the two writes leaves a history entry that never was the
        // value.
        self.remember(name, before, Some(to), by)?;
        walgit_durable::write_atomic(&path, &bytes).map_err(RefStoreError::io(&path))
    }

    /// Removes `name` and returns its value. The blobs of the head stay stored for
    /// now.
    ///
    /// # Errors
    /// Fails on a disk error.
    pub fn remove(&self, name: &RefName, by: &str) -> Result<Option<NamedRef>, RefStoreError> {
        let path = self.file(name);
        if !path.exists() {
            return Ok(None);
        }
        let _lock = self.lock()?;
        // A damaged file can be removed as well.
        let before = match self.get(name) {
            Err(RefStoreError::Damaged { .. }) => None,
            read => read?,
        };
        self.remember(name, before.clone(), None, by)?;
        let removed = walgit_durable::remove_file(&path).map_err(RefStoreError::io(&path))?;
        // An unreadable value is empty.
        Ok(removed.then(|| before.unwrap_or_default()))
    }

    /// The history of `name`, newest first. The first entry is the current value, if
    /// the name has one.
    pub fn history(&self, name: &RefName) -> Result<Vec<PastRef>, RefStoreError> {
        let log = self.log(name);
        let read = log
            .read::<PastRef>()
            .map_err(RefStoreError::io(log.path()))?;
        let mut past = read.records;
        match self.get(name) {
            Ok(Some(now)) => past.extend(missing(&past, now)),
            Ok(None) | Err(RefStoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        past.reverse();
        Ok(past)
    }

    /// Appends to the history of a name and truncates it to its newest entries.
    fn remember(
        &self,
        name: &RefName,
        before: Option<NamedRef>,
        now: Option<NamedRef>,
        by: &str,
    ) -> Result<(), RefStoreError> {
        let same = |before: &NamedRef| {
            (now.as_ref())
                .is_some_and(|now| (&now.address, &now.key) == (&before.address, &before.key))
        };
        if before.as_ref().is_some_and(same) {
            return Ok(());
        }
        let log = self.log(name);
        let write = || -> io::Result<()> {
            let mut log = log.lock()?;
            let mut past = log.read::<PastRef>()?.records;
            let mut new: Vec<PastRef> = Vec::new();
            new.extend(before.and_then(|before| missing(&past, before)));
            new.push(PastRef {
                named: now,
                at: unix_seconds(),
                by: by.into(),
            });
            if past.len() < 2 * MIN_HISTORY {
                return log.append_all(&new);
            }
            past.extend(new);
            log.replace(past.split_off(past.len() - MIN_HISTORY))
        };
        write().map_err(RefStoreError::io(log.path()))
    }

    /// Returns the value of a name if it is the expected one.
    fn expect(
        &self,
        name: &RefName,
        expected: Expected<'_>,
    ) -> Result<Option<NamedRef>, RefStoreError> {
        let now = match (self.get(name), expected) {
            (Err(RefStoreError::Damaged { .. }), Expected::Any) => None,
            (now, _) => now?,
        };
        let found = now.as_ref().map(|now| now.address.as_str());
        match expected {
            Expected::Address(expected) if expected != found => Err(RefStoreError::Moved {
                name: name.clone(),
                now: found.unwrap_or("nothing").into(),
            }),
            _ => Ok(now),
        }
    }

    /// Locks out other writers until dropped.
    fn lock(&self) -> Result<FileLock, RefStoreError> {
        let path = self.dir.join(LOCK_FILE);
        let lock = || -> io::Result<FileLock> {
            walgit_durable::create_private_dir(&self.dir)?;
            let lock = FileLock::exclusive(&path)?;
            let set = times_set(lock.as_file())?.wrapping_add(1);
            lock.as_file().write_all_at(&set.to_le_bytes(), 0)?;
            Ok(lock)
        };
        lock().map_err(RefStoreError::io(&path))
    }

    /// The generation, and the result of [`RefStore::list_all`] for it.
    pub fn list_generation(&self) -> Result<(Generation, Vec<ListedRef>), RefStoreError> {
        let path = self.dir.join(LOCK_FILE);
        // Prevents a change between the increment of the counter and the write.
        // Without a lock file, no name was ever set.
        let _lock = if_exists(FileLock::shared(&path)).map_err(RefStoreError::io(&path))?;
        Ok((self.generation()?, self.list_all()?))
    }

    /// The current generation.
    pub fn generation(&self) -> Result<Generation, RefStoreError> {
        let path = self.dir.join(LOCK_FILE);
        let read = || {
            let lock = if_exists(open_regular(&path))?;
            let dir = if_exists(std::fs::metadata(&self.dir))?;
            Ok(Generation {
                set: lock.map_or(Ok(0), |lock| times_set(&lock))?,
                changed: dir.map(|dir| dir.modified()).transpose()?,
            })
        };
        read().map_err(RefStoreError::io(&path))
    }

    /// All names with their values, sorted; damaged ones with their error, for
    /// callers that must not skip any. The result survives a power loss, because
    /// callers delete blobs that no listed name references.
    pub fn list_all(&self) -> Result<Vec<ListedRef>, RefStoreError> {
        let failed = |source| RefStoreError::io(&self.dir)(source);
        let Some(entries) = if_exists(std::fs::read_dir(&self.dir)).map_err(failed)? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // Temporary files, the lock, or the history: no name begins with a dot.
            if file.starts_with('.') {
                continue;
            }
            let text = percent_decode_str(&file).decode_utf8_lossy().into_owned();
            let named = match text.parse::<RefName>() {
                Ok(name) => self.get(&name).transpose(),
                Err(why) => Some(Err(RefStoreError::Damaged {
                    path: path.clone(),
                    why: why.to_string(),
                })),
            };
            // `None` if the name was removed since `read_dir` listed it.
            if let Some(named) = named {
                names.push((text, named));
            }
        }
        // A writer may have been killed before it synced the directory.
        walgit_durable::sync_dir(&self.dir).map_err(failed)?;
        names.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// All names, sorted. Damaged files are left out.
    pub fn list(&self) -> Result<Vec<(RefName, NamedRef)>, RefStoreError> {
        let all = self.list_all()?.into_iter();
        Ok(all
            .filter_map(|(text, named)| Some((text.parse().ok()?, named.ok()?)))
            .collect())
    }
}

/// Whether the error concerns the file itself, so that replacing the file helps.
fn is_of_this_file(error: &io::Error, path: &Path) -> bool {
    let kinds = [
        ErrorKind::NotFound,
        ErrorKind::PermissionDenied,
        ErrorKind::InvalidInput,
        ErrorKind::IsADirectory,
        ErrorKind::FileTooLarge,
    ];
    kinds.contains(&error.kind()) && path.symlink_metadata().is_ok()
}

/// Returns the value, or `None` for a file that does not exist.
fn if_exists<T>(opened: io::Result<T>) -> io::Result<Option<T>> {
    match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

fn file_name(name: &RefName) -> String {
    utf8_percent_encode(name.as_str(), FILE_NAME_CHARS).to_string()
}

/// The history entry for the current value, if the history lacks it: the value
/// predates histories, or its history was lost.
fn missing(past: &[PastRef], now: NamedRef) -> Option<PastRef> {
    let last = past.last().and_then(|last| last.named.as_ref());
    (last.map(|last| &last.address) != Some(&now.address)).then(|| PastRef {
        at: now.updated,
        named: Some(now),
        by: String::new(),
    })
}

fn times_set(lock: &File) -> io::Result<u64> {
    let mut times = [0; 8];
    match lock.read_exact_at(&mut times, 0) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
        done => done.map(|()| u64::from_le_bytes(times)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::chunk::BlobId;

    #[test]
    fn a_name_has_its_last_value() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(&dir.path().join("refs"));
        let name: RefName = "alice/ripgrep".parse().unwrap();
        assert!(store.get(&name).unwrap().is_none());
        for fill in [1, 2] {
            let address = Address::Walrus {
                blob: BlobId::from_bytes([fill; 32]),
                root: None,
            };
            let to = NamedRef::now(&address);
            store.update(&name, Expected::Any, to, "test").unwrap();
            assert_eq!(store.resolve(&name).unwrap(), address);
        }
        assert_eq!(store.list_all().unwrap().len(), 1);
        let before = store.remove(&name, "remove").unwrap().unwrap();
        assert_eq!(store.remove(&name, "remove").unwrap(), None);
        let past = store.history(&name).unwrap();
        let by: Vec<&str> = past.iter().map(|past| past.by.as_str()).collect();
        assert_eq!(by, ["remove", "test", "test"]);
        assert_eq!((&past[0].named, &past[1].named), (&None, &Some(before)));
    }

    #[test]
    fn concurrently_changed_name_is_not_updated() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(dir.path());
        let name: RefName = "it".parse().unwrap();
        let to = |fill| {
            NamedRef::now(&Address::Walrus {
                blob: BlobId::from_bytes([fill; 32]),
                root: None,
            })
        };
        let [one, two, three] = [1, 2, 3].map(to);
        let none = Expected::Address(None);
        store.update(&name, none, one.clone(), "a").unwrap();
        let moved = store.update(&name, none, two.clone(), "b").unwrap_err();
        assert!(matches!(moved, RefStoreError::Moved { .. }), "{moved}");
        let first = Expected::Address(Some(&one.address));
        store.update(&name, first, two.clone(), "b").unwrap();
        store.update(&name, first, three, "c").unwrap_err();
        assert_eq!(store.get(&name).unwrap(), Some(two));
        assert_eq!(store.history(&name).unwrap().len(), 2);
    }

    #[test]
    fn the_history_of_a_name_is_bounded_and_begins_with_the_value_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(dir.path());
        let name: RefName = "it".parse().unwrap();
        let to = |number: u32| NamedRef {
            address: format!("walrus://{number}"),
            updated: u64::from(number),
            key: None,
            source: None,
        };
        // Format of an earlier version.
        let file = serde_json::to_vec(&to(0)).unwrap();
        std::fs::write(dir.path().join("it"), file).unwrap();
        assert_eq!(store.history(&name).unwrap().len(), 1);
        store.update(&name, Expected::Any, to(1), "test").unwrap();
        let past = store.history(&name).unwrap();
        assert_eq!(past[1].named.as_ref(), Some(&to(0)));
        for number in 2..3 * MIN_HISTORY as u32 {
            store
                .update(&name, Expected::Any, to(number), "test")
                .unwrap();
        }
        let past = store.history(&name).unwrap();
        assert!(
            (MIN_HISTORY..=2 * MIN_HISTORY + 1).contains(&past.len()),
            "{}",
            past.len()
        );
        let numbers = (0..3 * MIN_HISTORY as u32).rev();
        assert!(
            past.iter()
                .map(|it| it.named.clone().unwrap())
                .zip(numbers.map(to))
                .all(|(a, b)| a == b)
        );
    }

    #[test]
    fn an_unknown_name_is_reported_with_the_known_names() {
        let dir = tempfile::tempdir().unwrap();
        let store = RefStore::new(dir.path());
        let address: Address = format!("walrus://{}", BlobId::from_bytes([3; 32]))
            .parse()
            .unwrap();
        let to = NamedRef::now(&address);
        let known = "known".parse().unwrap();
        store.update(&known, Expected::Any, to, "test").unwrap();
        let error = store.resolve(&"other".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("known"), "{error}");
    }
}
