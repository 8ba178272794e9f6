//! Arguments that commands share, and those of commands whose own file has none.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use metamcp_core::id::{CapabilityId, JobId, Lane};

use crate::{
    api::doc::{ConcurrencyDocument, RateDocument},
    config::{Environment, Flag, Sources},
};

/// Where configuration comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
pub(super) struct ConfigArgs {
    /// TOML file [default: metamcp/config.toml in the user's configuration folder, if it is there]
    #[arg(long, value_name = "FILE", env = "METAMCP_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// JSON file with `mcpServers`, as MCP clients have it; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) mcp_config: Vec<PathBuf>,
    /// Folder of the embedded store [default: metamcp in the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where jobs are kept: a directory, memory:, redis://HOST or postgres://HOST/DB [default: the data folder]
    #[arg(long, value_name = "URL", conflicts_with_all = ["memory", "data_dir"])]
    pub(super) store: Option<String>,
    /// Keep jobs and results in this process only
    #[arg(long)]
    pub(super) memory: bool,
    /// Log filter, such as info or warn,metamcp_core=debug [default: info for serve, else warn]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<String>,
    /// Form of the log on stderr
    #[arg(long, value_name = "FORM")]
    pub(super) log_format: Option<LogFormat>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

impl ConfigArgs {
    /// The sources of configuration, with these flags as the last word.
    pub(super) fn sources(&self) -> Sources {
        let mut flags = Vec::new();
        let mut flag = |name, key, value: Option<String>| flags.extend(value.map(|value| Flag { name, key, value }));
        let data_dir = self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        flag("--data-dir", "server.data_dir", data_dir);
        flag("--store", "store", self.store.clone());
        flag("--memory", "store", self.memory.then(|| "memory:".to_owned()));
        flag("--log", "log.level", self.log.clone());
        let format = |format: LogFormat| if format == LogFormat::Json { "json" } else { "text" }.to_owned();
        flag("--log-format", "log.format", self.log_format.map(format));
        Sources {
            file: self.config.clone(),
            no_user_file: false,
            mcp_files: self.mcp_config.clone(),
            environment: Environment::of_process(),
            flags,
        }
    }
}

/// `metamcp serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp serve
  metamcp serve --listen 127.0.0.1:0 --data-dir ./state --mcp-config ~/.mcp.json
  metamcp serve --config metamcp.toml --log-format json

SIGTERM or Ctrl-C stops it gently: running calls may end, what does not is given back to the queue. A second signal ends it
at once; nothing that was accepted is lost either way.")]
pub(super) struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:7300]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    /// Listen beyond this machine although nobody has to log in
    #[arg(long)]
    pub(super) allow_remote: bool,
    /// Accept and show tasks only; `metamcp worker` processes on the same --store work on them
    #[arg(long)]
    pub(super) no_worker: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

impl ServeArgs {
    /// The sources of configuration, with these flags as the last word.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = self.config.sources();
        let listen = self.listen.clone().map(|value| Flag { name: "--listen", key: "server.listen", value });
        let remote = Flag { name: "--allow-remote", key: "server.allow_remote", value: "true".to_owned() };
        sources.flags.extend(listen.into_iter().chain(self.allow_remote.then_some(remote)));
        sources
    }
}

/// `metamcp worker`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp worker --store redis://10.0.0.5 --mcp-config ~/.mcp.json
  metamcp worker --store postgres://metamcp@db/metamcp --lanes heavy --concurrency 4 --health 7301

Workers of the same lanes should be configured with the same servers. SIGTERM or Ctrl-C stops it gently: running calls may end
within server.drain_s, what does not is given back to the queue.")]
pub(super) struct WorkerArgs {
    /// Most jobs at a time
    #[arg(long, value_name = "JOBS")]
    pub(super) concurrency: Option<u16>,
    /// Lanes to serve, separated by commas
    #[arg(long, value_name = "LANES")]
    pub(super) lanes: Option<String>,
    /// Answer /livez and /readyz there; a port alone is one of this machine only
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = address)]
    pub(super) health: Option<SocketAddr>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

impl WorkerArgs {
    /// The sources of configuration, with these flags as the last word.
    pub(super) fn sources(&self) -> Sources {
        let mut sources = self.config.sources();
        let concurrency = self.concurrency.map(|jobs| jobs.to_string());
        let concurrency = concurrency.map(|value| Flag { name: "--concurrency", key: "worker.concurrency", value });
        let lanes = self.lanes.clone().map(|value| Flag { name: "--lanes", key: "worker.lanes", value });
        sources.flags.extend(concurrency.into_iter().chain(lanes));
        sources
    }
}

/// `metamcp demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
The demo keeps its jobs in a folder of its own, removed when it ends, unless --data-dir names one. The server `code` reads the
folder the demo is started in. Exit code with --exit: 0 when all three tasks completed, else 1.")]
pub(super) struct DemoArgs {
    /// End when the three tasks are done
    #[arg(long)]
    pub(super) exit: bool,
    /// Address and port to listen on; a taken port is replaced by a free one [default: 127.0.0.1:7300]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// Where the engine is.
#[derive(Debug, Args)]
pub(super) struct BackendArgs {
    /// A running server; --memory wins over it [default: the one that owns the data folder, else an engine in this process]
    #[arg(long, value_name = "URL", env = "METAMCP_SERVER")]
    pub(super) server: Option<String>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// The input of a need.
#[derive(Debug, Args)]
pub(super) struct InputArgs {
    /// Input as a JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(super) input: Option<String>,
    /// One field of the input: NAME=TEXT, or NAME:=JSON for numbers, lists and the like; may be repeated
    #[arg(long = "arg", value_name = "NAME=TEXT")]
    pub(super) fields: Vec<String>,
}

/// A task, as `run` and `schedules put` say it.
#[derive(Debug, Args)]
pub(super) struct TermsArgs {
    /// What is needed, in words
    #[arg(value_name = "NEED", required_unless_present = "tool")]
    pub(super) need: Option<String>,
    #[command(flatten)]
    pub(super) input: InputArgs,
    /// Exactly this tool, without matching
    #[arg(long, value_name = "SERVER/NAME")]
    pub(super) tool: Option<CapabilityId>,
    /// Queue to stand in
    #[arg(long)]
    pub(super) lane: Option<Lane>,
    /// Head start, 0 to 9
    #[arg(long)]
    pub(super) priority: Option<u8>,
    /// Give up after this long, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) deadline: Option<Duration>,
    /// Label of the task; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    /// Not before this task has completed; may be repeated
    #[arg(long, value_name = "ID")]
    pub(super) after: Vec<JobId>,
    /// At most MAX tasks with this key at a time
    #[arg(long, value_name = "KEY=MAX", value_parser = concurrency)]
    pub(super) concurrency: Option<ConcurrencyDocument>,
    /// Of the tasks with this key one in so long, such as api=500ms, or api=1s/5 after the first five
    #[arg(long, value_name = "KEY=EVERY[/BURST]", value_parser = rate)]
    pub(super) rate: Option<RateDocument>,
    /// The result of an identical call will do if it is no older than this, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) cache: Option<Duration>,
}

/// `metamcp run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp run \"list the functions of this file\" --arg path=src/main.rs
  metamcp run \"find unsafe blocks\" --input '{\"query\": \"(unsafe_block) @b\", \"language\": \"rust\"}'
  metamcp run --tool code/outline --arg path=src --arg max_results:=20
  metamcp run \"index this\" --no-wait --label team=docs --json
  metamcp run \"sum this up\" --input '{\"text\": {\"$ref\": \"task://ID#/content/0/text\"}}'

A $ref stands for the result of another task, or a part of it; the task waits until that one has completed.
Without a running server the task runs in this process and is kept in the data folder; Ctrl-C cancels it. Tasks that wait there
may run beside it; they have server.drain_s seconds to end when it has ended.
The result goes to standard output; everything else goes to standard error.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) terms: TermsArgs,
    /// A second run with the same key and need answers with the first one's task
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Print the task's document in place of its result
    #[arg(long)]
    pub(super) json: bool,
    /// Return once the task is accepted
    #[arg(long)]
    pub(super) no_wait: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp tasks`.
#[derive(Debug, Args)]
pub(super) struct TasksArgs {
    #[command(subcommand)]
    pub(super) command: TasksCommand,
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub(super) enum TasksCommand {
    /// List tasks, newest first
    List(ListArgs),
    /// Show one task, with its result if it has one
    Show(TaskArgs),
    /// Cancel a task
    Cancel(CancelArgs),
    /// Queue a failed task again
    Retry(TaskArgs),
    /// Answer what a task asks
    Answer(AnswerArgs),
}

/// `metamcp tasks list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only tasks in this state: queued, working, input_required, completed, failed, cancelled
    #[arg(long)]
    pub(super) state: Option<String>,
    /// Only tasks of this queue
    #[arg(long)]
    pub(super) lane: Option<Lane>,
    /// Only tasks with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) label: Option<(String, String)>,
    /// Most tasks shown
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: u32,
    /// Print the documents, one JSON list
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// One task.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// The task's id
    pub(super) id: String,
    /// Print the task's document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp tasks cancel`.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    #[command(flatten)]
    pub(super) task: TaskArgs,
    /// Why, kept with the task
    #[arg(long, default_value = "cancelled from the command line")]
    pub(super) reason: String,
}

/// `metamcp tasks answer`.
#[derive(Debug, Args)]
pub(super) struct AnswerArgs {
    #[command(flatten)]
    pub(super) task: TaskArgs,
    /// The responses, a JSON object by request key; @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(super) responses: String,
}

/// `metamcp servers`.
#[derive(Debug, Args)]
pub(super) struct ServersArgs {
    /// Start the servers and list their tools too
    #[arg(long)]
    pub(super) tools: bool,
    /// Print the documents
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp mcp`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples, as entries of an MCP client's file:
  { \"mcpServers\": { \"all\": { \"command\": \"metamcp\", \"args\": [\"mcp\", \"gateway\", \"--memory\"] } } }
  { \"mcpServers\": { \"code\": { \"command\": \"metamcp\", \"args\": [\"mcp\", \"code\", \"--root\", \"/srv/project\"] } } }

`gateway` is every configured server as one. It needs the data folder for itself; where `metamcp serve` has it, let the client
connect to its /mcp.")]
pub(super) struct McpArgs {
    /// Which server: gateway or code
    pub(super) name: String,
    /// For gateway: the endpoint to show [default: the main one]
    #[arg(long, value_name = "NAME")]
    pub(super) endpoint: Option<String>,
    /// For code: folder it may read; may be repeated [default: the working directory]
    #[arg(long = "root", value_name = "DIR")]
    pub(super) roots: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// `metamcp config`.
#[derive(Debug, Args)]
pub(super) struct ConfigCommandArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
A file has the sections [server], [worker], [jobs], [log], [builtin.code] and one [servers.NAME] for each MCP server;
`metamcp config print` shows every key. Each key outside [servers] can also be set by an environment variable: METAMCP_ and
the key's path in capitals, sections parted by two underscores, such as METAMCP_SERVER__LISTEN or METAMCP_JOBS__LEASE_S;
log.level is METAMCP_LOG. Flags win over the environment, the environment wins over the file.")]
pub(super) enum ConfigCommand {
    /// Say OK, or everything that is wrong
    Check(ServeArgs),
    /// Print the effective configuration with the source of each value; secrets are redacted
    Print(ServeArgs),
}

/// A length of time such as `30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    let wish = "write a time such as 500ms, 30s or 1h 30m";
    parsed
        .ok()
        .and_then(|time| Duration::try_from(time).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| wish.to_owned())
}

/// `ADDR:PORT`, or `PORT` on loopback.
fn address(text: &str) -> Result<SocketAddr, String> {
    let port = || text.parse().ok().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    text.parse().ok().or_else(port).ok_or_else(|| "write PORT or ADDR:PORT, such as 127.0.0.1:7301".to_owned())
}

/// `NAME=VALUE`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// `KEY=MAX`.
fn concurrency(text: &str) -> Result<ConcurrencyDocument, String> {
    let limit = text.rsplit_once('=').filter(|(key, _)| !key.is_empty());
    let limit = limit.and_then(|(key, max)| Some(ConcurrencyDocument { key: key.to_owned(), max: max.parse().ok()? }));
    limit.ok_or_else(|| "write KEY=MAX, such as api=2".to_owned())
}

/// `KEY=EVERY` or `KEY=EVERY/BURST`.
fn rate(text: &str) -> Result<RateDocument, String> {
    let wish = || "write KEY=EVERY or KEY=EVERY/BURST, such as api=500ms or api=1s/5".to_owned();
    let (key, terms) = text.rsplit_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(wish)?;
    let (every, burst) = terms.split_once('/').unwrap_or((terms, "1"));
    let every = duration(every).map_err(|_| wish())?;
    let burst = burst.parse().map_err(|_| wish())?;
    Ok(RateDocument { key: key.to_owned(), every_ms: millis(every), burst })
}

/// A length of time as documents say it.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_pairs_are_read() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1m 500ms"), Ok(Duration::from_millis(60_500)));
        assert!(duration("0s").is_err() && duration("-1s").is_err() && duration("soon").is_err());
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err());
    }

    #[test]
    fn a_port_alone_is_on_loopback() {
        assert_eq!(address("7301").unwrap().to_string(), "127.0.0.1:7301");
        assert_eq!(address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        assert_eq!(address("[::1]:1").unwrap().to_string(), "[::1]:1");
        assert!(address("localhost").is_err() && address("65536").is_err() && address("").is_err());
    }

    #[test]
    fn limits_are_read() {
        assert_eq!(concurrency("a=b=2"), Ok(ConcurrencyDocument { key: "a=b".to_owned(), max: 2 }));
        for wrong in ["a", "=1", "a=", "a=-1", "a=x"] {
            assert!(concurrency(wrong).is_err(), "{wrong}");
        }
        let document = |every_ms, burst| Ok(RateDocument { key: "a".to_owned(), every_ms, burst });
        assert_eq!(rate("a=500ms"), document(500, 1));
        assert_eq!(rate("a=1m/5"), document(60_000, 5));
        for wrong in ["a", "=1s", "a=", "a=5", "a=1s/", "a=1s/x", "a=0s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
