//! `metamcp config`: check the configuration, or print what holds. Starts nothing.

use super::{
    args::ConfigCommand,
    exit::{Exit, Outcome},
    out,
};
use crate::config::Config;

pub(super) fn run(command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check(args) => {
            let config = Config::load(&args.sources())?;
            let servers = config.enabled_servers().count() + usize::from(config.code_roots.is_some());
            out::text(&format!("OK, {servers} servers")).map_err(anyhow::Error::from)?;
        }
        ConfigCommand::Print(args) => {
            let config = Config::load(&args.sources())?;
            out::text(&config.print()).map_err(anyhow::Error::from)?;
        }
    }
    Ok(Exit::Done)
}
