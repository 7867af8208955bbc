#![forbid(unsafe_code)]
#![allow(missing_docs)]
pub mod auth;
pub mod cache;
pub mod chunk;
pub mod config;
pub mod daemon;
pub mod fuse;
pub mod lifecycle;
pub mod net;
pub mod prefetch;
pub mod publish;
pub mod repo;
pub mod walrus;
