//! Random sample of items to read.

/// Uniform random sample (reservoir sampling): every item offered so far is in the sample
/// with a probability of the sample size divided by the number of offered items.
#[derive(Debug)]
pub(super) struct ReservoirSample<T> {
    size: usize,
    offered: u64,
    pub(super) picked: Vec<T>,
    random: blake3::OutputReader,
}

impl<T> ReservoirSample<T> {
    pub(super) fn new(size: usize, seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("walgit-fs 2026 fsck sample");
        hasher.update(&seed.to_le_bytes());
        ReservoirSample {
            size,
            offered: 0,
            picked: Vec::new(),
            random: hasher.finalize_xof(),
        }
    }

    /// Offers an item; returns whether this or another item is left out in exchange.
    pub(super) fn offer(&mut self, item: T) -> bool {
        self.offered += 1;
        if self.picked.len() < self.size {
            self.picked.push(item);
            return false;
        }
        let mut number = [0; 8];
        self.random.fill(&mut number);
        let drawn = u64::from_le_bytes(number) % self.offered;
        let slot = usize::try_from(drawn).ok().filter(|at| *at < self.size);
        if let Some(slot) = slot {
            self.picked[slot] = item;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_the_requested_size_and_may_contain_any_item() {
        let mut times = [0; 20];
        for seed in 0..400 {
            let mut sample = ReservoirSample::new(5, seed);
            let left_out = (0..20usize).filter(|number| sample.offer(*number));
            assert_eq!(left_out.count(), 15);
            assert_eq!(sample.picked.len(), 5);
            sample.picked.iter().for_each(|number| times[*number] += 1);
        }
        // A hundred each, on average.
        assert!(times.iter().all(|n| (50..150).contains(n)), "{times:?}");
    }
}
