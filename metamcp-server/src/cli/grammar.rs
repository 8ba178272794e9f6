//! The grammar of the command line: the commands, each with the arguments of its own file or of `args`.

use clap::{Parser, Subcommand};

use super::{
    admin::AdminArgs,
    args::{ConfigCommandArgs, DemoArgs, McpArgs, RunArgs, ServeArgs, ServersArgs, TasksArgs, WorkerArgs},
    batches::BatchArgs,
    history::HistoryArgs,
    plan::PlanArgs,
    queues::QueuesArgs,
    route::RouteArgs,
    schedules::SchedulesArgs,
};

/// State a need in words; MetaMCP finds the MCP tool that serves it, runs it as a durable job and hands you the result.
#[derive(Debug, Parser)]
#[command(name = "metamcp", version, max_term_width = 100, after_help = EXAMPLES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  metamcp demo                                          see it work on the sources in this folder
  metamcp serve --mcp-config ~/.mcp.json                orchestrate the servers of an MCP client's file
  metamcp run \"list the functions of this file\" --arg path=src/main.rs
  metamcp route \"find every place that uses main\" --arg name=main

Exit codes: 0 done, 1 failed, 2 wrong usage or refused, 130 cancelled by Ctrl-C.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start a server here, run three tasks stated in words, and leave the server up
    Demo(DemoArgs),
    /// Serve the REST API and work on jobs until SIGTERM or Ctrl-C
    Serve(ServeArgs),
    /// Work on the jobs of a shared store until SIGTERM or Ctrl-C
    Worker(WorkerArgs),
    /// Submit a need, watch it, and print its result
    Run(RunArgs),
    /// List, show, cancel, retry and answer tasks
    Tasks(TasksArgs),
    /// Submit many tasks in one call
    Batch(BatchArgs),
    /// Show the queues, pause and resume them
    Queues(QueuesArgs),
    /// Tasks that recur: list, show, put, pause, resume, fire, delete
    Schedules(SchedulesArgs),
    /// Show which tools could serve a need, and why, without running any
    Route(RouteArgs),
    /// What was learned from the outcomes of tasks: list, show, remove, export, import
    History(HistoryArgs),
    /// Propose how to serve a need in several steps; run it when told to
    Plan(PlanArgs),
    /// List the configured MCP servers and how they are
    Servers(ServersArgs),
    /// Be one of MetaMCP's own MCP servers, over standard input and output
    Mcp(McpArgs),
    /// Look at, steer, back up and move a whole store
    Admin(AdminArgs),
    /// Check or print the configuration
    Config(ConfigCommandArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
