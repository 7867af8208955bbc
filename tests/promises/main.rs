//! Promises to users, one file per topic. All components are real: kernel mounts, HTTP
//! to the embedded Walrus, RocksDB, git.
//!
//! A single test program, so that everything is linked once.

mod analyze;
mod auth;
mod cache;
mod cache_faults;
mod chaos;
mod cli;
mod co_change_prior;
mod compact;
mod compression;
mod conformance;
mod cost;
mod crash;
mod daemon;
mod daemon_log;
mod devnet;
mod devnet_faults;
mod display;
mod document_links;
mod encryption;
mod export;
mod folder_changes;
mod follow;
mod format;
mod fsck;
mod fsck_objects;
mod fuzz_corpus;
mod gc;
mod gc_in_use;
mod git_edge_cases;
mod history;
mod hostile_memory;
mod hostile_model;
mod hostile_mounts;
mod hostile_repository;
mod hostile_size;
mod hostile_socket;
mod hostile_sui_node;
mod http_faults;
mod integrity;
mod keyring;
mod keys;
mod ledger;
mod lifecycle_model;
mod manifests;
mod matrix;
mod mount;
mod mount_model;
mod mount_table;
mod names;
mod network;
mod offline;
mod outage;
mod patch_bases;
mod patches;
mod prefetch;
mod privacy;
mod profiles;
#[path = "../shared/program.rs"]
mod program;
mod publish;
mod publish_from;
mod real_repositories;
mod renew;
mod retention_policy;
mod scale;
mod security_document;
mod sui_chain;
mod support;
#[path = "../shared/synthetic_repository.rs"]
mod synthetic_repository;
mod tiers;
mod walk_prefetch;
mod warm_and_pin;
