//! Secrets as a user gives them: in a file, on standard input, or typed without
//! echo; never as an argument, which everybody on the machine can read.

use std::io::{IsTerminal as _, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;
use crate::auth::Secret;

/// Longest secret that is read, in bytes; a large RSA key takes 3,300.
const MOST: u64 = 64 << 10;

/// The secret in a file.
pub(super) fn from_file(path: &Path) -> Result<Secret, Failure> {
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = std::fs::File::open(path).map_err(|error| named(&error))?;
    let open_to_others = file.metadata().is_ok_and(|about| about.mode() & 0o077 != 0);
    let secret = read(file).map_err(|error| named(&error))?;
    if open_to_others {
        let path = path.display();
        eprintln!("warning: others can read {path}; chmod 600 it, or remove it now");
    }
    Ok(secret)
}

/// The secret that is typed, or piped into the command.
pub(super) fn asked_for(what: &str) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return read(std::io::stdin().lock()).map_err(|e| format!("standard input: {e}").into());
    }
    let typed = Zeroizing::new(rpassword::prompt_password(format!("{what}: "))?);
    checked(&typed)
}

fn read(from: impl Read) -> Result<Secret, Failure> {
    // As large as it may become: growing would leave copies behind.
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
