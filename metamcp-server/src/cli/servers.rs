//! `metamcp servers`: the configured MCP servers and how they are; with `--tools` also what they offer, for which they are started.

use super::{
    args::ServersArgs,
    backend::Backend,
    client::ClientError,
    exit::{Exit, Outcome},
    out,
};
use crate::api::doc::{ServerDocument, ServerStateDocument, ToolDocument};

/// Widest description in a list, in characters.
const DESCRIPTION_CHARS_MAX: usize = 80;

pub(super) async fn run(args: ServersArgs) -> Outcome {
    let backend = Backend::find(&args.backend).await?;
    let found = async {
        // Tools first: a server tells how it is only once it was started.
        let tools = if args.tools { Some(backend.client.tools().await?) } else { None };
        Ok::<_, ClientError>((backend.client.servers().await?.servers, tools))
    };
    let found = found.await;
    backend.close().await;
    let (servers, tools) = found?;
    if args.json {
        let document = match &tools {
            Some(tools) => serde_json::json!({ "servers": servers, "tools": tools }),
            None => serde_json::json!({ "servers": servers }),
        };
        out::json(&document).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    let mut text =
        out::table(&["SERVER", "STATE", "TOOLS", "TARGET", "NOTE"], &servers.iter().map(row).collect::<Vec<_>>());
    for tool in tools.iter().flatten() {
        text.push_str(&format!("{}  {}\n", tool.id, out::short(about(tool), DESCRIPTION_CHARS_MAX)));
    }
    out::text(&text).map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

fn row(server: &ServerDocument) -> Vec<String> {
    let state = match server.state {
        ServerStateDocument::Idle => "idle",
        ServerStateDocument::Connecting => "connecting",
        ServerStateDocument::Ready => "ready",
        ServerStateDocument::Down => "down",
    };
    let note = server.last_failure.as_ref().or(server.implementation.as_ref());
    vec![
        server.name.to_string(),
        state.to_owned(),
        server.tools.to_string(),
        server.target.clone(),
        note.map_or_else(String::new, |note| out::short(note, DESCRIPTION_CHARS_MAX)),
    ]
}

fn about(tool: &ToolDocument) -> &str {
    if tool.description.is_empty() { tool.title.as_deref().unwrap_or_default() } else { &tool.description }
}
