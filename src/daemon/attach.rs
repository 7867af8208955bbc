//! Takes over mounts that commands have made.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};

use super::daemon_dir::{is_fuse_device, is_owner};
use super::error::{ClientError, not_served};
use super::protocol::{AttachResult, MountRequest};
use super::serve;
use super::state::Daemon;
use crate::fuse::{receive_descriptor, send_descriptor};
use crate::leases::{LeaseError, LeaseHolder, Leases, MountLease};
use walrus_client::clock::unix_seconds;
use walrus_client::network::NetworkPlace;

/// Maximum length of a request in bytes: two paths and a few URLs.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Timeout for the request of a peer, and for the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a failed `accept`.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves `attach.sock` until the process ends.
pub(super) async fn serve(listener: UnixListener, daemon: Arc<Daemon>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        if !is_owner(&stream) {
            continue;
        }
        let daemon = daemon.clone();
        let attached = tokio::task::spawn_blocking(move || attach(stream, &daemon));
        tokio::spawn(async move {
            if let Err(error) = attached.await.map_err(not_served).flatten() {
                tracing::warn!("taking over a mount failed: {error}");
            }
        });
    }
}

fn attach(stream: UnixStream, daemon: &Arc<Daemon>) -> Result<()> {
    let stream = stream.into_std().map_err(not_served)?;
    stream.set_nonblocking(false).map_err(not_served)?;
    (stream.set_read_timeout(Some(REQUEST_TIMEOUT))).map_err(not_served)?;
    let (message, device) = receive_descriptor(&stream, MAX_REQUEST_BYTES).map_err(not_served)?;
    let mut warning = None;
    let served = match device {
        None => Err(anyhow!("no descriptor came with the request")),
        Some(device) if !is_fuse_device(&device) => Err(anyhow!(
            "the descriptor that came with the request is not /dev/fuse"
        )),
        Some(device) => serde_json::from_slice::<MountRequest>(&message)
            .map_err(not_served)
            .and_then(|request| {
                let lease = lease(&request, &mut warning)?;
                let prepared = daemon.prepare(&request, lease.as_ref());
                let snapshot = tokio::runtime::Handle::current().block_on(prepared)?;
                serve::serve(daemon, request, snapshot, lease, device)
            }),
    };
    let error = served.as_ref().err().map(|error| error.to_string());
    let result = serde_json::to_vec(&AttachResult { error, warning });
    let result = result.map_err(not_served)?;
    (&stream).write_all(&result).map_err(not_served)?;
    served
}

/// Takes a lease for a mount that is about to be made. `None` if this user has no write
/// permission, and so cannot delete either; a collector of a user with permission refuses
/// to run if it sees a mount without a lease, but it sees only mounts of the same
/// namespace. Blocks.
fn lease(
    request: &MountRequest,
    warning: &mut Option<String>,
) -> Result<Option<Arc<MountLease>>, LeaseError> {
    let holder = LeaseHolder {
        pid: std::process::id(),
        folder: request.mountpoint.clone(),
        network: request.network.name.clone(),
        identity: request.source.identity(),
        since: unix_seconds(),
    };
    match Leases::new(&request.leases).mount(&request.id, &holder) {
        Err(error) if error.is_read_only() => {
            let text = no_lease(request, &error);
            tracing::warn!("{}: {text}", request.label);
            *warning = Some(text);
            Ok(None)
        }
        lease => Ok(Some(Arc::new(lease?))),
    }
}

fn no_lease(request: &MountRequest, error: &LeaseError) -> String {
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
    mut stream: UnixStream,
    request: &MountRequest,
    device: OwnedFd,
) -> Result<Option<String>, ClientError> {
    let exchange = async {
        let message = serde_json::to_vec(request)?;
        let send = || send_descriptor(&stream, &message, &device);
        stream.async_io(Interest::WRITABLE, send).await?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await?;
        Ok(serde_json::from_slice::<AttachResult>(&text)?)
    };
    let result: Result<_, io::Error> = exchange.await;
    let result = result.map_err(|error| {
        ClientError::interrupted(format!("the mount was not taken over: {error}"))
    })?;
    match result.error {
        None => Ok(result.warning),
        Some(error) => Err(ClientError::Rejected(error)),
    }
}
