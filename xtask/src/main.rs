//! The chores of this repository as `cargo xtask COMMAND`: what to type, what it runs, and how long each step took.
//! This file holds the list of commands and finds the one that was asked for; the work is in the file named like the command.
//! Nothing here is part of the library or the server.

mod args;
mod conformance;
mod debian;
mod demo;
mod distil;
mod pins;
mod process;
mod proofs;
mod stamp;
mod test;
mod tools;
mod verify;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::process::Place;

/// One word after `cargo xtask`.
struct Command {
    name: &'static str,
    takes: &'static str,
    about: &'static str,
    run: fn(&Place, &[String]) -> Result<()>,
}

const COMMANDS: &[Command] = &[
    Command { name: "demo", takes: "[--exit]", about: "build the server and run `metamcp demo`", run: demo::demo },
    Command {
        name: "test",
        takes: "[-- NEXTEST ARGS]",
        about: "every test, doc test and example against real MCP servers and stores; with arguments only the tests they name",
        run: test::test,
    },
    Command {
        name: "verify",
        takes: "[--no-test] [--online]",
        about: "format, lints, docs, licences and dependency rules, then `test`; writes nothing to the sources",
        run: verify::verify,
    },
    Command { name: "fix", takes: "", about: "apply clippy's suggestions, then format; writes", run: verify::fix },
    Command {
        name: "tools",
        takes: "",
        about: "install what the tests need into .xtask/ (or METAMCP_TOOLS_DIR), Redis and PostgreSQL too; at once when it is there",
        run: tools::tools,
    },
    Command {
        name: "conformance",
        takes: "[--only NAME]",
        about: "the official MCP suite through the gateway, in every pair of eras; one line for each",
        run: conformance::conformance,
    },
    Command {
        name: "kill9",
        takes: "[--cycles N] [--seed S]",
        about: "kill the server under load N times (200), no accepted job may be lost",
        run: proofs::kill9,
    },
    Command {
        name: "powercut",
        takes: "[--cuts N] [--seed S]",
        about: "cut the power under the embedded store N times (50000), it must always open again whole",
        run: proofs::power_cut,
    },
    Command {
        name: "simulate",
        takes: "[--seeds N]",
        about: "run the engine under chaos for N seeds (2000), invariants checked at each step",
        run: proofs::simulate,
    },
    Command {
        name: "chaos",
        takes: "[--minutes N] [--seed S] [--store redis|sentinel|postgres|all]",
        about: "torment a fleet of workers and replicas on real stores for N minutes (10), every promise must hold",
        run: proofs::chaos,
    },
    Command {
        name: "fuzz",
        takes: "[--minutes N] [--seed S]",
        about: "garbage at the gateway from clients and servers for N minutes (8), nobody else may notice",
        run: proofs::fuzz,
    },
    Command { name: "bench", takes: "[NAME]", about: "the criterion benches, or those NAME names", run: test::bench },
    Command {
        name: "distil",
        takes: "[--sentences N] [--dimensions N] [--out FILE]",
        about: "write the built-in table of word vectors anew, or FILE, from a sentence model (85000, 128): up to an hour, on Debian and its kin",
        run: distil::distil,
    },
    Command { name: "openapi", takes: "", about: "write metamcp-server/openapi.json anew", run: test::openapi },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<()> {
    let Some((name, rest)) = args.split_first() else {
        print_help();
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_help();
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let names = COMMANDS.iter().map(|command| command.name);
        bail!("no command `{name}`; did you mean `cargo xtask {}`?", args::nearest(name, names));
    };
    // What stands after `--` belongs to the tool that is called, its own `--help` too.
    let own = rest.iter().take_while(|arg| *arg != "--");
    if own.into_iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("cargo xtask {}\n  {}", usage(command), command.about);
        return Ok(());
    }
    (command.run)(&Place::find()?, rest)
}

fn usage(command: &Command) -> String {
    format!("{} {}", command.name, command.takes).trim_end().to_owned()
}

fn print_help() {
    let width = COMMANDS.iter().map(|command| usage(command).len()).max().unwrap_or(0);
    println!("cargo xtask COMMAND\n");
    for command in COMMANDS {
        println!("  {:width$}  {}", usage(command), command.about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_command_names_the_nearest() {
        let error = dispatch(&["tets".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "no command `tets`; did you mean `cargo xtask test`?");
    }
}
