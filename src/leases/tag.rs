//! Identifies the store behind a mount in the kernel's mount table.
//!
//! The source of a mount is `LABEL#STORES-ID`: STORES are fingerprints of the stores that
//! it reads from, ID is the name of its lease. So a collector determines, without asking
//! the process of a mount, whether the mount affects its store and whether a lease lists
//! its heads. Mounts of other stores do not block it.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;

use walrus_client::network::{Network, NetworkPlace};

/// Fingerprints of the possible stores: of a directory, or of each gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreTags(Vec<u32>);

/// The part of a mount's source after the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountTag {
    /// The stores that the mount reads from.
    pub stores: StoreTags,
    /// The name of its lease.
    pub id: String,
}

impl StoreTags {
    /// Returns the stores that a mount of this network reads from, or that a collector
    /// may delete from.
    ///
    /// # Errors
    /// When a directory cannot be examined.
    pub fn of(network: &Network) -> std::io::Result<Self> {
        match &network.place {
            // By device and inode: the path may differ in another namespace.
            NetworkPlace::Local { dir } => {
                let found = std::fs::metadata(dir)?;
                let identity = format!("dir {} {}", found.dev(), found.ino());
                Ok(StoreTags(vec![fingerprint(&identity)]))
            }
            NetworkPlace::Http {
                aggregators,
                publishers,
            } => {
                let gateways = aggregators.iter().chain(publishers);
                let urls = gateways.chain(&network.admin);
                let url = |url: &String| fingerprint(url.trim_end_matches('/'));
                let mut tags: Vec<u32> = urls.map(url).collect();
                tags.sort_unstable();
                tags.dedup();
                Ok(StoreTags(tags))
            }
        }
    }

    /// Whether the two have a store in common.
    pub fn overlap(&self, other: &StoreTags) -> bool {
        self.0.iter().any(|tag| other.0.contains(tag))
    }
}

fn fingerprint(text: &str) -> u32 {
    let mut first = [0; 4];
    first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..4]);
    u32::from_be_bytes(first)
}

impl MountTag {
    /// Generates an ID for a new mount.
    pub fn new_id() -> String {
        format!("{:012x}", fastrand::u64(..) >> 16)
    }

    /// Parses the tag in the source of a mount, if any.
    pub fn of_source(source: &str) -> Option<Self> {
        source.rsplit_once('#')?.1.parse().ok()
    }

    /// Returns the label in the source of a mount.
    pub fn label_of(source: &str) -> &str {
        match source.rsplit_once('#') {
            Some((label, tag)) if tag.parse::<MountTag>().is_ok() => label,
            _ => source,
        }
    }
}

impl fmt::Display for MountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, store) in self.stores.0.iter().enumerate() {
            let between = if at > 0 { "+" } else { "" };
            write!(f, "{between}{store:08x}")?;
        }
        write!(f, "-{}", self.id)
    }
}

impl FromStr for MountTag {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (stores, id) = text.split_once('-').ok_or(())?;
        let stores = stores.split('+').map(|tag| u32::from_str_radix(tag, 16));
        let stores = stores.collect::<Result<_, _>>().map_err(|_| ())?;
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then_some(()).ok_or(())?;
        Ok(MountTag {
            stores: StoreTags(stores),
            id: id.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip_through_text_and_labels_are_no_tags() {
        let tag = MountTag {
            stores: StoreTags(vec![1, 0xffff_ffff]),
            id: MountTag::new_id(),
        };
        let source = format!("walrus://x?root=y#{tag}");
        assert_eq!(MountTag::of_source(&source), Some(tag));
        assert_eq!(MountTag::label_of(&source), "walrus://x?root=y");
        for label in ["it", "encrypted", "a#b", "a#12345678", "a#12345678-", "#-"] {
            assert_eq!(MountTag::of_source(label), None, "{label}");
            assert_eq!(MountTag::label_of(label), label);
        }
    }
}
