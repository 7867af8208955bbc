//! Taking over mounts that commands have made.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::mounts::Mounts;
use super::{DaemonError, MountRequest};
use crate::fuse::{receive_descriptor, send_descriptor};

/// Longest request, in bytes: two paths and a few URLs.
const MAX_REQUEST: usize = 64 << 10;
/// How long a peer may take to say what it wants, and we to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
}

/// Serves `attach.sock` until the process ends.
pub(super) async fn serve(listener: UnixListener, mounts: Arc<Mounts>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !super::control::is_owner(&stream) {
            continue;
        }
        let mounts = mounts.clone();
        tokio::spawn(async move {
            if let Err(error) = attach(stream, mounts).await {
                tracing::warn!("a mount could not be taken over: {error}");
            }
        });
    }
}

async fn attach(stream: tokio::net::UnixStream, mounts: Arc<Mounts>) -> Result<(), DaemonError> {
    let stream = stream.into_std().map_err(DaemonError::Session)?;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || -> Result<(), DaemonError> {
        let session = DaemonError::Session;
        stream.set_nonblocking(false).map_err(session)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(session)?;
        let (message, device) = receive_descriptor(&stream, MAX_REQUEST).map_err(session)?;
        let done = match device {
            None => Err(DaemonError::NoDescriptor),
            Some(device) => serde_json::from_slice::<MountRequest>(&message)
                .map_err(|error| DaemonError::Session(error.into()))
                .and_then(|request| {
                    let snapshot = runtime.block_on(mounts.prepare(&request))?;
                    mounts.serve(request, snapshot, device)
                }),
        };
        let answer = Answer {
            error: done.as_ref().err().map(DaemonError::to_string),
        };
        let text = serde_json::to_vec(&answer).map_err(|e| session(e.into()))?;
        (&stream).write_all(&text).map_err(session)?;
        done
    })
    .await
    .map_err(|_| DaemonError::NoDescriptor)?
}

/// Hands a mount over to the daemon that listens at `socket`.
pub(super) fn hand_over(
    socket: &std::path::Path,
    request: &MountRequest,
    device: &std::os::fd::OwnedFd,
) -> Result<(), String> {
    let talk = || -> std::io::Result<Answer> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        send_descriptor(&stream, &serde_json::to_vec(request)?, device)?;
        Ok(serde_json::from_reader(&stream)?)
    };
    match talk() {
        Ok(Answer { error: None }) => Ok(()),
        Ok(Answer { error: Some(error) }) => Err(error),
        Err(error) => Err(format!("the daemon did not take it over ({error})")),
    }
}
