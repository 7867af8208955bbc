//! Access to the system keyring, with time limits.
//!
//! The keyring is a separate program, reached over D-Bus: it may be missing, refuse,
//! answer slowly or never, or wait for an unseen prompt. Each operation is limited to
//! [`KEYRING_TIMEOUT`]; a longer one is abandoned on its own thread, and the keyring is not
//! used for a while.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use keyring_core::{CredentialStore, Entry};
use parking_lot::Mutex;
use zbus_secret_service_keyring_store::Store;
use zeroize::Zeroizing;

/// Time limit of an operation.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after the keyring did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Jobs that timed out; each holds its token until it ends.
static ABANDONED_REQUESTS: Mutex<Vec<Weak<()>>> = Mutex::new(Vec::new());
/// When the keyring last failed to answer.
static LAST_TIMEOUT: Mutex<Option<Instant>> = Mutex::new(None);

/// Reason that a keyring operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The messages say it.
pub enum KeyringError {
    /// The operation may have been carried out nevertheless.
    #[error("the keyring did not answer within {} s (does it wait for a password?)", KEYRING_TIMEOUT.as_secs())]
    TimedOut,
    #[error("the keyring has no such entry")]
    NoEntry,
    /// The entry was stored by another program or from another directory of secrets.
    #[error("the keyring has another entry of this name")]
    Taken,
    #[error("the keyring does not return the stored secret")]
    Lost,
    /// The keyring is not reachable, or refused; holds its message.
    #[error("{0}")]
    Refused(String),
}

/// Secrets by name, or an error for each.
pub(super) type Secrets = BTreeMap<String, Result<Zeroizing<Vec<u8>>, KeyringError>>;

/// Entries of one service in the user's keyring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyring {
    service: &'static str,
}

impl Keyring {
    pub(super) fn new(service: &'static str) -> Self {
        Keyring { service }
    }

    /// Returns the secrets of these names, all within one [`KEYRING_TIMEOUT`].
    pub(super) fn get(self, names: &[String]) -> Secrets {
        let wanted = names.to_owned();
        let job = move |sender: &mpsc::Sender<_>| {
            let store = connect();
            for name in wanted {
                let entry = store.clone().and_then(|store| self.entry(&store, &name));
                let secret = entry.and_then(|entry| entry.get_secret().map_err(refused));
                // The receiver no longer waits.
                if sender.send((name, secret.map(Zeroizing::new))).is_err() {
                    return;
                }
            }
        };
        let mut found = Secrets::new();
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
        run(move || {
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
            (back == secret).then_some(()).ok_or(KeyringError::Lost)
        })
    }

    /// Removes a secret, if it exists.
    pub(super) fn remove(self, name: &str) -> Result<(), KeyringError> {
        let name = name.to_owned();
        run(move || {
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
fn run(
    job: impl FnOnce() -> Result<(), KeyringError> + Send + 'static,
) -> Result<(), KeyringError> {
    let mut done = Err(KeyringError::Lost);
    let send_done = move |sender: &mpsc::Sender<_>| {
        // Fails if the caller no longer waits.
        let _ = sender.send(job());
    };
    bounded(send_done, |result| done = result)?;
    done
}

/// Runs a job on its own thread, and calls `each` for every result.
///
/// # Errors
/// [`KeyringError::TimedOut`] if it does not end in time, or an earlier one has not ended;
/// [`KeyringError::Refused`] if no thread can be started.
fn bounded<T: Send + 'static>(
    job: impl FnOnce(&mpsc::Sender<T>) + Send + 'static,
    mut each: impl FnMut(T),
) -> Result<(), KeyringError> {
    let recently = LAST_TIMEOUT
        .lock()
        .is_some_and(|at| at.elapsed() < RETRY_PAUSE);
    let is_running = |job: &Weak<()>| job.strong_count() > 0;
    if recently || ABANDONED_REQUESTS.lock().iter().any(is_running) {
        return Err(KeyringError::TimedOut);
    }
    let token = Arc::new(());
    let job_token = Arc::downgrade(&token);
    let (sender, receiver) = mpsc::channel();
    let started = std::thread::Builder::new()
        .name("keyring".into())
        .spawn(move || {
            // Dropped even if the job panics.
            let _token = token;
            job(&sender);
        });
    started.map_err(|error| KeyringError::Refused(error.to_string()))?;
    let until = Instant::now() + KEYRING_TIMEOUT;
    loop {
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(result) => each(result),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    let mut abandoned = ABANDONED_REQUESTS.lock();
    abandoned.retain(is_running);
    abandoned.push(job_token);
    *LAST_TIMEOUT.lock() = Some(Instant::now());
    Err(KeyringError::TimedOut)
}
