//! What a publish claims stays, until what needs it has a name.

use crate::lifecycle::{Lease, LeaseError};
use crate::publish::Claims;
use walgit_format::chunk::BlobId;

/// The lease of a publish that runs.
#[derive(Debug)]
pub struct Claimed(Lease);

impl Claimed {
    /// Claims go to this lease.
    pub fn new(lease: Lease) -> Self {
        Claimed(lease)
    }

    /// Says that a head needs to stay that was published before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn needs(&self, head: BlobId) -> Result<(), LeaseError> {
        self.0.needs(head)
    }

    /// Ends it: what was stored has a name.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(self) -> Result<(), LeaseError> {
        self.0.finish()
    }
}

impl Claims for Claimed {
    fn claim(&self, blob: BlobId) -> Result<(), String> {
        self.0.claim(blob).map_err(|error| error.to_string())
    }
}
