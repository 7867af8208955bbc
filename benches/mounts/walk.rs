//! A complete repository read over a remote link, compared with `git clone --depth 1`
//! through the same link.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::corpora::repositories;
use super::link::{BANDWIDTH_MBIT, Link, ROUND_TRIP};
use super::report::{Report, in_turn, seconds};
use super::world::{RemoteReader, World, shell};

const ROUNDS: usize = 7;

pub(crate) fn run(report: &mut Report) {
    for (name, repo, _keep) in repositories() {
        let world = World::new();
        world.publish(&repo, &name);
        let far = RemoteReader::from(world);
        let (world, address) = (&far.world, &far.address);
        let daemon = GitDaemon::over(repo.parent().unwrap());
        let far = Link::to(daemon.port, ROUND_TRIP, BANDWIDTH_MBIT);
        let url = format!(
            "git://127.0.0.1:{}/{}",
            far.port,
            repo.file_name().unwrap().to_str().unwrap()
        );
        let mount_and = |script: &str| {
            world.end_daemon();
            world.forget_cache();
            let took = seconds(|| {
                world.mount(address);
                shell(&script.replace("MNT", world.mountpoint().to_str().unwrap()));
            });
            world.unmount();
            took
        };
        let clone = || {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("clone");
            let script = format!("git clone -q --depth 1 {url} {}", target.display());
            seconds(|| shell(&script))
        };
        let what = |of: &str| format!("{name}: {of}, cold, 50 ms");
        let (one, other) = in_turn(
            ROUNDS,
            || mount_and("tar cf - -C MNT . | cat >/dev/null"),
            clone,
        );
        report.times(
            &what("mount and tar"),
            one,
            "git clone --depth 1",
            other,
            1.0,
        );
        let grep = || mount_and("grep -r no-such-word MNT || true");
        let (one, other) = in_turn(ROUNDS, grep, clone);
        report.times(
            &what("mount and grep -r"),
            one,
            "git clone --depth 1",
            other,
            1.0,
        );
        let first = || mount_and("ls MNT && cat MNT/README.md");
        let (one, other) = in_turn(ROUNDS, first, clone);
        report.times(
            &what("mount, ls, first cat"),
            one,
            "git clone --depth 1",
            other,
            1.0,
        );
    }
}

/// Git's own server.
struct GitDaemon {
    process: Child,
    port: u16,
}

impl GitDaemon {
    fn over(dir: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new("git")
            .args([
                "daemon",
                "--export-all",
                "--reuseaddr",
                "--listen=127.0.0.1",
            ])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", dir.display()))
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        GitDaemon { process, port }
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // A child process of it serves.
        let _ = Command::new("pkill")
            .args(["-P", &self.process.id().to_string()])
            .status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
