//! MCP servers of our own, written with rmcp. Each is usable in process over any byte stream and as a stdio program;
//! none of them knows anything of jobs, queues or the orchestrator that may call it.

pub mod code;
