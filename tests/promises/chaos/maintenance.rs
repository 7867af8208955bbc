//! Maintenance commands lose nothing that a name or a mount needs while the daemon
//! runs, is stopped, or is killed.
//!
//! Each step changes the state of the daemon, runs a command (or a publish during a
//! collection), resumes the daemon, and then reads every head that a name or a served
//! mount refers to from the store, not from a cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::DEFAULT_SEED;
use super::from_environment;
use crate::support::tree::noise;
use crate::support::world::signal;
use crate::support::{Tree, World};

/// Number of steps outside `make soak`.
const STEP_COUNT: usize = 30;
/// Time limit of a command in any state of the daemon.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Published names.
const NAMES: [&str; 3] = ["one", "two", "three"];

/// The state of the daemon while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daemon {
    Running,
    Stopped,
    Killed,
}

/// The action of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Publish,
    Collect,
    PublishBesideCollect,
    Renew,
    Compact,
    Mount,
    Unmount,
    ClearCache,
}

const ACTIONS: [Action; 10] = [
    Action::Publish,
    Action::Collect,
    Action::PublishBesideCollect,
    Action::Renew,
    Action::Mount,
    Action::Compact,
    Action::Collect,
    Action::Unmount,
    Action::Mount,
    Action::ClearCache,
];

struct Maintenance {
    world: World,
    rng: fastrand::Rng,
    trees: BTreeMap<&'static str, Tree>,
    /// Mountpoints that a daemon serves, and the address that each shows.
    mounts: Vec<(PathBuf, String)>,
    done: BTreeMap<(Action, bool), usize>,
    states: [usize; 3],
}

#[test]
fn maintenance_loses_nothing_while_the_daemon_is_stopped_or_killed() {
    let seed = from_environment("WALGIT_FS_CHAOS_SEED").unwrap_or(DEFAULT_SEED);
    let minutes = from_environment("WALGIT_FS_SOAK_MINUTES");
    println!("chaos: maintenance of WALGIT_FS_CHAOS_SEED={seed}");
    let until = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));
    let mut maintenance = Maintenance::new(seed);
    let mut steps = 0;
    while steps < STEP_COUNT || Instant::now() < until {
        maintenance.step(steps);
        steps += 1;
    }
    println!(
        "chaos: maintenance: {steps} steps, daemon running, stopped, killed {:?}; \
         actions that succeeded or failed {:?}; nothing lost",
        maintenance.states, maintenance.done
    );
}

impl Maintenance {
    fn new(seed: u64) -> Self {
        // Unreferenced heads are collected immediately, so that a needed but
        // unprotected head is lost.
        let world = World::new().config("[retention]\ndefault_days = 0\nrules = []\n");
        let mut trees = BTreeMap::new();
        for (number, name) in NAMES.into_iter().enumerate() {
            let tree = Tree::new()
                .noise("large", 200_000, number as u64)
                .file("d/text", "text\n".repeat(2_000));
            world.publish(tree.path(), name);
            trees.insert(name, tree);
        }
        Maintenance {
            world,
            rng: fastrand::Rng::with_seed(seed),
            trees,
            mounts: Vec::new(),
            done: BTreeMap::new(),
            states: [0; 3],
        }
    }

    fn step(&mut self, number: usize) {
        // Actions alternate, so that each one occurs.
        let action = ACTIONS[number % ACTIONS.len()];
        let daemon = self.world.daemon();
        let state = match (daemon, self.rng.u8(..3)) {
            (None, _) | (_, 0) => Daemon::Running,
            (_, 1) => Daemon::Stopped,
            _ => Daemon::Killed,
        };
        self.states[state as usize] += 1;
        match (state, daemon) {
            (Daemon::Stopped, Some(pid)) => signal(pid, Signal::STOP),
            (Daemon::Killed, Some(_)) => self.world.crash(),
            _ => {}
        }
        let succeeded = self.act(action);
        *self.done.entry((action, succeeded)).or_default() += 1;
        match (state, daemon) {
            (Daemon::Stopped, Some(pid)) => signal(pid, Signal::CONT),
            // The head of a killed daemon is protected for the grace period only.
            (Daemon::Killed, Some(_)) => {
                self.world.run(&["unmount", "--all"]);
                self.mounts.clear();
            }
            _ => {}
        }
        assert!(
            succeeded || state != Daemon::Running,
            "step {number}: {action:?} failed with a running daemon"
        );
        self.verify(number, action, state);
    }

    /// Whether it succeeded. It may fail while the daemon is stopped.
    fn act(&mut self, action: Action) -> bool {
        let name = NAMES[self.rng.usize(..NAMES.len())];
        match action {
            Action::Publish => {
                let child = self.publish(name);
                finish(child, "publish")
            }
            Action::PublishBesideCollect => {
                let publish = self.publish(name);
                let collect = self.spawn(&["gc", "--grace", "0s"]);
                let collected = finish(collect, "gc");
                finish(publish, "publish") && collected
            }
            Action::Collect => self.command(&["gc", "--grace", "0s"]),
            Action::Renew => self.command(&["renew"]),
            Action::Compact => self.command(&["compact", name, "--force"]),
            Action::ClearCache => self.command(&["cache", "clear"]),
            Action::Mount => {
                let dir = self.world.mountpoint();
                let mounted = self.command(&["mount", name, dir.to_str().unwrap()]);
                if mounted {
                    let address = self.address(name);
                    self.mounts.push((dir, address));
                }
                mounted
            }
            Action::Unmount => match self.mounts.pop() {
                Some((dir, _)) => self.command(&["unmount", "--lazy", dir.to_str().unwrap()]),
                None => true,
            },
        }
    }

    fn publish(&mut self, name: &'static str) -> Child {
        let len = self.rng.usize(1..60_000);
        let (file, seed) = (format!("d/f{}", self.rng.u8(..8)), self.rng.u64(..));
        let tree = self.trees.remove(name).unwrap();
        let tree = tree.file(file, noise(len, seed));
        let path = tree.path().to_str().unwrap().to_owned();
        self.trees.insert(name, tree);
        self.spawn(&["publish", &path, "--name", name])
    }

    fn command(&self, args: &[&str]) -> bool {
        finish(self.spawn(args), args[0])
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command: Command = self.world.command(args);
        // No pipe, which a daemon started by a mount could keep open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn address(&self, name: &str) -> String {
        let refs = self.world.json(&["refs"]);
        let all = refs["refs"].as_array().or(refs.as_array()).unwrap();
        let one = all.iter().find(|one| one["name"] == name).unwrap();
        one["address"].as_str().unwrap().to_owned()
    }

    /// Every head that a name or a mount refers to is intact in the store.
    fn verify(&self, number: usize, action: Action, state: Daemon) {
        let mounted = self.mounts.iter().map(|(_, address)| address.as_str());
        for head in NAMES.into_iter().chain(mounted) {
            let done = self.world.try_run(&["fsck", "--remote", head]);
            assert!(
                done.status.success(),
                "step {number}, {action:?} with the daemon {state:?}: {head} is incomplete: {done:?}"
            );
        }
    }
}

/// Whether a command succeeded; it must end in time.
fn finish(mut child: Child, what: &str) -> bool {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        assert!(
            started.elapsed() < COMMAND_TIMEOUT,
            "{what} did not end in time"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
