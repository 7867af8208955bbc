//! Leases: records of the data that running processes need, stored beside that data.
//!
//! A collector deletes only blobs that no name, rule or lease protects. It reads leases
//! from disk and asks no process, so the result does not depend on its environment, or on
//! whether the holder of a lease responds.
//!
//! - The [`PublishLease`] of a running publish lists the blobs that it is about to create or
//!   builds on.
//! - A [`MountLease`] lists the head that a mount shows, and earlier heads that may have
//!   open files, with the blobs that they name.
//!
//! **Liveness.** A process holds a lock (`flock`) on its lease file as long as it lives.
//! The kernel releases the lock when the process ends for any reason; a stopped or hung
//! process keeps it. A lease without a lock counts for the grace period of the collector;
//! then it is removed.
//!
//! **Location.** The leases of a directory store are in its directory `leases`, so every
//! process that can delete from the store finds them. The leases of a network over HTTP
//! are beside the ledger, without which a collector does not know any blobs to delete.
//!
//! **Races.** Leases change under one lock, and each change increases the *generation* in
//! the lock file. A collector notes the generation that it has read. Under the lock, it
//! compares the generation and lists the blobs to delete ([`Collecting`]). Then it
//! deletes them without the lock: a claim on one of them waits until the blob is off the
//! list. So a blob is either claimed first and stays, or deleted first and uploaded
//! again, and no process waits for the lock while a collector waits for a network.
//!
//! Leases are local to one machine: blobs published by another machine are protected only
//! by their age.
//!
//! May depend on: `config`.

mod collecting;
mod error;
mod lease_file;
mod location;
mod lock;
mod mount;
mod publish;
mod records;
mod scan;
mod tag;
mod users;

pub use collecting::{Collecting, DeletionClaims};
pub use error::LeaseError;
pub use location::Leases;
pub use mount::MountLease;
pub use publish::PublishLease;
pub use records::{
    AbandonedLease, HeldHead, InUse, LeaseHolder, MountRecord, OtherUser, StoreUser,
};
pub use tag::{MountTag, StoreTags};
