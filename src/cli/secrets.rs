//! Secrets from a file, from standard input, or typed without echo; never from an
//! argument, which every user of the machine can read.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, IsTerminal as _, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use walgit_durable::{AtomicFile, PRIVATE_FILE_MODE};
use walrus_client::auth::Secret;

/// Maximum length of a secret, in bytes; a large RSA key takes 3,300.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Reads a secret from a file.
pub(super) fn from_file(path: &Path) -> Result<Secret> {
    read(open(path)?).with_context(|| path.display().to_string())
}

/// Opens a file with a secret; warns if other users can read it. Accepts pipes, such as a
/// shell's `<(command)`.
pub(super) fn open(path: &Path) -> Result<File> {
    let shown = || path.display().to_string();
    // A pipe without a writer must not block the open.
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)
        .with_context(shown)?;
    let metadata = file.metadata().with_context(shown)?;
    if metadata.file_type().is_fifo() {
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).with_context(shown)?;
    } else if !metadata.is_file() {
        let path = path.display();
        bail!("{path}: this is neither a file nor a pipe; a secret is read from one of them");
    } else if metadata.mode() & 0o077 != 0 {
        let path = path.display();
        warning!("others can read {path}; chmod 600 it, or remove it now");
    }
    Ok(file)
}

/// Writes a secret to a file that only its owner can read, regardless of the umask.
/// Replaces an existing file only if requested; never follows a link.
pub(super) fn write(path: &Path, secret: Zeroizing<String>, replace: bool) -> Result<()> {
    let shown = path.display();
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    ensure!(
        !path.is_dir(),
        "{shown} is a folder; give the name of a file in it"
    );
    if !dir.is_dir() {
        let dir = dir.display();
        bail!("{shown}: there is no folder {dir}; make it first (mkdir -p)");
    }
    let write = || -> std::io::Result<()> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let mut file = AtomicFile::create(path, PRIVATE_FILE_MODE)?;
        file.as_file()
            .set_permissions(Permissions::from_mode(PRIVATE_FILE_MODE))?;
        file.write_all(secret.as_bytes())?;
        if replace {
            file.commit()
        } else {
            file.commit_new()
        }
    };
    match write() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{shown} exists already; add --replace to replace it")
        }
        done => done.with_context(|| shown.to_string()),
    }
}

/// Warns if standard output is a file that other users can read; `instead` is a command
/// that creates a private one.
pub(super) fn warn_of_open_output(instead: &str) {
    let metadata = std::io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(|output| File::from(output).metadata());
    if metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o077 != 0) {
        warning!("others can read the output file; {instead} makes a private one");
    }
}

/// Prompts for a secret, or reads it from a pipe.
pub(super) fn prompt(what: &str) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        return read(std::io::stdin().lock()).context("standard input");
    }
    let typed = Zeroizing::new(rpassword::prompt_password(format!("{what}: "))?);
    checked(&typed)
}

fn read(from: impl Read) -> Result<Secret> {
    // Allocate the maximum size: growing would leave copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES as usize + 1));
    from.take(MAX_SECRET_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_SECRET_BYTES,
        "too long for a secret; the maximum is {MAX_SECRET_BYTES} bytes"
    );
    match std::str::from_utf8(&bytes) {
        Ok(text) => checked(text),
        Err(_) => bail!("not text; write other bytes as 0x… or base64:…"),
    }
}

fn checked(text: &str) -> Result<Secret> {
    let text = text.trim();
    ensure!(!text.is_empty(), "the secret is empty");
    Ok(Secret::new(text.to_owned()))
}
