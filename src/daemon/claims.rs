//! Protects the claims of a publish until a name refers to its head.

use crate::lifecycle::{Lease, LeaseError};
use crate::publish::Claims;
use walgit_format::chunk::BlobId;

/// The lease of a running publish.
#[derive(Debug)]
pub struct Claimed(Lease);

impl Claimed {
    /// Records claims in this lease.
    pub fn new(lease: Lease) -> Self {
        Claimed(lease)
    }

    /// Protects a previously published head that the publish needs.
    ///
    /// # Errors
    /// When the lease cannot be written.
    pub fn needs(&self, head: BlobId) -> Result<(), LeaseError> {
        self.0.needs(head)
    }

    /// Releases the lease: a name refers to the stored head.
    ///
    /// # Errors
    /// When the lease cannot be written.
    pub fn finish(self) -> Result<(), LeaseError> {
        self.0.finish()
    }
}

impl Claims for Claimed {
    fn claim(&self, blob: BlobId) -> Result<(), String> {
        self.0.claim(blob).map_err(|error| error.to_string())
    }
}
