//! The command line: reads the arguments, starts the runtime, runs one command, and tells how it ended by words and exit code.
//!
//! Commands that need an engine speak to it through one client of the REST API, be it a server's or one in this process.

mod admin;
mod args;
mod backend;
mod batches;
mod client;
mod config;
mod demo;
mod exit;
mod grammar;
mod history;
mod input;
mod log;
mod mcp;
mod out;
mod plan;
mod presence;
mod queues;
mod route;
mod run;
mod running;
mod schedules;
mod serve;
mod servers;
mod show;
mod signal;
mod tasks;
mod threads;
mod watch;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;

use self::{
    exit::Outcome,
    grammar::{Cli, Command},
    threads::{on_threads, threads},
};
use crate::wire;

/// The whole program: from the arguments of this process to its exit code.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == wire::SUPERVISE) {
        return wire::supervise(words);
    }
    // Prints help and usage errors by itself; the latter end with 2.
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Demo(args) => on_threads(threads(), demo::run(args)),
        Command::Serve(args) => on_threads(threads(), serve::run(args)),
        Command::Worker(args) => worker::run(&args),
        Command::Run(args) => on_threads(threads(), run::run(args)),
        Command::Tasks(args) => on_threads(threads(), tasks::run(args.command)),
        Command::Batch(args) => on_threads(threads(), batches::run(args)),
        Command::Queues(args) => on_threads(threads(), queues::run(args)),
        Command::Schedules(args) => on_threads(threads(), schedules::run(args.command)),
        Command::History(args) => on_threads(threads(), history::run(args.command)),
        Command::Route(args) => on_threads(threads(), route::run(args)),
        Command::Plan(args) => on_threads(threads(), plan::run(args)),
        Command::Servers(args) => on_threads(threads(), servers::run(args)),
        Command::Mcp(args) => on_threads(threads(), mcp::run(args)),
        Command::Admin(args) => on_threads(threads(), admin::run(args)),
        Command::Config(args) => config::run(&args.command),
    }
}
