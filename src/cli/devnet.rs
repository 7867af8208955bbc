//! `devnet`: runs an embedded Walrus server over a directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use super::args::DevnetAuth;
use super::context::Context;
use super::output;
use walgit_format::chunk::BlobId;
use walrus_client::network::DEFAULT_MAX_BODY;
use walrus_devnet::{self, DevnetConfig, Fault, RequestLog};

/// Serve a directory of blobs as a Walrus aggregator and publisher over HTTP
///
/// For development, tests, benchmarks and offline use: real blob IDs, the API and errors
/// of the network, and a configurable link speed. Stop it with Ctrl-C.
///
/// It has no clock: `walgit-fs debug epoch --advance N --admin URL` ends epochs (of the
/// profile `devnet` without --admin). Blobs that are paid for until then are removed.
#[derive(Debug, Args)]
pub(super) struct Devnet {
    /// Directory of the blobs; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:31415")]
    listen: SocketAddr,
    /// Largest blob that can be stored, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_BODY)]
    max_body: u64,
    /// Largest encoded quilt that can be stored, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = walrus_devnet::DEFAULT_MAX_QUILT_BYTES)]
    max_quilt: u64,
    /// Largest blob that can be read, in bytes [default: unlimited]
    #[arg(long, value_name = "BYTES")]
    max_read: Option<u64>,
    /// Refuse to store or serve this blob
    #[arg(long, value_name = "BLOB_ID")]
    forbid: Vec<BlobId>,
    /// Delay every response by this round-trip time, in milliseconds
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Bandwidth that all clients share, in Mbit/s [default: unlimited]
    #[arg(long)]
    bandwidth_mbit: Option<f64>,
    /// Inject a fault: `status=503,rate=0.1,path=/v1/blobs`
    ///
    /// Conditions: method=GET, path=PREFIX, after=N, first=N, flap=M/N (the first M of
    /// every N requests), rate=0.1. Effects: status=503 with retry-after=SECONDS,
    /// delay-ms=N, jitter-ms=N, bandwidth-mbit=N, drip-ms=N (a byte every N ms, including
    /// headers), wrong-blob, truncate=BYTES, cut=BYTES, flip, reset, hang, and for a PUT
    /// put=marked-invalid, error, error-early, uncertified, reuse-storage,
    /// reuse-registration, reuse-and-extend or reuse-and-extend-non-certified. At run
    /// time, `PUT /devnet/faults` with one fault per line replaces the faults, and
    /// `GET /devnet/faults` returns their counts.
    #[arg(long, value_name = "SPEC")]
    fault: Vec<Fault>,
    /// Random seed of the faults
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    require: DevnetAuth,
    /// Log a line per request: method, path, range, status, bytes
    #[arg(long)]
    log_requests: bool,
}

impl Devnet {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let is_valid = |mbit: f64| mbit > 0.0;
        ensure!(
            self.bandwidth_mbit.is_none_or(is_valid),
            "--bandwidth-mbit must be more than 0"
        );
        let section = self.require.section();
        let config = DevnetConfig {
            dir: self.dir,
            listen: self.listen,
            max_body: self.max_body,
            max_quilt: self.max_quilt,
            max_read: self.max_read,
            forbidden: self.forbid,
            latency: Duration::from_millis(self.latency_ms),
            bandwidth_mbit: self.bandwidth_mbit,
            faults: self.fault,
            seed: self.seed,
            require: self.require.load()?,
            log: self.log_requests.then(|| -> RequestLog {
                Arc::new(|line: String| {
                    let _ = output::line(&line);
                })
            }),
        };
        context.run(async {
            let server = walrus_devnet::serve(config).await?;
            let url = format!("http://{}", server.address());
            outln!("listening on {url}")?;
            errln!("use it with: --aggregator {url} --publisher {url}");
            if let Some(section) = section {
                let issuer = section.replace("URL", &url);
                errln!("uploads require a sign-in: [networks.NAME.auth] {issuer}");
            }
            let mut terminate =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            server.stop().await;
            Ok(())
        })
    }
}
