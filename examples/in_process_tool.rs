//! `embed` with its server swapped: the tool is a Rust function of this process, and it reports progress.

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::Orchestrator,
    event::EventKind,
    id::ServerName,
    matching::Annotations,
    task::Task,
    transport::{LocalTools, ToolError},
};
use serde_json::{Value, json};

fn tools() -> anyhow::Result<LocalTools> {
    let schema = json!({
        "type": "object",
        "properties": { "text": { "type": "string", "description": "the text whose words are counted" } },
        "required": ["text"],
    });
    let harmless = Annotations { read_only_hint: Some(true), ..Annotations::default() };
    let name = ServerName::new("text")?;
    Ok(LocalTools::new(name).tool(
        "word_count",
        "counts the words of a text",
        schema,
        harmless,
        async |arguments, progress| {
            let arguments: Value = arguments.view().map_err(|error| ToolError::new(error.to_string()))?;
            let words: Vec<_> = arguments["text"].as_str().unwrap_or_default().split_whitespace().collect();
            for done in 1..=words.len() {
                // Stands for real work: a word takes its time.
                tokio::time::sleep(Duration::from_millis(200)).await;
                progress.report(done as f64, Some(words.len() as f64), None);
            }
            Ok::<_, ToolError>(json!({ "words": words.len() }))
        },
    ))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let orchestrator = Orchestrator::builder().server(ServerName::new("text")?, Arc::new(tools()?)).build();
    let worker = orchestrator.worker(Default::default());
    let who = Principal::local();

    let task = Task::new("how many words has this text").with_input(json!({ "text": "a task is a need" }));
    let submitted = orchestrator.submit(&who, task).await?;
    let job = orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(30)).await?;
    for event in orchestrator.events(&who, 0, 100, Duration::ZERO).await?.events {
        match event.event.kind {
            EventKind::Progress(progress) => println!("{} of {:?} words", progress.value, progress.total),
            kind => println!("{kind:?}"),
        }
    }
    let pointer = job.head.result.ok_or_else(|| anyhow::anyhow!("no result: {:?}", job.head.error))?;
    let body = orchestrator.result(&who, &pointer, None).await?;
    let result: Value = serde_json::from_slice(&body.bytes)?;
    anyhow::ensure!(result["structuredContent"]["words"] == 5, "{result}");
    println!("{result}");

    worker.drain(Duration::from_secs(5)).await;
    Ok(())
}
