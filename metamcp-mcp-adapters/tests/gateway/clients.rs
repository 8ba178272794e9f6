//! Clients that others have made, as their users use them: the SDKs of npm and PyPI and the MCP Inspector, in both eras, through the gateway to a
//! server of either era. What each does is in the scripts of the folder `clients`; here is who meets whom.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use tokio::process::Command;

use super::{conformance_fixture::Eras, served::Served};

/// Longest run of one script, in seconds; the machine may be busy.
const SCRIPT_S_MAX: u64 = 300;
/// What every client does.
const STEPS: [&str; 6] = ["list", "call", "fail", "elicit", "progress", "cancel"];

/// Something that `cargo xtask tools` has installed.
fn tool(relative: &str) -> PathBuf {
    let path = tools().join(relative);
    assert!(path.exists(), "{} is missing: run `cargo xtask tools`", path.display());
    path
}

fn tools() -> PathBuf {
    let dir = std::env::var_os("METAMCP_TOOLS_DIR").map(PathBuf::from);
    dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.xtask"))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/clients").join(name)
}

fn node() -> Command {
    let mut command = Command::new(tool("node_modules/.bin/node"));
    command.env("METAMCP_TOOLS_DIR", tools());
    command
}

fn javascript(name: &str) -> Command {
    let mut command = node();
    command.arg("--import").arg(script("tools.mjs")).arg(script(name));
    command
}

fn python() -> Command {
    let mut command = Command::new(tool("venv/bin/python"));
    command.arg(script("sdk.py"));
    command
}

/// Runs a program to its end, which must be a good one, and gives what it printed.
async fn run(mut command: Command) -> String {
    command.kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(SCRIPT_S_MAX), command.output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{command:?} took longer than {SCRIPT_S_MAX} s")).unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}\n{printed}\n{complaint}", output.status);
    printed
}

/// A script takes these steps and says so.
async fn takes(mut command: Command, url: &str, era: &str, steps: &[&str]) {
    command.arg(url).arg(era).args(steps);
    let printed = run(command).await;
    let done: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("ok ")).collect();
    assert_eq!(done, steps);
}

async fn sdk_v1(upstream: Eras) {
    let served = Served::new(upstream).await;
    takes(javascript("sdk_v1.mjs"), &served.url, "legacy", &STEPS).await;
    takes(javascript("sdk_v1.mjs"), &served.url, "legacy", &["task"]).await;
}

async fn sdk_v2(era: &str, upstream: Eras) {
    let served = Served::new(upstream).await;
    takes(javascript("sdk_v2.mjs"), &served.url, era, &STEPS).await;
    takes(javascript("sdk_v2.mjs"), &served.url, era, &["task"]).await;
}

async fn pypi(era: &str, upstream: Eras) {
    let served = Served::new(upstream).await;
    takes(python(), &served.url, era, &STEPS).await;
    takes(python(), &served.url, era, &["task"]).await;
}

#[tokio::test]
async fn npm_sdk_to_a_legacy_server() {
    sdk_v1(Eras::Legacy).await;
}

#[tokio::test]
async fn npm_sdk_to_a_modern_server() {
    sdk_v1(Eras::Modern).await;
}

#[tokio::test]
async fn npm_client_of_the_legacy_era_to_a_modern_server() {
    sdk_v2("legacy", Eras::Modern).await;
}

#[tokio::test]
async fn npm_client_of_the_modern_era_to_a_legacy_server() {
    sdk_v2("modern", Eras::Legacy).await;
}

#[tokio::test]
async fn npm_client_of_the_modern_era_to_a_modern_server() {
    sdk_v2("modern", Eras::Modern).await;
}

#[tokio::test]
async fn python_of_the_legacy_era_to_a_legacy_server() {
    pypi("legacy", Eras::Legacy).await;
}

#[tokio::test]
async fn python_of_the_legacy_era_to_a_modern_server() {
    pypi("legacy", Eras::Modern).await;
}

#[tokio::test]
async fn python_of_the_modern_era_to_a_legacy_server() {
    pypi("modern", Eras::Legacy).await;
}

#[tokio::test]
async fn python_of_the_modern_era_to_a_modern_server() {
    pypi("modern", Eras::Modern).await;
}

/// What the Inspector prints for one method, in its JSON.
async fn inspect(url: &str, era: &str, words: &[&str]) -> Value {
    let mut command = node();
    command.arg(tool("node_modules/.bin/mcp-inspector"));
    command.args(["--cli", url, "--transport", "http", "--protocol-era", era, "--format", "json", "-q"]).args(words);
    let printed = run(command).await;
    let told: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
    told["result"].clone()
}

async fn inspector(era: &str, upstream: Eras) {
    let served = Served::new(upstream).await;
    let url = &served.url;
    let told = inspect(url, era, &["--method", "tools/list", "--strict"]).await;
    let tools = told["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "test_simple_text"), "{told}");

    let words = ["--method", "tools/call", "--tool-name", "greet", "--tool-arg", "name=Ada"];
    assert_eq!(inspect(url, era, &words).await["content"][0]["text"], "Hello, Ada!");

    let words = ["--method", "resources/read", "--uri", "test://static-text"];
    let told = inspect(url, era, &words).await;
    assert_eq!(told["contents"][0]["text"], "This is the content of the static text resource.");

    let words =
        "--method prompts/get --prompt-name test_prompt_with_arguments --prompt-args arg1=one --prompt-args arg2=two";
    let told = inspect(url, era, &words.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(told["messages"][0]["content"]["text"], "Prompt with arguments: arg1='one', arg2='two'");
}

#[tokio::test]
async fn inspector_of_the_legacy_era() {
    inspector("legacy", Eras::Modern).await;
}

#[tokio::test]
async fn inspector_of_the_modern_era() {
    inspector("modern", Eras::Legacy).await;
}
