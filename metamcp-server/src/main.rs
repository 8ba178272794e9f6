//! The binary `metamcp`. Everything is in the library, so that tests and other programs can use it.

use std::process::ExitCode;

/// A call through the gateway is a handful of small allocations, often freed on another thread than they were made on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    metamcp_server::cli::main()
}
