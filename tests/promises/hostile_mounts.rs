//! Generated hostile repositories, used through the program: one daemon mounts each,
//! `ls`, `cat`, `log`, `fsck` and `export` run with limits of memory and time, and
//! another mount must keep responding.
//!
//! A few dozen seeds by default. `WALGIT_FS_HOSTILE_MOUNTS` sets the number,
//! `WALGIT_FS_HOSTILE_SEED` the first seed; `make fuzz-repositories` runs more.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::hostile_model::generator::generate;
use crate::support::world::signal;
use crate::support::{SharedDaemon, raw_nodes};

/// Time limit of a command, on a loaded machine and without optimization; kernel
/// requests have their own deadline.
const DEADLINE: Duration = Duration::from_secs(60);
/// Address space of a command, in KiB.
const ADDRESS_SPACE_KIB: u64 = 2_000_000;

/// Lists the tree, and reads the start of some files. Output is truncated, because an
/// exponential tree is endless.
const LOOK_SCRIPT: &str = r#"
ls -laR "$0" 2>&1 | head -n 400
ls -la "$0"/.walgit "$0"/.walgit/* 2>&1 | head -n 400
cat "$0"/.walgit/commit "$0"/.walgit/notices "$0"/.walgit/status 2>&1
for commit in "$0"/.walgit/commits/*; do ls -la "$commit"; done 2>&1 | head -n 100
find "$0" -type f 2>/dev/null | head -n 10 | while read -r file; do
    cat -- "$file" 2>&1 | head -c 200000
done
find "$0" -type l 2>/dev/null | head -n 10 | xargs -d '\n' readlink --
true"#;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a command, which must end within the deadline.
#[track_caller]
fn within_deadline(what: &str, mut command: Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id() as i32;
    let (ended, watch) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let is_late = watch.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            signal(pid, Signal::KILL);
        }
        is_late
    });
    let done = child.wait_with_output().unwrap();
    drop(ended);
    assert!(!watchdog.join().unwrap(), "{what} took over {DEADLINE:?}");
    let output = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.code().is_some(),
        "{what}: {}: {output}",
        done.status
    );
    assert!(!output.contains("panicked"), "{what}: {output}");
    done
}

#[test]
fn generated_hostile_mounts_do_not_affect_other_mounts() {
    let count = number("WALGIT_FS_HOSTILE_MOUNTS").unwrap_or(24);
    let first = number("WALGIT_FS_HOSTILE_SEED").unwrap_or(1);
    let shared = SharedDaemon::new().with_max_duration(DEADLINE * 6 * count as u32);
    let world = &shared.world;
    let exported = world.path().join("exported");
    let (mut mounted, mut slowest) = (0, (Duration::ZERO, 0));
    for seed in first..first + count {
        let generated = generate(seed);
        let id = raw_nodes::put_blob(world.path(), generated.bytes);
        let address = format!("walrus://{id}?root={}", generated.root);
        let started = Instant::now();
        let run = |what: &str, args: &[&OsStr]| {
            let limit = format!("ulimit -v {ADDRESS_SPACE_KIB}");
            let command = world.command_after(&limit, args);
            within_deadline(&format!("{what} of seed {seed}"), command)
        };
        let dir = world.mountpoint();
        let mount = [OsStr::new("mount"), address.as_ref(), dir.as_os_str()];
        if run("mount", &mount).status.success() {
            mounted += 1;
            inspect(seed, &dir);
            let unmount = [OsStr::new("unmount"), dir.as_os_str()];
            let done = run("unmount", &unmount);
            assert!(done.status.success(), "unmount of seed {seed}: {done:?}");
        }
        run("log", &[OsStr::new("log"), address.as_ref()]);
        run("fsck", &[OsStr::new("fsck"), address.as_ref()]);
        let export = [OsStr::new("export"), "--bare".as_ref(), address.as_ref()];
        run("export", &[&export[..], &[exported.as_os_str()]].concat());
        if exported.exists() {
            std::fs::remove_dir_all(&exported).unwrap();
        }
        slowest = slowest.max((started.elapsed(), seed));
        shared.assert_healthy();
    }
    println!(
        "{count} repositories from seed {first}, {mounted} of them mounted; the daemon took at \
         most {} MiB, the slowest {:.1} s (seed {})",
        shared.peak() >> 10,
        slowest.0.as_secs_f64(),
        slowest.1
    );
}

/// Runs `ls -R` and `cat` up to a limit.
fn inspect(seed: u64, dir: &Path) {
    let mut shell = Command::new("sh");
    shell.args(["-c", LOOK_SCRIPT]).arg(dir);
    within_deadline(&format!("looking at seed {seed}"), shell);
}
