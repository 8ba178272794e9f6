//! `metamcp mcp NAME`: one of our own MCP servers over standard input and output, for any MCP client.

use std::path::PathBuf;

use super::{
    args::McpArgs,
    exit::{Exit, Failure, Outcome},
    log,
};
use crate::{
    config::{BUILTIN_CODE, Config, Sources},
    wire,
};

pub(super) async fn run(args: McpArgs) -> Outcome {
    if args.name != BUILTIN_CODE {
        let mend = format!("there is no server `{}` of our own; known are: {BUILTIN_CODE}", args.name);
        return Err(Failure::refused(mend));
    }
    // Only the log is configured: what this server may read is said on the command line.
    let sources =
        Sources { environment: crate::config::Environment::of_process(), no_user_file: true, ..Sources::default() };
    log::start(&Config::load(&sources)?.log, "warn");
    let roots = if args.roots.is_empty() { vec![PathBuf::from(".")] } else { args.roots };
    wire::serve_code_over_stdio(roots).await?;
    Ok(Exit::Done)
}
