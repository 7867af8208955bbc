//! The commands, with their arguments.

/// A command of the matrix. In `arguments`, `{word}` is replaced by [`super::environment`].
#[derive(Clone, Copy)]
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
}

const fn command(name: &'static str, arguments: &'static str) -> Command {
    Command { name, arguments }
}

/// All commands, those that read first.
pub(super) const COMMANDS: &[Command] = &[
    command("mount", "mount proj {other}"),
    command("status", "status"),
    command("doctor", "doctor"),
    command("refs", "refs"),
    command("refs NAME", "refs proj"),
    command("log", "log proj"),
    command("fsck", "fsck proj"),
    command("export", "export proj {fresh}"),
    command("cost NAME", "cost proj"),
    command("cost PATH", "cost {source}"),
    command("debug analyze", "debug analyze {source}"),
    command("debug explain", "debug explain {source}/a"),
    command("cache verify", "cache verify"),
    command("cache warm", "cache warm {mounted}"),
    command("cache pin", "cache pin {mounted}/d"),
    command("cache pins", "cache pins"),
    command("prefetch export", "prefetch export {mounted} -o {fresh}"),
    command("prefetch import", "prefetch import {profile} {mounted}"),
    command("debug replay", "debug replay {trace}"),
    command("key list", "key list"),
    command("key show", "key show kept"),
    command("key add", "key add spare {key}"),
    command("key remove", "key remove spare"),
    command("failures", "failures"),
    command("whoami", "whoami"),
    command("login", "login --api-key-file {secret}"),
    command("logout", "logout"),
    command("policy show", "policy show"),
    command("policy check", "policy check"),
    command("policy explain", "policy explain a"),
    command("ledger", "ledger"),
    command("debug blob-id", "debug blob-id {source}/a"),
    command("completions", "completions bash"),
    command("publish", "publish {source} --name {name}"),
    command("publish again", "publish {source} --name proj"),
    command("refs --set", "refs --set copy {address}"),
    command("refs --remove", "refs --remove copy"),
    command("renew", "renew"),
    command("renew --dry-run", "renew --dry-run"),
    command("gc --dry-run", "gc --dry-run"),
    command("gc", "gc --grace 0s"),
    command("compact", "compact proj --force"),
    command("rebuild-ledger", "doctor --rebuild-ledger"),
    command("debug epoch", "debug epoch"),
    command("debug epoch --advance", "debug epoch --advance 1"),
    command("cache unpin", "cache unpin {mounted}/d"),
    command("cache clear", "cache clear"),
    command("unmount", "unmount {mounted}"),
    command("unmount --lazy", "unmount --lazy {mounted}"),
    command("daemon status", "daemon status"),
    command("daemon stop", "daemon stop"),
];
