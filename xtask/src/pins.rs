//! Every version this repository pins outside `Cargo.lock`, in one place. Raising one here makes the next `cargo xtask tools`
//! install it again. It holds facts only; `tools.rs` does the installing.

/// npm packages of real MCP servers the tests and the demo talk to, as (name, exact version).
pub(crate) const NPM: &[(&str, &str)] = &[
    ("@modelcontextprotocol/server-everything", "2026.8.31"),
    ("@modelcontextprotocol/server-filesystem", "2026.8.31"),
    ("@modelcontextprotocol/server-memory", "2026.8.31"),
];

/// Programs those npm packages must have put into `node_modules/.bin`.
pub(crate) const NPM_PROGRAMS: &[&str] = &["mcp-server-everything", "mcp-server-filesystem", "mcp-server-memory"];

/// PyPI packages of real MCP servers, as (name, exact version); each brings a program of its own name.
pub(crate) const PYPI: &[(&str, &str)] = &[("mcp-server-git", "2026.10.19"), ("mcp-server-time", "2026.10.19")];

/// Oldest Node that runs the npm servers.
pub(crate) const NODE_MAJOR_MIN: u32 = 20;

/// Oldest Python (3.x) that runs the PyPI servers.
pub(crate) const PYTHON_MINOR_MIN: u32 = 10;

/// cargo-nextest to install when the machine has none; any version already there will do.
pub(crate) const NEXTEST: &str = "0.9.151";

/// cargo-deny, exactly: another version may judge the same tree differently.
pub(crate) const CARGO_DENY: &str = "0.20.2";
