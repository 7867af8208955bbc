//! What every HTTP client of ours has in common.

/// Makes the process use one TLS implementation; called before a client is
/// built. Only the first call does anything.
pub fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The innermost cause: `Connection refused` rather than five layers above it.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
