//! Remedies for errors of the operating system.

use std::borrow::Cow;

use rustix::io::Errno;

/// Replaces the numbers of system errors in a message (`(os error 28)`) by remedies,
/// unless the message already contains advice.
pub(super) fn explain(message: &str) -> Cow<'_, str> {
    const ERRNO_PREFIX: &str = " (os error ";
    if !message.contains(ERRNO_PREFIX) {
        return message.into();
    }
    let mut text = String::new();
    let mut remedies: Vec<&str> = Vec::new();
    let mut rest = message;
    while let Some((before, number)) = rest.split_once(ERRNO_PREFIX) {
        text.push_str(before);
        let Some((number, after)) = number.split_once(')') else {
            rest = "";
            break;
        };
        let remedy = number.parse().ok().and_then(remedy);
        if let Some(remedy) = remedy.filter(|it| !remedies.contains(it)) {
            remedies.push(remedy);
        }
        // Errors of temporary files repeat their path.
        rest = match after.split_once(" at path \"") {
            Some(("", path)) => path.split_once('"').map_or("", |(_, after)| after),
            _ => after,
        };
    }
    let advised = rest.contains(';') || rest.contains("(its log");
    text.push_str(rest);
    for remedy in remedies.into_iter().filter(|_| !advised) {
        text.push_str("; ");
        text.push_str(remedy);
    }
    text.into()
}

/// Remedy for a system error.
fn remedy(number: i32) -> Option<&'static str> {
    Some(match Errno::from_raw_os_error(number) {
        Errno::NOSPC => "free space on that file system",
        Errno::DQUOT => "free space, or have your disk quota raised",
        Errno::ROFS => "remount that file system read-write, or set HOME to one that is",
        Errno::MFILE => "raise the limit of open files (ulimit -n 1024)",
        Errno::NFILE => "the whole system has too many open files; end some programs",
        Errno::ACCESS | Errno::PERM => "check its owner and mode with ls -ld",
        Errno::IO => "the device reports errors; see dmesg",
        Errno::NOMEM => "end some programs to free memory",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_ends_with_its_remedy() {
        assert_eq!(
            explain("lease /x/y: No space left on device (os error 28) at path \"/x/y\""),
            "lease /x/y: No space left on device; free space on that file system"
        );
        assert_eq!(
            explain("/k: Read-only file system (os error 30); set XDG_CACHE_HOME to another"),
            "/k: Read-only file system; set XDG_CACHE_HOME to another"
        );
        assert_eq!(
            explain("/k: No such file or directory (os error 2)"),
            "/k: No such file or directory"
        );
        assert_eq!(explain("no name"), "no name");
        assert_eq!(explain("cut (os error 28"), "cut");
    }
}
