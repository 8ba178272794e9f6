//! The canonical example: link the crate, state a need in words, read the result by its pointer. Everything is in memory.

use std::{path::PathBuf, time::Duration};

use metamcp_core::{auth::Principal, engine::Orchestrator, id::ServerName, task::Task};
use metamcp_examples::code_server;
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let code = ServerName::new("code")?;
    let orchestrator = Orchestrator::builder().server(code.clone(), code_server(code)?).build();
    let worker = orchestrator.worker(Default::default());
    let who = Principal::local();

    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("embed.rs");
    let task = Task::new("outline the functions in this file").with_input(json!({ "path": file }));
    let submitted = orchestrator.submit(&who, task).await?;
    let best = &submitted.job.body.route.candidates[0];
    println!("{} serves it: {:?}", best.capability, best.reasons.first());

    let job = orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(30)).await?;
    let pointer = job.head.result.ok_or_else(|| anyhow::anyhow!("no result: {:?}", job.head.error))?;
    let body = orchestrator.result(&who, &pointer, None).await?;
    println!("{pointer}\n{}", String::from_utf8_lossy(&body.bytes));

    worker.drain(Duration::from_secs(5)).await;
    orchestrator.close().await;
    Ok(())
}
