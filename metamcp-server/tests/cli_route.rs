//! `metamcp route` and its commands as a user sees them: the real binary, files, and a data folder with tasks that were served.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

mod support;

use support::Home;

const TOOLS: &str = r#"{"id":"Fetcher","server":"web","name":"fetch_page","description":"Downloads a web page","inputSchema":{"type":"object","required":["url"]}}
{"id":"Sender","server":"mail & co","name":"send_mail","description":"Sends an electronic letter","inputSchema":{"type":"object"}}
"#;
const QUERIES: &str = r#"{"query":"download a web page","tools":["Fetcher"]}
{"query":"zylophor","tools":["Sender"]}
"#;
const NEED: [&str; 4] = ["run", "find the syntax nodes of this rust snippet", "--input", SNIPPET];
const SNIPPET: &str = r#"{"text": "fn main() {}", "language": "rust"}"#;

/// The files of an evaluation in a home.
fn files(home: &Home) -> [String; 4] {
    let file = |name, text| home.file(name, text).to_str().unwrap().to_owned();
    ["--tools".to_owned(), file("tools.jsonl", TOOLS), "--queries".to_owned(), file("eval.jsonl", QUERIES)]
}

#[test]
fn eval_tells_the_figures_and_what_a_setting_changes() {
    let home = Home::new();
    let args = files(&home);
    let eval = |more: &[&str]| {
        let args = ["route", "eval"].into_iter().chain(args.iter().map(String::as_str));
        home.run(args.chain(more.iter().copied()))
    };
    let plain = eval(&["--misses", "5"]).exits(0);
    for word in ["n          2", "hit@1      0.5000", "recall@10", "MRR", "p50", "p99", "Sender", "zylophor"] {
        assert!(plain.stdout.contains(word), "{word}: {plain:#?}");
    }
    let json = eval(&["--json", "--history", &args[3]]).exits(0).json();
    assert_eq!((&json["n"], &json["tools"], &json["history"]), (&2.into(), &2.into(), &2.into()));
    assert_eq!(json["hit@1"], 1.0, "what served a need before is known");
    let unlearned = eval(&["--json", "--history", &args[3], "--no-learn"]).exits(0).json();
    assert_eq!((&unlearned["hit@1"], &unlearned["history"]), (&0.5.into(), &2.into()), "a past that is not learned");
    assert!(json["p50_us"].as_f64() <= json["p99_us"].as_f64());
    let with = eval(&["--json", "--synonyms", "zylophor letter"]).exits(0).json();
    assert_eq!((&with["hit@1"], &with["mrr"]), (&1.0.into(), &1.0.into()));
    // The same setting out of a file.
    let config = home.file("m.toml", "[matcher]\nsynonyms = [\"zylophor letter\"]\n");
    assert_eq!(eval(&["--json", "--config", config.to_str().unwrap()]).exits(0).json()["hit@5"], 1.0);
}

#[test]
fn a_need_that_shares_no_word_finds_its_tool_by_meaning_unless_that_is_off() {
    let home = Home::new();
    let tools = "{\"id\":\"a\",\"server\":\"sky\",\"name\":\"forecast\",\"description\":\"Weather of the coming days\"}\n\
        {\"id\":\"b\",\"server\":\"disk\",\"name\":\"remove_file\",\"description\":\"Deletes a file\"}\n";
    let tools = home.file("tools.jsonl", tools);
    let queries =
        home.file("queries.jsonl", "{\"query\":\"will there be rain and snow tomorrow\",\"tools\":[\"a\"]}\n");
    let files = ["--tools", tools.to_str().unwrap(), "--queries", queries.to_str().unwrap(), "--json"];
    let eval = |more: &[&str]| home.run(["route", "eval"].into_iter().chain(files).chain(more.iter().copied()));
    assert_eq!(eval(&[]).exits(0).json()["hit@1"], 1.0);
    let off = home.file("off.toml", "[matcher]\ndense = false\n");
    assert_eq!(eval(&["--config", off.to_str().unwrap()]).exits(0).json()["hit@5"], 0.0);
    assert_eq!(eval(&["--no-dense"]).exits(0).json()["hit@5"], 0.0);
    let wrong = home.file("wrong.toml", "[matcher]\ndense_table = \"queries.jsonl\"\n");
    let done = eval(&["--config", wrong.to_str().unwrap()]).exits(1);
    assert!(done.stderr.contains("matcher.dense_table") && done.stderr.contains("xtask distil"), "{done:#?}");
}

#[test]
fn a_wrong_file_is_told_with_its_line() {
    let home = Home::new();
    let [_, tools, _, queries] = files(&home);
    let bad =
        home.file("bad.jsonl", "{\"query\":\"x\",\"tools\":[\"Sender\"]}\n{\"query\":\"x\",\"tools\":[\"Nobody\"]}\n");
    let bad = bad.to_str().unwrap();
    for (tools, queries, word) in [
        (tools.as_str(), bad, "bad.jsonl:2: no tool has the id `Nobody`"),
        (bad, queries.as_str(), "bad.jsonl:1: "),
        ("nowhere.jsonl", queries.as_str(), "nowhere.jsonl: cannot be read"),
    ] {
        let done = home.run(["route", "eval", "--tools", tools, "--queries", queries]).exits(2);
        assert!(done.stderr.contains(word) && done.stdout.is_empty(), "{done:#?}");
    }
}

#[test]
fn a_need_is_routed_as_before() {
    let home = Home::new();
    let done = home.run(["route", "find the syntax nodes of this rust snippet", "--memory"]).exits(0);
    assert!(done.stdout.starts_with("SCORE"), "{done:#?}");
    let done = home.run(["route"]).exits(2);
    assert!(done.stderr.contains("NEED"), "{done:#?}");
}

#[test]
fn replay_ranks_what_was_served_and_changes_nothing() {
    let home = Home::new();
    let data = home.data_dir();
    let data = data.to_str().unwrap();
    for _ in 0..2 {
        home.run(NEED.into_iter().chain(["--data-dir", data])).exits(0);
    }
    home.run(["run", "--data-dir", data, "--tool", "code/parse", "--input", SNIPPET]).exits(0);
    let before = home.run(["tasks", "list", "--data-dir", data, "--json"]).exits(0).stdout;
    let same = home.run(["route", "replay", "--data-dir", data, "--json"]).exits(0).json();
    assert_eq!((&same["tasks"], &same["named"], &same["more"]), (&3.into(), &1.into(), &false.into()), "{same}");
    assert_eq!((&same["needs"], &same["served"], &same["changed"]), (&1.into(), &1.into(), &0.into()), "{same}");
    assert_eq!((&same["regret"]["first"], &same["regret"]["mrr_new"]), (&0.0.into(), &1.0.into()), "{same}");
    // Over other tools the one that served is gone, and another comes first.
    let tools =
        home.file("t.jsonl", "{\"id\":\"x\",\"server\":\"x\",\"name\":\"syntax_nodes\",\"description\":\"rust\"}");
    let other = ["route", "replay", "--data-dir", data, "--tools", tools.to_str().unwrap()];
    let json = home.run(other.into_iter().chain(["--json"])).exits(0).json();
    assert_eq!((&json["gone"], &json["served"], &json["changed"]), (&1.into(), &0.into(), &1.into()), "{json}");
    assert_eq!((&json["changes"][0]["new"], &json["changes"][0]["jobs"]), (&"x/syntax_nodes".into(), &2.into()));
    let text = home.run(other.into_iter().chain(["--tasks", "1"])).exits(0).stdout;
    assert!(text.contains("regret") && text.contains("raise --tasks"), "{text}");
    assert_eq!(home.run(["tasks", "list", "--data-dir", data, "--json"]).exits(0).stdout, before);
    let done = home.run(["route", "replay", "--data-dir", "nowhere"]).exits(2);
    assert!(done.stderr.contains("there is no store"), "{done:#?}");
}
