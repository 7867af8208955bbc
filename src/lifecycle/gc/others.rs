//! Names of other users that refer to the same store.

use super::GcError;
use crate::lifecycle::leases::OtherUser;
use crate::repo::refs::{Generation, NamedRef, RefStore};

/// Builds the error for unreadable names of another user.
pub(super) fn unreadable(other: &OtherUser, why: &dyn std::fmt::Display) -> GcError {
    GcError::Others {
        names: other.user.names.clone(),
        why: why.to_string(),
        file: other.file.clone(),
    }
}

/// Returns the generation of another user's names.
pub(super) fn generation(other: &OtherUser) -> Result<Generation, GcError> {
    let names = RefStore::new(&other.user.names);
    names.generation().map_err(|why| unreadable(other, &why))
}

/// Returns the generation and the targets of another user's names.
pub(super) fn names(other: &OtherUser) -> Result<(Generation, Vec<(String, NamedRef)>), GcError> {
    // A name store without a directory is empty, but this one had a directory.
    std::fs::metadata(&other.user.names).map_err(|why| unreadable(other, &why))?;
    let listed = RefStore::new(&other.user.names).list_generation();
    let (generation, listed) = listed.map_err(|why| unreadable(other, &why))?;
    let named = listed.into_iter().map(|(name, named)| {
        let named = named.map_err(|why| unreadable(other, &why))?;
        Ok((format!("{name} of {}", other.user.names.display()), named))
    });
    Ok((generation, named.collect::<Result<_, GcError>>()?))
}
