//! Fetches a folder of a mount into the cache, and pins it there.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::control::{Shared, refuse};
use super::mounts::Mounts;
use crate::cache::Pin;
use crate::prefetch::{self, Warmed};
use crate::repo::{Node, RepoError, Snapshot};

/// Minimum interval between progress reports.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// A request to warm the cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WarmRequest {
    /// A file or folder in a mount, as an absolute path without symlinks.
    pub(super) path: PathBuf,
    /// Whether to pin it.
    pub(super) pin: bool,
}

/// A line of the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// Bytes of content that are cached, and the total.
    Progress(u64, u64),
    /// The request is complete.
    Done(Warmed),
    /// The request failed, with this reason.
    Failed(String),
}

/// A location in a mount.
struct Place {
    snapshot: Snapshot,
    /// Name of a pin for it.
    pin: String,
    /// Path relative to the mount's root.
    path: PathBuf,
}

impl Mounts {
    /// Returns the location in a mount that a path leads to.
    fn place(&self, path: &Path) -> Option<Place> {
        let (mountpoint, identity, snapshot) = self.holding(path)?;
        let below = path.strip_prefix(mountpoint).ok()?.to_owned();
        let shown = match below.as_os_str().is_empty() {
            true => "/".into(),
            false => format!("/{}", below.display()),
        };
        // Names of encrypted content must not be stored on disk in plain text.
        let shown = snapshot.repository().private_name(&shown);
        Some(Place {
            pin: format!("{identity}:{shown}"),
            path: below,
            snapshot,
        })
    }
}

impl Place {
    async fn node(&self) -> Result<Option<Node>, RepoError> {
        self.snapshot.walk(self.path.as_os_str().as_bytes()).await
    }
}

pub(super) async fn warm(
    State(shared): State<Shared>,
    Json(request): Json<WarmRequest>,
) -> Response {
    let Some(place) = shared.mounts.place(&request.path) else {
        return refuse(format!(
            "{} is in no mount of this daemon; mount the repository first",
            request.path.display()
        ));
    };
    let node = match place.node().await {
        Ok(Some(node)) => node,
        Ok(None) => {
            return refuse(format!(
                "{} is not in the tree that is mounted (what is below .walgit cannot be named here)",
                request.path.display()
            ));
        }
        Err(error) => return refuse(error.to_string()),
    };
    let (lines, told) = mpsc::channel(16);
    tokio::spawn(run(shared.mounts, place, node, request.pin, lines));
    // If the client disconnects, the receiver is dropped and the work ends.
    let body = futures_util::stream::unfold(told, |mut told| async {
        let line: Told = told.recv().await?;
        let mut text = serde_json::to_vec(&line).ok()?;
        text.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), told))
    });
    Body::from_stream(body).into_response()
}

async fn run(mounts: Arc<Mounts>, place: Place, node: Node, pin: bool, lines: mpsc::Sender<Told>) {
    let _busy = mounts.busy();
    let mut last = Instant::now() - TOLD_EVERY;
    let progress = |done, all| {
        if last.elapsed() >= TOLD_EVERY {
            last = Instant::now();
            // A slow client misses some lines.
            let _ = lines.try_send(Told::Progress(done, all));
        }
    };
    let pin = pin.then_some(place.pin.as_str());
    let warmed = prefetch::warm(&place.snapshot, &node, pin, progress);
    let told = tokio::select! {
        warmed = warmed => match warmed {
            Ok(warmed) => Told::Done(warmed),
            Err(error) => Told::Failed(error.to_string()),
        },
        () = lines.closed() => return,
    };
    let _ = lines.send(told).await;
}

pub(super) async fn pins(State(shared): State<Shared>) -> Response {
    match shared.mounts.cache().pins() {
        Ok(pins) => Json(pins).into_response(),
        Err(error) => refuse(error.to_string()),
    }
}

/// Removes a pin, given its name or a path in a mount; returns the pin's name.
pub(super) async fn unpin(State(shared): State<Shared>, Json(path): Json<PathBuf>) -> Response {
    let name = match shared.mounts.place(&path) {
        Some(place) => place.pin,
        None => path.to_string_lossy().into_owned(),
    };
    match shared.mounts.cache().unpin(&name) {
        Ok(true) => Json(name).into_response(),
        Ok(false) => refuse(no_pin(
            &name,
            &shared.mounts.cache().pins().unwrap_or_default(),
        )),
        Err(error) => refuse(error.to_string()),
    }
}

/// Returns the message that no pin has a name, with the existing pins.
pub fn no_pin(name: &str, pins: &[Pin]) -> String {
    let known: Vec<&str> = pins.iter().map(|pin| pin.name.as_str()).collect();
    match known.is_empty() {
        true => format!("{name} is not pinned; nothing is"),
        false => format!("{name} is not pinned; what is: {}", known.join(", ")),
    }
}
