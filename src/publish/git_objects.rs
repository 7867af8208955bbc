//! Objects of a git repository, as `git clone` transfers them.
//!
//! Ignores features that only change how git presents a repository: replacements
//! (`git replace`), grafts, and environment variables that redirect paths. Objects are
//! hashed on reading and must match the ID that they are published under. Commits, trees
//! and tags are parsed as leniently as git does.

use std::path::Path;

use gix::ObjectId;
use gix::objs::Kind;
use gix::open::permissions::{Config, Environment};
use gix::open::{Options, Permissions};
use gix::sec::Permission;

use super::error::PublishError;
use walgit_format::git::RawCommit;
use walgit_format::head::GitId;

/// Opens the repository at a path, bare or not.
pub(super) fn open(path: &Path) -> Result<gix::Repository, PublishError> {
    let permissions = Permissions {
        config: Config {
            env: false,
            ..Config::all()
        },
        env: Environment {
            objects: Permission::Deny,
            git_prefix: Permission::Deny,
            ..Environment::all()
        },
        ..Permissions::all()
    };
    let options = Options::default()
        .permissions(permissions)
        .config_overrides(["core.useReplaceRefs=false"]);
    gix::open_opts(path, options).map_err(|error| PublishError::Git(path.into(), error.to_string()))
}

/// Converts a git ID to that of a head.
pub(super) fn git_id(id: ObjectId) -> GitId {
    GitId(id.as_slice().to_vec())
}

/// Error about a repository.
pub(super) fn failed(repo: &gix::Repository, why: impl std::fmt::Display) -> PublishError {
    PublishError::Git(repo.path().into(), why.to_string())
}

/// Reads an object: its kind and bytes, verified against its ID.
pub(super) fn read(repo: &gix::Repository, id: ObjectId) -> Result<(Kind, Vec<u8>), PublishError> {
    let found = repo.try_find_object(id).map_err(|why| failed(repo, why))?;
    let object = found.ok_or_else(|| {
        let why = format!(
            "object {id} is missing, as in a partial clone or a damaged repository; clone it in \
             full, or try --history none if only older commits need it"
        );
        failed(repo, why)
    })?;
    let (kind, data) = (object.kind, object.detach().data);
    let hash = gix::objs::compute_hash(repo.object_hash(), kind, &data);
    let hash = hash.map_err(|why| failed(repo, why))?;
    if hash != id {
        let why = format!("object {id} is damaged: its content has the ID {hash}; see git fsck");
        return Err(failed(repo, why));
    }
    Ok((kind, data))
}

/// Reads the bytes of an object of the given kind.
pub(super) fn read_as(
    repo: &gix::Repository,
    id: ObjectId,
    expected: Kind,
) -> Result<Vec<u8>, PublishError> {
    match read(repo, id)? {
        (kind, data) if kind == expected => Ok(data),
        (kind, _) => Err(failed(
            repo,
            format!("object {id} is a {kind} instead of a {expected}; see git fsck"),
        )),
    }
}

/// Length of a blob. A missing blob is reported as by [`read`].
pub(super) fn blob_len(repo: &gix::Repository, id: ObjectId) -> Result<u64, PublishError> {
    match repo.find_header(id) {
        Ok(header) => Ok(header.size()),
        Err(_) => Ok(read_as(repo, id, Kind::Blob)?.len() as u64),
    }
}

/// Parses a commit, as strictly as git itself.
pub(super) fn commit(repo: &gix::Repository, id: ObjectId) -> Result<RawCommit, PublishError> {
    let raw = read_as(repo, id, Kind::Commit)?;
    RawCommit::parse(raw.into(), &git_id(id)).map_err(|_| {
        failed(
            repo,
            format!("commit {id} has no valid tree or parents; git cannot read it either"),
        )
    })
}

/// Error about a tree that cannot be parsed.
pub(super) fn malformed_tree(repo: &gix::Repository, id: ObjectId) -> PublishError {
    failed(repo, format!("tree {id} is malformed"))
}

/// Converts the ID of a head to that of git.
pub(super) fn object_id(repo: &gix::Repository, id: &GitId) -> Result<ObjectId, PublishError> {
    ObjectId::try_from(&id.0[..]).map_err(|why| failed(repo, why))
}
