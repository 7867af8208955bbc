//! Mapping from object numbers to object IDs.

use walgit_format::archive::Segment;

/// The known git IDs of the objects of an archive. Memory grows with the objects that
/// were read, not with the number that a segment declares.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Length of an ID in bytes.
    id_len: usize,
    segments: Vec<Known>,
}

/// The IDs of one segment.
#[derive(Debug)]
struct Known {
    /// The number of the first tree.
    trees_from: u64,
    trees: Vec<u8>,
    /// The number of the first content.
    contents_from: u64,
    contents: Vec<u8>,
}

impl Numbers {
    pub(super) fn new(id_len: usize) -> Self {
        Numbers {
            id_len,
            segments: Vec::new(),
        }
    }

    /// Begins the next segment.
    pub(super) fn begin(&mut self, segment: &Segment) {
        self.segments.push(Known {
            trees_from: segment.before,
            trees: Vec::new(),
            contents_from: segment.before.saturating_add(segment.tree_count()),
            contents: Vec::new(),
        });
    }

    /// Appends the ID of the next content of the segment.
    pub(super) fn content(&mut self, id: &[u8]) {
        debug_assert_eq!(id.len(), self.id_len);
        if let Some(last) = self.segments.last_mut() {
            last.contents.extend_from_slice(id);
        }
    }

    /// Appends the ID of the next tree of the segment.
    pub(super) fn tree(&mut self, id: &[u8]) {
        debug_assert_eq!(id.len(), self.id_len);
        if let Some(last) = self.segments.last_mut() {
            last.trees.extend_from_slice(id);
        }
    }

    /// Returns the ID of the object with this number.
    pub(super) fn id(&self, number: u64) -> Option<&[u8]> {
        let after = self.segments.partition_point(|it| it.trees_from <= number);
        let segment = &self.segments[after.checked_sub(1)?];
        let (ids, at) = match number.checked_sub(segment.contents_from) {
            Some(at) => (&segment.contents, at),
            None => (&segment.trees, number - segment.trees_from),
        };
        let start = usize::try_from(at).ok()?.checked_mul(self.id_len)?;
        ids.get(start..start.checked_add(self.id_len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::archive::{Group, Run};

    fn segment(before: u64, trees: u64, files: usize) -> Segment {
        let (chunk, count) = (0, trees);
        Segment {
            chunks: Vec::new(),
            before,
            trees: vec![Group { chunk, count }],
            contents: Vec::new(),
            files: vec![Run { first: 0, count: 0 }; files],
            tags: Vec::new(),
            commits: Vec::new(),
            refs: Vec::new(),
            head: Default::default(),
            shallow: Vec::new(),
        }
    }

    #[test]
    fn an_object_is_known_from_when_it_was_told() {
        let id = |fill| [fill; 20];
        let mut numbers = Numbers::new(20);
        assert_eq!(numbers.id(0), None);
        numbers.begin(&segment(0, 2, 1));
        numbers.content(&id(3));
        assert_eq!((numbers.id(2), numbers.id(0)), (Some(&id(3)[..]), None));
        numbers.tree(&id(1));
        numbers.tree(&id(2));
        numbers.begin(&segment(3, 1, 2));
        numbers.content(&id(5));
        numbers.content(&id(6));
        numbers.tree(&id(4));
        for (number, fill) in [1, 2, 3, 4, 5, 6].into_iter().enumerate() {
            assert_eq!(numbers.id(number as u64), Some(&id(fill)[..]));
        }
        assert_eq!(numbers.id(6), None);
        assert_eq!(numbers.id(u64::MAX), None);
    }
}
