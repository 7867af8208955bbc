//! Names of other users that refer to the same store.

use super::super::error::MaintenanceError;
use crate::leases::OtherUser;
use crate::repo::refs::{Generation, NamedRef, RefStore};

/// Returns the generation of another user's names.
pub(super) fn generation(other: &OtherUser) -> Result<Generation, MaintenanceError> {
    let generation = RefStore::new(&other.user.names).generation();
    generation.map_err(|why| MaintenanceError::other_user(other, why))
}

/// Returns the generation and the targets of another user's names.
pub(super) fn names(
    other: &OtherUser,
) -> Result<(Generation, Vec<(String, NamedRef)>), MaintenanceError> {
    let failed = |why: &dyn std::fmt::Display| MaintenanceError::other_user(other, why);
    // A name store without a directory is empty, but this one had a directory.
    std::fs::metadata(&other.user.names).map_err(|why| failed(&why))?;
    let listed = RefStore::new(&other.user.names).list_generation();
    let (generation, listed) = listed.map_err(|why| failed(&why))?;
    let named = listed.into_iter().map(|(name, named)| {
        let named = named.map_err(|why| failed(&why))?;
        Ok((format!("{name} of {}", other.user.names.display()), named))
    });
    Ok((generation, named.collect::<Result<_, MaintenanceError>>()?))
}
