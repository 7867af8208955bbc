//! A publisher: changes a tree and publishes it repeatedly; some publishes are killed.

use std::ffi::OsStr;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::reader::Signals;
use super::statistics::Statistics;
use crate::support::tree::{listing, noise};
use crate::support::{Tree, World};

/// Time limit of a publish: a few uploads, each with retries within its deadline.
const MAX_DURATION: Duration = Duration::from_secs(120);

/// A head that a successful publish reported, with its content.
#[derive(Debug)]
pub(super) struct PublishedHead {
    pub(super) address: String,
    pub(super) content: Vec<(Vec<u8>, String)>,
}

pub(super) struct Publisher {
    pub(super) world: Arc<World>,
    pub(super) published_heads: Arc<Mutex<Vec<PublishedHead>>>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) signals: Arc<Signals>,
    pub(super) rng: fastrand::Rng,
}

impl Publisher {
    pub(super) fn work(mut self) {
        let mut tree = Tree::new();
        for n in 0..20 {
            tree = tree.noise(&format!("d{}/f{n}", n % 4), 3_000, n);
        }
        while !self.signals.stop.load(Ordering::Relaxed) {
            let file = format!("d{}/f{}", self.rng.u8(..4), self.rng.u8(..30));
            let len = self.rng.usize(..40_000);
            tree = tree.file(file, noise(len, self.rng.u64(..)));
            let content = listing(tree.path());
            let child = self.publish(&tree);
            let killed = self.rng.u8(..4) == 0;
            let wait = match killed {
                true => Duration::from_millis(self.rng.u64(..400)),
                false => MAX_DURATION,
            };
            let output = self.statistics.timed(
                || "publish".into(),
                MAX_DURATION + Duration::from_secs(5),
                || finish(child, wait),
            );
            let address = output.and_then(|output| {
                let report: serde_json::Value = serde_json::from_slice(&output).map_err(|_| ())?;
                report["address"].as_str().map(str::to_owned).ok_or(())
            });
            match address {
                Ok(address) => {
                    self.statistics.published.fetch_add(1, Ordering::Relaxed);
                    self.published_heads
                        .lock()
                        .unwrap()
                        .push(PublishedHead { address, content });
                }
                Err(()) => {
                    _ = self
                        .statistics
                        .publish_failed
                        .fetch_add(1, Ordering::Relaxed)
                }
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

/// Its output if it succeeded in time; kills it otherwise.
fn finish(mut child: Child, wait: Duration) -> Result<Vec<u8>, ()> {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > wait {
            let _ = child.kill();
            let _ = child.wait();
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = child.wait_with_output().unwrap();
    done.status.success().then_some(done.stdout).ok_or(())
}

/// Whether a published head is readable with an empty cache.
pub(super) fn verify_published(world: &World, head: &PublishedHead) -> Result<(), String> {
    let dir = world.mount(&head.address);
    let same = listing(&dir) == head.content;
    world.unmount(&dir);
    let _ = fs::remove_dir(&dir);
    match same {
        true => Ok(()),
        false => Err(format!("{} holds something else", head.address)),
    }
}
