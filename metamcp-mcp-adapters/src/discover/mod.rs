//! Where servers come from: the `mcpServers` JSON that MCP clients share, read into [`ServerSpec`]s.
//!
//! It reads what other programs wrote: fields it does not know are left to those programs, fields it knows must be right.

mod spec;
mod vars;

use std::fmt;

use serde_json::{Map, Value};
pub use spec::{ServerSpec, Way};

/// Servers of one file.
const SERVERS_MAX: usize = 1_000;

/// A file or an entry that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {mend}")]
pub struct InvalidSpec {
    /// Where, such as `mcpServers.git.command`.
    pub place: String,
    /// What to change.
    pub mend: String,
}

impl InvalidSpec {
    fn new(place: impl fmt::Display, mend: impl fmt::Display) -> Self {
        Self { place: place.to_string(), mend: mend.to_string() }
    }
}

/// Reads the servers of an `mcpServers` file, as Claude Desktop, Cursor and many others write it; VS Code's `servers` too. By name.
///
/// `${NAME}`, `${env:NAME}` and `${NAME:-default}` in commands, arguments, environment, addresses and headers are what `env` says.
///
/// ```
/// use metamcp_mcp_adapters::discover::{Way, parse_mcp_servers};
///
/// let text = r#"{ "mcpServers": {
///     "git": { "command": "uvx", "args": ["mcp-server-git"], "lane": "heavy" },
///     "docs": { "url": "https://docs.example/mcp", "headers": { "Authorization": "Bearer ${DOCS_TOKEN}" } }
/// } }"#;
/// let servers = parse_mcp_servers(text, &|name| (name == "DOCS_TOKEN").then(|| "s3cret".to_owned()))?;
/// assert_eq!(servers[0].name.as_str(), "docs");
/// assert!(matches!(servers[1].way, Way::Stdio { .. }));
/// assert!(!format!("{servers:?}").contains("s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first thing that is wrong, with server and field. A disabled server is read but its variables need not exist.
pub fn parse_mcp_servers(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Vec<ServerSpec>, InvalidSpec> {
    let file: Value =
        serde_json::from_str(text).map_err(|e| InvalidSpec::new("mcpServers", format_args!("not JSON: {e}")))?;
    let found = ["mcpServers", "servers"].into_iter().find_map(|key| Some((key, file.get(key)?)));
    let Some((key, servers)) = found else {
        return Err(InvalidSpec::new("mcpServers", "is missing; it maps names to servers"));
    };
    let servers: &Map<String, Value> =
        servers.as_object().ok_or_else(|| InvalidSpec::new(key, "must be an object that maps names to servers"))?;
    if servers.len() > SERVERS_MAX {
        return Err(InvalidSpec::new(
            key,
            format_args!("{} servers are over the bound of {SERVERS_MAX}", servers.len()),
        ));
    }
    let mut specs: Vec<ServerSpec> =
        servers.iter().map(|(name, entry)| ServerSpec::read(key, name, entry, env)).collect::<Result<_, _>>()?;
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(specs)
}
