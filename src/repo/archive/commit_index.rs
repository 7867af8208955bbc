//! Index of commits by ID.

use walgit_format::git::RawCommit;
use walgit_format::head::GitId;

/// Location of each commit.
#[derive(Debug)]
pub(super) struct CommitIndex {
    /// Sorted by ID, without duplicates.
    pub(super) commits: Vec<Indexed>,
    /// Indexes into `commits`, newest first.
    pub(super) newest: Vec<u32>,
}

/// A commit with its location and time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Indexed {
    id: [u8; 32],
    /// Length of the ID in bytes.
    len: u8,
    /// Index of its chunk of commits.
    pub(super) chunk: u32,
    /// Its index within the chunk.
    pub(super) at: u32,
    /// Seconds since 1970.
    pub(super) committed_at: i64,
}

impl Indexed {
    pub(super) fn new(commit: &RawCommit, chunk: usize, at: usize) -> Self {
        let mut id = [0; 32];
        let len = commit.id.0.len().min(id.len());
        id[..len].copy_from_slice(&commit.id.0[..len]);
        Indexed {
            id,
            len: len as u8,
            chunk: chunk as u32,
            at: at as u32,
            committed_at: commit.committed(),
        }
    }

    fn id(&self) -> &[u8] {
        &self.id[..usize::from(self.len)]
    }

    pub(super) fn git(&self) -> GitId {
        GitId(self.id().to_vec())
    }
}

impl CommitIndex {
    pub(super) fn of(mut commits: Vec<Indexed>) -> Self {
        commits.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        commits.dedup_by(|a, b| a.id() == b.id());
        let mut newest: Vec<u32> = (0..commits.len() as u32).collect();
        newest.sort_by_key(|&at| std::cmp::Reverse(commits[at as usize].committed_at));
        CommitIndex { commits, newest }
    }

    /// Bytes of memory that it occupies.
    pub(super) fn weight(&self) -> u64 {
        (self.commits.len() * (size_of::<Indexed>() + size_of::<u32>())) as u64
    }

    pub(super) fn find(&self, id: &GitId) -> Option<&Indexed> {
        let at = (self.commits.binary_search_by(|known| known.id().cmp(&id.0))).ok()?;
        Some(&self.commits[at])
    }

    /// The only commit whose ID starts with these digits; `None` if ambiguous.
    pub(super) fn starting(&self, digits: &str) -> Option<GitId> {
        let digits = digits.to_ascii_lowercase();
        let before = |known: &Indexed| *GitId::to_string(&known.git()) < *digits;
        let first = self.commits.partition_point(before);
        let mut found = (self.commits[first..].iter())
            .map(Indexed::git)
            .take_while(|id| id.to_string().starts_with(&digits));
        let only = found.next()?;
        found.next().is_none().then_some(only)
    }
}
