//! Encoding of a model.
//!
//! Paths are sorted, each stored as the length of the prefix shared with its
//! predecessor and the rest; transitions are sorted by context. Contexts consist of
//! hashes of paths, not of their IDs, so IDs can be reassigned.

use std::collections::BTreeMap;

use super::super::codec::{MalformedProfile, ProfileReader, ProfileWriter};
use super::chain::{MAX_SUCCESSORS, Transition};
use super::confidence::ConfidenceScore;
use super::context::OpenContext;
use super::directory_access_stats::DecayingCount;
use super::paths::MAX_PATH_BYTES;
use super::{Limits, Model, PathId};

use MalformedProfile::Invalid;

/// Maximum number of paths that are read before all but the best are dropped, and
/// maximum bytes of their text: several times what any model keeps.
const MAX_PATHS: usize = 1 << 19;
const MAX_TEXT_BYTES: usize = 32 << 20;
/// Maximum number of transitions that are read: several times what any model keeps.
/// One takes four bytes in a profile and some sixty in memory.
const MAX_TRANSITIONS: usize = 1 << 20;

impl Model {
    /// Writes the learned data.
    pub(in super::super) fn write(&self, to: &mut ProfileWriter) {
        let mut names: Vec<(&str, PathId)> = (self.paths.ids())
            .filter_map(|id| Some((self.paths.name(id)?, id)))
            .collect();
        names.sort_unstable();
        let numbers: BTreeMap<PathId, u64> =
            (0..).zip(&names).map(|(n, &(_, id))| (id, n)).collect();
        let number = |id: PathId| numbers.get(&id).copied();

        to.count(names.len());
        let mut before = "";
        for &(name, _) in &names {
            let shared = shared(before, name);
            to.count(shared);
            to.text(&name[shared..]);
            before = name;
        }

        let mut contexts: BTreeMap<OpenContext, Vec<(u64, Transition)>> = BTreeMap::new();
        for (&(context, path), &it) in &self.chain.transitions {
            if let Some(path) = number(path) {
                contexts.entry(context).or_default().push((path, it));
            }
        }
        to.count(contexts.len());
        for (context, mut successors) in contexts {
            successors.sort_unstable_by_key(|&(path, _)| path);
            to.raw(&context.0.to_le_bytes());
            to.count(successors.len());
            for (path, it) in successors {
                to.number(path);
                to.number(u64::from(it.weight));
                to.number(u64::from(it.gap));
                to.number(u64::from(self.session.wrapping_sub(it.session)));
            }
        }

        for score in &self.confidence.scores {
            to.float(score.hits);
            to.float(score.total);
        }

        write_count(to, self.access_stats.sessions);
        for counts in [&self.access_stats.counts, &self.access_stats.used] {
            let known = counts
                .iter()
                .filter_map(|(&id, &it)| Some((number(id)?, it)));
            let mut known: Vec<(u64, DecayingCount)> = known.collect();
            known.sort_unstable_by_key(|&(path, _)| path);
            to.count(known.len());
            for (path, count) in known {
                to.number(path);
                write_count(to, count);
            }
        }
    }

    /// Reads learned data, as much of it as `limits` allow.
    pub(in super::super) fn read(
        from: &mut ProfileReader<'_>,
        limits: Limits,
    ) -> Result<Self, MalformedProfile> {
        let mut model = Model::new(limits);
        let mut ids: Vec<PathId> = Vec::new();
        let mut before = String::new();
        let count = from.count(2)?;
        if count > MAX_PATHS {
            return Err(Invalid("too many paths"));
        }
        // Shared prefixes are written once, so paths may be far longer than their
        // encoding.
        let mut text = 0;
        for at in 0..count {
            let shared = usize::try_from(from.number()?)
                .map_err(|_| Invalid("a path number is too large"))?;
            let rest = from.text(MAX_PATH_BYTES)?;
            let start = before
                .get(..shared)
                .ok_or(Invalid("a shared prefix is longer than the previous path"))?;
            let name = format!("{start}{rest}");
            text += name.len();
            if text > MAX_TEXT_BYTES {
                return Err(Invalid("the paths together are too long"));
            }
            if at > 0 && name <= before {
                return Err(Invalid("paths out of order"));
            }
            let id = model.paths.intern(&name);
            ids.push(id.ok_or(Invalid("a path is too long"))?);
            before = name;
        }
        let id = |number: u64| {
            let at = usize::try_from(number).ok().and_then(|at| ids.get(at));
            at.copied().ok_or(Invalid("a path number out of range"))
        };

        for _ in 0..from.count(9)? {
            let context = OpenContext(u64::from_le_bytes(from.array()?));
            let successors = from.count(4)?;
            if successors > MAX_SUCCESSORS {
                return Err(Invalid("a context has too many successors"));
            }
            for _ in 0..successors {
                let path = id(from.number()?)?;
                let it = Transition {
                    weight: from.number_u16()?.max(1),
                    gap: from.number_u16()?,
                    session: 0u16.wrapping_sub(from.number_u16()?),
                };
                model.chain.transitions.insert((context, path), it);
                if model.chain.transitions.len() > MAX_TRANSITIONS {
                    return Err(Invalid("too many transitions"));
                }
            }
        }

        for score in &mut model.confidence.scores {
            let (right, all) = (from.float()?, from.float()?);
            if right > all {
                return Err(Invalid("more hits than predictions"));
            }
            *score = ConfidenceScore::from_counts(all, right);
        }

        model.access_stats.sessions = read_count(from)?;
        for counts in [&mut model.access_stats.counts, &mut model.access_stats.used] {
            for _ in 0..from.count(6)? {
                let path = id(from.number()?)?;
                let count = read_count(from)?;
                counts.insert(path, count);
            }
        }
        model.prune();
        Ok(model)
    }
}

fn write_count(to: &mut ProfileWriter, count: DecayingCount) {
    to.float(count.weight);
    to.number(u64::from(count.session));
}

fn read_count(from: &mut ProfileReader<'_>) -> Result<DecayingCount, MalformedProfile> {
    Ok(DecayingCount {
        weight: from.float()?,
        session: from.number_u16()?,
    })
}

/// Length in bytes of the common prefix of two paths, in whole characters.
fn shared(one: &str, other: &str) -> usize {
    let mut shared = (one.bytes().zip(other.bytes()))
        .take_while(|(one, other)| one == other)
        .count();
    while !other.is_char_boundary(shared) {
        shared -= 1;
    }
    shared
}
