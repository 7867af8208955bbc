//! One who publishes: a little else each time; killed now and then.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::reader::Signals;
use super::tally::Tally;
use crate::support::tree::{listing, noise};
use crate::support::{Tree, World};

/// Longest time a publish may take: a handful of uploads, each with retries
/// within its deadline.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a publish that said it succeeded has to show for ever after.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) address: String,
    pub(super) content: Vec<(Vec<u8>, String)>,
}

pub(super) struct Publisher {
    pub(super) world: Arc<World>,
    pub(super) promises: Arc<Mutex<Vec<Promise>>>,
    pub(super) tally: Arc<Tally>,
    pub(super) signals: Arc<Signals>,
    pub(super) draw: fastrand::Rng,
}

impl Publisher {
    pub(super) fn work(mut self) {
        let mut tree = Tree::new();
        for n in 0..20 {
            tree = tree.noise(&format!("d{}/f{n}", n % 4), 3_000, n);
        }
        while !self.signals.stop.load(Ordering::Relaxed) {
            let file = format!("d{}/f{}", self.draw.u8(..4), self.draw.u8(..30));
            let len = self.draw.usize(..40_000);
            tree = tree.file(file, noise(len, self.draw.u64(..)));
            let content = listing(tree.path());
            let child = self.publish(&tree);
            let killed = self.draw.u8(..4) == 0;
            let wait = match killed {
                true => Duration::from_millis(self.draw.u64(..400)),
                false => PATIENCE,
            };
            let output = self.tally.timed(
                || "publish".into(),
                PATIENCE + Duration::from_secs(5),
                || finish(child, wait),
            );
            let address = output.and_then(|output| {
                let report: serde_json::Value = serde_json::from_slice(&output).map_err(|_| ())?;
                report["address"].as_str().map(str::to_owned).ok_or(())
            });
            match address {
                Ok(address) => {
                    self.tally.published.fetch_add(1, Ordering::Relaxed);
                    self.promises
                        .lock()
                        .unwrap()
                        .push(Promise { address, content });
                }
                Err(()) => _ = self.tally.publish_failed.fetch_add(1, Ordering::Relaxed),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn publish(&self, tree: &Tree) -> Child {
        let args = [
            OsStr::new("publish"),
            tree.path().as_os_str(),
            "--name".as_ref(),
            "news".as_ref(),
            "--json".as_ref(),
        ];
        let mut command = self.world.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// What it printed, if it ended well in time; killed otherwise.
fn finish(mut child: Child, wait: Duration) -> Result<Vec<u8>, ()> {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > wait {
            let _ = child.kill();
            let _ = child.wait();
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = child.wait_with_output().unwrap();
    done.status.success().then_some(done.stdout).ok_or(())
}

/// Whether what was published is there, read by somebody who has nothing yet.
pub(super) fn keeps(world: &World, promise: &Promise) -> Result<(), String> {
    let dir = world.mount(&promise.address);
    let same = listing(&dir) == promise.content;
    world.unmount(&dir);
    let _ = fs::remove_dir(&dir);
    match same {
        true => Ok(()),
        false => Err(format!("{} holds something else", promise.address)),
    }
}
