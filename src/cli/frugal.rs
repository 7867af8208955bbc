//! The system's allocator, told to be frugal.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Two arenas, and nothing large kept for later: but for buffers of chunks, which
/// are needed again at once, and take longer to be had than to be filled.
const FRUGAL: [(&str, &str); 3] = [
    ("MALLOC_ARENA_MAX", "2"),
    ("MALLOC_MMAP_THRESHOLD_", "1048576"),
    ("MALLOC_TRIM_THRESHOLD_", "16777216"),
];

/// Starts the program anew in this process with an allocator that gives back
/// what it does not need: it takes its settings when a program starts, and from
/// nowhere but the environment. Whoever has set it up already is left alone.
///
/// For commands that pass all of a repository through large buffers on many
/// threads: it is a quarter of the memory.
pub(super) fn begin() {
    if FRUGAL
        .iter()
        .any(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut anew = Command::new(program);
        anew.args(std::env::args_os().skip(1)).envs(FRUGAL);
        // Where that fails, it goes on as it is.
        let _ = anew.exec();
    }
}
