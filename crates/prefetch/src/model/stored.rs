//! Encoding of a model.
//!
//! Paths are sorted, each stored as the length of the prefix shared with its
//! predecessor and the rest; transitions are sorted by context. Contexts consist of
//! hashes of paths, not of their IDs, so IDs can be reassigned.

use std::collections::BTreeMap;

use super::super::codec::{MalformedProfile, Reader, Writer};
use super::chain::{MAX_NAMES, Transition};
use super::confidence::Score;
use super::context::Context;
use super::habits::Count;
use super::paths::MAX_PATH;
use super::{Limits, Model, PathId};

use MalformedProfile::Wrong;

/// Maximum number of paths that are read before all but the best are dropped, and
/// maximum bytes of their text: several times what any model keeps.
const MAX_PATHS: usize = 1 << 19;
const MAX_TEXT: usize = 32 << 20;
/// Maximum number of transitions that are read: several times what any model keeps.
/// One takes four bytes in a profile and some sixty in memory.
const MAX_TRANSITIONS: usize = 1 << 20;

impl Model {
    /// Writes the learned data.
    pub(in super::super) fn write(&self, to: &mut Writer) {
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

        let mut contexts: BTreeMap<Context, Vec<(u64, Transition)>> = BTreeMap::new();
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
            to.float(score.part);
            to.float(score.of);
        }

        write_count(to, self.habits.sessions);
        for counts in [&self.habits.counts, &self.habits.used] {
            let known = counts
                .iter()
                .filter_map(|(&id, &it)| Some((number(id)?, it)));
            let mut known: Vec<(u64, Count)> = known.collect();
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
        from: &mut Reader<'_>,
        limits: Limits,
    ) -> Result<Self, MalformedProfile> {
        let mut model = Model::new(limits);
        let mut ids: Vec<PathId> = Vec::new();
        let mut before = String::new();
        let count = from.count(2)?;
        if count > MAX_PATHS {
            return Err(Wrong("too many paths"));
        }
        // Shared prefixes are written once, so paths may be far longer than their
        // encoding.
        let mut text = 0;
        for at in 0..count {
            let shared = usize::try_from(from.number()?).map_err(|_| Wrong("a path"))?;
            let rest = from.text(MAX_PATH)?;
            let start = before
                .get(..shared)
                .ok_or(Wrong("a path shares too much"))?;
            let name = format!("{start}{rest}");
            text += name.len();
            if text > MAX_TEXT {
                return Err(Wrong("its paths are too long, all together"));
            }
            if at > 0 && name <= before {
                return Err(Wrong("paths out of order"));
            }
            let id = model.paths.intern(&name);
            ids.push(id.ok_or(Wrong("a path is too long"))?);
            before = name;
        }
        let id = |number: u64| {
            let at = usize::try_from(number).ok().and_then(|at| ids.get(at));
            at.copied().ok_or(Wrong("a path that is not listed"))
        };

        for _ in 0..from.count(9)? {
            let context = Context(u64::from_le_bytes(from.array()?));
            let names = from.count(4)?;
            if names > MAX_NAMES {
                return Err(Wrong("a context says too many names"));
            }
            for _ in 0..names {
                let path = id(from.number()?)?;
                let it = Transition {
                    weight: from.number_u16()?.max(1),
                    gap: from.number_u16()?,
                    session: 0u16.wrapping_sub(from.number_u16()?),
                };
                model.chain.transitions.insert((context, path), it);
                if model.chain.transitions.len() > MAX_TRANSITIONS {
                    return Err(Wrong("too many transitions"));
                }
            }
        }

        for score in &mut model.confidence.scores {
            let (right, all) = (from.float()?, from.float()?);
            if right > all {
                return Err(Wrong("right more often than asked"));
            }
            *score = Score::of(all, right);
        }

        model.habits.sessions = read_count(from)?;
        for used in [false, true] {
            for _ in 0..from.count(6)? {
                let path = id(from.number()?)?;
                let count = read_count(from)?;
                match used {
                    true => model.habits.used.insert(path, count),
                    false => model.habits.counts.insert(path, count),
                };
            }
        }
        model.prune();
        Ok(model)
    }
}

fn write_count(to: &mut Writer, count: Count) {
    to.float(count.weight);
    to.number(u64::from(count.turn));
}

fn read_count(from: &mut Reader<'_>) -> Result<Count, MalformedProfile> {
    Ok(Count {
        weight: from.float()?,
        turn: from.number_u16()?,
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
