//! What a user may rely on, one file a promise. Real parts throughout: kernel
//! mounts, HTTP to the embedded Walrus, RocksDB, git.
//!
//! One test program, so that everything is linked once.

mod analyze;
mod auth;
mod patch_bases;
mod cache;
mod cache_faults;
mod sui_chain;
mod hostile_sui_node;
mod chaos;
mod cli;
mod compact;
mod compression;
mod conformance;
mod real_repositories;
mod fuzz_corpus;
mod cost;
mod crash;
mod daemon;
mod daemon_log;
mod devnet;
mod display;
mod document_links;
mod encryption;
mod export;
mod devnet_faults;
mod folder_changes;
mod follow;
mod format;
mod fsck;
mod fsck_objects;
mod gc;
mod gc_in_use;
mod git_edge_cases;
mod history;
mod hostile_repository;
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
mod mount_model;
mod mount;
mod mount_table;
mod names;
mod network;
mod offline;
mod outage;
mod patches;
#[path = "../shared/synthetic_repository.rs"]
mod synthetic_repository;
mod retention_policy;
mod prefetch;
mod co_change_prior;
mod privacy;
mod profiles;
#[path = "../shared/program.rs"]
mod program;
mod publish;
mod publish_from;
mod renew;
mod scale;
mod security_document;
mod support;
mod tiers;
mod manifests;
mod walk_prefetch;
mod warm_and_pin;
mod http_faults;
