//! `in_process_tool` with its face swapped: an axum app of your own serves the gateway at `/mcp`, and an MCP client of another make calls it.

use std::sync::Arc;

use axum::{Router, routing::get};
use metamcp_core::{
    engine::Orchestrator,
    id::ServerName,
    matching::Annotations,
    record::MemoryRecordStore,
    time::SystemClock,
    transport::{LocalTools, ToolError},
};
use metamcp_mcp_adapters::gateway::{Gateway, GatewayService, HttpOptions};
use rmcp::{ServiceExt as _, model::CallToolRequestParams, transport::StreamableHttpClientTransport};
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn tools(name: ServerName) -> LocalTools {
    let schema = json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] });
    let harmless = Annotations { read_only_hint: Some(true), ..Annotations::default() };
    LocalTools::new(name).tool("shout", "writes a text in capitals", schema, harmless, async |arguments, _| {
        let arguments: Value = arguments.view().map_err(|error| ToolError::new(error.to_string()))?;
        Ok::<_, ToolError>(json!({ "text": arguments["text"].as_str().unwrap_or_default().to_uppercase() }))
    })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = ServerName::new("text")?;
    let orchestrator = Orchestrator::builder().server(name.clone(), Arc::new(tools(name))).build();
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(orchestrator.clone(), records).build().await?;

    // Layers of your own may stand before it; one that knows who asks puts a `Principal` into the request's extensions.
    let service = GatewayService::new(gateway, HttpOptions::default());
    let app = Router::new().route("/", get(async || "an app of your own")).nest_service("/mcp", service);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let serving = tokio::spawn(axum::serve(listener, app).into_future());

    let client = ().serve(StreamableHttpClientTransport::from_uri(url)).await?;
    let tools = client.list_all_tools().await?;
    println!("{:?}", tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>());
    let arguments = json!({ "text": "one address for all" }).as_object().cloned().unwrap_or_default();
    let result = client.call_tool(CallToolRequestParams::new("text__shout").with_arguments(arguments)).await?;
    let result = result.structured_content.unwrap_or_default();
    anyhow::ensure!(result["text"] == "ONE ADDRESS FOR ALL", "{result}");
    println!("{result}");

    client.cancel().await?;
    serving.abort();
    orchestrator.close().await;
    Ok(())
}
