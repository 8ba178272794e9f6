//! Core of MetaMCP: **a task is a need, a job is a promise, a result is a pointer.**
//!
//! A caller states a need in words with an input. The matcher turns it into a ranked route over the tools of many MCP servers; the queue
//! makes it a durable job; a worker calls the tool; the result is stored and only its pointer travels.
//!
//! ```text
//!  request ─▶ auth ─▶ task ─▶ matching ─▶ queue ─▶ engine ─▶ transport ─▶ result (pointer) ─▶ event
//! ```
//!
//! # Quick start
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use metamcp_core::{
//!     auth::Principal, engine::Orchestrator, id::ServerName, matching::Annotations, task::Task,
//!     transport::{LocalTools, ToolError},
//! };
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let name = ServerName::new("clock")?;
//! let tools = LocalTools::new(name.clone()).tool(
//!     "year",
//!     "tells the current year",
//!     json!({ "type": "object" }),
//!     Annotations { read_only_hint: Some(true), ..Annotations::default() },
//!     async |_arguments, _progress| Ok::<_, ToolError>(json!({ "year": 2026 })),
//! );
//! let orchestrator = Orchestrator::builder().server(name, Arc::new(tools)).build();
//! let worker = orchestrator.worker(Default::default());
//! let who = Principal::local();
//!
//! let submitted = orchestrator.submit(&who, Task::new("which year is it")).await?;
//! let job = orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(10)).await?;
//! let pointer = job.head.result.expect("the task is done");
//! let body = orchestrator.result(&who, &pointer, None).await?;
//! assert!(std::str::from_utf8(&body.bytes)?.contains("2026"));
//! worker.drain(Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is pluggable
//!
//! | trait | what it stands for | built in |
//! |---|---|---|
//! | [`transport::McpTransport`] | one connected MCP server | [`transport::LocalTools`]; stdio and HTTP in `metamcp-mcp-adapters` |
//! | [`matching::CapabilityMatcher`] | from a need to a ranked route | [`matching::LexicalMatcher`] |
//! | [`queue::JobStore`] | the durable queue | [`queue::MemoryJobStore`]; a data directory in `metamcp-mcp-adapters` |
//! | [`result::ResultStore`] | result bodies behind pointers | [`result::MemoryResultStore`]; files in `metamcp-mcp-adapters` |
//!
//! Beside them, small: [`transport::Connector`], [`event::EventBus`], [`time::Clock`], [`entropy::Entropy`].
//!
//! # Features
//!
//! None is on by default. `testing` brings the behaviour suites that every implementation of a trait passes, a manual clock and a scripted
//! transport.
//!
//! # Cancel safety
//!
//! Every method of [`engine::Orchestrator`] and of the stores may be dropped; what it had begun is then done or not done, and asking again
//! tells. A dropped [`engine::Worker`] gives its jobs back in the background; [`engine::Worker::drain`] waits for that.
//!
//! # Stability
//!
//! Before 1.0 minor versions may break the Rust API. What is stored is versioned apart from it and stays readable. Not promised: the text of
//! messages, scores and reasons of matchers, and the order of events of different jobs.

pub mod admin;
pub mod auth;
pub mod coalesce;
pub mod engine;
pub mod entropy;
pub mod error;
pub mod event;
pub mod id;
pub mod json;
pub mod matching;
pub mod pointer;
pub mod queue;
pub mod record;
pub mod registry;
pub mod result;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod transport;
