//! The head of a repository: commits, branches, tags, and the locations of attachments
//! such as the git history.
//!
//! `?root=` in an address is the hash of a head; everything else is reachable from it by
//! hashes. A head is immutable: moving a branch creates a new head in a new blob.

mod decode;
mod encode;
mod types;

pub use super::attachment::{Attachment, AttachmentKind, MANIFEST_PART_BYTES, MAX_SHIPPED_BYTES};
pub use super::id::{CommitId, GitId};
pub use super::names::{check_full_ref_name, check_ref_name};
pub use types::{
    Commit, Head, MAX_MESSAGE_BYTES, MAX_REF_NAME_BYTES, PlannedCommit, PlannedHead, Ref, RefKind,
    Signature, join_names,
};
