//! The thin server over the engine: parse, wire, serve.
//!
//! [`api`] turns HTTP into calls of a [`metamcp_core::engine::Orchestrator`] and its answers into documents; [`auth`] says who asks;
//! [`serve`] accepts connections and drains them. None of them names a concrete store or transport.

pub mod api;
pub mod auth;
pub mod cli;
pub mod config;
pub mod serve;
pub mod wire;
