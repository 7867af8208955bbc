//! The map of this house (being built).

pub mod auth;
pub mod cache;
pub mod chunk;
pub mod config;
pub mod net;
pub mod repo;
pub mod walrus;
