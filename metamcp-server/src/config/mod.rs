//! Configuration: one TOML file < environment < flags, read as a whole and checked as a whole. Every problem names the place, the key and
//! the mend; nothing unknown is passed over. It says what is wanted and builds nothing: that is `wire`'s work.
//!
//! The file is `--config FILE`, else `metamcp/config.toml` in the user's configuration folder if it is there. A file in the working
//! directory is never taken by itself: it may name programs to start, and a folder from elsewhere must not.

mod environment;
mod gateway;
mod keys;
mod kind;
mod layers;
mod print;
mod problem;
mod raw;
mod server;
mod store;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    num::NonZero,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use metamcp_core::{
    id::{InvalidName, Lane, ServerName, TenantId},
    queue::WEIGHT_MAX,
};
use metamcp_mcp_adapters::gateway::EndpointView;
use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::{
    environment::Environment,
    gateway::GatewaySection,
    layers::{Flag, Source},
    problem::{Problem, Problems},
    server::ServerConfig,
    store::{Address, StoreKind},
};
use self::{gateway::Shown, layers::Settings, raw::Item};

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The name of our own server that runs in this process.
pub const BUILTIN_CODE: &str = "code";

/// Where configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file; `None`: the one of the user's configuration folder, if it is there.
    pub file: Option<PathBuf>,
    /// Leave out the file of the user's configuration folder.
    pub no_user_file: bool,
    /// Files with `mcpServers`, as MCP clients have them.
    pub mcp_files: Vec<PathBuf>,
    /// The process's environment.
    pub environment: Environment,
    /// What the command line says.
    pub flags: Vec<Flag>,
}

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The REST server.
    pub server: ServerSection,
    /// Where jobs, results and events are kept.
    pub store: StoreKind,
    /// A replica of the store, for reads that may be stale.
    pub store_read_url: Option<Address>,
    /// Where results are kept.
    pub results: ResultsSection,
    /// The worker of this process.
    pub worker: WorkerSection,
    /// The terms of jobs.
    pub jobs: JobsSection,
    /// How needs are matched.
    pub matcher: MatcherSection,
    /// The log.
    pub log: LogSection,
    /// How the servers are shown to MCP clients.
    pub gateway: GatewaySection,
    endpoints: BTreeMap<String, Shown<EndpointView>>,
    /// Folders our own server `code` may read; `None`: it is not offered.
    pub code_roots: Option<Vec<PathBuf>>,
    /// Every configured server by name, the disabled ones too.
    pub servers: BTreeMap<ServerName, ServerConfig>,
    settings: Settings,
}

/// Bounds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Most connections at a time.
    pub connections_max: usize,
    /// Longest `wait_ms` that is accepted, in milliseconds.
    pub wait_ms_max: u64,
}

/// `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSection {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Host names, beside those of loopback, that the server answers to.
    pub allowed_hosts: Vec<String>,
    /// The folder of the embedded store.
    pub data_dir: PathBuf,
    /// Bounds of requests.
    pub limits: Limits,
    /// How long running calls may go on after the signal to stop.
    pub drain: Duration,
}

/// `[results]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsSection {
    /// Where large ones are kept; `None`: with the jobs.
    pub url: Option<Address>,
    /// The largest that stay with the jobs all the same, in bytes.
    pub inline_bytes_max: usize,
    /// How much of them is kept in memory for reading, in bytes; 0: nothing.
    pub cache_bytes_max: u64,
}

/// `[worker]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSection {
    /// Most jobs at a time.
    pub concurrency: u16,
    /// Lanes that are served, the first first.
    pub lanes: Vec<Lane>,
    /// Most jobs of a lane at a time in this process.
    pub lane_concurrency: BTreeMap<Lane, u16>,
    /// Most jobs at a time that one server takes up.
    pub server_concurrency: Option<u16>,
    /// Most jobs of a lane at a time over all workers.
    pub leased_max: BTreeMap<Lane, u64>,
    /// Turns a tenant gets to another's one.
    pub weights: BTreeMap<TenantId, u32>,
    /// Threads of a process that only works.
    pub threads: NonZero<usize>,
}

/// `[jobs]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsSection {
    /// Failed attempts after which a job is dead.
    pub attempts_max: u32,
    /// Lost leases after which a job is dead.
    pub lost_max: u32,
    /// How long a lease lasts without a heartbeat.
    pub lease: Duration,
    /// Deadline of a task that names none.
    pub deadline: Duration,
    /// How long an ended job and its result are kept.
    pub retain: Duration,
    /// First pause after a failed attempt.
    pub backoff_base: Duration,
    /// Longest pause between attempts.
    pub backoff_max: Duration,
    /// How long a job waits for an answer.
    pub input_wait: Duration,
    /// How long a submission waits for servers that were never connected.
    pub discover_wait: Duration,
}

/// `[matcher]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatcherSection {
    /// Learn from how jobs go.
    pub learn: bool,
    /// Groups of words, separated by spaces, that stand for one another.
    pub synonyms: Vec<String>,
    /// Whether needs are also matched by meaning.
    pub dense: bool,
    /// The table of word vectors; `None`: the built-in one.
    pub dense_table: Option<PathBuf>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSection {
    /// Directives such as `info` or `info,metamcp_core=debug`; `None`: the command decides.
    pub level: Option<String>,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Config {
    /// Reads all sources and checks what comes of them.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        let environment = &sources.environment;
        let mut problems = Vec::new();
        let mut settings = Settings::defaults(environment);
        let (mut found, mut endpoints) = (Vec::new(), BTreeMap::new());
        let user_file = || if sources.no_user_file { None } else { user_file(environment) };
        if let Some(file) = sources.file.clone().or_else(user_file) {
            let file = absolute(file);
            if let Some(items) = read_file(&file, &mut problems) {
                let tables = settings.lay_file(&file, items, &mut problems);
                for item in &tables.servers {
                    found.extend(server::read(&file, item, environment, &mut problems));
                }
                endpoints = gateway::read_endpoints(&file, &tables.endpoints, &mut problems);
            }
        }
        settings.lay_environment(environment, &mut problems);
        settings.lay_flags(&sources.flags, &mut problems);
        for file in &sources.mcp_files {
            let file = absolute(file.clone());
            if let Some(text) = read_text(&file, &mut problems) {
                found.extend(server::read_clients_file(&file, &text, environment, &mut problems));
            }
        }
        let config = Self::assemble(settings, found, endpoints, &mut problems);
        Problems::none(problems)?;
        Ok(config)
    }

    /// The effective configuration as TOML, with the source of each value as comment; secrets are redacted.
    pub fn print(&self) -> String {
        print::print(self)
    }

    /// The servers that are to be used, by name.
    pub fn enabled_servers(&self) -> impl Iterator<Item = &ServerConfig> {
        self.servers.values().filter(|server| !server.spec.disabled)
    }

    fn assemble(
        settings: Settings,
        found: Vec<ServerConfig>,
        endpoints: BTreeMap<String, Shown<EndpointView>>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let (store, directory) = store(&settings, problems);
        let lanes = lanes(&settings, problems);
        check_listen(&settings, problems);
        check_log(&settings, problems);
        let code_roots = settings.flag("builtin.code.enabled").then(|| settings.paths("builtin.code.roots"));
        if let Some(roots) = &code_roots {
            check_roots(&settings, roots, problems);
        }
        let servers = by_name(found, code_roots.is_some(), &lanes, &settings, problems);
        check_endpoints(&endpoints, &servers, code_roots.is_some(), problems);
        let views = servers.iter().map(|(name, server)| (name.clone(), server.view().clone())).collect();
        let wait = settings.seconds("jobs.discover_wait_s");
        let gateway = gateway::section(&settings, &endpoints, views, wait, problems);
        let small = |path: &str| usize::try_from(settings.number(path)).unwrap_or(usize::MAX);
        let count = |path: &str| u32::try_from(settings.number(path)).unwrap_or(u32::MAX);
        let day = Duration::from_secs(24 * 3_600);
        Self {
            server: ServerSection {
                listen: settings.address("server.listen"),
                allowed_hosts: settings.texts("server.allowed_hosts"),
                data_dir: directory.unwrap_or_else(|| settings.path("server.data_dir")),
                limits: Limits {
                    body_bytes_max: small("server.body_bytes_max"),
                    connections_max: small("server.connections_max"),
                    wait_ms_max: settings.number("server.wait_ms_max"),
                },
                drain: settings.seconds("server.drain_s"),
            },
            store_read_url: settings.place("store_read_url").map(Address::new),
            results: ResultsSection {
                url: settings.place("results.url").map(Address::new),
                inline_bytes_max: small("results.inline_bytes_max"),
                cache_bytes_max: settings.number("results.cache_bytes_max"),
            },
            worker: WorkerSection {
                concurrency: u16::try_from(settings.number("worker.concurrency")).unwrap_or(u16::MAX),
                lane_concurrency: pairs(&settings, "worker.lane_concurrency", lane, 1..=4_096, problems),
                server_concurrency: settings
                    .number_if_set("worker.server_concurrency")
                    .and_then(|n| u16::try_from(n).ok()),
                leased_max: pairs(&settings, "worker.leased_max", lane, 0..=1_000_000, problems),
                weights: pairs(&settings, "worker.weights", tenant, 1..=u64::from(WEIGHT_MAX), problems),
                threads: NonZero::new(small("worker.threads")).unwrap_or(NonZero::<usize>::MIN),
                lanes,
            },
            store,
            jobs: JobsSection {
                attempts_max: count("jobs.attempts_max"),
                lost_max: count("jobs.lost_max"),
                lease: settings.seconds("jobs.lease_s"),
                deadline: settings.seconds("jobs.deadline_s"),
                retain: day * count("jobs.retain_days"),
                backoff_base: settings.millis("jobs.backoff_base_ms"),
                backoff_max: settings.seconds("jobs.backoff_max_s"),
                input_wait: settings.seconds("jobs.input_wait_s"),
                discover_wait: settings.seconds("jobs.discover_wait_s"),
            },
            log: LogSection {
                level: settings.text("log.level"),
                json: settings.text("log.format").as_deref() == Some("json"),
            },
            matcher: MatcherSection {
                learn: settings.flag("matcher.learn"),
                synonyms: settings.texts("matcher.synonyms"),
                dense: settings.flag("matcher.dense"),
                dense_table: Some(settings.path("matcher.dense_table")).filter(|path| !path.as_os_str().is_empty()),
            },
            gateway,
            endpoints,
            code_roots,
            servers,
            settings,
        }
    }
}

/// The store, and its directory if the address names one.
fn store(settings: &Settings, problems: &mut Vec<Problem>) -> (StoreKind, Option<PathBuf>) {
    let told = settings.place("store").unwrap_or_else(|| "embedded:".to_owned());
    // What is no store was refused where it was read.
    let (kind, directory) = StoreKind::parse(&told).unwrap_or((StoreKind::Embedded, None));
    let postgres = matches!(&kind, StoreKind::Shared(address) if address.is_postgres());
    if settings.place("store_read_url").is_some() && !postgres {
        let mend = "is for a postgres:// store alone; leave it out".to_owned();
        problems.push(Problem::new(settings.get("store_read_url").1, "store_read_url", mend));
    }
    (kind, directory)
}

fn lane(name: &str) -> Result<Lane, InvalidName> {
    Lane::new(name)
}

fn tenant(name: &str) -> Result<TenantId, InvalidName> {
    TenantId::new(name)
}

/// A list of NAME=NUMBER.
fn pairs<K: Ord, N: TryFrom<u64>>(
    settings: &Settings,
    path: &'static str,
    name: impl Fn(&str) -> Result<K, InvalidName>,
    bounds: RangeInclusive<u64>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<K, N> {
    let mut read = BTreeMap::new();
    for text in settings.texts(path) {
        let number = |text: &str| text.parse::<u64>().ok().filter(|number| bounds.contains(number));
        let pair = text.split_once('=').and_then(|(key, value)| Some((key, N::try_from(number(value)?).ok()?)));
        let mend = match pair.map(|(key, value)| (name(key.trim()), value)) {
            Some((Ok(key), value)) => {
                read.insert(key, value);
                continue;
            }
            Some((Err(error), _)) => error.to_string(),
            None => format!("`{text}`: write NAME=NUMBER with a number of {} to {}", bounds.start(), bounds.end()),
        };
        problems.push(Problem::new(settings.get(path).1, path, mend));
    }
    read
}

fn lanes(settings: &Settings, problems: &mut Vec<Problem>) -> Vec<Lane> {
    let source = settings.get("worker.lanes").1;
    let mut lanes = Vec::new();
    for lane in settings.texts("worker.lanes") {
        match Lane::new(&lane) {
            Ok(lane) => lanes.push(lane),
            Err(error) => problems.push(Problem::new(source, "worker.lanes", error.to_string())),
        }
    }
    let bound = metamcp_core::queue::LANES_MAX;
    if lanes.is_empty() || lanes.len() > bound {
        problems.push(Problem::new(source, "worker.lanes", format!("name 1 to {bound} lanes, such as light")));
    }
    lanes
}

/// Whoever reaches the address may run tools: beyond this machine that must be said aloud.
fn check_listen(settings: &Settings, problems: &mut Vec<Problem>) {
    let listen = settings.address("server.listen");
    if !listen.ip().is_loopback() && !settings.flag("server.allow_remote") {
        let mend = format!(
            "{listen} can be reached from other machines and nobody has to log in; listen on 127.0.0.1, or, in a network \
             you trust, set server.allow_remote = true (--allow-remote)"
        );
        problems.push(Problem::new(settings.get("server.listen").1, "server.listen", mend));
    }
}

/// A bare word would be read as the name of a target, and a misspelt level would then silence nothing.
fn check_log(settings: &Settings, problems: &mut Vec<Problem>) {
    let Some(filter) = settings.text("log.level") else { return };
    let is_level = |part: &str| part.parse::<LevelFilter>().is_ok();
    let bare_words = filter.split(',').filter(|part| !part.contains('=')).all(|part| is_level(part.trim()));
    if !bare_words || filter.parse::<Targets>().is_err() {
        let mend = format!("`{filter}` is no log filter; write a level such as info, or warn,metamcp_core=debug");
        problems.push(Problem::new(settings.get("log.level").1, "log.level", mend));
    }
}

fn check_roots(settings: &Settings, roots: &[PathBuf], problems: &mut Vec<Problem>) {
    let source = settings.get("builtin.code.roots").1;
    let mut refuse = |mend| problems.push(Problem::new(source, "builtin.code.roots", mend));
    if roots.is_empty() {
        refuse("names no folder; name one, or set builtin.code.enabled = false".to_owned());
    }
    for root in roots.iter().filter(|root| !root.is_dir()) {
        refuse(format!("{} is no folder; name one that is there, or set builtin.code.enabled = false", root.display()));
    }
}

/// A name means one server: of two that claim it neither silently wins.
fn by_name(
    found: Vec<ServerConfig>,
    has_code: bool,
    lanes: &[Lane],
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> BTreeMap<ServerName, ServerConfig> {
    let mut servers = BTreeMap::<ServerName, ServerConfig>::new();
    for server in found {
        let spec = &server.spec;
        let key = format!("servers.{}", spec.name);
        if has_code && spec.name.as_str() == BUILTIN_CODE && !spec.disabled {
            let (_, source) = settings.get("builtin.code.enabled");
            let mend = format!(
                "the name `{BUILTIN_CODE}` is also that of the built-in server (builtin.code.enabled, {source}); rename one, \
                 or set builtin.code.enabled = false"
            );
            problems.push(Problem::new(&server.source, &key, mend));
        }
        if let Some(lane) = spec.lane.as_ref().filter(|lane| !lanes.contains(lane)) {
            let mend = format!("no worker serves the lane `{lane}`; add it to worker.lanes");
            problems.push(Problem::new(&server.source, format!("{key}.lane"), mend));
        }
        if let Some(other) = servers.get(&spec.name) {
            let mend = format!("is also in {}; rename one of the two", other.source);
            problems.push(Problem::new(&server.source, key, mend));
            continue;
        }
        servers.insert(spec.name.clone(), server);
    }
    servers
}

/// A server that is misspelt would silently be missing from an endpoint.
fn check_endpoints(
    endpoints: &BTreeMap<String, Shown<EndpointView>>,
    servers: &BTreeMap<ServerName, ServerConfig>,
    has_code: bool,
    problems: &mut Vec<Problem>,
) {
    let code = has_code.then_some(BUILTIN_CODE);
    let known = || servers.keys().map(ServerName::as_str).chain(code);
    for (name, endpoint) in endpoints {
        for server in endpoint.view.servers.iter().filter(|server| !known().any(|known| known == server.as_str())) {
            let key = format!("gateway.endpoints.{name}.servers");
            let names: Vec<&str> = known().collect();
            let mend = format!("`{server}`: {}", problem::unknown("server", server.as_str(), names.iter().copied()));
            problems.push(Problem::new(format_args!("[gateway.endpoints.{name}]"), key, mend));
        }
    }
}

/// `metamcp/config.toml` in the user's configuration folder, if it is there.
fn user_file(environment: &Environment) -> Option<PathBuf> {
    let set = |name: &str| environment.get(name).map(Path::new).filter(|path| path.is_absolute());
    let folder = set("XDG_CONFIG_HOME").map(Path::to_owned).or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("metamcp").join("config.toml")).filter(|file| file.is_file())
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn read_file(path: &Path, problems: &mut Vec<Problem>) -> Option<Vec<Item>> {
    let text = read_text(path, problems)?;
    raw::parse(&text)
        .map_err(|(line, message)| {
            let place = Source::File { path: path.to_owned(), line };
            problems.push(Problem::new(place, "", format!("is not TOML: {message}")));
        })
        .ok()
}

/// The text of a file that is not too large.
fn read_text(path: &Path, problems: &mut Vec<Problem>) -> Option<String> {
    let size = fs::metadata(path).map(|about| about.len());
    let mend = match size {
        Ok(size) if size > FILE_BYTES_MAX => format!("has {size} bytes, over the bound of {FILE_BYTES_MAX}"),
        _ => match fs::read_to_string(path) {
            Ok(text) => return Some(text),
            Err(error) => format!("cannot be read: {error}"),
        },
    };
    problems.push(Problem::new(path.display(), "", mend));
    None
}
