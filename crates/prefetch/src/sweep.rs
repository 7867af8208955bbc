//! Recognising that somebody reads one file after the other: pure bookkeeping.

/// Readers that are told apart.
const RUNS: usize = 16;
/// How far the next file of a walk is away, in numbers: folders, links and
/// files that a walker leaves out lie between.
const STEP: u64 = 8;

/// Who reads files in the order of a walk.
///
/// The numbers of files count in the order of a walk, so a walk is a sequence
/// of numbers that rise in small steps. Several walks at once are told apart by
/// where they are.
#[derive(Clone, Debug, Default)]
pub struct Sweeps {
    /// The one that moved last comes first.
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The file read last.
    at: u64,
    files: u32,
}

impl Sweeps {
    /// Notes that file number `file` begins to be read; how many files in a row
    /// that makes.
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
            // Read again, it is no news.
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
