//! `devnet`: a Walrus of one's own, over a directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::require::RequireArgs;
use super::{Failure, output};
use walgit_format::chunk::BlobId;
use walrus_client::network::DEFAULT_MAX_BODY;
use walrus_devnet::{self, DevnetConfig, Fault, RequestLog};

/// Serve a directory of blobs as a Walrus aggregator and publisher over HTTP
///
/// For development, tests, benches and offline use: true blob IDs, the
/// network's own API and errors, and a link as slow as asked for. Stop it with
/// Ctrl-C.
///
/// It has no clock: `walgit-fs debug epoch --advance N --admin URL` ends epochs (of the
/// profile `devnet` without --admin), and what was paid for until then is gone.
#[derive(Debug, Args)]
pub(super) struct Devnet {
    /// The directory; made if it is not there
    #[arg(long)]
    dir: PathBuf,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:31415")]
    listen: SocketAddr,
    /// Largest blob that can be stored, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MAX_BODY)]
    max_body: u64,
    /// Largest form of a quilt that can be stored, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = walrus_devnet::DEFAULT_MAX_QUILT)]
    max_quilt: u64,
    /// Largest blob that is given out, in bytes [default: any]
    #[arg(long, value_name = "BYTES")]
    max_read: Option<u64>,
    /// Neither store nor give out this blob
    #[arg(long, value_name = "BLOB_ID")]
    forbid: Vec<BlobId>,
    /// Delay every response by this round trip, in milliseconds
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Bandwidth of the link all clients share, in megabits a second [default: unlimited]
    #[arg(long)]
    bandwidth_mbit: Option<f64>,
    /// Let something go wrong: `status=503,rate=0.1,path=/v1/blobs`
    ///
    /// When: method=GET, path=BEGINNING, after=N, first=N, flap=M/N (of every
    /// N requests the first M), rate=0.1. What: status=503 with
    /// retry-after=SECONDS, delay-ms=N, jitter-ms=N, bandwidth-mbit=N,
    /// drip-ms=N (a byte every N ms, headers too), wrong-blob, truncate=BYTES,
    /// cut=BYTES, flip, reset, hang, and for a PUT put=marked-invalid, error,
    /// error-early, uncertified, reuse-storage, reuse-registration,
    /// reuse-and-extend or reuse-and-extend-non-certified.
    /// While it runs, `PUT /devnet/faults` with one fault a line replaces them,
    /// and `GET /devnet/faults` counts them.
    #[arg(long, value_name = "SPEC")]
    fault: Vec<Fault>,
    /// What the chance in the faults is drawn from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    require: RequireArgs,
    /// Print a line a request: method, path, range, status, bytes
    #[arg(long)]
    log_requests: bool,
}

impl Devnet {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if self
            .bandwidth_mbit
            .is_some_and(|mbit| mbit.is_nan() || mbit <= 0.0)
        {
            return Err("--bandwidth-mbit must be more than 0".into());
        }
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
            output::line(&format!("listening on {url}"))?;
            output::note(&format!(
                "use it with: --aggregator {url} --publisher {url}"
            ));
            if let Some(section) = section {
                let issuer = section.replace("URL", &url);
                output::note(&format!(
                    "its uploads need a sign-in: [networks.NAME.auth] {issuer}"
                ));
            }
            let mut terminate =
                tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            server.stop().await;
            Ok(ExitCode::SUCCESS)
        })
    }
}
