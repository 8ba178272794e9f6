//! One configured server: how it is reached, and what configuration says of it. Secrets in it are never shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
};

use metamcp_core::{
    id::{Lane, NAME_BYTES_MAX, ServerName, TenantId},
    matching::{GroupTool, Locality, ServerTerms},
    task::{Labels, Resources},
    transport::{Connector, TransportError},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::{Host, Url};

use super::{InvalidSpec, vars::expand};
use crate::upstream::{Handover, HttpConnector, StdioConnector, redact};

/// How a server is reached.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// It is started as a child process.
    Stdio {
        /// The program, a path or a name on `PATH`; run by no shell.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Positions of the arguments that came from variables; these are never shown.
        secret_args: BTreeSet<usize>,
        /// Its environment; values are never shown.
        env: BTreeMap<String, String>,
        /// Its directory; `None`: ours.
        cwd: Option<PathBuf>,
    },
    /// It is at an address.
    Http {
        /// The address of its MCP endpoint; credentials and query are never shown.
        url: String,
        /// Headers of every request; values are never shown.
        headers: BTreeMap<String, String>,
    },
}

impl Way {
    /// Where a server runs that is reached this way, as far as the way tells.
    fn locality(&self) -> Locality {
        match self {
            Self::Stdio { .. } => Locality::Local,
            Self::Http { url, .. } => match Url::parse(url).ok().as_ref().and_then(Url::host) {
                Some(Host::Ipv4(ip)) if ip.is_loopback() => Locality::Local,
                Some(Host::Ipv6(ip)) if ip.is_loopback() => Locality::Local,
                Some(Host::Domain("localhost")) => Locality::Local,
                _ => Locality::Remote,
            },
        }
    }
}

/// One configured server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServerSpec {
    /// What it is called.
    pub name: ServerName,
    /// How it is reached.
    pub way: Way,
    /// What it is for; a need may match it. Empty: what the server says of itself.
    pub description: String,
    /// The lane its jobs go to; `None`: the default lane.
    pub lane: Option<Lane>,
    /// Most of its jobs that are served at a time, over all workers of a store; `None`: no bound.
    pub concurrency: Option<u32>,
    /// Words that a need may match.
    pub labels: Labels,
    /// What it has.
    pub resources: Resources,
    /// The group of servers that do the same by tools of the same names; `None`: none.
    pub equivalent: Option<String>,
    /// What its tools are in that group, by their own names.
    pub equivalent_tools: BTreeMap<String, GroupTool>,
    /// What a call costs, in the operator's unit.
    pub price: f64,
    /// Where it runs; `None`: a child process and an address of this machine are local, others remote.
    pub locality: Option<Locality>,
    /// The tenants that may use it; `None`: all.
    pub tenants: Option<BTreeSet<TenantId>>,
    /// It is kept in the file but not used.
    pub disabled: bool,
}

impl ServerSpec {
    /// A server that is reached this way, without terms.
    #[must_use]
    pub fn new(name: ServerName, way: Way) -> Self {
        Self {
            name,
            way,
            description: String::new(),
            lane: None,
            concurrency: None,
            labels: Labels::new(),
            resources: Resources::default(),
            equivalent: None,
            equivalent_tools: BTreeMap::new(),
            price: 0.0,
            locality: None,
            tenants: None,
            disabled: false,
        }
    }

    /// Reads one entry; `section` is where it stands, for errors.
    ///
    /// Known fields: `command`, `args`, `env`, `cwd` or `url`, `headers`; `type`, `disabled`, and ours: `description`, `lane`, `concurrency`, `labels`,
    /// `resources`, `equivalent`, `equivalent_tools`, `price`, `locality`, `tenants`. Others are left to whom they belong.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn read(
        section: &str,
        name: &str,
        entry: &Value,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidSpec> {
        let place = format!("{section}.{name}");
        let server = ServerName::new(name).map_err(|e| InvalidSpec::new(&place, e))?;
        let fields = entry.as_object().ok_or_else(|| InvalidSpec::new(&place, "must be an object"))?;
        let entry = Entry { place, fields, env };
        let disabled = entry.field("disabled")?.unwrap_or(false) || !entry.field("enabled")?.unwrap_or(true);
        let entry = if disabled { Entry { env: &|name| Some(format!("${{{name}}}")), ..entry } } else { entry };
        Ok(Self {
            way: entry.way()?,
            name: server,
            description: entry.field("description")?.unwrap_or_default(),
            lane: entry.field("lane")?,
            concurrency: entry.field::<NonZeroU32>("concurrency")?.map(NonZeroU32::get),
            labels: entry.field("labels")?.unwrap_or_default(),
            resources: entry.field("resources")?.unwrap_or_default(),
            equivalent: entry.group()?,
            equivalent_tools: entry.field("equivalent_tools")?.unwrap_or_default(),
            price: entry.price()?,
            locality: entry.field("locality")?,
            tenants: entry.field("tenants")?,
            disabled,
        })
    }

    /// What makes its transport. `launcher` is for child processes: see [`StdioConnector::launcher`]; `handover` for fleets of processes.
    ///
    /// # Errors
    /// When address or headers cannot be used.
    pub fn connector(
        &self,
        launcher: Option<&[OsString]>,
        handover: Option<&Arc<Handover>>,
    ) -> Result<Arc<dyn Connector>, TransportError> {
        match &self.way {
            Way::Stdio { command, args, secret_args, env, cwd } => {
                let mut connector = StdioConnector::new(self.name.clone(), command)
                    .args(args.iter().map(String::as_str))
                    .secret_args(secret_args.iter().copied())
                    .envs(env.iter().map(|(name, value)| (name.clone(), value.clone())));
                if let Some(cwd) = cwd {
                    connector = connector.cwd(cwd);
                }
                if let Some(launcher) = launcher {
                    connector = connector.launcher(launcher.iter().cloned());
                }
                if let Some(handover) = handover {
                    connector = connector.handover(Arc::clone(handover));
                }
                Ok(Arc::new(connector))
            }
            Way::Http { url, headers } => {
                let connector = HttpConnector::new(self.name.clone(), url)?;
                let mut connector =
                    headers.iter().try_fold(connector, |connector, (name, value)| connector.header(name, value))?;
                if let Some(handover) = handover {
                    connector = connector.handover(Arc::clone(handover));
                }
                Ok(Arc::new(connector))
            }
        }
    }

    /// What configuration says of its tools.
    #[must_use]
    pub fn terms(&self) -> ServerTerms {
        ServerTerms {
            description: self.description.clone(),
            labels: self.labels.clone(),
            lane: self.lane.clone(),
            resources: self.resources.clone(),
            concurrency: self.concurrency,
            equivalent: self.equivalent.clone(),
            equivalent_tools: self.equivalent_tools.clone(),
            price: self.price,
            locality: self.locality.unwrap_or_else(|| self.way.locality()),
            tenants: self.tenants.clone(),
        }
    }

    /// Where it is, for people; secrets redacted.
    #[must_use]
    pub fn target(&self) -> String {
        match &self.way {
            Way::Stdio { command, args, secret_args, .. } => redact::command_line(command, args, secret_args),
            Way::Http { url, .. } => redact::url(url),
        }
    }
}

/// Shows names of variables and headers, no values.
impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio { command, args, secret_args, env, cwd } => f
                .debug_struct("Stdio")
                .field("command", &redact::command_line(command, args, secret_args))
                .field("env", &env.keys().collect::<Vec<_>>())
                .field("cwd", cwd)
                .finish(),
            Self::Http { url, headers } => f
                .debug_struct("Http")
                .field("url", &redact::url(url))
                .field("headers", &headers.keys().collect::<Vec<_>>())
                .finish(),
        }
    }
}

struct Entry<'a> {
    place: String,
    fields: &'a Map<String, Value>,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Entry<'_> {
    fn way(&self) -> Result<Way, InvalidSpec> {
        // Names that clients use for the same thing.
        let url = ["url", "httpUrl", "serverUrl"].into_iter().find(|key| self.fields.contains_key(*key));
        match self.field::<String>("type")?.as_deref() {
            None | Some("stdio" | "http" | "streamable-http" | "streamableHttp" | "streamable_http") => {}
            Some("sse") => {
                let mend = "`sse` is the HTTP+SSE of 2024-11-05, which is not spoken; use the server's streamable HTTP address and `http`";
                return Err(self.wrong("type", mend));
            }
            Some(other) => return Err(self.wrong("type", format_args!("`{other}` is none of `stdio` and `http`"))),
        }
        match (self.fields.contains_key("command"), url) {
            (true, Some(key)) => Err(self.wrong(key, "a server has either `command` or `url`, not both")),
            (false, None) => {
                Err(InvalidSpec::new(&self.place, "needs `command` (a program to start) or `url` (an address)"))
            }
            (true, None) => {
                let command = self.text("command")?;
                if command.trim().is_empty() {
                    return Err(self.wrong("command", "must name a program"));
                }
                let list = "must be a list of text";
                let args = self.secret_field::<Vec<String>>("args", list)?.unwrap_or_default();
                let secret_args = (0..args.len()).filter(|at| args[*at].contains("${")).collect();
                let args = args.iter().map(|arg| self.expanded("args", arg)).collect::<Result<_, _>>()?;
                let cwd = self.fields.contains_key("cwd").then(|| self.text("cwd")).transpose()?;
                Ok(Way::Stdio { command, args, secret_args, env: self.texts("env")?, cwd: cwd.map(PathBuf::from) })
            }
            (false, Some(key)) => {
                let (url, headers) = (self.text(key)?, self.texts("headers")?);
                let parsed =
                    Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                // A disabled server may still have variables in its address.
                if parsed.is_none() && !url.contains("${") {
                    return Err(self.wrong(key, "must be an address that begins with http:// or https://"));
                }
                Ok(Way::Http { url, headers })
            }
        }
    }

    fn field<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, InvalidSpec> {
        match self.fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|e| self.wrong(key, e)),
        }
    }

    fn group(&self) -> Result<Option<String>, InvalidSpec> {
        match self.field::<String>("equivalent")? {
            Some(group) if group.is_empty() || group.len() > NAME_BYTES_MAX => {
                Err(self.wrong("equivalent", format_args!("must be a name of 1 to {NAME_BYTES_MAX} bytes")))
            }
            group => Ok(group),
        }
    }

    fn price(&self) -> Result<f64, InvalidSpec> {
        match self.field::<f64>("price")?.unwrap_or_default() {
            price if price.is_finite() && price >= 0.0 => Ok(price),
            _ => Err(self.wrong("price", "must be 0 or more")),
        }
    }

    /// A field whose value may be a secret: what is wrong is told without it.
    fn secret_field<T: DeserializeOwned>(&self, key: &str, mend: &str) -> Result<Option<T>, InvalidSpec> {
        self.field(key).map_err(|_| self.wrong(key, mend))
    }

    fn text(&self, key: &str) -> Result<String, InvalidSpec> {
        let text = self.secret_field::<String>(key, "must be text")?;
        let text = text.ok_or_else(|| self.wrong(key, "must be text"))?;
        self.expanded(key, &text)
    }

    fn texts(&self, key: &str) -> Result<BTreeMap<String, String>, InvalidSpec> {
        let texts = self.secret_field::<BTreeMap<String, String>>(key, "must map names to text")?.unwrap_or_default();
        let expand = |(name, text): (String, String)| {
            let text = self.expanded(&format!("{key}.{name}"), &text)?;
            Ok((name, text))
        };
        texts.into_iter().map(expand).collect()
    }

    fn expanded(&self, key: &str, text: &str) -> Result<String, InvalidSpec> {
        expand(text, self.env).map_err(|mend| self.wrong(key, mend))
    }

    fn wrong(&self, key: &str, mend: impl fmt::Display) -> InvalidSpec {
        InvalidSpec::new(format_args!("{}.{key}", self.place), mend)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::parse_mcp_servers;
    use super::*;

    fn read(servers: &Value) -> Result<Vec<ServerSpec>, InvalidSpec> {
        let env = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        parse_mcp_servers(&json!({ "mcpServers": servers }).to_string(), &env)
    }

    fn wrong(entry: &Value) -> InvalidSpec {
        read(&json!({ "s": entry })).unwrap_err()
    }

    #[test]
    fn entries_of_every_client_are_read() {
        let servers = read(&json!({
            "files": { "command": "npx", "args": ["-y", "fs", "x${TOKEN}"], "env": { "T": "${TOKEN}" }, "alwaysAllow": ["read"] },
            "far": { "type": "streamable-http", "url": "https://u:s3cret@h/mcp?key=s3cret", "headers": { "A": "Bearer ${TOKEN}" } },
            "windsurf": { "serverUrl": "http://127.0.0.1:9/mcp", "timeout": 5 },
            "ours": { "command": "x", "lane": "heavy", "labels": { "a": "b" }, "resources": { "gpu": true }, "description": "d" },
            "off": { "command": "x", "env": { "A": "${NOT_SET}" }, "disabled": true },
        }))
        .unwrap();
        let names: Vec<_> = servers.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["far", "files", "off", "ours", "windsurf"]);
        let Way::Stdio { env, args, .. } = &servers[1].way else { panic!("stdio") };
        assert_eq!((env["T"].as_str(), args.len()), ("s3cret", 3));
        assert!(servers[2].disabled && !servers[3].disabled);
        let terms = servers[3].terms();
        assert!(terms.resources.gpu && terms.lane == Some(Lane::heavy()) && terms.description == "d");
        let shown = format!("{servers:?} {:?}", servers.iter().map(ServerSpec::target).collect::<Vec<_>>());
        assert!(!shown.contains("s3cret"), "{shown}");
        for server in &servers {
            let connector = server.connector(None, None).unwrap();
            assert!(!format!("{connector:?}{}", connector.target()).contains("s3cret"));
        }
    }

    #[test]
    fn the_terms_of_a_choice_are_read_and_locality_is_told_by_the_way() {
        let servers = read(&json!({
            "a": { "command": "x", "equivalent": "files", "equivalent_tools": { "cat": "read" }, "price": 0.5, "tenants": ["t"] },
            "b": { "url": "http://127.0.0.1:9/mcp" },
            "c": { "url": "https://example.org/mcp" },
            "d": { "url": "https://example.org/mcp", "locality": "owned" },
        }))
        .unwrap();
        let terms: Vec<ServerTerms> = servers.iter().map(ServerSpec::terms).collect();
        let told = [Locality::Local, Locality::Local, Locality::Remote, Locality::Owned];
        assert_eq!(terms.iter().map(|terms| terms.locality).collect::<Vec<_>>(), told);
        let tenant = |name: &str| TenantId::new(name).unwrap();
        assert!(terms[0].admits(&tenant("t")) && !terms[0].admits(&tenant("u")) && terms[1].admits(&tenant("u")));
        assert_eq!((terms[0].equivalent_tools["cat"].name(), terms[0].price), ("read", 0.5));
        assert_eq!(terms[0].equivalent.as_deref(), Some("files"));
    }

    #[test]
    fn every_error_names_server_and_field() {
        for (entry, place) in [
            (json!({}), "mcpServers.s"),
            (json!("x"), "mcpServers.s"),
            (json!({ "command": 1 }), "mcpServers.s.command"),
            (json!({ "command": " " }), "mcpServers.s.command"),
            (json!({ "command": "x", "args": "y" }), "mcpServers.s.args"),
            (json!({ "command": "x", "env": { "A": "${NOT_SET}" } }), "mcpServers.s.env.A"),
            (json!({ "command": "x", "url": "http://h" }), "mcpServers.s.url"),
            (json!({ "url": "ftp://h" }), "mcpServers.s.url"),
            (json!({ "url": "http://h", "type": "sse" }), "mcpServers.s.type"),
            (json!({ "command": "x", "lane": "GPU!" }), "mcpServers.s.lane"),
            (json!({ "command": "x", "concurrency": 0 }), "mcpServers.s.concurrency"),
            (json!({ "command": "x", "resources": { "gpus": 1 } }), "mcpServers.s.resources"),
            (json!({ "command": "x", "price": -1 }), "mcpServers.s.price"),
            (json!({ "command": "x", "locality": "moon" }), "mcpServers.s.locality"),
            (json!({ "command": "x", "tenants": "a" }), "mcpServers.s.tenants"),
            (json!({ "command": "x", "equivalent": "" }), "mcpServers.s.equivalent"),
        ] {
            assert_eq!(wrong(&entry).place, place, "{entry}");
        }
        for entry in [
            json!({ "command": "x", "env": "s3cret" }),
            json!({ "command": "x", "env": { "A": ["s3cret"] } }),
            json!({ "command": "x", "args": "s3cret" }),
            json!({ "url": "http://h", "headers": "s3cret" }),
        ] {
            let said = wrong(&entry).to_string();
            assert!(said.contains("must ") && !said.contains("s3cret"), "{said}");
        }
        assert!(parse_mcp_servers("{", &|_| None).is_err());
        assert!(parse_mcp_servers("{}", &|_| None).unwrap_err().to_string().contains("mcpServers"));
        assert_eq!(read(&json!({ "my server": { "command": "x" } })).unwrap_err().place, "mcpServers.my server");
    }
}
