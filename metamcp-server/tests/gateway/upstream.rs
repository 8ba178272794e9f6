//! The counting servers behind a gateway: how they are configured, and what they have done.

use std::{fs, path::Path};

use crate::support::{Home, Serve, python};

/// The era of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Legacy,
    Modern,
}

/// A configuration with these servers, and with `more` before them. Their processes have the mark.
pub(crate) fn config(home: &Home, more: &str, mark: &str, servers: &[(&str, Era)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/counting.py");
    let mut text = format!("{more}\n[builtin.code]\nenabled = false\n");
    for (name, era) in servers {
        let era = if *era == Era::Legacy { "legacy" } else { "modern" };
        text.push_str(&format!(
            "[servers.{name}]\ncommand = {python:?}\nargs = [{script:?}]\n\
             env = {{ TRACE = {trace:?}, DOWN = {down:?}, NAME = \"{name}\", ERA = \"{era}\", MARK = \"{mark}\" }}\n",
            python = python(),
            trace = home.path().join("trace.txt"),
            down = home.path().join(format!("{name}.down")),
        ));
    }
    home.file("metamcp.toml", &text);
}

/// A gateway of its own over the servers of this home.
pub(crate) fn serve(home: &Home) -> Serve {
    let config = home.path().join("metamcp.toml");
    Serve::start(home, &["--config", config.to_str().expect("UTF-8")])
}

/// What the servers of this home have done: `tool key pid` each.
pub(crate) fn trace(home: &Home) -> Vec<(String, String, u32)> {
    let text = fs::read_to_string(home.path().join("trace.txt")).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let (tool, key, pid) = (words.next()?, words.next()?, words.next()?);
        Some((tool, key, pid.parse().ok()?))
    };
    text.lines().map(|text| line(text).unwrap_or_else(|| panic!("half a line: {text}"))).collect()
}

/// Which processes have done this, as often as they did.
pub(crate) fn who(home: &Home, tool: &str, key: &str) -> Vec<u32> {
    trace(home).into_iter().filter(|(t, k, _)| t == tool && k == key).map(|(.., pid)| pid).collect()
}

/// How often this was done.
pub(crate) fn count(home: &Home, tool: &str, key: &str) -> usize {
    who(home, tool, key).len()
}
