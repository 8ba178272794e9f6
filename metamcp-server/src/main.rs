//! The binary `metamcp`. Everything is in the library, so that tests and other programs can use it.

use std::process::ExitCode;

fn main() -> ExitCode {
    metamcp_server::cli::main()
}
