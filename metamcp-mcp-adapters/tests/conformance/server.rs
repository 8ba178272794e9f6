//! The server that the official conformance suite is run against through the gateway: `conformance_server stdio|http modern|legacy|both`.
//!
//! Over HTTP it prints the address of its endpoint, on a free loopback port, and serves until its standard input ends.

mod fixture;

use std::{io::Write as _, process::ExitCode};

use rmcp::ServiceExt as _;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::fixture::{Eras, Server};

const USAGE: &str = "usage: conformance_server stdio|http modern|legacy|both";

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let eras = match words.get(1) {
        Some(&"modern") => Eras::Modern,
        Some(&"legacy") => Eras::Legacy,
        Some(&"both") => Eras::Both,
        _ => return failed(USAGE),
    };
    let server = Server::new(eras);
    match words[0] {
        "stdio" => {
            if let Ok(running) = server.serve(rmcp::transport::stdio()).await {
                let _ = running.waiting().await;
            }
            ExitCode::SUCCESS
        }
        "http" => match http(server).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error.to_string()),
        },
        _ => failed(USAGE),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

/// Serves until whoever started us closes our standard input, or dies.
async fn http(server: Server) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/mcp", listener.local_addr()?);
    std::io::stdout().flush()?;
    let mut rest = Vec::new();
    tokio::select! {
        error = fixture::serve_http(server, listener) => Err(error),
        read = async { tokio::io::stdin().read_to_end(&mut rest).await } => read.map(|_| ()),
    }
}
