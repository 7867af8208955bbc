//! Git IDs and checkout sizes of the objects of an archive, by object number.

use super::sizes::Size;
use crate::repo::RepoError;
use crate::repo::archive::Archive;
use walgit_format::archive::{Segment, StoredEntry, TreeTarget};

/// The objects of an archive that were converted. Memory grows with these, not with the
/// number that a segment declares.
#[derive(Debug)]
pub(super) struct ObjectTable {
    /// Length of an ID in bytes.
    id_len: usize,
    segments: Vec<SegmentTable>,
}

/// The objects of one segment.
#[derive(Debug)]
struct SegmentTable {
    /// The number of the first tree.
    first_tree: u64,
    tree_ids: Vec<u8>,
    tree_sizes: Vec<Size>,
    /// The number of the first content.
    first_content: u64,
    content_ids: Vec<u8>,
}

impl ObjectTable {
    pub(super) fn new(id_len: usize) -> Self {
        ObjectTable {
            id_len,
            segments: Vec::new(),
        }
    }

    /// Begins the next segment.
    pub(super) fn begin(&mut self, segment: &Segment) {
        self.segments.push(SegmentTable {
            first_tree: segment.before,
            tree_ids: Vec::new(),
            tree_sizes: Vec::new(),
            first_content: segment.before.saturating_add(segment.tree_count()),
            content_ids: Vec::new(),
        });
    }

    /// Adds the next content of the segment.
    pub(super) fn add_content(&mut self, id: &[u8]) {
        debug_assert_eq!(id.len(), self.id_len);
        if let Some(last) = self.segments.last_mut() {
            last.content_ids.extend_from_slice(id);
        }
    }

    /// Adds the next tree of the segment.
    pub(super) fn add_tree(&mut self, id: &[u8], size: Size) {
        debug_assert_eq!(id.len(), self.id_len);
        if let Some(last) = self.segments.last_mut() {
            last.tree_ids.extend_from_slice(id);
            last.tree_sizes.push(size);
        }
    }

    fn segment_of(&self, number: u64) -> Option<&SegmentTable> {
        let after = self.segments.partition_point(|it| it.first_tree <= number);
        self.segments.get(after.checked_sub(1)?)
    }

    /// Returns the ID of the object with this number.
    pub(super) fn id(&self, number: u64) -> Option<&[u8]> {
        let segment = self.segment_of(number)?;
        let (ids, at) = match number.checked_sub(segment.first_content) {
            Some(at) => (&segment.content_ids, at),
            None => (&segment.tree_ids, number - segment.first_tree),
        };
        let start = usize::try_from(at).ok()?.checked_mul(self.id_len)?;
        ids.get(start..start.checked_add(self.id_len)?)
    }

    /// Returns the size of the tree with this number.
    pub(super) fn tree_size(&self, number: u64) -> Option<Size> {
        let segment = self.segment_of(number)?;
        let at = usize::try_from(number - segment.first_tree).ok()?;
        segment.tree_sizes.get(at).copied()
    }

    /// Returns the size of a tree whose entries were all added.
    pub(super) fn size_of(
        &self,
        entries: &[StoredEntry],
        archive: &Archive,
    ) -> Result<Size, RepoError> {
        let mut size = Size::default();
        for entry in entries {
            let below = match entry.target {
                TreeTarget::Number(tree) if entry.is_tree() => {
                    self.tree_size(tree).unwrap_or_default()
                }
                TreeTarget::Number(content) => Size {
                    entries: 0,
                    bytes: archive.content(content)?.len(),
                },
                TreeTarget::Id(_) => Size::default(),
            };
            size.entries = size.entries.saturating_add(1).saturating_add(below.entries);
            size.bytes = size.bytes.saturating_add(below.bytes);
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walgit_format::archive::{ChunkRun, Group};

    fn segment(before: u64, trees: u64, files: usize) -> Segment {
        let (chunk, count) = (0, trees);
        Segment {
            chunks: Vec::new(),
            before,
            trees: vec![Group { chunk, count }],
            contents: Vec::new(),
            files: vec![ChunkRun { first: 0, count: 0 }; files],
            tags: Vec::new(),
            commits: Vec::new(),
            refs: Vec::new(),
            head: Default::default(),
            shallow: Vec::new(),
        }
    }

    #[test]
    fn an_object_is_known_once_it_was_added() {
        let id = |fill| [fill; 20];
        let mut table = ObjectTable::new(20);
        assert_eq!(table.id(0), None);
        table.begin(&segment(0, 2, 1));
        table.add_content(&id(3));
        assert_eq!((table.id(2), table.id(0)), (Some(&id(3)[..]), None));
        table.add_tree(&id(1), Size::default());
        table.add_tree(&id(2), Size::default());
        table.begin(&segment(3, 1, 2));
        table.add_content(&id(5));
        table.add_content(&id(6));
        table.add_tree(&id(4), Size::default());
        for (number, fill) in [1, 2, 3, 4, 5, 6].into_iter().enumerate() {
            assert_eq!(table.id(number as u64), Some(&id(fill)[..]));
        }
        assert_eq!(table.id(6), None);
        assert_eq!(table.id(u64::MAX), None);
    }
}
