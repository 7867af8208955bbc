//! What is kept from one session to the next, and how it is written down.

use super::codec::{MalformedProfile, Reader, Writer, fnv1a};
use super::model::{Limits, Model};
use super::rates::Rates;

/// Everything learned of a repository: to be stored with its identity, or
/// given to somebody else.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The order in which files are opened.
    pub model: Model,
    /// How much of what lies near each other is opened together.
    pub rates: Rates,
    /// Stored bytes a session opens, as an average in which the last ones
    /// weigh most; 0 before the first.
    pub session_bytes: f64,
}

/// How a profile begins, with the version of what follows.
const MAGIC: &[u8; 7] = b"WGPROF\0";
const VERSION: u8 = 1;
/// Longest profile that is read: three times what the default limits fill.
const MAX_LEN: usize = 64 << 20;
/// Bytes of the checksum at the end.
const SUM: usize = 8;

impl Profile {
    /// The profile as bytes: `WGPROF`, a version, the model, the rates, and a
    /// checksum of all that. About 15 bytes a transition.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        to.raw(MAGIC);
        to.raw(&[VERSION]);
        self.model.write(&mut to);
        self.rates.write(&mut to);
        to.float(self.session_bytes.min(1e14) as f32);
        let mut bytes = to.into_bytes();
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads a profile, as much of it as `limits` allow. Takes time and memory
    /// in proportion to the bytes, whatever they are.
    pub fn decode(bytes: &[u8], limits: Limits) -> Result<Self, MalformedProfile> {
        if bytes.len() > MAX_LEN {
            return Err(MalformedProfile::TooLong(bytes.len()));
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(MalformedProfile::NotOne)?;
        match rest.first() {
            None => return Err(MalformedProfile::Damaged),
            Some(&VERSION) => {}
            Some(&other) => return Err(MalformedProfile::Version(other)),
        }
        let content = bytes
            .len()
            .checked_sub(SUM)
            .ok_or(MalformedProfile::Damaged)?;
        let (content, sum) = bytes.split_at(content);
        if sum != checksum(content) || content.len() <= MAGIC.len() {
            return Err(MalformedProfile::Damaged);
        }
        let mut from = Reader::new(&content[MAGIC.len() + 1..]);
        let profile = Profile {
            model: Model::read(&mut from, limits)?,
            rates: Rates::read(&mut from)?,
            session_bytes: f64::from(from.float()?),
        };
        from.end()?;
        Ok(profile)
    }
}

/// Against damage, not against forgery: a forged profile only wastes bytes.
fn checksum(bytes: &[u8]) -> [u8; SUM] {
    fnv1a(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::prefetch::model::TaskId;

    fn learned(opens: &[(u64, u8)]) -> Profile {
        let mut profile = Profile::default();
        for _ in 0..2 {
            profile.model.begin();
            for &(task, file) in opens {
                let path = format!("dör/{}/{file}.rs", file % 5);
                profile.model.opened(TaskId(task), &path, 0.002, 0.0);
            }
        }
        profile.rates.kind_mut("rs")[2].add(3.0, 2.0);
        profile.session_bytes = 12_345.0;
        profile
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let bytes = learned(&[(1, 1), (1, 2), (2, 3)]).encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(
                Profile::decode(&changed, Limits::default()).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let mut bytes = Profile::default().encode();
        bytes[7] = 9;
        let error = Profile::decode(&bytes, Limits::default()).unwrap_err();
        assert_eq!(error, MalformedProfile::Version(9));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(opens in proptest::collection::vec((0u64..3, any::<u8>()), 0..200)) {
            let profile = learned(&opens);
            let bytes = profile.encode();
            let read = Profile::decode(&bytes, Limits::default()).unwrap();
            prop_assert_eq!(read.model.transitions(), profile.model.transitions());
            prop_assert_eq!(read.model.paths(), profile.model.paths());
            // Sessions are counted from the last one, so a profile that is read
            // and written again is the same.
            prop_assert!(read.encode() == bytes);
            let (mut one, mut other) = (profile.model, read.model);
            one.begin();
            other.begin();
            for &(task, file) in opens.iter().take(20) {
                let path = format!("dör/{}/{file}.rs", file % 5);
                one.opened(TaskId(task), &path, 0.0, 0.0);
                other.opened(TaskId(task), &path, 0.0, 0.0);
                let say = |model: &Model| {
                    let mut said: Vec<_> = (model.next(TaskId(task)).iter())
                        .map(|it| (model.path(it.path).unwrap().to_owned(), (it.probability * 1e4).round() as u64))
                        .collect();
                    said.sort();
                    said
                };
                prop_assert_eq!(say(&one), say(&other));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Profile::decode(&bytes, Limits::default());
            let mut likely = MAGIC.to_vec();
            likely.push(VERSION);
            likely.extend(bytes);
            let _ = Profile::decode(&sealed(likely), Limits::default());
        }

        #[test]
        fn changed_profiles_are_read_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = learned(&[(1, 1), (1, 2), (2, 3), (1, 2), (2, 200)]).encode();
            bytes.truncate(bytes.len() - SUM);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(profile) = Profile::decode(&sealed(bytes), Limits::default()) {
                let mut model = profile.model;
                model.begin();
                model.opened(TaskId(1), "dör/1/1.rs", 0.0, 0.0);
                model.forecast(TaskId(1), 1.0);
            }
        }

        #[test]
        fn limits_hold_for_what_is_read(opens in proptest::collection::vec((0u64..3, any::<u8>()), 50..200)) {
            let limits = Limits { transitions: 40, paths: 10 };
            let read = Profile::decode(&learned(&opens).encode(), limits).unwrap();
            prop_assert!(read.model.transitions() <= 40 && read.model.paths() <= 10);
        }
    }
}
