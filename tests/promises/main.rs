//! What a user may rely on, one file a promise. Real parts throughout: kernel
//! mounts, HTTP to the embedded Walrus, RocksDB, git.
//!
//! One test program, so that everything is linked once.

mod analyze;
mod auth;
mod bases;
mod cache;
mod cache_faults;
mod chain;
mod chain_hostile;
mod chaos;
mod cli;
mod compact;
mod compression;
mod conformance;
mod corpora;
mod corpus;
mod cost;
mod crash;
mod daemon;
mod daemon_log;
mod devnet;
mod display;
mod documents;
mod encryption;
mod export;
mod faults;
mod folder_changes;
mod follow;
mod format;
mod fsck;
mod fsck_objects;
mod gc;
mod gc_in_use;
mod git_edge_cases;
mod history;
mod hostile;
mod hostile_memory;
mod hostile_model;
mod hostile_mounts;
mod hostile_size;
mod hostile_socket;
mod integrity;
mod keyring;
mod keys;
mod ledger;
mod lifecycle_model;
mod matrix;
mod model;
mod mount;
mod mount_table;
mod names;
mod network;
mod offline;
mod outage;
mod patches;
#[path = "../shared/planned.rs"]
mod planned;
mod policy;
mod prefetch;
mod prior;
mod privacy;
mod profiles;
#[path = "../shared/program.rs"]
mod program;
mod publish;
mod publish_from;
mod renew;
mod scale;
mod security;
mod support;
mod tiers;
mod walgit;
mod walks;
mod warm;
mod wire_faults;
