//! The index against a scorer that reads every tool in full, on catalogues drawn at random; and what must hold for any text.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    LexicalMatcher,
    fields::{Counts, Field, Lengths, rarity, texts, worth},
    fusion,
    index::Index,
    meaning::meaning,
    query::{NEED_WORDS_MAX, Query, Role},
    search::{Scored, Scratch},
    tokens::{Kind, tokens},
    words::Words,
};
use crate::{
    auth::Principal,
    id::{Lane, ServerName},
    matching::{
        Capability, CapabilityMatcher as _, Catalog, Reason, ServerTerms,
        dense::{DenseTable, Vectors},
    },
    task::Need,
};

const VOCABULARY: [&str; 24] = [
    "file",
    "files",
    "system",
    "filesystem",
    "read",
    "reading",
    "write",
    "search",
    "find",
    "the",
    "list",
    "weather",
    "forecast",
    "city",
    "commit",
    "branch",
    "gitHub",
    "天气预报",
    "time",
    "zone",
    "what",
    "config",
    "configuration",
    "s3",
];

fn text(words_max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(VOCABULARY.as_slice()), 0..words_max).prop_map(|w| w.join(" "))
}

fn catalogue() -> impl Strategy<Value = Catalog> {
    let tool = (0..3_u8, 0..40_u8, text(3), text(12), text(3), text(6));
    prop::collection::vec(tool, 0..40).prop_map(|tools| {
        Catalog::new(tools.into_iter().map(|(server, number, name, description, property, said)| {
            let definition = json!({
                "name": format!("{}{number}", name.replace(' ', "_")),
                "description": description,
                "inputSchema": {"type":"object","properties":{property:{"description":said}}},
            });
            let server = ServerName::new(format!("{}{server}", VOCABULARY[usize::from(server)])).unwrap();
            let lane = Lane::new(format!("lane{server}")).ok();
            let terms = Arc::new(ServerTerms { lane, ..ServerTerms::default() });
            Arc::new(Capability::from_definition(&server, terms, definition.into()).unwrap())
        }))
    })
}

/// Occurrences of one stem in one tool, and its lengths, by reading all of it.
fn read_in_full(tool: &Capability, stem: &str, words: &Words) -> (Counts, Lengths) {
    let schema: Value = tool.input_schema.view().unwrap();
    let (mut counts, mut lengths) = (Counts::default(), Lengths::default());
    texts(tool, &schema, |field: Field, text| {
        tokens(text, |token, kind| {
            if !words.is_stop(token) || field.keeps_stop_words() {
                counts[field.at()] += u8::from(words.stem(token) == stem);
                lengths[field.at()] += u16::from(kind == Kind::Word);
            }
        });
    });
    (counts, lengths)
}

/// What the index should find, by reading every tool for every term.
fn brute_force(
    query: &Query,
    index: &Index,
    catalog: &Catalog,
    words: &Words,
    table: Option<&DenseTable>,
) -> Vec<Scored> {
    let mut found = Vec::new();
    let tools = catalog.capabilities();
    let holders = |stem: &str| tools.iter().filter(|t| read_in_full(t, stem, words).0 != Counts::default()).count();
    let terms: Vec<_> = query.terms.iter().map(|t| (index.text_of(t.term), t)).collect();
    let weights: Vec<f32> = terms.iter().map(|(stem, t)| t.weight * rarity(holders(stem))).collect();
    for (tool, capability) in (0_u32..).zip(tools) {
        let mut score = 0.0_f32;
        for ((stem, t), weight) in terms.iter().zip(&weights) {
            let (counts, lengths) = read_in_full(capability, stem, words);
            if counts != Counts::default() && (t.role == Role::Content || score > 0.0) {
                score += worth(&counts, &lengths) * weight;
            }
        }
        if let (Some(table), Some(need)) = (table, &query.meaning) {
            score += fusion::similarity(&alone(capability, table), 0, need, score > 0.0).unwrap_or(0.0);
        }
        if score > 0.0 {
            found.push(Scored::new(tool, score));
        }
    }
    found.sort_by(Scored::rank);
    found
}

/// What the nearness of its pieces adds to a tool, read from the tool alone.
fn nearness(query: &Query, capability: &Capability, table: &DenseTable) -> f32 {
    query.pieces.as_ref().map_or(0.0, |need| fusion::nearness(&alone(capability, table), 0, need))
}

/// The vectors of one tool.
fn alone(capability: &Capability, table: &DenseTable) -> Vectors {
    let mut vectors = Vectors::with_dimensions(table.dimensions());
    let (vector, pieces) = meaning(capability, &capability.input_schema.view().unwrap(), table);
    vectors.push(&vector, pieces);
    vectors
}

/// A table that knows some of the words, each in a direction of its own, some of them near one another.
fn table() -> DenseTable {
    let pieces = ["file", "system", "read", "write", "weather", "forecast", "time", "zone", "config", "##uration"];
    let directions = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4];
    DenseTable::for_tests(&pieces.iter().copied().zip(directions).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_index_ranks_as_reading_every_tool_would(
        (before, stay) in (catalogue(), prop::collection::vec(any::<bool>(), 40)),
        more in catalogue(),
        need in text(8),
        keys in prop::collection::vec("[a-z]{2,6}", 0..3),
        max in 1..30_usize,
        dense in any::<bool>(),
    ) {
        let words = Words::new();
        let table = dense.then(table);
        // The snapshot comes after others, of which it has lost some tools, kept some and changed some.
        let kept = before.capabilities().iter().zip(&stay).filter(|(_, stay)| **stay).map(|(tool, _)| tool.clone());
        let catalog = Catalog::new(kept.chain(more.capabilities().iter().cloned()));
        let mut older = vec![Arc::new(Index::build(&before, &words, table.as_ref(), &[]))];
        let between = Catalog::new(before.capabilities().iter().chain(more.capabilities().iter().take(3)).cloned());
        older.insert(0, Arc::new(Index::build(&between, &words, table.as_ref(), &older)));
        for older in [&older[..], &older[1..], &[]] {
            let index = Index::build(&catalog, &words, table.as_ref(), older);
            let keys = keys.iter().map(String::as_str).chain(["file"]);
            let mut query = Query::new(&need, keys, &index, &words);
            if let Some(table) = &table {
                query.mean(&need, table);
            }
            let expected = brute_force(&query, &index, &catalog, &words, table.as_ref());
            let mut scratch = Scratch::default();
            // Twice on one scratch memory: the first search must leave nothing behind.
            for _ in 0..2 {
                scratch.search(&query, &index, (max, 0), None);
                prop_assert_eq!(scratch.best.items(), &expected[..max.min(expected.len())]);
            }
            let mut closer = scratch.best.items().to_vec();
            scratch.look_closer(&query, &index);
            let few = closer.len().min(fusion::CLOSER_MAX);
            for scored in &mut closer[..few] {
                let capability = &catalog.capabilities()[scored.tool as usize];
                scored.nearness = table.as_ref().map_or(0.0, |table| nearness(&query, capability, table));
                scored.score += scored.nearness;
            }
            closer[..few].sort_by(Scored::rank);
            prop_assert_eq!(scratch.best.items(), &closer);
            let odd = |c: &Capability| c.id.server().as_str().ends_with('1');
            scratch.search(&query, &index, (max, max), Some(&odd));
            let (fit, unfit): (Vec<_>, Vec<_>) =
                expected.iter().copied().partition(|s| odd(&catalog.capabilities()[s.tool as usize]));
            prop_assert_eq!(scratch.best.items(), &fit[..max.min(fit.len())]);
            prop_assert_eq!(scratch.unfit.items(), &unfit[..max.min(unfit.len())]);
        }
    }

    #[test]
    fn a_tool_that_shares_no_word_moves_no_other(catalog in catalogue(), need in text(8), dense in any::<bool>()) {
        let words = Words::new();
        let table = dense.then(table);
        let scores = |catalog: &Catalog| {
            let index = Index::build(catalog, &words, table.as_ref(), &[]);
            let mut query = Query::new(&need, std::iter::empty(), &index, &words);
            if let Some(table) = &table {
                query.mean(&need, table);
            }
            let mut scratch = Scratch::default();
            scratch.search(&query, &index, (100, 0), None);
            scratch.look_closer(&query, &index);
            let named = |s: &Scored| (index.capability(s.tool).id.to_string(), s.score.to_bits());
            scratch.best.items().iter().map(named).filter(|(id, _)| id != "aaa/zylophor").collect::<Vec<_>>()
        };
        let definition = json!({"name": "zylophor", "description": "glibber vexing mump"}).into();
        let other = Capability::from_definition(&ServerName::new("aaa").unwrap(), Arc::default(), definition).unwrap();
        let with = Catalog::new(catalog.capabilities().iter().cloned().chain([Arc::new(other)]));
        prop_assert_eq!(scores(&catalog), scores(&with));
    }

    #[test]
    fn any_need_becomes_a_bounded_query(need in "\\PC{0,300}", catalog in catalogue()) {
        let words = Words::new();
        let index = Index::build(&catalog, &words, None, &[]);
        let query = Query::new(&need, std::iter::empty(), &index, &words);
        let numbers: BTreeSet<&str> = query.terms.iter().map(|t| index.text_of(t.term)).collect();
        prop_assert_eq!(numbers.len(), query.terms.len());
        prop_assert!(query.terms.iter().all(|t| t.word < query.words.len() && t.weight > 0.0));
        prop_assert!(query.terms.is_sorted_by_key(|t| t.role));
    }

    #[test]
    fn any_word_has_a_stem(word in "[a-z']{1,40}") {
        prop_assert!(!Words::new().stem(&word).is_empty());
    }
}

#[tokio::test]
async fn reasons_add_up_to_the_score_also_where_pieces_were_looked_at() {
    let tools = ["read_file", "write_file", "weather_forecast"].map(|name| {
        let definition = json!({ "name": name }).into();
        Arc::new(
            Capability::from_definition(&ServerName::new("x").unwrap(), Arc::<ServerTerms>::default(), definition)
                .unwrap(),
        )
    });
    let matcher = LexicalMatcher::new().with_table(table());
    let need = Need::new("read a file of the time zone");
    let route = matcher.rank(&Principal::local(), &need, &Catalog::new(tools)).await.unwrap();
    assert_eq!(route.candidates.len(), 2, "{route:?}");
    for candidate in &route.candidates {
        let told: f32 = candidate.reasons.iter().filter_map(Reason::score).sum();
        assert!((told - candidate.score).abs() < 1e-3, "{candidate:?}");
    }
}

fn terms_of(need: &str, tools: &[&str]) -> Vec<(String, Role)> {
    let catalog = Catalog::new(tools.iter().map(|name| {
        let definition = json!({ "name": name }).into();
        Arc::new(
            Capability::from_definition(&ServerName::new("x").unwrap(), Arc::<ServerTerms>::default(), definition)
                .unwrap(),
        )
    }));
    let words = Words::new();
    let index = Index::build(&catalog, &words, None, &[]);
    let query = Query::new(need, std::iter::empty(), &index, &words);
    query.terms.iter().map(|t| (index.text_of(t.term).to_owned(), t.role)).collect()
}

#[test]
fn words_written_apart_together_short_or_long_meet() {
    let content = |term: &str| vec![(term.to_owned(), Role::Content)];
    assert_eq!(terms_of("filesystem", &["file_system_x"]).len(), 2);
    assert_eq!(terms_of("file system", &["filesystem"])[0], ("filesystem".to_owned(), Role::Content));
    assert_eq!(terms_of("config", &["configuration"]), content("configur"));
    assert_eq!(terms_of("configuration", &["config"]), content("config"));
    assert_eq!(terms_of("github", &["GitHub"]), content("github"));
    assert_eq!(terms_of("图", &["图像"]), content("图像"));
    assert!(terms_of("cat", &["category"]).is_empty(), "too short to be a beginning");
}

#[test]
fn words_of_asking_bring_nothing_in_unless_nothing_else_is_said() {
    let tools = ["list_branches", "who_am_i"];
    assert_eq!(
        terms_of("list branches", &tools),
        [("branch".to_owned(), Role::Content), ("list".to_owned(), Role::Support)]
    );
    assert_eq!(terms_of("list", &tools)[0], ("list".to_owned(), Role::Content));
    assert!(terms_of("who am i", &tools).iter().all(|(_, role)| *role == Role::Content));
    assert_eq!(terms_of("who am i", &tools).len(), 3);
}

#[test]
fn only_so_many_words_of_a_long_need_are_looked_up() {
    let need: String = (0..100_000).map(|i| format!("word{i} ")).collect();
    let names: Vec<String> = (0..200).map(|i| format!("word{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let terms = terms_of(&need, &names);
    assert!(!terms.is_empty() && terms.len() <= 2 * NEED_WORDS_MAX, "{}", terms.len());
}

#[test]
fn a_server_more_costs_a_small_part_and_parts_stay_few() {
    let words = Words::new();
    let tool = |server: usize, number: usize| {
        let definition =
            json!({ "name": format!("tool{number}"), "description": format!("about word{number}") }).into();
        let server = ServerName::new(format!("server{server}")).unwrap();
        Arc::new(Capability::from_definition(&server, Arc::default(), definition).unwrap())
    };
    let mut tools: Vec<_> = (0..100).map(|number| tool(0, number)).collect();
    let mut older = vec![Arc::new(Index::build(&Catalog::new(tools.clone()), &words, None, &[]))];
    for server in 1..100 {
        tools.extend((0..2).map(|number| tool(server, number)));
        let catalog = Catalog::new(tools.clone());
        let index = Arc::new(Index::build(&catalog, &words, None, &older));
        assert!(index.shares_a_part_with(&older[0]) || server > 10, "{server} servers");
        assert!(index.part_count() <= 4);
        older = vec![index];
    }
}
