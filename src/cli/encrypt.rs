//! Selection of the key that a publish encrypts with, if any.
//!
//! A name is either private or public, and stays so: later publishes of a private name
//! use its key without asking, and private and public heads never refer to each other.
//! Changing from one to the other takes an explicit flag.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::args::{Keys, stored_keys, warn_of_key_file};
use super::session::Session;
use crate::config::Settings;
use crate::publish::PublishError;
use crate::repo::refs::NamedRef;
use crate::repo::{RepoError, Repository};
use walgit_format::Address;
use walgit_format::chunk::{BlobId, ChunkHash, PrivateError, SecretKey};
use walgit_format::names::RefName;
use walrus_client::auth::SecretLocation;

/// Maximum length of the part of a key's name that comes from the repository.
const MAX_STEM_CHARS: usize = 48;

/// Encryption options.
#[derive(Debug, Args)]
pub(super) struct EncryptionArgs {
    /// Encrypt everything: content, names, history. Uses the key of --key FILE, or else a
    /// new one; the key is kept like those of `key add`, and later publishes of this name
    /// use it without asking
    #[arg(long, conflicts_with = "plaintext")]
    encrypt: bool,
    /// Publish in plaintext even if --from or this name is encrypted
    #[arg(long)]
    plaintext: bool,
    /// Store everything again, without references to what was published under this name
    /// before, which need not be readable; with --encrypt, may change the key
    #[arg(long)]
    pub(super) fresh: bool,
}

/// Earlier publish under the same name.
struct PreviousHead {
    target: (BlobId, Option<ChunkHash>),
    /// Whether it is encrypted.
    private: bool,
    /// The key that it is encrypted with, if available.
    key: Option<SecretKey>,
    /// The head, if it is readable.
    head: Option<Repository>,
}

/// Decision about how to publish.
pub(super) struct EncryptionChoice {
    /// The key to encrypt with.
    pub(super) key: Option<ChosenKey>,
    /// Earlier head that the publish may refer to.
    pub(super) previous: Option<(BlobId, Option<ChunkHash>)>,
    /// Current head of the name, if it is readable.
    pub(super) old: Option<Repository>,
}

/// A key to encrypt with.
pub(super) struct ChosenKey {
    pub(super) key: SecretKey,
    /// Its name among the user's keys.
    name: String,
    /// Whether this command created it.
    created: bool,
}

/// The key that is kept for a repository.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StoredKey {
    /// Its name among the user's keys.
    pub(super) name: String,
    /// Its location.
    #[serde(rename = "kept")]
    pub(super) location: SecretLocation,
    /// Whether this command created it.
    #[serde(rename = "made")]
    pub(super) created: bool,
}

impl EncryptionArgs {
    /// Whether the given options permit publishing `from`.
    pub(super) fn allows(&self, from: &Repository) -> bool {
        !from.is_encrypted() || self.plaintext || self.encrypt
    }

    /// Decides how to publish under `name`, which currently refers to `named`. The keys of
    /// the session may be only for the repository that the publish `rewrites`.
    pub(super) async fn choose(
        &self,
        session: &Session<'_>,
        keys: &Keys,
        (name, named): (&RefName, Option<&NamedRef>),
        (rewrites, force): (bool, bool),
    ) -> Result<EncryptionChoice> {
        let settings = session.settings;
        let before = match named {
            Some(named) => self.before(session, named, force).await?,
            None => None,
        };
        let old = before.as_ref().and_then(|before| before.head.clone());
        // An unreadable head cannot be referred to.
        let readable = before.as_ref().filter(|before| before.head.is_some());
        let previous = readable.map(|before| before.target);
        let was_private = before.as_ref().is_some_and(|before| before.private);
        if self.plaintext || !(self.encrypt || was_private) {
            if !self.plaintext && !rewrites && !keys.given()?.is_empty() {
                bail!("--key has no effect here; add --encrypt to encrypt with it");
            }
            return Ok(EncryptionChoice {
                key: None,
                previous: previous.filter(|_| !was_private && !self.fresh),
                old,
            });
        }
        if previous.is_some() && !was_private && !self.fresh {
            return Err(PublishError::WasPublic.into());
        }
        let mut given = keys.given()?.into_iter();
        let given = given.next().filter(|_| !rewrites || self.encrypt);
        let old_key = before.and_then(|before| before.key);
        let name = key_name(&settings.network.value.name, name);
        let (key, created) = match (given, old_key) {
            (Some(key), _) => (key, false),
            (None, Some(key)) if !self.fresh => (key, false),
            // Reuse the key of an interrupted first publish.
            (None, None) => match stored_keys(settings).get(&name)? {
                Some(key) => (key, false),
                None => (new_key()?, true),
            },
            (None, Some(_)) => (new_key()?, true),
        };
        Ok(EncryptionChoice {
            key: Some(ChosenKey { key, name, created }),
            previous: previous.filter(|_| !self.fresh),
            old,
        })
    }

    /// Opens the current head of a name.
    async fn before(
        &self,
        session: &Session<'_>,
        named: &NamedRef,
        force: bool,
    ) -> Result<Option<PreviousHead>> {
        let replaces = self.fresh || force;
        let Ok(address @ Address::Walrus { blob, root }) = named.address.parse() else {
            if replaces {
                return Ok(None);
            }
            bail!(
                "the name refers to {}, which is not an address; add --force to replace it",
                named.address
            );
        };
        let unreadable = |private, key| PreviousHead {
            target: (blob, root),
            private,
            key,
            head: None,
        };
        Ok(Some(match session.try_open(&address).await? {
            Ok(found) => PreviousHead {
                target: (blob, root),
                private: found.is_encrypted(),
                key: found.key().cloned(),
                head: Some(found),
            },
            Err(RepoError::Private { .. }) if replaces => unreadable(true, None),
            Err(RepoError::Private {
                why: PrivateError::NoKey | PrivateError::WrongKey,
                ..
            }) => bail!(
                "the repository of this name is encrypted, and its key is not stored here; pass \
                 it with --key FILE, or add --fresh to start again with another key"
            ),
            Err(error) if !(error.is_lasting() && replaces) => {
                return Err(PublishError::Previous(Box::new(error)).into());
            }
            Err(_) => {
                let stored = named.key.as_ref();
                let key = stored.map(|key| stored_keys(session.settings).get(key));
                unreadable(named.key.is_some(), key.transpose()?.flatten())
            }
        }))
    }
}

impl ChosenKey {
    /// Stores the key before it encrypts anything, so that all stored content stays
    /// readable.
    pub(super) fn store(&self, settings: &Settings) -> Result<StoredKey> {
        let (name, stored) = stored_keys(settings).add_renamed(&self.name, &self.key)?;
        if let Some(why) = &stored.keyring {
            warn_of_key_file(settings, why);
        }
        Ok(StoredKey {
            name,
            location: stored.location,
            created: self.created,
        })
    }
}

fn new_key() -> Result<SecretKey> {
    SecretKey::random().context("the system's random number generator failed; no key was made")
}

/// Name of a repository's key: its network and name, sanitized, plus part of their hash
/// if that drops characters.
fn key_name(network: &str, name: &RefName) -> String {
    let qualified_name = format!("{network}.{name}");
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if qualified_name.len() <= MAX_STEM_CHARS
        && qualified_name.chars().all(fits)
        && !qualified_name.starts_with('.')
    {
        return qualified_name;
    }
    let plain: String = (qualified_name
        .chars()
        .filter(|&c| fits(c))
        .take(MAX_STEM_CHARS))
    .collect();
    let rest = &ChunkHash::of(qualified_name.as_bytes()).to_string()[..8];
    format!("{}-{rest}", plain.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_repositories_have_other_names() {
        let name = |text: &str| key_name("local", &text.parse().unwrap());
        assert_eq!(name("diary"), "local.diary");
        let long = "x".repeat(80);
        let names = ["a/b", "ab", "a+b", "ü", "ö", &long, &long[1..]].map(name);
        for (number, one) in names.iter().enumerate() {
            assert!(one.len() <= 70, "{one}");
            assert!(!names[..number].contains(one), "{one}");
        }
    }
}
