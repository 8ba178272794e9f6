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
mod watch;
mod worker;

use std::{num::NonZero, process::ExitCode, time::Duration};

use clap::Parser as _;

use self::{
    exit::{Failure, Outcome},
    grammar::{Cli, Command},
};
use crate::wire;

/// Most threads of a kind: the work is waiting, and an idle process stays small.
const THREADS_MAX: NonZero<usize> = NonZero::new(4).unwrap();
/// How long work on blocking threads may hold up the end of the process, in milliseconds.
const RUNTIME_END_MS: u64 = 500;

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

/// How many threads there are of each kind: those of the engine, and those that serve connections.
fn threads() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN).min(THREADS_MAX)
}

fn run(command: Command) -> Outcome {
    if let Command::Config(args) = &command {
        return config::run(&args.command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads().get())
        .thread_name("metamcp")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::run(args).await,
            Command::Serve(args) => Box::pin(serve::run(args)).await,
            Command::Worker(args) => Box::pin(worker::run(args)).await,
            Command::Run(args) => run::run(args).await,
            Command::Tasks(args) => tasks::run(args.command).await,
            Command::Batch(args) => batches::run(args).await,
            Command::Queues(args) => queues::run(args).await,
            Command::Schedules(args) => schedules::run(args.command).await,
            Command::History(args) => history::run(args.command).await,
            Command::Route(args) => route::run(args).await,
            Command::Plan(args) => plan::run(args).await,
            Command::Servers(args) => servers::run(args).await,
            Command::Mcp(args) => mcp::run(args).await,
            Command::Admin(args) => admin::run(args).await,
            Command::Config(args) => config::run(&args.command),
        }
    });
    // A read of standard input cannot be interrupted: its thread must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(RUNTIME_END_MS));
    outcome
}
