//! Random sample of items to read.

use super::{FsckOptions, Item, ReadScope};

/// Uniform random sample (reservoir sampling): every item offered so far is in the sample
/// with a probability of the sample size divided by the number of offered items.
#[derive(Debug)]
pub(super) struct Sample {
    size: usize,
    offered: u64,
    pub(super) picked: Vec<Item>,
    random: blake3::OutputReader,
}

impl Sample {
    pub(super) fn new(options: &FsckOptions) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("walgit-fs 2026 fsck sample");
        hasher.update(&options.seed.to_le_bytes());
        Sample {
            size: match options.read {
                ReadScope::Sample(size) => size,
                _ => 0,
            },
            offered: 0,
            picked: Vec::new(),
            random: hasher.finalize_xof(),
        }
    }

    /// Offers an item; returns whether this or another item is left out in exchange.
    pub(super) fn offer(&mut self, item: Item) -> bool {
        self.offered += 1;
        if self.picked.len() < self.size {
            self.picked.push(item);
            return false;
        }
        let mut number = [0; 8];
        self.random.fill(&mut number);
        let drawn = u64::from_le_bytes(number) % self.offered;
        let place = usize::try_from(drawn).ok().filter(|at| *at < self.size);
        if let Some(place) = place {
            self.picked[place] = item;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::walk::ChunkRole;
    use walgit_format::chunk::{BlobId, ChunkHash, ChunkRef};

    #[test]
    fn a_sample_has_the_requested_size_and_may_contain_any_item() {
        let mut times = [0; 20];
        for seed in 0..400 {
            let options = FsckOptions {
                seed,
                ..FsckOptions::reading(ReadScope::Sample(5))
            };
            let mut sample = Sample::new(&options);
            let blob = BlobId::from_bytes([0; 32]);
            let left_out = (0..20u8).filter(|number| {
                let chunk = ChunkRef::nominal(blob, ChunkHash::from_bytes([*number; 32]));
                sample.offer(Item::Chunk(chunk, ChunkRole::Content))
            });
            assert_eq!(left_out.count(), 15);
            assert_eq!(sample.picked.len(), 5);
            for item in sample.picked {
                if let Item::Chunk(chunk, _) = item {
                    times[usize::from(chunk.hash.as_bytes()[0])] += 1;
                }
            }
        }
        // A hundred each, on average.
        assert!(times.iter().all(|n| (50..150).contains(n)), "{times:?}");
    }
}
