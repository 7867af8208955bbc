//! A repository built node by node, for content that a publish would not produce or
//! would take too long to.

use std::path::Path;

use bytes::Bytes;
use walgit_format::PlannedChunk;
use walgit_format::blob::BlobBuilder;
use walgit_format::head::{
    Attachment, AttachmentKind, CommitId, PlannedCommit, PlannedHead, Signature,
};
use walrus_client::{BlobWriter as _, LocalDir, PutOptions};
use walrus_encoding::blob_id::blob_id;

/// Stores a repository of one commit with this root, numbers of nodes and bytes, and
/// attachments of one chunk each, in the local network of the user whose state is in
/// `state`; returns its address.
pub(crate) fn store(
    state: &Path,
    mut builder: BlobBuilder,
    root: PlannedChunk,
    nodes: u64,
    bytes: u64,
    attached: &[(AttachmentKind, PlannedChunk)],
) -> String {
    let head = PlannedHead {
        commits: vec![PlannedCommit {
            id: CommitId::None,
            root,
            nodes,
            bytes,
            author: Signature::default(),
            committer: Signature::default(),
            message: Bytes::new(),
            parents: Vec::new(),
        }],
        attachments: (attached.iter())
            .map(|(kind, chunk)| Attachment {
                kind: *kind,
                chunks: vec![chunk.clone()],
            })
            .collect(),
        ..PlannedHead::default()
    };
    let head = builder.push_node(&head.encode_unchecked(builder.next_node_end()).unwrap());
    let blob = Bytes::from(builder.finish_with_head(&head).unwrap());
    let id = blob_id(&blob).unwrap();
    let local = LocalDir::open(&state.join("data/walgit-fs/local"), 1 << 30).unwrap();
    let put = async { local.put(id, blob, &PutOptions::default()).await };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(put).unwrap();
    format!("walrus://{id}?root={}", head.hash)
}
