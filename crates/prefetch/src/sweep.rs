//! Detection of walks: tasks that read one file after the other. Pure bookkeeping.

/// Maximum number of concurrent walks.
const RUNS: usize = 16;
/// Maximum distance to the next file of a walk, in file numbers: folders, links and
/// skipped files lie in between.
const STEP: u64 = 8;

/// Detects readers that read files in the order of a walk.
///
/// Files are numbered in the order of a walk, so a walk is a sequence of numbers
/// that rise in small steps. Concurrent walks are distinguished by their positions.
#[derive(Clone, Debug, Default)]
pub struct Sweeps {
    /// Most recently active first.
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The last file read.
    at: u64,
    files: u32,
}

impl Sweeps {
    /// Records that file number `file` is first read; returns the number of
    /// consecutive files.
    pub fn note(&mut self, file: u64) -> u32 {
        let follows = |run: &Run| file > run.at && file - run.at <= STEP;
        let run = match self.runs.iter().position(follows) {
            Some(known) => {
                let run = self.runs.remove(known);
                Run {
                    at: file,
                    files: run.files.saturating_add(1),
                }
            }
            // A repeated read carries no information.
            None if self.runs.iter().any(|run| run.at == file) => return 0,
            None => Run { at: file, files: 1 },
        };
        self.runs.insert(0, run);
        self.runs.truncate(RUNS);
        run.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_in_a_row_are_counted_over_small_gaps() {
        let mut sweeps = Sweeps::default();
        let noted = [10, 12, 13, 21, 30].map(|file| sweeps.note(file));
        assert_eq!(noted, [1, 2, 3, 4, 1]);
    }

    #[test]
    fn two_walks_at_once_are_told_apart() {
        let mut sweeps = Sweeps::default();
        for step in 0..10 {
            let both = (sweeps.note(100 + step), sweeps.note(5000 + step));
            assert_eq!(both, (step as u32 + 1, step as u32 + 1));
        }
    }

    #[test]
    fn a_file_read_over_and_over_is_no_walk() {
        let mut sweeps = Sweeps::default();
        assert!((0..100).all(|_| sweeps.note(7) <= 1));
    }

    proptest! {
        #[test]
        fn far_opens_are_no_walk(files in proptest::collection::vec(0u64..1_000_000, 1..200)) {
            let mut sweeps = Sweeps::default();
            for file in files {
                prop_assert!(sweeps.note(file * (STEP + 1)) <= 1);
            }
        }
    }
}
