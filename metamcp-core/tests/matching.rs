//! The built-in matcher from outside: needs in words over a catalogue such as a small house has, and why each answer is what it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::sync::Arc;

use metamcp_core::{
    auth::Principal,
    id::{CapabilityId, JobId, Lane, ServerName},
    matching::{
        Capability, CapabilityMatcher, Catalog, LexicalMatcher, Outcome, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason,
        Route, ServerTerms, Verdict,
    },
    task::{Need, Resources},
    time::Timestamp,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn tool(server: &str, terms: &Arc<ServerTerms>, definition: Value) -> Arc<Capability> {
    let server = ServerName::new(server).unwrap();
    Arc::new(Capability::from_definition(&server, terms.clone(), definition.into()).unwrap())
}

/// A tool whose properties are all strings; those with a star are required.
fn simple(server: &str, terms: &Arc<ServerTerms>, name: &str, description: &str, properties: &str) -> Arc<Capability> {
    let names = properties.split_whitespace();
    let declared: serde_json::Map<String, Value> =
        names.clone().map(|p| (p.trim_end_matches('*').to_owned(), json!({"type": "string"}))).collect();
    let required: Vec<&str> = names.filter_map(|p| p.strip_suffix('*')).collect();
    let schema = json!({"type": "object", "properties": declared, "required": required});
    tool(server, terms, json!({"name": name, "description": description, "inputSchema": schema}))
}

fn terms(description: &str) -> Arc<ServerTerms> {
    Arc::new(ServerTerms { description: description.to_owned(), ..ServerTerms::default() })
}

fn house() -> Vec<Arc<Capability>> {
    let files = terms("local files and folders below the allowed roots");
    let git = terms("version control of the repositories of this machine");
    let clock = terms("time zones and calendars");
    let memory = terms("a knowledge graph that remembers facts between sessions");
    let web = terms("reads pages of the world wide web");
    let code = terms("source code by its syntax tree");
    let sky = terms("meteorological service");
    let heavy = Arc::new(ServerTerms {
        description: "media processing".to_owned(),
        lane: Some(Lane::heavy()),
        resources: Resources { gpu: true, memory_mib: Some(8_192), local: true, owned: false },
        labels: [("team".to_owned(), "cinema".to_owned())].into(),
        concurrency: None,
        ..ServerTerms::default()
    });
    vec![
        simple("files", &files, "readText", "Returns the complete contents of a text file.", ""),
        simple("files", &files, "writeText", "Creates a file or overwrites it with new contents.", ""),
        simple("files", &files, "patch", "Applies line edits to an existing text file.", ""),
        simple("files", &files, "newFolder", "Makes a directory and its parents.", ""),
        simple("files", &files, "listFolder", "Names everything within a directory.", ""),
        simple("files", &files, "tree", "Recursive view of directories as nested JSON.", ""),
        simple("files", &files, "move", "Renames or moves files and folders.", ""),
        simple("files", &files, "removeFile", "Deletes one file for good.", ""),
        simple("files", &files, "glob", "Finds files whose path matches a pattern.", ""),
        simple("files", &files, "stat", "Size, owner, permissions and modification date of a path.", ""),
        simple("git", &git, "status", "Shows which files are changed, staged or untracked.", ""),
        simple("git", &git, "diff", "Differences between two revisions or the working tree.", ""),
        simple("git", &git, "commit", "Records staged changes with a message.", ""),
        simple("git", &git, "log", "History of commits with author and date.", ""),
        simple("git", &git, "branch_create", "Starts a branch from a base revision.", ""),
        simple("git", &git, "branch_list", "All branches, local and remote.", ""),
        simple("git", &git, "checkout", "Switches to another branch.", ""),
        simple("git", &git, "blame", "Who last changed each line of a file.", ""),
        simple("clock", &clock, "now", "The current time in a time zone.", ""),
        simple("clock", &clock, "convert", "Converts a time from one timezone to another.", ""),
        simple("clock", &clock, "holidays", "Public holidays of a country in a year.", ""),
        simple("clock", &clock, "countdown", "Days left until a date.", ""),
        simple("memory", &memory, "remember", "Stores a fact about an entity.", ""),
        simple("memory", &memory, "recall", "Looks up facts about an entity.", ""),
        simple("memory", &memory, "relate", "Links two entities by a relation.", ""),
        simple("memory", &memory, "forget", "Erases a fact.", ""),
        simple("memory", &memory, "graph", "The whole graph of entities and relations.", ""),
        simple("web", &web, "get_page", "Downloads a URL and returns it as markdown.", ""),
        simple("web", &web, "web_search", "Search results for a query from a search engine.", ""),
        simple("web", &web, "screenshot", "Picture of a rendered page.", ""),
        simple("code", &code, "outline", "Functions, classes and methods that a source file defines.", ""),
        simple("code", &code, "symbols", "Searches definitions by name in a whole project.", ""),
        simple("code", &code, "usages", "Every place that references a symbol.", ""),
        simple("code", &code, "parse", "The syntax tree of a source file.", ""),
        simple("sky", &sky, "forecast", "Weather of the next days for a city.", ""),
        simple("sky", &sky, "airQuality", "Pollution index at a place.", ""),
        simple("sky", &sky, "天气预警", "查询城市的天气预警信息", ""),
        simple("sky", &sky, "прогноз", "Прогноз погоды на неделю", ""),
        simple("studio", &heavy, "transcribe", "Speech of an audio recording as text.", ""),
        simple("studio", &heavy, "render_video", "Renders a scene into a film.", ""),
        tool("studio", &heavy, json!({"name": "x1", "title": "Remove the background of a photo"})),
    ]
}

async fn rank(need: &Need, catalog: &Catalog) -> Route {
    let matcher = LexicalMatcher::new();
    let route = matcher.rank(&Principal::local(), need, catalog).await.unwrap();
    assert!(route.candidates.len() <= ROUTE_CANDIDATES_MAX && route.rejected.len() <= REJECTED_MAX);
    assert!(route.candidates.is_sorted_by(|a, b| (b.score, &a.capability) <= (a.score, &b.capability)));
    route
}

fn names(route: &Route) -> Vec<String> {
    route.candidates.iter().map(|c| c.capability.to_string()).collect()
}

async fn first(words: &str) -> String {
    let route = rank(&Need::new(words), &Catalog::new(house())).await;
    names(&route).into_iter().next().unwrap_or_default()
}

fn id(text: &str) -> CapabilityId {
    text.parse().unwrap()
}

#[tokio::test]
async fn words_find_the_tool_that_serves_them() {
    for (words, expected) in [
        ("delete a file", "files/removeFile"),
        ("what are the permissions of this path?", "files/stat"),
        ("make a directory for the reports", "files/newFolder"),
        ("list the directory", "files/listFolder"),
        ("who changed this line last", "git/blame"),
        ("commit the staged changes with a message", "git/commit"),
        ("show me all branches please", "git/branch_list"),
        ("switch to another branch", "git/checkout"),
        ("convert 3 pm to another time zone", "clock/convert"),
        ("when are the public holidays of Portugal", "clock/holidays"),
        ("store the fact that Ada likes tea", "memory/remember"),
        ("download https://example.com as markdown", "web/get_page"),
        ("search the web for red pandas", "web/web_search"),
        ("list the functions of this file", "code/outline"),
        ("references to this symbol", "code/usages"),
        ("will the weather be fine next week in Oslo", "sky/forecast"),
        ("air pollution in Delhi", "sky/airQuality"),
        ("transcribe the recording of the meeting", "studio/transcribe"),
        ("take the background out of this photo", "studio/x1"),
    ] {
        assert_eq!(first(words).await, expected, "{words}");
    }
}

#[tokio::test]
async fn spelling_inflection_and_synonyms_do_not_matter() {
    for (words, expected) in [
        ("RENDERING VIDEOS", "studio/render_video"),
        ("air-quality", "sky/airQuality"),
        ("erase file", "files/removeFile"),
        ("locate symbols by name", "code/symbols"),
        ("timezone conversion", "clock/convert"),
        ("screen shot of a page", "web/screenshot"),
    ] {
        assert_eq!(first(words).await, expected, "{words}");
    }
}

#[tokio::test]
async fn other_scripts_are_matched() {
    assert_eq!(first("北京的天气预警").await, "sky/天气预警");
    assert_eq!(first("прогноз погоды").await, "sky/прогноз");
}

#[tokio::test]
async fn labels_and_server_descriptions_are_matched() {
    assert!(first("something for the cinema team").await.starts_with("studio/"));
    assert!(first("ask the meteorological service").await.starts_with("sky/"));
}

#[tokio::test]
async fn what_no_tool_speaks_of_gives_an_empty_route() {
    for words in
        ["", "   ", "!?", "qwfp zxcvb arstd", "please help me, I need to use something", "of the and", "🦀🦀🦀"]
    {
        let route = rank(&Need::new(words), &Catalog::new(house())).await;
        assert_eq!(route, Route::default(), "{words:?}");
    }
    assert_eq!(rank(&Need::new("list the files"), &Catalog::default()).await, Route::default());
}

#[tokio::test]
async fn grammar_words_count_when_nothing_else_is_said() {
    let mut tools = house();
    tools.push(simple("account", &Arc::default(), "who_am_i", "Name of the signed-in user.", ""));
    let catalog = Catalog::new(tools);
    assert_eq!(names(&rank(&Need::new("who am I?"), &catalog).await)[0], "account/who_am_i");
    assert_eq!(names(&rank(&Need::new("now"), &catalog).await), ["clock/now"]);
}

#[tokio::test]
async fn the_name_of_a_thing_leaves_it_to_the_words_of_asking() {
    let uses = tool("code", &terms(""), json!({"name": "references", "description": "Find where a name is used."}));
    let other = tool("code", &terms(""), json!({"name": "outline", "description": "The structure of a file."}));
    let catalog = Catalog::new([uses, other]);
    let route = rank(&Need::new("where is JobStore used"), &catalog).await;
    assert_eq!(names(&route), ["code/references"]);
    assert!(rank(&Need::new("where is chromodynamics used"), &catalog).await.candidates.is_empty());
}

#[tokio::test]
async fn reasons_name_the_word_the_field_and_what_it_adds() {
    let route = rank(&Need::new("Weather forecasts, please"), &Catalog::new(house())).await;
    let best = &route.candidates[0];
    let told: Vec<(&str, &str)> = best
        .reasons
        .iter()
        .map(|r| match r {
            Reason::Term { field, term, .. } => (field.as_ref(), term.as_ref()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [("name", "forecasts"), ("description", "weather")]);
    let sum: f32 = best.reasons.iter().map(|r| if let Reason::Term { score, .. } = r { *score } else { 0.0 }).sum();
    assert!((sum - best.score).abs() < 1e-4, "{sum} is not {}", best.score);
    let capability = Catalog::new(house());
    assert_eq!(best.definition, capability.get(&best.capability).unwrap().digest);
}

#[tokio::test]
async fn a_tool_whose_schema_refuses_the_input_is_rejected_with_the_reason() {
    let none = Arc::default();
    let catalog = Catalog::new([
        simple("code", &none, "outline", "Outline of a file", "path*"),
        simple("other", &none, "outline", "Outline of a file", "uri*"),
        tool(
            "third",
            &none,
            json!({"name":"outline","description":"Outline of a file", "inputSchema":
            {"type":"object","properties":{"depth":{"type":"integer"}},"additionalProperties":false}}),
        ),
    ]);
    let with = |input: Value| Need { input: input.into(), ..Need::new("outline of a file") };

    let empty = rank(&with(json!({})), &catalog).await;
    assert_eq!(names(&empty), ["third/outline"]);
    assert_eq!(empty.rejected[0].capability, id("code/outline"));
    assert_eq!(empty.rejected[0].reason, "input: `path` is required by code/outline");
    assert_eq!(empty.rejected[1].reason, "input: `uri` is required by other/outline");

    let path = rank(&with(json!({"path": "src/lib.rs"})), &catalog).await;
    assert_eq!(names(&path), ["code/outline"]);
    assert!(path.rejected.iter().any(|r| r.reason.contains("`path` is not known to third/outline; it takes `depth`")));

    let wrong = rank(&with(json!({"path": 7, "uri": "x:y"})), &catalog).await;
    assert_eq!(names(&wrong), ["other/outline"]);
    assert_eq!(wrong.rejected[0].reason, "input.path: must be of type string for code/outline");
}

#[tokio::test]
async fn of_two_that_fit_the_one_that_knows_the_input_comes_first() {
    let none = Arc::default();
    let catalog = Catalog::new([
        simple("a", &none, "convert", "Converts a value", "colour"),
        simple("b", &none, "convert", "Converts a value", "temperature"),
    ]);
    let need = |input: Value| Need { input: input.into(), ..Need::new("convert this value") };
    assert_eq!(names(&rank(&need(json!({"temperature": "3"})), &catalog).await)[0], "b/convert");
    assert_eq!(names(&rank(&need(json!({"colour": "red"})), &catalog).await)[0], "a/convert");
    let keys_alone = Need { input: json!({"colour": "red"}).into(), ..Need::new("zxcvb") };
    assert_eq!(rank(&keys_alone, &catalog).await, Route::default());
}

#[tokio::test]
async fn a_named_tool_is_taken_whatever_the_words_are() {
    let catalog = Catalog::new(house());
    let need = Need { tool: Some(id("git/log")), ..Need::new("weather in Oslo") };
    let route = rank(&need, &catalog).await;
    assert_eq!(names(&route), ["git/log"]);
    assert_eq!(route.candidates[0].reasons, [Reason::Named]);
    let wordless = Need { text: String::new(), ..need.clone() };
    assert_eq!(names(&rank(&wordless, &catalog).await), ["git/log"]);
    let unknown = Need { tool: Some(id("git/rebase")), ..need };
    assert_eq!(rank(&unknown, &catalog).await, Route::default());
}

#[tokio::test]
async fn a_named_tool_that_does_not_fit_is_the_one_rejection() {
    let none = Arc::default();
    let mut tools = house();
    tools.push(simple("strict", &none, "sum", "Adds", "a* b*"));
    let catalog = Catalog::new(tools);
    let named = |tool: &str| Need { tool: Some(id(tool)), ..Need::new("weather") };
    for (need, reason) in [
        (Need { input: json!({"a": "1"}).into(), ..named("strict/sum") }, "input: `b` is required by strict/sum"),
        (
            Need { lane: Some(Lane::heavy()), ..named("git/log") },
            "lane: the need asks for `heavy`, server `git` is in `light`",
        ),
        (
            Need { resources: Resources { gpu: true, ..Resources::default() }, ..named("git/log") },
            "resources: needs a GPU, the server declares none",
        ),
    ] {
        let route = rank(&need, &catalog).await;
        assert_eq!(route.candidates, []);
        assert_eq!(route.rejected.len(), 1);
        assert_eq!(route.rejected[0].reason, reason);
    }
}

#[tokio::test]
async fn lane_and_resources_keep_tools_out_and_say_so() {
    let catalog = Catalog::new(house());
    let in_lane = Need { lane: Some(Lane::heavy()), ..Need::new("text of a file or recording") };
    let route = rank(&in_lane, &catalog).await;
    assert_eq!(names(&route), ["studio/transcribe"]);
    assert!(route.rejected.iter().any(|r| r.capability == id("files/readText") && r.reason.starts_with("lane: ")));
    assert_eq!(route.candidates[0].lane, Some(Lane::heavy()));

    let resources = Resources { memory_mib: Some(9_000), ..Resources::default() };
    let route = rank(&Need { resources, ..Need::new("render a film scene") }, &catalog).await;
    assert!(!names(&route).contains(&"studio/render_video".to_owned()));
    assert_eq!(route.rejected[0].reason, "resources: needs 9000 MiB of memory, the server declares 8192");

    let light = Need { lane: Some(Lane::light()), ..Need::new("read a text file") };
    assert_eq!(names(&rank(&light, &catalog).await)[0], "files/readText");
}

#[tokio::test]
async fn a_tool_that_fits_is_found_behind_any_number_that_do_not() {
    let light = Arc::new(ServerTerms::default());
    let heavy = Arc::new(ServerTerms { lane: Some(Lane::heavy()), ..ServerTerms::default() });
    let mut tools: Vec<_> =
        (0..2_000).map(|i| simple("many", &light, &format!("render_{i}"), "render a scene", "")).collect();
    tools.push(simple("one", &heavy, "other", "a scene among much else that is longer", ""));
    let route = rank(&Need { lane: Some(Lane::heavy()), ..Need::new("render a scene") }, &Catalog::new(tools)).await;
    assert_eq!(names(&route), ["one/other"]);
    assert_eq!(route.rejected.len(), REJECTED_MAX);
}

#[tokio::test]
async fn ties_go_by_capability_id_and_the_same_need_gives_the_same_route() {
    let none = Arc::default();
    let tools: Vec<_> =
        ["c", "a", "e", "b", "d"].iter().map(|s| simple(s, &none, "ping", "Sends a ping", "")).collect();
    let forward = Catalog::new(tools.clone());
    let backward = Catalog::new(tools.into_iter().rev());
    let need = Need::new("ping");
    let route = rank(&need, &forward).await;
    assert_eq!(names(&route), ["a/ping", "b/ping", "c/ping", "d/ping", "e/ping"]);
    assert_eq!(rank(&need, &backward).await, route);
    let matcher = LexicalMatcher::new();
    for _ in 0..3 {
        assert_eq!(matcher.rank(&Principal::local(), &need, &forward).await.unwrap(), route);
    }
}

#[tokio::test]
async fn tools_of_other_words_change_no_route_at_all() {
    let before = Catalog::new(house());
    let mut tools = house();
    let none = Arc::default();
    for i in 0..3_000 {
        let words: Vec<String> = (0..10).map(|k| format!("zq{}", i * 7 + k)).collect();
        tools.push(simple("zq", &none, &format!("zq{i}"), &words.join(" "), ""));
    }
    let after = Catalog::new(tools);
    for words in ["list the functions of this file", "delete a file", "show branches and their history", "weather"] {
        let need = Need::new(words);
        assert_eq!(rank(&need, &before).await, rank(&need, &after).await, "{words}");
    }
}

#[tokio::test]
async fn a_need_of_a_megabyte_is_ranked_by_its_beginning() {
    let words = format!("delete a file {}", "payload ".repeat(1 << 17));
    let route = rank(&Need::new(&words), &Catalog::new(house())).await;
    assert_eq!(names(&route)[0], "files/removeFile");
    let blob = "x".repeat(1 << 20);
    assert_eq!(rank(&Need::new(blob), &Catalog::new(house())).await, Route::default());
}

#[tokio::test]
async fn a_large_snapshot_is_indexed_once_for_many_at_a_time_and_old_ones_still_answer() {
    let none = Arc::default();
    let catalogs: Vec<Catalog> = (0..4)
        .map(|round| {
            Catalog::new((0..1_500).map(|i| simple("s", &none, &format!("r{round}t{i}"), &format!("job{i}"), "")))
        })
        .collect();
    let matcher = LexicalMatcher::new();
    for catalog in catalogs.iter().chain(&catalogs) {
        let asked: Vec<_> = (0..16)
            .map(|i| {
                let (matcher, catalog) = (matcher.clone(), catalog.clone());
                tokio::spawn(async move {
                    matcher.rank(&Principal::local(), &Need::new(format!("job{i}")), &catalog).await.unwrap()
                })
            })
            .collect();
        for (i, route) in asked.into_iter().enumerate() {
            let route = route.await.unwrap();
            assert_eq!(route.candidates.len(), 1);
            assert!(route.candidates[0].capability.tool().ends_with(&format!("t{i}")));
            assert!(catalog.get(&route.candidates[0].capability).is_some());
        }
    }
}

#[tokio::test]
async fn synonyms_of_ones_own_can_be_added_and_outcomes_are_taken() {
    let catalog = Catalog::new(house());
    let need = Need::new("smog");
    assert_eq!(rank(&need, &catalog).await, Route::default());
    let matcher = LexicalMatcher::with_synonyms(["smog pollution"]);
    let route = matcher.rank(&Principal::local(), &need, &catalog).await.unwrap();
    assert_eq!(names(&route), ["sky/airQuality"]);
    let outcome = Outcome {
        capability: route.candidates[0].capability.clone(),
        job: JobId::new(Timestamp::from_millis(1)),
        owner: Principal::local(),
        verdict: Verdict::Refused,
        at: Timestamp::from_millis(2),
        took: std::time::Duration::from_millis(5),
        need: need.clone(),
    };
    matcher.observe(&outcome).await.unwrap();
    assert_eq!(matcher.rank(&Principal::local(), &need, &catalog).await.unwrap(), route, "it does not learn");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn no_text_and_no_input_panics(
        words in "\\PC{0,400}", key in "\\PC{0,20}", value in "\\PC{0,20}",
        name in "\\PC{1,40}", description in "\\PC{0,200}", schema in "\\PC{0,20}",
    ) {
        let schema = json!({"type": schema, "properties": {&key: {"description": description, "pattern": schema}}});
        let none = Arc::default();
        let strange = tool("strange", &none, json!({"name": name, "description": description, "inputSchema": schema}));
        let catalog = Catalog::new(house().into_iter().chain([strange]));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for text in [words, format!("{name} {description}")] {
            let need = Need { input: json!({&key: value}).into(), ..Need::new(text) };
            let route = runtime.block_on(rank(&need, &catalog));
            prop_assert!(route.candidates.iter().all(|c| c.score > 0.0 && !c.reasons.is_empty()));
        }
    }
}
