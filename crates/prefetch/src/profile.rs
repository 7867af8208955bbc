//! Profiles: data that persists between sessions, its encoding, and merging of
//! profiles from others.

use super::codec::{MalformedProfile, ProfileReader, ProfileWriter, fnv1a};
use super::model::{Limits, Model, folder_of};
use super::rates::Rates;
use walgit_format::head::MAX_SHIPPED_BYTES;

/// All data learned about a repository, to be stored with its identity or shared.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Order in which files are opened.
    pub model: Model,
    /// Fraction of nearby files that are opened together.
    pub rates: Rates,
    /// Average stored bytes that a session opens, with recent sessions weighted
    /// most; 0 before the first.
    pub session_bytes: f64,
}

/// Magic bytes of a profile; a version byte follows.
const MAGIC: &[u8; 7] = b"WGPROF\0";
const VERSION: u8 = 2;
/// Version 1, which can still be read, has no rate for files that change together.
const FIRST_VERSION: u8 = 1;
/// Maximum length of a profile in bytes: three times what the default limits fill.
pub const MAX_PROFILE_BYTES: usize = 24 << 20;
/// Limits of a profile in a repository: some 5,000 different opens.
const SHIPPED_LIMITS: Limits = Limits {
    transitions: 40_000,
    paths: 6_000,
};
/// Length of the checksum at the end, in bytes.
const CHECKSUM_LEN: usize = 8;

impl Profile {
    /// Encodes the profile: `WGPROF`, a version, the model, the rates, and a
    /// checksum of all of these. About 19 bytes per transition, including its
    /// paths.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = ProfileWriter::default();
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

    /// Returns the fraction of sessions that opened a file, by path, 0..=1; `None`
    /// if there were too few sessions.
    pub fn access(&self, path: &str) -> Option<f64> {
        let folder = folder_of(path);
        let (sessions, opened) = self.model.accesses(path, &folder);
        let fraction = || self.model.usage(&folder) * opened / sessions;
        (sessions > 0.0).then(|| fraction().clamp(0.0, 1.0))
    }

    /// Merges the profile of another user, as if its sessions had taken place here.
    pub fn merge(&mut self, other: &Profile) {
        self.session_bytes = match (self.session_bytes, other.session_bytes) {
            (own, theirs) if own > 0.0 && theirs > 0.0 => (own + theirs) / 2.0,
            (own, theirs) => own.max(theirs),
        };
        self.rates.merge(&other.rates);
        self.model.merge(&other.model, 1.0);
    }

    /// Halves the weight of the profile, for use as prior knowledge from others.
    pub fn halved(mut self) -> Self {
        self.model.halve();
        self.rates.halve();
        self.session_bytes /= 2.0;
        self
    }

    /// Encodes the profile for a repository: at most [`MAX_SHIPPED_BYTES`] bytes, keeping
    /// the best parts.
    pub fn encode_shipped(&self) -> Vec<u8> {
        let mut limits = SHIPPED_LIMITS;
        loop {
            let mut model = Model::new(limits);
            model.merge(&self.model, 1.0);
            let profile = Profile {
                model,
                ..self.clone()
            };
            let bytes = profile.encode();
            if bytes.len() <= MAX_SHIPPED_BYTES {
                return bytes;
            }
            limits.transitions /= 2;
            limits.paths /= 2;
        }
    }

    /// Decodes a profile, as much of it as `limits` allow. Time and memory are
    /// proportional to the bytes, whatever they contain.
    pub fn decode(bytes: &[u8], limits: Limits) -> Result<Self, MalformedProfile> {
        if bytes.len() > MAX_PROFILE_BYTES {
            return Err(MalformedProfile::TooLong(bytes.len()));
        }
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(MalformedProfile::NotAProfile)?;
        let with_co_change = match rest.first() {
            None => return Err(MalformedProfile::Damaged),
            Some(&version @ (FIRST_VERSION | VERSION)) => version > FIRST_VERSION,
            Some(&other) => return Err(MalformedProfile::Version(other)),
        };
        let split = bytes.split_last_chunk::<CHECKSUM_LEN>();
        let (content, sum) = split.ok_or(MalformedProfile::Damaged)?;
        if *sum != checksum(content) || content.len() <= MAGIC.len() {
            return Err(MalformedProfile::Damaged);
        }
        let mut from = ProfileReader::new(&content[MAGIC.len() + 1..]);
        let profile = Profile {
            model: Model::read(&mut from, limits)?,
            rates: Rates::read(&mut from, with_co_change)?,
            session_bytes: f64::from(from.float()?),
        };
        from.end()?;
        Ok(profile)
    }
}

/// Detects damage, not forgery: a forged profile only wastes bytes.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    fnv1a(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::TaskId;

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
    fn a_changed_byte_is_detected() {
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
    fn version_1_is_read() {
        let profile = learned(&[(1, 1), (1, 2), (2, 3)]);
        let mut bytes = profile.encode();
        bytes[MAGIC.len()] = FIRST_VERSION;
        // Remove the rate of files that change together: two floats, before the
        // last float and the checksum.
        let end = bytes.len() - CHECKSUM_LEN - 4;
        bytes.drain(end - 8..end);
        bytes.truncate(bytes.len() - CHECKSUM_LEN);
        let read = Profile::decode(&sealed(bytes), Limits::default()).unwrap();
        assert_eq!(read.encode(), profile.encode());
    }

    #[test]
    fn shared_prefixes_cannot_expand_without_limit() {
        // Paths that share almost all of a long prefix.
        let mut to = ProfileWriter::default();
        to.raw(MAGIC);
        to.raw(&[VERSION]);
        to.count(30_000);
        to.count(0);
        to.text(&"x".repeat(4000));
        for n in 1..30_000u32 {
            to.count(4000 - 8);
            to.text(&format!("y{n:08}"));
        }
        let error = Profile::decode(&sealed(to.into_bytes()), Limits::default()).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }

    #[test]
    fn too_many_transitions_are_refused() {
        let mut to = ProfileWriter::default();
        to.raw(MAGIC);
        to.raw(&[VERSION]);
        to.count(32);
        for n in 0..32u8 {
            to.count(0);
            to.text(&char::from(b'A' + n).to_string());
        }
        let contexts = 40_000u64;
        to.count(contexts as usize);
        for context in 0..contexts {
            to.raw(&context.to_le_bytes());
            to.count(32);
            for path in 0..32 {
                (0..4).for_each(|at| to.number(if at == 0 { path } else { 1 }));
            }
        }
        let bytes = sealed(to.into_bytes());
        assert!(bytes.len() < MAX_PROFILE_BYTES);
        let error = Profile::decode(&bytes, Limits::default()).unwrap_err();
        assert!(
            error.to_string().contains("too many transitions"),
            "{error}"
        );
    }

    #[test]
    fn a_shipped_profile_is_bounded() {
        let mut profile = Profile::default();
        profile.model.begin();
        for n in 0..20_000 {
            let path = format!("folder-{}/{n}-{}.rs", n % 300, "x".repeat(n % 150));
            profile.model.opened(TaskId(1), &path, 0.0, 0.0);
        }
        let bytes = profile.encode_shipped();
        assert!(bytes.len() <= MAX_SHIPPED_BYTES, "{}", bytes.len());
        let read = Profile::decode(&bytes, Limits::default()).unwrap();
        assert!(read.model.transitions() > 5_000);
        // A small profile is stored unchanged.
        let small = learned(&[(1, 1), (1, 2), (2, 3)]);
        let read = Profile::decode(&small.encode_shipped(), Limits::default()).unwrap();
        assert_eq!(read.model.transitions(), small.model.transitions());
    }

    /// Returns the resident memory of this process in bytes.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<usize>().unwrap() << 10
    }

    /// Runs in a separate process, where nothing else takes memory.
    #[test]
    fn a_million_transitions_use_the_documented_memory() {
        const TEST_PROCESS_VARIABLE: &str = "WALGIT_FS_TEST_ALONE";
        if std::env::var_os(TEST_PROCESS_VARIABLE).is_none() {
            let thread = std::thread::current();
            let done = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture", thread.name().unwrap()])
                .env(TEST_PROCESS_VARIABLE, "1")
                .output()
                .unwrap();
            let output = String::from_utf8_lossy(&done.stdout);
            println!("{output}");
            assert!(done.status.success(), "{output}");
            return;
        }
        let before = resident();
        let limits = Limits {
            transitions: 2_000_000,
            paths: 400_000,
        };
        let mut profile = Profile {
            model: Model::new(limits),
            ..Profile::default()
        };
        profile.model.begin();
        for n in 0..167_000 {
            let path = format!("site-packages/package-{}/module_{n}.py", n % 2000);
            profile.model.opened(TaskId(1), &path, 0.002, 0.0);
        }
        let transitions = profile.model.transitions() as f64;
        let memory = (resident() - before) as f64 / transitions;
        let stored = profile.encode().len() as f64 / transitions;
        println!(
            "{transitions} transitions between {} paths: {memory:.1} bytes each in memory, {stored:.1} stored",
            profile.model.paths()
        );
        assert!((990_000.0..1_100_000.0).contains(&transitions));
        assert!(memory < 90.0 && stored < 22.0);
    }

    #[test]
    fn a_later_version_is_refused_with_its_number() {
        let mut bytes = Profile::default().encode();
        bytes[7] = 9;
        let error = Profile::decode(&bytes, Limits::default()).unwrap_err();
        assert_eq!(error, MalformedProfile::Version(9));
    }

    proptest! {
        #[test]
        fn an_encoded_profile_decodes_to_the_same(opens in proptest::collection::vec((0u64..3, any::<u8>()), 0..200)) {
            let profile = learned(&opens);
            let bytes = profile.encode();
            let read = Profile::decode(&bytes, Limits::default()).unwrap();
            prop_assert_eq!(read.model.transitions(), profile.model.transitions());
            prop_assert_eq!(read.model.paths(), profile.model.paths());
            // Sessions are counted from the last one, so decoding and encoding a
            // profile does not change it.
            prop_assert!(read.encode() == bytes);
            let (mut one, mut other) = (profile.model, read.model);
            one.begin();
            other.begin();
            for &(task, file) in opens.iter().take(20) {
                let path = format!("dör/{}/{file}.rs", file % 5);
                one.opened(TaskId(task), &path, 0.0, 0.0);
                other.opened(TaskId(task), &path, 0.0, 0.0);
                let predictions_of = |model: &Model| {
                    let mut predictions: Vec<_> = (model.next(TaskId(task)).iter())
                        .map(|it| (model.path(it.path).unwrap().to_owned(), (it.probability * 1e4).round() as u64))
                        .collect();
                    predictions.sort();
                    predictions
                };
                prop_assert_eq!(predictions_of(&one), predictions_of(&other));
            }
        }

        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Profile::decode(&bytes, Limits::default());
            let mut likely = MAGIC.to_vec();
            likely.push(VERSION);
            likely.extend(bytes);
            let _ = Profile::decode(&sealed(likely), Limits::default());
        }

        #[test]
        fn changed_profiles_are_decoded_or_refused(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = learned(&[(1, 1), (1, 2), (2, 3), (1, 2), (2, 200)]).encode();
            bytes.truncate(bytes.len() - CHECKSUM_LEN);
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
        fn limits_hold_for_decoded_profiles(opens in proptest::collection::vec((0u64..3, any::<u8>()), 50..200)) {
            let limits = Limits { transitions: 40, paths: 10 };
            let read = Profile::decode(&learned(&opens).encode(), limits).unwrap();
            prop_assert!(read.model.transitions() <= 40 && read.model.paths() <= 10);
        }
    }
}
