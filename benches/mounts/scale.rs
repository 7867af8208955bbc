//! A million files: time to mount and to list, and resident memory.

use walgit_format::Kind;
use walgit_format::blob::BlobBuilder;
use walgit_format::directory::{self, PlannedContent, PlannedEntry};

use super::null::{NullMount, Shape, name};
use super::report::{Report, in_turn, seconds};
use super::synthetic_repository;
use super::world::{World, shell};

const LARGE_SHAPE: Shape = Shape {
    folders: 1000,
    files: 1000,
    bytes: 8,
};
const SMALL_SHAPE: Shape = Shape {
    folders: 1,
    files: 10,
    bytes: 8,
};

pub(crate) fn run(report: &mut Report) {
    let world = World::new();
    let (many, few) = (store(&world, LARGE_SHAPE), store(&world, SMALL_SHAPE));
    let mount = |address: &str| {
        let took = seconds(|| world.mount(address));
        world.unmount();
        took
    };
    mount(&many);
    mount(&few);
    let (one, other) = in_turn(7, || mount(&many), || mount(&few));
    report.times("mount of 1,000,000 files", one, "mount of 10", other, 1.1);
    let find = |dir: &std::path::Path| {
        let script = format!("find '{}' -size +1000k", dir.display());
        seconds(|| shell(&script))
    };
    world.mount(&many);
    find(&world.mountpoint());
    world.unmount();
    let ours = || {
        world.end_daemon();
        world.mount(&many);
        let took = find(&world.mountpoint());
        let memory = world.daemon_memory();
        world.unmount();
        (took, memory)
    };
    let mut memory = 0f64;
    let (one, other) = in_turn(
        3,
        || {
            let (took, resident) = ours();
            memory = memory.max(resident);
            took
        },
        || find(NullMount::new(LARGE_SHAPE).path()),
    );
    report.times(
        "find -size over 1,000,000 files, second session",
        one,
        "null driver",
        other,
        1.5,
    );
    let mb = 1e6;
    report.row(
        "resident memory after it",
        memory / mb,
        "goal",
        150.0,
        "MB",
        1.0,
    );
}

/// Stores a tree of this shape as a publisher would; returns its address.
fn store(world: &World, shape: Shape) -> String {
    let mut builder = BlobBuilder::new();
    let files: Vec<PlannedEntry> = (0..shape.files)
        .map(|n| PlannedEntry {
            name: name(n).into(),
            kind: Kind::File { executable: false },
            size: shape.bytes,
            content: PlannedContent::Inline(format!("{n:08}").into_bytes().into()),
        })
        .collect();
    let mut folders: Vec<PlannedEntry> = (0..shape.folders)
        .rev()
        .map(|n| {
            // No two directories are equal.
            let mut files = files.clone();
            files[0].content = PlannedContent::Inline(format!("{n:08}").into_bytes().into());
            let node = builder
                .push_node(&directory::encode_unchecked(&files, builder.next_node_end()).unwrap());
            PlannedEntry {
                name: name(n).into(),
                kind: Kind::Directory,
                size: shape.files * shape.bytes,
                content: PlannedContent::Directory {
                    node,
                    nodes: shape.files + 1,
                },
            }
        })
        .collect();
    folders.reverse();
    let root =
        builder.push_node(&directory::encode_unchecked(&folders, builder.next_node_end()).unwrap());
    let nodes = 1 + shape.folders * (shape.files + 1);
    let bytes = shape.folders * shape.files * shape.bytes;
    synthetic_repository::store(world.path(), builder, root, nodes, bytes, &[])
}
