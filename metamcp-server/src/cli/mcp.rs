//! `metamcp mcp NAME`: one of our own MCP servers over standard input and output, for any MCP client. `gateway` is all configured servers as one.

use std::path::PathBuf;

use metamcp_mcp_adapters::gateway::{StdioOptions, serve_stdio};
use tokio::io::{stdin, stdout};

use super::{
    args::McpArgs,
    exit::{Exit, Failure, Outcome},
    log, running, signal,
};
use crate::{
    config::{BUILTIN_CODE, Config, Sources},
    wire,
};

/// The name of the gateway.
const GATEWAY: &str = "gateway";

pub(super) async fn run(args: McpArgs) -> Outcome {
    match &*args.name {
        GATEWAY => Box::pin(gateway(args)).await,
        BUILTIN_CODE => code(args).await,
        other => {
            let mend = format!("there is no server `{other}` of our own; known are: {BUILTIN_CODE}, {GATEWAY}");
            Err(Failure::refused(mend))
        }
    }
}

async fn gateway(args: McpArgs) -> Outcome {
    let config = Config::load(&args.config.sources())?;
    log::start(&config.log, "warn");
    if let Some(name) = args.endpoint.as_ref().filter(|name| !config.gateway.options.endpoints.contains_key(*name)) {
        return Err(Failure::refused(format!("there is no endpoint `{name}`; name one of [gateway.endpoints]")));
    }
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let Some(app) = stop.run_until_cancelled(running::open(&config)).await else { return Ok(Exit::Done) };
    let app = app?;
    app.describe("metamcp mcp gateway");
    // On a shared store others work; here nobody else could.
    let worker = (!config.store.is_shared()).then(|| app.start_worker());
    let served = async {
        let mut options = StdioOptions::default();
        options.endpoint = args.endpoint;
        options.drain = stop.child_token();
        let served = serve_stdio(app.gateway().await?, stdin(), stdout(), options).await;
        served.map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))
    };
    let served = served.await;
    if let Some(worker) = worker {
        worker.drain(config.server.drain).await;
    }
    app.close().await;
    served.map(|()| Exit::Done)
}

async fn code(args: McpArgs) -> Outcome {
    // Only the log is configured: what this server may read is said on the command line.
    let sources = Sources { no_user_file: true, ..args.config.sources() };
    log::start(&Config::load(&sources)?.log, "warn");
    let roots = if args.roots.is_empty() { vec![PathBuf::from(".")] } else { args.roots };
    wire::serve_code_over_stdio(roots).await?;
    Ok(Exit::Done)
}
