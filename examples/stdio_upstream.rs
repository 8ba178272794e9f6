//! `embed` with its server swapped: a child process that speaks MCP on stdin and stdout.
//!
//! `cargo run -p metamcp-examples --example stdio_upstream -- COMMAND ARGS…`; without a command it is the reference time server that
//! `cargo xtask tools` installs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use metamcp_core::{auth::Principal, engine::Orchestrator, id::ServerName, task::Task};
use metamcp_mcp_adapters::upstream::StdioConnector;
use serde_json::json;

fn reference_server() -> anyhow::Result<String> {
    let tools = std::env::var_os("METAMCP_TOOLS_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.xtask"), PathBuf::from);
    let server = tools.join("venv/bin/mcp-server-time");
    anyhow::ensure!(
        server.exists(),
        "{} is not there: run `cargo xtask tools` first, or name a COMMAND",
        server.display()
    );
    Ok(server.display().to_string())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().map_or_else(reference_server, Ok)?;
    let server = ServerName::new("time")?;
    let connector = StdioConnector::new(server.clone(), command).args(arguments);
    let orchestrator = Orchestrator::builder().server(server, Arc::new(connector)).build();
    let worker = orchestrator.worker(Default::default());
    let who = Principal::local();

    let need = Task::new("what time is it in this timezone").with_input(json!({ "timezone": "Europe/Berlin" }));
    let submitted = orchestrator.submit(&who, need).await?;
    println!("matched {}", submitted.job.body.route.candidates[0].capability);
    let job = orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(30)).await?;
    let pointer = job.head.result.with_context(|| format!("no result: {:?}", job.head.error))?;
    let body = orchestrator.result(&who, &pointer, None).await?;
    println!("{pointer}\n{}", String::from_utf8_lossy(&body.bytes));

    worker.drain(Duration::from_secs(5)).await;
    // The child is reaped before this returns.
    orchestrator.close().await;
    Ok(())
}
