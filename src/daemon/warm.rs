//! Fetches a folder of a mount into the cache, and pins it there.

use std::convert::Infallible;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use tokio::sync::mpsc;

use super::protocol::{WarmEvent, WarmRequest};
use super::state::Daemon;
use crate::cache::Pin;
use crate::prefetch;
use crate::repo::{Node, Snapshot};

/// Minimum interval between progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A file or folder in a mount.
struct MountedPath {
    snapshot: Snapshot,
    /// Name of a pin for it.
    pin: String,
    /// Path relative to the mount's root.
    path: PathBuf,
}

impl MountedPath {
    /// Finds the mount that contains a path.
    fn find(daemon: &Daemon, path: &Path) -> Option<Self> {
        let mount = daemon.mounts.containing(path)?;
        let path = path
            .strip_prefix(&mount.request.mountpoint)
            .ok()?
            .to_owned();
        let (identity, snapshot) = (mount.request.source.identity(), mount.handle.snapshot());
        // Names of encrypted content must not be stored on disk in plain text.
        let name = (snapshot.repository()).private_name(&format!("/{}", path.display()));
        Some(MountedPath {
            pin: format!("{identity}:{name}"),
            path,
            snapshot,
        })
    }
}

/// Warms the cache; returns a body with a line for each event.
pub(super) async fn warm(daemon: Arc<Daemon>, request: WarmRequest) -> Result<Body, String> {
    let shown = request.path.display();
    let Some(target) = MountedPath::find(&daemon, &request.path) else {
        return Err(format!(
            "{shown} is in no mount of this daemon; mount the repository first"
        ));
    };
    let path = target.path.as_os_str().as_bytes();
    let node = target.snapshot.walk(path).await;
    let Some(node) = node.map_err(|error| error.to_string())? else {
        return Err(format!(
            "{shown} is not in the mounted tree (paths below .walgit are not supported)"
        ));
    };
    let (sender, events) = mpsc::channel(16);
    tokio::spawn(run(daemon, target, node, request.pin, sender));
    // If the client disconnects, the receiver is dropped and the work ends.
    let lines = futures_util::stream::unfold(events, |mut events| async {
        let event: WarmEvent = events.recv().await?;
        let mut text = serde_json::to_vec(&event).ok()?;
        text.push(b'\n');
        Some((Ok::<_, Infallible>(Bytes::from(text)), events))
    });
    Ok(Body::from_stream(lines))
}

async fn run(
    daemon: Arc<Daemon>,
    target: MountedPath,
    node: Node,
    pin: bool,
    events: mpsc::Sender<WarmEvent>,
) {
    let _keep_alive = daemon.mounts.keep_alive();
    let mut last = Instant::now() - PROGRESS_INTERVAL;
    let progress = |done, total| {
        if last.elapsed() >= PROGRESS_INTERVAL {
            last = Instant::now();
            // A slow client misses some events.
            let _ = events.try_send(WarmEvent::Progress(done, total));
        }
    };
    let pin = pin.then_some(target.pin.as_str());
    let event = tokio::select! {
        warmed = prefetch::warm(&target.snapshot, &node, pin, progress) => match warmed {
            Ok(warmed) => WarmEvent::Done(warmed),
            Err(error) => WarmEvent::Failed(error.to_string()),
        },
        () = events.closed() => return,
    };
    let _ = events.send(event).await;
}

/// Removes a pin, given its name or a path in a mount; returns the pin's name.
pub(super) fn unpin(daemon: &Daemon, path: &Path) -> Result<String, String> {
    let name = MountedPath::find(daemon, path)
        .map_or_else(|| path.to_string_lossy().into_owned(), |target| target.pin);
    match daemon.cache().unpin(&name) {
        Ok(true) => Ok(name),
        Ok(false) => Err(no_pin(&name, &daemon.cache().pins().unwrap_or_default())),
        Err(error) => Err(error.to_string()),
    }
}

/// Returns the message that no pin has a name, with the existing pins.
pub fn no_pin(name: &str, pins: &[Pin]) -> String {
    if pins.is_empty() {
        return format!("{name} is not pinned; there are no pins");
    }
    let known: Vec<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    format!("{name} is not pinned; these are: {}", known.join(", "))
}
