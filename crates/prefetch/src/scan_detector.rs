//! Detection of walks: tasks that read one file after the other. Pure bookkeeping.

/// Maximum number of concurrent walks.
const MAX_RUNS: usize = 16;
/// Maximum distance to the next file of a walk, in file numbers: folders, links and
/// skipped files lie in between.
const MAX_FILE_DISTANCE: u64 = 8;

/// Detects readers that read files in the order of a walk.
///
/// Files are numbered in the order of a walk, so a walk is a sequence of numbers
/// that rise in small steps. Concurrent walks are distinguished by their positions.
#[derive(Clone, Debug, Default)]
pub struct SequentialScanDetector {
    /// Most recently active first.
    runs: Vec<FileRun>,
}

#[derive(Clone, Copy, Debug)]
struct FileRun {
    /// The last file read.
    at: u64,
    files: u32,
}

impl SequentialScanDetector {
    /// Records that file number `file` is first read; returns the number of
    /// consecutive files.
    pub fn record(&mut self, file: u64) -> u32 {
        let follows = |run: &FileRun| file > run.at && file - run.at <= MAX_FILE_DISTANCE;
        let known = self.runs.iter().position(follows);
        // A repeated read carries no information.
        if known.is_none() && self.runs.iter().any(|run| run.at == file) {
            return 0;
        }
        let before = known.map_or(0, |known| self.runs.remove(known).files);
        let files = before.saturating_add(1);
        self.runs.insert(0, FileRun { at: file, files });
        self.runs.truncate(MAX_RUNS);
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn consecutive_files_are_counted_over_small_gaps() {
        let mut detector = SequentialScanDetector::default();
        let noted = [10, 12, 13, 21, 30].map(|file| detector.record(file));
        assert_eq!(noted, [1, 2, 3, 4, 1]);
    }

    #[test]
    fn concurrent_walks_are_distinguished() {
        let mut detector = SequentialScanDetector::default();
        for step in 0..10 {
            let both = (detector.record(100 + step), detector.record(5000 + step));
            assert_eq!(both, (step as u32 + 1, step as u32 + 1));
        }
    }

    #[test]
    fn repeated_reads_of_a_file_are_no_walk() {
        let mut detector = SequentialScanDetector::default();
        assert!((0..100).all(|_| detector.record(7) <= 1));
    }

    proptest! {
        #[test]
        fn distant_files_are_no_walk(files in proptest::collection::vec(0u64..1_000_000, 1..200)) {
            let mut detector = SequentialScanDetector::default();
            for file in files {
                prop_assert!(detector.record(file * (MAX_FILE_DISTANCE + 1)) <= 1);
            }
        }
    }
}
