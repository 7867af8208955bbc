//! Secrets from a file, from standard input, or typed without echo; never from an
//! argument, which every user of the machine can read.

use std::fs::{File, Permissions};
use std::io::{IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::{Failure, output};
use walgit_durable::{AtomicFile, PRIVATE_FILE};
use walrus_client::auth::Secret;

/// Maximum length of a secret, in bytes; a large RSA key takes 3,300.
const MOST: u64 = 64 << 10;

/// Reads a secret from a file.
pub(super) fn from_file(path: &Path) -> Result<Secret, Failure> {
    let file = open(path)?;
    read(file).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Opens a file with a secret; warns if other users can read it. Accepts pipes, such as a
/// shell's `<(command)`.
pub(super) fn open(path: &Path) -> Result<File, Failure> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    // A pipe without a writer must not block the open.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .map_err(|error| named(&error))?;
    let about = file.metadata().map_err(|error| named(&error))?;
    let kind = about.file_type();
    if kind.is_fifo() {
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| named(&error))?;
    } else if !kind.is_file() {
        return Err(named(&"a secret is read from a file or a pipe, and this is neither").into());
    } else if about.mode() & 0o077 != 0 {
        let path = path.display();
        output::warning(&format!(
            "others can read {path}; chmod 600 it, or remove it now"
        ));
    }
    Ok(file)
}

/// Writes a secret to a file that only its owner can read, regardless of the umask.
/// Replaces an existing file only if requested; never follows a link.
pub(super) fn write(path: &Path, secret: Zeroizing<String>, replace: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| -> Failure {
        let shown = path.display();
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            return format!("{shown} is there already; add --replace to replace it").into();
        }
        format!("{shown}: {error}").into()
    };
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    if path.is_dir() {
        let shown = path.display();
        return Err(format!("{shown} is a folder; name a file in it").into());
    }
    if !dir.is_dir() {
        let (shown, dir) = (path.display(), dir.display());
        return Err(format!("{shown}: there is no folder {dir}; make it first (mkdir -p)").into());
    }
    let write = || -> std::io::Result<()> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        let mut file = AtomicFile::create(path, PRIVATE_FILE)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(PRIVATE_FILE))?;
        file.write_all(secret.as_bytes())?;
        if replace {
            file.commit()
        } else {
            file.commit_new()
        }
    };
    write().map_err(failed)
}

/// Warns if standard output is a file that other users can read; `instead` is an
/// alternative that creates a private one.
pub(super) fn warn_of_open_output(instead: &str) {
    let about = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|output| File::from(output).metadata());
    if about.is_ok_and(|about| about.is_file() && about.mode() & 0o077 != 0) {
        output::warning(&format!(
            "others can read the file that this is written to; {instead} makes a private one"
        ));
    }
}

/// Prompts for a secret, or reads it from a pipe.
pub(super) fn asked_for(what: &str) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return read(std::io::stdin().lock()).map_err(|e| format!("standard input: {e}").into());
    }
    let typed = Zeroizing::new(rpassword::prompt_password(format!("{what}: "))?);
    checked(&typed)
}

fn read(from: impl Read) -> Result<Secret, Failure> {
    // Allocate the maximum size: growing would leave copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
    from.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err("it is too long to be a secret".into());
    }
    let text = std::str::from_utf8(&bytes);
    checked(text.map_err(|_| "it is not text; write other bytes as 0x… or base64:…")?)
}

fn checked(text: &str) -> Result<Secret, Failure> {
    match text.trim() {
        "" => Err("it is empty".into()),
        text => Ok(Secret::new(text.to_owned())),
    }
}
