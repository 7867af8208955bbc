//! Errors of reading the settings.

use std::path::PathBuf;

/// Maximum budget of the cache, in bytes; larger values are mistakes.
pub(super) const MAX_CACHE_BYTES: u64 = 1 << 50;

/// Error of reading the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: {}", path.display(), unreadable(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error; part of the message.
        error: std::io::Error,
    },
    /// The file is malformed.
    #[error("config file {}: {why}; correct it, or choose another with --config", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Position and reason.
        why: String,
    },
    /// An environment variable is malformed.
    #[error("environment variable {name}: {why}; correct it, or unset it")]
    Environment {
        /// The variable.
        name: &'static str,
        /// The mistake in its value.
        why: String,
    },
    /// The profile does not exist.
    #[error("no network profile is called `{name}`; there are: {known}")]
    NoNetwork {
        /// The requested name.
        name: String,
        /// The existing profiles.
        known: String,
    },
    /// The cache cannot work with the budget.
    #[error(
        "{name} is {value} bytes, but the cache needs {min} to {MAX_CACHE_BYTES} bytes there; set it to a size such as {example}"
    )]
    Budget {
        /// The setting.
        name: String,
        /// The configured value, in bytes.
        value: u64,
        /// The minimum, in bytes.
        min: u64,
        /// A suitable value.
        example: &'static str,
    },
    /// Neither a home directory nor the XDG variable is set.
    #[error("neither HOME nor {0} is set, so there is no place for {1}; set one of them")]
    NoHome(&'static str, &'static str),
    /// The home directory is relative, so it would depend on the current directory.
    #[error("HOME is {}, which is not an absolute path; set it to one", .0.display())]
    RelativeHome(PathBuf),
}

/// Explains why a file cannot be read, with a remedy.
fn unreadable(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "no such file; check --config and WALGIT_FS_CONFIG".into(),
        ErrorKind::IsADirectory => {
            "it is a folder; remove it, or choose a file with --config".into()
        }
        ErrorKind::PermissionDenied => {
            format!("{error}; make it readable for you, or choose another with --config")
        }
        _ => error.to_string(),
    }
}
