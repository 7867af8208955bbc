//! Access to the system keyring, with time limits.
//!
//! The keyring is a separate program, reached over D-Bus: it may be missing, refuse,
//! answer slowly or never, or wait for an unseen prompt. Each operation is limited to
//! [`PATIENCE`]; a longer one is abandoned on its own thread, and the keyring is not
//! used for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use keyring_core::{CredentialStore, Entry};
use zbus_secret_service_keyring_store::Store;
use zeroize::Zeroizing;

/// Time limit of an operation.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause after the keyring did not answer.
const PAUSE: Duration = Duration::from_secs(60);

/// Number of abandoned operations that are still running.
static ABANDONED: AtomicUsize = AtomicUsize::new(0);
/// When the keyring last failed to answer.
static SILENT: Mutex<Option<Instant>> = Mutex::new(None);

/// Reason that a keyring operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// The keyring did not answer; the operation may have been carried out.
    #[error("it did not answer within {} s (is it waiting for a password?)", PATIENCE.as_secs())]
    Silent,
    /// No entry has this name.
    #[error("it has no such entry")]
    NoEntry,
    /// A different entry has this name, stored by another program or from another
    /// directory of secrets.
    #[error("it has another entry of this name")]
    Taken,
    /// The keyring did not return what was stored.
    #[error("it does not give back what was stored")]
    Lost,
    /// The keyring is not reachable, or refused; holds its message.
    #[error("{0}")]
    Refused(String),
}

/// Secrets by name, or an error for each.
pub(super) type Found = BTreeMap<String, Result<Zeroizing<Vec<u8>>, KeyringError>>;

/// Entries of one service in the user's keyring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyring {
    service: &'static str,
}

impl Keyring {
    pub(super) fn new(service: &'static str) -> Self {
        Keyring { service }
    }

    /// Returns the secrets of these names, all within one [`PATIENCE`].
    pub(super) fn get(self, names: &[String]) -> Found {
        let wanted = names.to_owned();
        let job = move |tell: &mpsc::Sender<_>| {
            let store = connect();
            for name in wanted {
                let entry = store.clone().and_then(|store| self.entry(&store, &name));
                let secret = entry.and_then(|entry| entry.get_secret().map_err(refused));
                // The receiver no longer waits.
                if tell.send((name, secret.map(Zeroizing::new))).is_err() {
                    return;
                }
            }
        };
        let mut found = Found::new();
        let read = bounded(job, |(name, secret)| {
            found.insert(name, secret);
        });
        let missing = read.err().unwrap_or(KeyringError::Lost);
        for name in names {
            let entry = found.entry(name.clone());
            entry.or_insert_with(|| Err(missing.clone()));
        }
        found
    }

    /// Stores a secret and reads it back; replaces an existing one only if it is `ours`.
    /// After an error it may be stored or not.
    pub(super) fn set(self, name: &str, secret: &[u8], ours: bool) -> Result<(), KeyringError> {
        let (name, secret) = (name.to_owned(), Zeroizing::new(secret.to_vec()));
        one(move || {
            let entry = self.entry(&connect()?, &name)?;
            if !ours {
                match entry.get_secret().map(Zeroizing::new).map_err(refused) {
                    Ok(there) if there == secret => return Ok(()),
                    Ok(_) => return Err(KeyringError::Taken),
                    Err(KeyringError::NoEntry) => {}
                    Err(error) => return Err(error),
                }
            }
            entry.set_secret(&secret).map_err(refused)?;
            let back = Zeroizing::new(entry.get_secret().map_err(refused)?);
            if back == secret {
                Ok(())
            } else {
                Err(KeyringError::Lost)
            }
        })
    }

    /// Removes a secret, if it exists.
    pub(super) fn remove(self, name: &str) -> Result<(), KeyringError> {
        let name = name.to_owned();
        one(move || {
            let entry = self.entry(&connect()?, &name)?;
            match entry.delete_credential().map_err(refused) {
                Err(KeyringError::NoEntry) => Ok(()),
                done => done,
            }
        })
    }

    fn entry(self, store: &Arc<CredentialStore>, name: &str) -> Result<Entry, KeyringError> {
        Entry::new_in_store(store, self.service, name).map_err(refused)
    }
}

fn connect() -> Result<Arc<CredentialStore>, KeyringError> {
    let store: Arc<CredentialStore> = Store::new().map_err(refused)?;
    Ok(store)
}

fn refused(error: keyring_core::Error) -> KeyringError {
    match error {
        keyring_core::Error::NoEntry => KeyringError::NoEntry,
        error => KeyringError::Refused(error.to_string()),
    }
}

/// Runs one operation with a time limit.
fn one(
    job: impl FnOnce() -> Result<(), KeyringError> + Send + 'static,
) -> Result<(), KeyringError> {
    let mut done = Err(KeyringError::Lost);
    let tell_done = move |tell: &mpsc::Sender<_>| {
        // Fails if the caller no longer waits.
        let _ = tell.send(job());
    };
    bounded(tell_done, |result| done = result)?;
    done
}

/// Whether a job is running, has ended, or was abandoned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    Running,
    Ended,
    Abandoned,
}

/// Records the end of a job, even if it panics.
struct NoteEnd(Arc<Mutex<Job>>);

impl Drop for NoteEnd {
    fn drop(&mut self) {
        let mut job = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *job == Job::Abandoned {
            ABANDONED.fetch_sub(1, Ordering::SeqCst);
        }
        *job = Job::Ended;
    }
}

/// Runs a job on its own thread, and calls `each` for every result.
///
/// # Errors
/// [`KeyringError::Silent`] if it does not end in time, or an earlier one has not ended;
/// [`KeyringError::Refused`] if no thread can be started.
fn bounded<T: Send + 'static>(
    job: impl FnOnce(&mpsc::Sender<T>) + Send + 'static,
    mut each: impl FnMut(T),
) -> Result<(), KeyringError> {
    let silent = || SILENT.lock().unwrap_or_else(PoisonError::into_inner);
    let recently = silent().is_some_and(|at| at.elapsed() < PAUSE);
    if recently || ABANDONED.load(Ordering::SeqCst) > 0 {
        return Err(KeyringError::Silent);
    }
    let state = Arc::new(Mutex::new(Job::Running));
    let end = NoteEnd(state.clone());
    let (tell, told) = mpsc::channel();
    let started = std::thread::Builder::new()
        .name("keyring".into())
        .spawn(move || {
            let _end = end;
            job(&tell);
        });
    started.map_err(|error| KeyringError::Refused(error.to_string()))?;
    let until = Instant::now() + PATIENCE;
    loop {
        match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => each(result),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if *state == Job::Running {
        *state = Job::Abandoned;
        ABANDONED.fetch_add(1, Ordering::SeqCst);
    }
    *silent() = Some(Instant::now());
    Err(KeyringError::Silent)
}
