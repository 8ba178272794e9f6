//! Configuration as a whole: which source wins, what is refused and with which words, and what is never printed.

use std::{fs, path::Path};

use metamcp_core::id::ServerName;
use metamcp_mcp_adapters::discover::Way;
use metamcp_server::config::{Config, Environment, Flag, Problems, Sources, StoreKind};

/// A folder with a configuration file of this text, and the sources that name it.
fn with_file(text: &str) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("metamcp.toml");
    fs::write(&file, text).expect("it is writable");
    let environment = Environment::from_iter([("HOME", dir.path().to_string_lossy().into_owned())]);
    (dir, Sources { file: Some(file), environment, ..Sources::default() })
}

fn load(text: &str) -> Result<Config, Problems> {
    let (_dir, sources) = with_file(text);
    Config::load(&sources)
}

/// What is said about a file that must be refused.
fn refused(text: &str) -> String {
    load(text).expect_err("it must be refused").to_string()
}

fn flag(name: &'static str, key: &'static str, value: &str) -> Flag {
    Flag { name, key, value: value.to_owned() }
}

#[test]
fn without_any_source_everything_has_a_default() {
    let environment = Environment::from_iter([("HOME", "/home/me")]);
    let config = Config::load(&Sources { environment, ..Sources::default() }).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:7300");
    assert_eq!(config.server.data_dir, Path::new("/home/me/.local/state/metamcp"));
    assert_eq!(config.store, StoreKind::Embedded);
    assert!(config.code_roots.is_some() && config.servers.is_empty());
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let (_dir, mut sources) = with_file(
        "[server]\nlisten = \"127.0.0.1:1\"\n[worker]\nconcurrency = 1\n[jobs]\nattempts_max = 1\nlease_s = 99\n",
    );
    sources.environment =
        Environment::from_iter([("METAMCP_SERVER__LISTEN", "127.0.0.1:2"), ("METAMCP_WORKER__CONCURRENCY", "2")]);
    sources.flags = vec![flag("--listen", "server.listen", "127.0.0.1:3")];
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.worker.concurrency, 2);
    assert_eq!((config.jobs.attempts_max, config.jobs.lost_max), (1, 3));
    let printed = config.print();
    let source_of = |key: &str| {
        let line = printed.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key} in\n{printed}"));
        line.rsplit_once("# ").unwrap().1.to_owned()
    };
    assert_eq!(source_of("listen"), "--listen");
    assert_eq!(source_of("concurrency"), "environment METAMCP_WORKER__CONCURRENCY");
    assert!(source_of("lease_s").ends_with("metamcp.toml:7"), "{printed}");
    assert_eq!(source_of("drain_s"), "default");
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one() {
    let said = refused("[server]\nlisten = \"127.0.0.1:1\"\nlisen = 1\n");
    assert!(said.contains("metamcp.toml:3: server.lisen: unknown key; did you mean `listen`?"), "{said}");
    assert!(refused("[sever]\n").contains("did you mean `server`?"));
    assert!(refused("[builtin.code]\nroot = []\n").contains("builtin.code.root: unknown key; did you mean `roots`?"));
    let said = refused("[servers.git]\ncomand = \"git\"\ncommand = \"git\"\n");
    assert!(said.contains("servers.git.comand: unknown key; did you mean `command`?"), "{said}");
    let said = refused("[servers.git]\ncommand = \"git\"\nresources = { gup = true }\n");
    assert!(said.contains("servers.git.resources.gup: unknown key; did you mean `gpu`?"), "{said}");
    let environment = Environment::from_iter([("METAMCP_SERVER__LISEN", "x")]);
    let said = Config::load(&Sources { environment, ..Sources::default() }).unwrap_err().to_string();
    assert!(said.contains("did you mean `METAMCP_SERVER__LISTEN`?"), "{said}");
}

#[test]
fn every_problem_is_told_not_only_the_first() {
    let problems =
        load("x = 1\n[server]\nlisten = \"here\"\n[jobs]\nlease_s = 0\n[log]\nlevel = \"loud\"\n").unwrap_err();
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys.len(), 4, "{problems}");
    for key in ["x", "server.listen", "jobs.lease_s", "log.level"] {
        assert!(keys.contains(&key), "{key}: {problems}");
    }
    assert!(problems.to_string().contains("write a whole number from 3 to 3600"), "{problems}");
}

#[test]
fn text_that_is_not_toml_and_files_that_are_not_there_are_told() {
    assert!(refused("[server\n").contains("metamcp.toml:1: is not TOML"), "{}", refused("[server\n"));
    let sources = Sources { file: Some("/nowhere/metamcp.toml".into()), ..Sources::default() };
    assert!(Config::load(&sources).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn an_address_beyond_this_machine_needs_a_word_of_consent() {
    let said = refused("[server]\nlisten = \"0.0.0.0:7300\"\n");
    assert!(said.contains("server.listen") && said.contains("--allow-remote"), "{said}");
    assert!(load("[server]\nlisten = \"0.0.0.0:7300\"\nallow_remote = true\n").is_ok());
    assert!(load("[server]\nlisten = \"[::1]:7300\"\n").is_ok());
}

#[test]
fn secrets_are_not_printed() {
    let text = "[servers.git]\ncommand = \"git\"\nargs = [\"--token=s3cret-arg\", \"https://me:s3cret-pw@host/x\", \"-H\", \"A: s3cret\", \"${OTHER}\"]\n\
                env = { TOKEN = \"s3cret-env\", OTHER = \"${OTHER}\" }\n\
                [servers.web]\nurl = \"https://me:s3cret-url@host/mcp?key=s3cret-query\"\n\
                headers = { Authorization = \"Bearer s3cret-header\", X = \"Bearer ${OTHER}\" }\n";
    let (_dir, mut sources) = with_file(text);
    sources.environment = Environment::from_iter([("OTHER", "s3cret-other")]);
    let config = Config::load(&sources).unwrap();
    let printed = config.print();
    assert!(!printed.contains("s3cret"), "{printed}");
    assert!(printed.contains("OTHER = \"(redacted)\"") && printed.contains("https://(redacted)@host/mcp"), "{printed}");
    assert!(!format!("{config:?}").contains("s3cret-env"), "{config:?}");
    assert!(!format!("{config:?}").contains("s3cret-other"), "{config:?}");
}

#[test]
fn what_is_printed_can_be_read_again() {
    let text = "[server]\nlisten = \"127.0.0.1:9\"\n[servers.\"a.b\"]\ncommand = \"x\"\nlabels = { team = \"a b\" }\nlane = \"heavy\"\n\
                resources = { gpu = true, memory_mib = 5, owned = true }\ndescription = \"a \\\"b\\\"\"\n\
                equivalent = \"files\"\nequivalent_tools = { cat = \"read\", show = { tool = \"read\", arguments = { at = \"HEAD:{path}\", n = 1 } } }\nprice = 0.25\nlocality = \"owned\"\n\
                tenants = [\"research\"]\n";
    let first = load(text).unwrap();
    let second = load(&first.print()).unwrap();
    assert_eq!(second.server, first.server);
    let name = ServerName::new("a.b").unwrap();
    let (first, second) = (&first.servers[&name].spec, &second.servers[&name].spec);
    assert_eq!((&first.way, &first.labels, &first.resources), (&second.way, &second.labels, &second.resources));
    assert_eq!((&first.lane, &first.description), (&second.lane, &second.description));
    assert_eq!(first.terms(), second.terms());
    assert_eq!((first.price, first.tenants.as_ref().map(std::collections::BTreeSet::len)), (0.25, Some(1)));
}

#[test]
fn a_variable_that_is_not_set_is_told_unless_its_server_is_disabled() {
    let said = refused("[servers.git]\ncommand = \"git\"\nenv = { A = \"${NOT_SET}\" }\n");
    assert!(said.contains("metamcp.toml:3: servers.git.env.A: the variable `NOT_SET` is not set"), "{said}");
    assert!(load("[servers.git]\ncommand = \"git\"\ndisabled = true\nenv = { A = \"${NOT_SET}\" }\n").is_ok());
}

#[test]
fn a_server_is_either_a_command_or_an_address() {
    assert!(refused("[servers.a]\n").contains("needs `command`"));
    assert!(refused("[servers.a]\ncommand = \"x\"\nurl = \"http://x\"\n").contains("either `command` or `url`"));
    assert!(refused("[servers.a]\nurl = \"http://x\"\nargs = []\n").contains("servers.a.args: unknown key"));
    assert!(refused("[servers.a]\nurl = \"ftp://x\"\n").contains("must be an address"));
    assert!(refused("[servers.a]\ncommand = \"x\"\nlane = \"gpu\"\n").contains("no worker serves the lane `gpu`"));
    assert!(refused("[servers.\"a b\"]\ncommand = \"x\"\n").contains("server name `a b` is not valid"));
}

#[test]
fn paths_of_a_file_are_relative_to_that_file() {
    let (dir, sources) = with_file("[server]\ndata_dir = \"state\"\n[builtin.code]\nroots = [\".\"]\n");
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.server.data_dir, dir.path().join("state"));
    assert_eq!(config.code_roots.unwrap(), [dir.path().join(".")]);
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    let said = refused("[builtin.code]\nroots = [\"nowhere\"]\n");
    assert!(said.contains("builtin.code.roots") && said.contains("is no folder"), "{said}");
    assert!(load("[builtin.code]\nenabled = false\nroots = [\"nowhere\"]\n").is_ok());
}

#[test]
fn servers_of_an_mcp_clients_file_are_merged_and_a_name_in_two_places_names_both() {
    let (dir, mut sources) = with_file("[servers.git]\ncommand = \"git\"\n");
    let mcp = dir.path().join("mcp.json");
    let servers = r#"{ "mcpServers": {
        "files": { "command": "npx", "args": ["-y", "files"], "env": { "A": "${HOME}" } },
        "web": { "type": "http", "url": "https://example.com/mcp", "headers": { "X": "y" } } } }"#;
    fs::write(&mcp, servers).unwrap();
    sources.mcp_files = vec![mcp.clone()];
    let config = Config::load(&sources).unwrap();
    let names: Vec<&str> = config.servers.keys().map(ServerName::as_str).collect();
    assert_eq!(names, ["files", "git", "web"]);
    assert!(matches!(&config.servers[&ServerName::new("files").unwrap()].spec.way,
        Way::Stdio { command, args, .. } if command == "npx" && args.len() == 2));
    assert!(matches!(config.servers[&ServerName::new("web").unwrap()].spec.way, Way::Http { .. }));

    fs::write(&mcp, r#"{ "mcpServers": { "git": { "command": "git" } } }"#).unwrap();
    let said = Config::load(&sources).unwrap_err().to_string();
    assert!(said.contains("mcp.json") && said.contains("is also in") && said.contains("metamcp.toml:1"), "{said}");

    fs::write(&mcp, "{ \"mcpServers\": 1 }").unwrap();
    assert!(Config::load(&sources).unwrap_err().to_string().contains("mcp.json"));
}

#[test]
fn a_server_may_not_take_the_name_of_the_built_in_one() {
    let said = refused("[servers.code]\ncommand = \"x\"\n");
    assert!(said.contains("builtin.code.enabled = false"), "{said}");
    assert!(load("[builtin.code]\nenabled = false\n[servers.code]\ncommand = \"x\"\n").is_ok());
}

#[test]
fn the_users_own_file_is_found_and_one_in_the_working_directory_is_not() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("metamcp")).unwrap();
    fs::write(dir.path().join("metamcp/config.toml"), "[worker]\nconcurrency = 3\n").unwrap();
    let environment = Environment::from_iter([("XDG_CONFIG_HOME", dir.path().to_string_lossy().into_owned())]);
    let mut sources = Sources { environment, ..Sources::default() };
    assert_eq!(Config::load(&sources).unwrap().worker.concurrency, 3);
    sources.no_user_file = true;
    assert_eq!(Config::load(&sources).unwrap().worker.concurrency, 16);
}

#[test]
fn names_and_endpoints_of_the_gateway_are_read_and_printed() {
    let text = "[gateway]\nlist = \"both\"\nupgrade_after_s = 0\n\
                [gateway.endpoints.team]\nservers = [\"git\", \"code\"]\nlist = \"search\"\ntools = { exclude = [\"*delete*\"] }\n\
                [servers.git]\ncommand = \"git\"\nalias = { log = \"history\" }\nuris = { include = [\"git://*\"] }\n\
                tools = { include = [\"l*\"], heavy = [\"log\"] }\n\
                [servers.web]\nurl = \"http://h/mcp\"\nnaming = \"none\"\n[servers.db]\ncommand = \"db\"\nprefix = \"d\"\n";
    let first = load(text).unwrap();
    let second = load(&first.print()).unwrap_or_else(|problems| panic!("{problems}\n{}", first.print()));
    for config in [first, second] {
        let options = &config.gateway.options;
        assert_eq!((options.upgrade_after, options.endpoints.len()), (None, 1));
        let name = |server: &str, tool: &str| {
            let server = ServerName::new(server).unwrap();
            config.servers[&server].view().naming.exposed(&server, tool)
        };
        assert_eq!(
            [name("git", "log"), name("git", "diff"), name("web", "get"), name("db", "get")],
            ["history", "git__diff", "get", "d__get"]
        );
        let git = config.servers[&ServerName::new("git").unwrap()].view();
        assert!(git.tools.takes("log") && !git.tools.takes("diff") && !git.resources.takes("file:///x"));
        assert!(git.heavy[0].matches("log"));
        let team = &options.endpoints["team"];
        assert!(team.servers.len() == 2 && !team.tools.takes("git__delete_all"));
    }
}

#[test]
fn what_is_wrong_with_the_gateway_is_told_with_its_place() {
    let server = |line: &str| refused(&format!("[servers.git]\ncommand = \"git\"\n{line}\n"));
    for (line, said) in [
        ("naming = \"off\"", "metamcp.toml:3: servers.git.naming: write one of prefix, none, alias"),
        ("prefix = \"a b\"", "metamcp.toml:3: servers.git.prefix: `a b` cannot be shown"),
        ("naming = \"none\"\nprefix = \"a\"", "metamcp.toml:4: servers.git.prefix: goes with naming = \"prefix\" only"),
        ("alias = { a = \"\" }", "servers.git.alias: `` cannot be shown; write 1 to 64"),
        ("naming = \"alias\"", "servers.git.alias: is missing"),
        ("tools = { exlude = [\"a\"] }", "servers.git.tools.exlude: unknown key; did you mean `exclude`?"),
        ("tools = [\"a\"]", "servers.git.tools: is a list; write { include"),
        ("prompts = { include = \"a\" }", "servers.git.prompts.include: write a list of strings"),
        ("[gateway.endpoints.team]\nservers = [\"gti\"]", "`gti`: unknown server; did you mean `git`?"),
        ("[gateway.endpoints.team]\nlist = \"all\"", "gateway.endpoints.team.list: write one of full, search, both"),
        ("[gateway.endpoints.\"a/b\"]", "metamcp.toml:3: gateway.endpoints.a/b: the name is a part of a path"),
        ("[gateway]\nendpoints = 3", "metamcp.toml:4: gateway.endpoints: is an integer; write a table for each"),
        ("[gateway]\nheavy_lanes = [\"A\"]", "gateway.heavy_lanes: lane `A` is not valid"),
    ] {
        let told = server(line);
        assert!(told.contains(said), "{line}\n{told}");
    }
}
