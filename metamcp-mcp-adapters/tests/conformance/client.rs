//! What the official conformance suite starts to look at the gateway from its other side: `conformance_client METAMCP FOLDER URL` starts a gateway
//! over stdio with the suite's mock server at URL as its only upstream, and uses everything the mock offers through it, in the era the suite names.
//!
//! What the gateway says goes to `FOLDER/SCENARIO.log`. The verdict is the suite's: this program fails only when it could not do its part.

mod answers;

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{ExitCode, Stdio},
    time::Duration,
};

use rmcp::{
    ClientLifecycleMode, ClientServiceExt as _, RoleClient,
    model::{CallToolRequestParams, GetPromptRequestParams, JsonObject, ProtocolVersion, ReadResourceRequestParams},
    service::{RunningService, ServiceError},
};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::answers::{Answers, sample};

/// Longest time for all of it, in seconds: less than the suite waits for us.
const SCENARIO_S_MAX: u64 = 100;

/// The tool whose schema is told to the other one.
const SCHEMA_TOLD: &str = "json_schema_2020_12_tool";
const SCHEMA_ECHO: &str = "json_schema_echo";

/// What the suite tells us beside the address.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Context {
    /// The calls it wants; none: every tool once.
    tool_calls: Vec<WantedCall>,
}

#[derive(Debug, Deserialize)]
struct WantedCall {
    name: String,
    #[serde(default)]
    arguments: JsonObject,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let [metamcp, folder, url] = words.as_slice() else {
        eprintln!("usage: conformance_client METAMCP FOLDER URL");
        return ExitCode::FAILURE;
    };
    let told = |name: &str, or: &str| env::var(name).unwrap_or_else(|_| or.to_owned());
    let scenario = told("MCP_CONFORMANCE_SCENARIO", "none").replace('/', "-");
    let revision = told("MCP_CONFORMANCE_PROTOCOL_VERSION", ProtocolVersion::LATEST.as_str());
    let context = serde_json::from_str(&told("MCP_CONFORMANCE_CONTEXT", "{}")).unwrap_or_default();
    let run = drive(metamcp, Path::new(folder), &scenario, url, &revision, context);
    match tokio::time::timeout(Duration::from_secs(SCENARIO_S_MAX), run).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            eprintln!("{scenario}: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("{scenario}: not done within {SCENARIO_S_MAX} s");
            ExitCode::FAILURE
        }
    }
}

async fn drive(
    metamcp: &str,
    folder: &Path,
    scenario: &str,
    url: &str,
    revision: &str,
    context: Context,
) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    let config = folder.join(format!("{scenario}.toml"));
    fs::write(&config, format!("builtin.code.enabled = false\n\n[servers.mock]\nurl = {url:?}\nnaming = \"none\"\n"))?;
    let mut gateway = Command::new(metamcp)
        .args(["mcp", "gateway", "--memory", "--config"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join(format!("{scenario}.log")))?)
        .kill_on_drop(true)
        .spawn()?;
    let way = (gateway.stdout.take().ok_or("no standard output")?, gateway.stdin.take().ok_or("no standard input")?);
    let lifecycle = if revision < ProtocolVersion::NO_INITIALIZE.as_str() {
        ClientLifecycleMode::Initialize
    } else {
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
    };
    let client = Answers.serve_with_lifecycle(way, lifecycle).await?;
    use_all(&client, context).await?;
    client.cancel().await?;
    // Its standard input is closed: it ends by itself.
    gateway.wait().await?;
    Ok(())
}

/// Lists everything and uses everything once. That the mock answers with an error is no failure of ours: some scenarios want just that.
async fn use_all(client: &RunningService<RoleClient, Answers>, context: Context) -> Result<(), ServiceError> {
    let tools = client.list_all_tools().await?;
    let mut calls = if context.tool_calls.is_empty() {
        tools.iter().map(|tool| (tool.name.to_string(), sample(&tool.input_schema))).collect()
    } else {
        context.tool_calls.into_iter().map(|call| (call.name, call.arguments)).collect::<Vec<_>>()
    };
    // One scenario wants to be told how the schema of its other tool came through.
    if let Some((_, arguments)) = calls.iter_mut().find(|(name, _)| name == SCHEMA_ECHO) {
        let told = tools.iter().find(|tool| tool.name == SCHEMA_TOLD).map(|tool| json!(tool.input_schema));
        arguments.extend(told.map(|schema| ("schema".to_owned(), schema)));
    }
    for (name, arguments) in calls {
        say(&name, client.call_tool(CallToolRequestParams::new(name.clone()).with_arguments(arguments)).await);
    }
    for prompt in client.list_all_prompts().await.unwrap_or_default() {
        say(&prompt.name, client.get_prompt(GetPromptRequestParams::new(&prompt.name)).await);
    }
    for resource in client.list_all_resources().await.unwrap_or_default() {
        // Our own resources say nothing of the mock.
        if !resource.uri.starts_with("metamcp:") {
            say(&resource.uri, client.read_resource(ReadResourceRequestParams::new(&resource.uri)).await);
        }
    }
    Ok(())
}

fn say<T>(what: &str, outcome: Result<T, ServiceError>) {
    match outcome {
        Ok(_) => println!("{what}: answered"),
        Err(error) => println!("{what}: {error}"),
    }
}
