//! Locations of the objects of a segment, by number.

use walgit_format::archive::{ChunkRun, Segment};

/// Location of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectLocation {
    /// A tree: index of its group, and its index within the group.
    Tree(usize, usize),
    /// A content: index of its group, and its index within the group.
    Grouped(usize, usize),
    /// A content stored as chunks: index of the file.
    File(usize),
}

/// Prefix sums over a segment, which allow a binary search for an object.
#[derive(Debug)]
pub(super) struct SegmentIndex {
    /// Cumulative number of trees per group.
    trees: Vec<u64>,
    /// Cumulative number of contents per group.
    contents: Vec<u64>,
    files: usize,
    /// Plain bytes before each chunk, and in total.
    bytes: Vec<u64>,
}

fn sums(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let running = counts.scan(0u64, |sum, count| {
        *sum = sum.saturating_add(count);
        Some(*sum)
    });
    running.collect()
}

/// The group that contains object `number`, and the index of the object within it.
fn find(ends: &[u64], number: u64) -> Option<(usize, usize)> {
    let group = ends.partition_point(|&end| end <= number);
    let start = group.checked_sub(1).map_or(0, |before| ends[before]);
    let at = usize::try_from(number.checked_sub(start)?).ok()?;
    (group < ends.len()).then_some((group, at))
}

impl SegmentIndex {
    pub(super) fn of(segment: &Segment) -> Self {
        let lens = segment.chunks.iter().map(|chunk| u64::from(chunk.raw_len));
        SegmentIndex {
            trees: sums(segment.trees.iter().map(|group| group.count)),
            contents: sums(segment.contents.iter().map(|it| it.ends.len() as u64)),
            files: segment.files.len(),
            bytes: sums(std::iter::once(0).chain(lens)),
        }
    }

    /// Bytes of memory that the sums over a segment occupy.
    pub(super) fn weight(segment: &Segment) -> u64 {
        let sums = segment.trees.len() + segment.contents.len() + segment.chunks.len() + 1;
        (sums * size_of::<u64>()) as u64
    }

    /// Location of object `number` of the segment.
    pub(super) fn place(&self, number: u64) -> Option<ObjectLocation> {
        let trees = self.trees.last().copied().unwrap_or(0);
        let Some(content) = number.checked_sub(trees) else {
            let (group, at) = find(&self.trees, number)?;
            return Some(ObjectLocation::Tree(group, at));
        };
        let contents = self.contents.last().copied().unwrap_or(0);
        let Some(file) = content.checked_sub(contents) else {
            let (group, at) = find(&self.contents, content)?;
            return Some(ObjectLocation::Grouped(group, at));
        };
        let file = usize::try_from(file).ok()?;
        (file < self.files).then_some(ObjectLocation::File(file))
    }

    /// Plain bytes of a run of chunks.
    pub(super) fn bytes(&self, run: ChunkRun) -> u64 {
        self.bytes[run.first + run.count] - self.bytes[run.first]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_past_any_number_of_empty_groups() {
        let places = SegmentIndex {
            trees: sums([0, 2, 0, 1, 0].into_iter()),
            contents: sums([0, 1].into_iter()),
            files: 1,
            bytes: vec![0],
        };
        let found: Vec<_> = (0..6).map(|number| places.place(number)).collect();
        let expected = [
            Some(ObjectLocation::Tree(1, 0)),
            Some(ObjectLocation::Tree(1, 1)),
            Some(ObjectLocation::Tree(3, 0)),
            Some(ObjectLocation::Grouped(1, 0)),
            Some(ObjectLocation::File(0)),
            None,
        ];
        assert_eq!(found, expected);
    }
}
