//! `metamcp config` and `metamcp mcp` as the binary does them: exit codes, words, and who they tell.

mod support;

use support::Home;

#[test]
fn check_says_ok_or_everything_that_is_wrong() {
    let home = Home::new();
    let done = home.run(["config", "check"]).exits(0);
    assert_eq!(done.stdout, "OK, 1 servers\n");
    let file = home.file("bad.toml", "[server]\nlisen = 1\n[jobs]\nlease_s = 0\n");
    let done = home.run(["config", "check", "--config", file.to_str().unwrap()]).exits(2);
    assert!(done.stdout.is_empty(), "{done:#?}");
    for word in ["bad.toml:2: server.lisen: unknown key; did you mean `listen`?", "bad.toml:4: jobs.lease_s"] {
        assert!(done.stderr.contains(word), "{word}: {}", done.stderr);
    }
}

#[test]
fn print_tells_every_value_with_its_source_and_no_secret() {
    let home = Home::new();
    let file = home.file("c.toml", "[servers.git]\ncommand = \"git\"\nenv = { TOKEN = \"s3cret\" }\n");
    let mut command = home.command(["config", "print", "--listen", "127.0.0.1:9", "--config"]);
    command.arg(&file).env("METAMCP_JOBS__LEASE_S", "7").env("METAMCP_LOG", "debug");
    let done = support::finish(support::spawn(&mut command), "").exits(0);
    assert!(!done.stdout.contains("s3cret"), "{}", done.stdout);
    for words in [
        ["listen = \"127.0.0.1:9\"", "# --listen"],
        ["lease_s = 7", "# environment METAMCP_JOBS__LEASE_S"],
        ["level = \"debug\"", "# environment METAMCP_LOG"],
        ["[servers.git]", "c.toml:1"],
        ["env = { TOKEN = \"(redacted)\" }", ""],
    ] {
        let found = done.stdout.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} in\n{}", done.stdout);
    }
}

#[test]
fn serving_beyond_this_machine_is_refused_with_the_reason() {
    let home = Home::new();
    let done = home.run(["serve", "--listen", "0.0.0.0:0"]).exits(2);
    assert!(done.stderr.contains("nobody has to log in") && done.stderr.contains("--allow-remote"), "{}", done.stderr);
}

#[test]
fn our_own_server_answers_initialize_over_stdio_and_ends_with_its_input() {
    let home = Home::new();
    home.file("a.rs", "fn here() {}\n");
    let input = concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#,
        "\n",
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        "\n",
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/list"}"#,
        "\n",
    );
    let mut child = support::spawn(&mut home.command(["mcp", "code", "--root", "."]));
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    let mut answers = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    let mut answer = || {
        line.clear();
        std::io::BufRead::read_line(&mut answers, &mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let hello = answer();
    assert_eq!((&hello["id"], &hello["result"]["serverInfo"]["name"]), (&1.into(), &"code".into()));
    let tools = answer();
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 5);
    drop(stdin);
    let status = support::eventually("its end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_server_of_our_own_that_is_not_known_is_refused_with_the_known_ones() {
    let done = Home::new().run(["mcp", "cod"]).exits(2);
    assert!(done.stderr.contains("known are: code"), "{}", done.stderr);
}

#[test]
fn usage_errors_end_with_2_and_help_has_examples() {
    let home = Home::new();
    home.run(["run"]).exits(2);
    home.run(["frobnicate"]).exits(2);
    let help = home.run(["run", "--help"]).exits(0);
    assert!(help.stdout.contains("Examples:") && help.stdout.contains("--idempotency-key"), "{}", help.stdout);
}
