//! The exit code of each command under each condition.

use super::conditions::Condition::{self, *};

/// Commands, and the conditions under which they fail (exit code 1). Under all others
/// they succeed (exit code 0).
const FAILURES: &[(&str, &[Condition])] = &[
    (
        "mount",
        &[StoppedDaemon, FullDisk, ReadOnlyHome, BrokenConfig],
    ),
    ("status", &[KilledDaemon, StoppedDaemon]),
    (
        "doctor",
        &[
            KilledDaemon,
            StoppedDaemon,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    ("refs", &[BrokenConfig]),
    ("refs NAME", &[NoNetwork, SilentNetwork, BrokenConfig]),
    ("log", &[NoNetwork, SilentNetwork, BrokenConfig]),
    ("fsck", &[NoNetwork, SilentNetwork, BrokenConfig]),
    (
        "export",
        &[
            FullDisk,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    ("cost NAME", &[NoNetwork, SilentNetwork, BrokenConfig]),
    ("cost PATH", &[FullDisk, ReadOnlyHome, BrokenConfig]),
    ("debug explain", &[BrokenConfig]),
    ("cache verify", &[StoppedDaemon, ReadOnlyHome, BrokenConfig]),
    (
        "cache warm",
        &[
            NoDaemon,
            KilledDaemon,
            StoppedDaemon,
            OtherEnvironment,
            ReadOnlyHome,
            BrokenConfig,
        ],
    ),
    (
        "cache pin",
        &[
            NoDaemon,
            KilledDaemon,
            StoppedDaemon,
            OtherEnvironment,
            FullDisk,
            ReadOnlyHome,
            BrokenConfig,
        ],
    ),
    ("cache pins", &[StoppedDaemon, ReadOnlyHome, BrokenConfig]),
    (
        "prefetch export",
        &[
            NoDaemon,
            KilledDaemon,
            StoppedDaemon,
            OtherEnvironment,
            FullDisk,
            ReadOnlyHome,
            BrokenConfig,
        ],
    ),
    (
        "prefetch import",
        &[
            NoDaemon,
            KilledDaemon,
            StoppedDaemon,
            OtherEnvironment,
            ReadOnlyHome,
            BrokenConfig,
        ],
    ),
    ("key list", &[BrokenConfig]),
    ("key show", &[BrokenConfig]),
    ("key add", &[FullDisk, ReadOnlyHome, BrokenConfig]),
    ("key remove", &[FullDisk, ReadOnlyHome, BrokenConfig]),
    ("failures", &[BrokenConfig]),
    ("whoami", &[BrokenConfig]),
    ("login", ALL_CONDITIONS),
    ("logout", &[ReadOnlyHome, BrokenConfig]),
    ("policy show", &[BrokenConfig]),
    ("policy check", &[BrokenConfig]),
    ("policy explain", &[BrokenConfig]),
    ("ledger", &[BrokenConfig]),
    (
        "publish",
        &[
            FullDisk,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    (
        "publish again",
        &[
            FullDisk,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    (
        "refs --set",
        &[
            FullDisk,
            ReadOnlyHome,
            BrokenConfig,
            NoNetwork,
            SilentNetwork,
        ],
    ),
    (
        "refs --remove",
        &[
            FullDisk,
            ReadOnlyHome,
            BrokenConfig,
            NoNetwork,
            SilentNetwork,
        ],
    ),
    (
        "renew",
        &[
            FullDisk,
            ReadOnlyHome,
            BrokenConfig,
            NoNetwork,
            SilentNetwork,
        ],
    ),
    (
        "renew --dry-run",
        &[ReadOnlyHome, BrokenConfig, NoNetwork, SilentNetwork],
    ),
    ("gc --dry-run", &[ReadOnlyHome, BrokenConfig]),
    ("gc", &[FullDisk, ReadOnlyHome, BrokenConfig]),
    (
        "compact",
        &[
            FullDisk,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    (
        "rebuild-ledger",
        &[ReadOnlyHome, NoNetwork, SilentNetwork, BrokenConfig],
    ),
    ("debug epoch", &[NoNetwork, SilentNetwork, BrokenConfig]),
    (
        "debug epoch --advance",
        &[
            FullDisk,
            ReadOnlyHome,
            NoNetwork,
            SilentNetwork,
            BrokenConfig,
        ],
    ),
    (
        "cache unpin",
        &[
            NoDaemon,
            KilledDaemon,
            StoppedDaemon,
            OtherEnvironment,
            ReadOnlyHome,
            BrokenConfig,
        ],
    ),
    ("cache clear", &[StoppedDaemon, ReadOnlyHome, BrokenConfig]),
    ("unmount", &[NoDaemon, ReadOnlyHome]),
    ("unmount --lazy", &[NoDaemon, ReadOnlyHome]),
    ("daemon status", &[StoppedDaemon]),
];

/// Commands that always fail: `local` and a plain server require no sign-in, and safety
/// limits of `gc` and `renew` are never overridden.
const ALL_CONDITIONS: &[Condition] = &[
    NoDaemon,
    KilledDaemon,
    StoppedDaemon,
    OtherEnvironment,
    FullDisk,
    FewDescriptors,
    ReadOnlyHome,
    NoNetwork,
    SilentNetwork,
    BrokenConfig,
];

/// The exit code of a command under a condition.
pub(super) fn code(command: &str, condition: Condition) -> i32 {
    let fails = FAILURES.iter().find(|(name, _)| *name == command);
    i32::from(fails.is_some_and(|(_, conditions)| conditions.contains(&condition)))
}
