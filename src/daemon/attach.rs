//! Takes over mounts that commands have made.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixListener;

use super::client::ClientError;
use super::location::is_fuse_device;
use super::mounts::Mounts;
use super::{DaemonError, MountRequest};
use crate::fuse::{receive_descriptor, send_descriptor};
use crate::leases::{Holder, LeaseError, Leases, MountLease};
use walrus_client::clock::unix_seconds;
use walrus_client::network::NetworkPlace;

/// Maximum length of a request in bytes: two paths and a few URLs.
const MAX_REQUEST: usize = 64 << 10;
/// Timeout for the request of a peer, and for the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Result of a request.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    error: Option<String>,
    /// A warning for the user of the mount.
    warning: Option<String>,
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
        let mut warning = None;
        let session = DaemonError::Session;
        stream.set_nonblocking(false).map_err(session)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(session)?;
        let (message, device) = receive_descriptor(&stream, MAX_REQUEST).map_err(session)?;
        let done = match device {
            None => Err(DaemonError::NoDescriptor),
            Some(device) if !is_fuse_device(&device) => Err(DaemonError::NotFuse),
            Some(device) => serde_json::from_slice::<MountRequest>(&message)
                .map_err(|error| DaemonError::Session(error.into()))
                .and_then(|request| {
                    let lease = lease(&request, &mut warning)?;
                    let prepared = mounts.prepare(&request, lease.as_ref());
                    let snapshot = runtime.block_on(prepared)?;
                    mounts.serve(request, snapshot, lease, device)
                }),
        };
        let answer = Answer {
            error: done.as_ref().err().map(DaemonError::to_string),
            warning,
        };
        let text = serde_json::to_vec(&answer).map_err(|e| session(e.into()))?;
        (&stream).write_all(&text).map_err(session)?;
        done
    })
    .await
    .map_err(|_| DaemonError::NoDescriptor)?
}

/// Takes a lease for a mount that is about to be made. `None` if this user has no write
/// permission, and so cannot delete either; a collector of a user with permission refuses
/// to run if it sees a mount without a lease, but it sees only those of its own mount
/// namespace. Blocks.
fn lease(
    request: &MountRequest,
    warning: &mut Option<String>,
) -> Result<Option<Arc<MountLease>>, LeaseError> {
    let holder = Holder {
        pid: std::process::id(),
        folder: request.mountpoint.clone(),
        network: request.network.name.clone(),
        identity: request.source.identity(),
        since: unix_seconds(),
    };
    match Leases::new(&request.leases).mount(&request.id, &holder) {
        Err(error) if error.is_read_only() => {
            let why = unleased(request, &error);
            tracing::warn!("{}: {why}", request.label);
            *warning = Some(why);
            Ok(None)
        }
        lease => Ok(Some(Arc::new(lease?))),
    }
}

fn unleased(request: &MountRequest, error: &LeaseError) -> String {
    let leases = &request.leases;
    let store = match &request.network.place {
        NetworkPlace::Local { dir } => dir.display(),
        NetworkPlace::Http { .. } => leases.display(),
    };
    format!(
        "the store {store} cannot be written from here, so this mount has no lease there \
         ({error}); `walgit-fs gc` in another container or mount namespace can delete blobs that \
         it uses. Unmount it before such a gc, or make {} writable and mount again",
        leases.display()
    )
}

/// Hands a mount over to the daemon at the other end, which was verified to belong to
/// this user. Returns a warning for the user of the mount.
pub(super) async fn hand_over(
    mut stream: tokio::net::UnixStream,
    request: &MountRequest,
    device: OwnedFd,
) -> Result<Option<String>, ClientError> {
    let talk = async {
        let message = serde_json::to_vec(request)?;
        let send = || send_descriptor(&stream, &message, &device);
        stream.async_io(Interest::WRITABLE, send).await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok(serde_json::from_slice::<Answer>(&text)?)
    };
    match talk.await {
        Ok(Answer {
            error: None,
            warning,
        }) => Ok(warning),
        Ok(Answer {
            error: Some(error), ..
        }) => Err(ClientError::Refused(error)),
        Err(error) => {
            let error: std::io::Error = error;
            Err(ClientError::Gone(format!(
                "the mount was not taken over: {error}"
            )))
        }
    }
}
