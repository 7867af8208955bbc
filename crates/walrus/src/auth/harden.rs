//! What keeps the memory of this process to itself.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dump of this process is written, and no other process of the user
/// can look into its memory (root can). Where the system refuses, it goes
/// without.
pub fn harden() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // For a system that dumps all the same. What we start inherits the limit
    // and not the other.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
}
