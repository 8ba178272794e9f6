//! Every version this repository pins outside `Cargo.lock`, in one place. Raising one here makes the next `cargo xtask tools`
//! install it again. It holds facts only; `tools.rs` does the installing.

use crate::debian::Server;

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

/// PyPI packages of an S3 server for the tests of object storage, as (name, exact version), in a virtual environment of their own:
/// `moto[server]` would bring a quarter of a gigabyte for other services.
pub(crate) const S3: &[(&str, &str)] = &[("flask", "3.1.3"), ("flask-cors", "6.0.5"), ("moto[s3]", "5.2.5")];

/// The program they must have brought.
pub(crate) const S3_PROGRAM: &str = "moto_server";

/// Redis, for the tests of the stores: standalone, under Sentinels and as a Cluster.
pub(crate) const REDIS: Server = Server {
    program: "redis-server",
    beside: &["redis-cli"],
    version_min: (7, 0),
    package: "redis-server",
    packages: &["redis-server", "redis-tools"],
    elsewhere: "install it from redis.io or your packages (macOS: brew install redis; \
                Fedora: dnf install valkey-compat-redis)",
};

/// PostgreSQL, for the tests of the stores: alone, and with a replica.
pub(crate) const POSTGRES: Server = Server {
    program: "postgres",
    beside: &["initdb", "pg_basebackup", "psql"],
    version_min: (15, 0),
    package: "postgresql",
    packages: &["postgresql-{major}", "postgresql-client-{major}"],
    elsewhere: "install it from postgresql.org or your packages (macOS: brew install postgresql@17; \
                Fedora: dnf install postgresql-server)",
};

/// Oldest Node that runs the npm servers.
pub(crate) const NODE_MAJOR_MIN: u32 = 20;

/// Oldest Python (3.x) that runs the PyPI servers.
pub(crate) const PYTHON_MINOR_MIN: u32 = 10;

/// cargo-nextest to install when the machine has none; any version already there will do.
pub(crate) const NEXTEST: &str = "0.9.151";

/// cargo-deny, exactly: another version may judge the same tree differently.
pub(crate) const CARGO_DENY: &str = "0.20.2";
