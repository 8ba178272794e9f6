//! The properties that learning stands on, over real needs and small catalogues.

use std::{collections::HashSet, sync::Arc, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::{
    History, LearningMatcher, Lesson, LessonFilter,
    memory::{HALF_LIFE, NEEDS_MAX},
};
use crate::{
    auth::Principal,
    id::{CapabilityId, JobId, Lane, ServerName, TenantId},
    matching::{
        Candidate, Capability, CapabilityMatcher, Catalog, DenseTable, LexicalMatcher, Outcome, Reason, Route,
        ServerTerms, Verdict,
    },
    task::Need,
    time::Timestamp,
};

const TOOLS: [(&str, &str); 5] = [
    ("forecast", "Weather of the coming days for a city"),
    ("outline", "Lists the symbols of a source file"),
    ("mail", "Sends a message to an address"),
    ("ledger", "Books an amount of money"),
    ("ask", "Answers anything"),
];
const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn id(tool: &str) -> CapabilityId {
    CapabilityId::new(ServerName::new("s").unwrap(), tool).unwrap()
}

fn capability(tool: &str, description: &str, lane: Option<Lane>) -> Arc<Capability> {
    let definition = json!({"name": tool, "description": description, "inputSchema": {"type": "object"}});
    let terms = Arc::new(ServerTerms { lane, ..ServerTerms::default() });
    Arc::new(Capability::from_definition(&ServerName::new("s").unwrap(), terms, definition.into()).unwrap())
}

fn catalog() -> Catalog {
    Catalog::new(TOOLS.map(|(tool, description)| capability(tool, description, None)))
}

fn lesson(need: &str, tool: &str, verdict: Verdict, at: Timestamp, subject: &str) -> Lesson {
    let subject = subject.to_owned();
    Lesson { need: need.to_owned(), capability: id(tool), verdict, at, job: JobId::new(at), subject }
}

fn tenant(name: &str) -> Principal {
    Principal::new(TenantId::new(name).unwrap(), "somebody")
}

struct Fixture {
    who: Principal,
    catalog: Catalog,
    history: Arc<History>,
    matcher: LearningMatcher,
}

impl Fixture {
    fn new() -> Self {
        let history = Arc::new(History::new());
        let matcher = LearningMatcher::new(Arc::new(LexicalMatcher::new()), Arc::clone(&history));
        Self { who: tenant("acme"), catalog: catalog(), history, matcher }
    }

    /// With a table that knows some words of rain and some of money.
    fn with_table() -> Self {
        let rain = ["rain", "umbrella", "storm", "wet"].map(|word| (word, 1));
        let money = ["money", "invoice", "salary", "tax"].map(|word| (word, 2));
        let rest = ["will", "need", "today", "for", "the"].into_iter().zip(3..);
        let pieces: Vec<(&str, usize)> = rain.into_iter().chain(money).chain(rest).collect();
        let history = Arc::new(History::new().with_table(DenseTable::for_tests(&pieces)));
        let matcher = LearningMatcher::new(Arc::new(LexicalMatcher::new()), Arc::clone(&history));
        Self { who: tenant("acme"), catalog: catalog(), history, matcher }
    }

    fn learn(&self, lesson: Lesson) -> bool {
        self.history.learn(&self.who.tenant, lesson)
    }

    fn route(&self, who: &Principal, need: &Need) -> Route {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.matcher.rank(who, need, &self.catalog)).unwrap()
    }

    fn ranked(&self, need: &str) -> Vec<String> {
        self.route(&self.who, &Need::new(need)).candidates.iter().map(|c| c.capability.tool().to_owned()).collect()
    }

    fn score(&self, need: &str, tool: &str) -> f32 {
        let route = self.route(&self.who, &Need::new(need));
        route.candidates.iter().find(|c| c.capability.tool() == tool).map_or(0.0, |c| c.score)
    }
}

fn history_of(candidate: &Candidate) -> Option<(u32, u32, &str, f32)> {
    candidate.reasons.iter().find_map(|reason| match reason {
        Reason::History { served, failed, similar, score } => Some((*served, *failed, similar.as_str(), *score)),
        _ => None,
    })
}

#[test]
fn a_need_that_shares_no_word_with_a_tool_finds_it_once_it_served_a_similar_one() {
    let f = Fixture::new();
    assert!(!f.ranked("will I need an umbrella in Oslo").contains(&"forecast".to_owned()));
    f.learn(lesson("do I need an umbrella in Bergen", "forecast", Verdict::Served, START, "a"));
    let route = f.route(&f.who, &Need::new("will I need an umbrella in Oslo"));
    let best = &route.candidates[0];
    assert_eq!(best.capability, id("forecast"));
    let (served, failed, similar, score) = history_of(best).expect("the past is told as a reason");
    assert_eq!((served, failed, similar), (1, 0, "do I need an umbrella in Bergen"));
    assert!(score > 0.0);
}

#[test]
fn what_answered_with_an_error_falls_behind_but_stays_as_the_next_best() {
    let f = Fixture::new();
    let need = "books the weather of a city";
    let before = f.ranked(need);
    assert_eq!(before[0], "forecast");
    for n in 0..4 {
        let at = START + Duration::from_secs(n);
        f.learn(lesson(need, "forecast", Verdict::Refused, at, &format!("s{n}")));
        f.learn(lesson(need, "ledger", Verdict::Served, at, &format!("s{n}")));
    }
    let after = f.ranked(need);
    assert_eq!(after[0], "ledger");
    assert!(after.contains(&"forecast".to_owned()), "{after:?}");
}

#[test]
fn what_only_ever_failed_is_not_raised() {
    let f = Fixture::new();
    let need = "books the weather of a city";
    let before = f.score(need, "forecast");
    for n in 0..4 {
        f.learn(lesson(need, "forecast", Verdict::Refused, START + Duration::from_secs(n), &format!("s{n}")));
    }
    assert!(f.score(need, "forecast") < before / 2.0);
    assert_eq!(f.ranked(need)[0], "ledger");
}

#[test]
fn an_unreached_server_and_a_need_without_words_teach_nothing() {
    let f = Fixture::new();
    let outcome = |text: &str, verdict: Verdict| Outcome {
        job: JobId::new(START),
        owner: f.who.clone(),
        need: Need::new(text),
        capability: id("mail"),
        verdict,
        at: START,
        took: Duration::ZERO,
    };
    assert_eq!(Lesson::of(&outcome("write to them", Verdict::Unreached)), None);
    assert_eq!(Lesson::of(&outcome(" ", Verdict::Served)), None);
    let named =
        Outcome { need: Need { tool: Some(id("mail")), ..Need::new("write to them") }, ..outcome("", Verdict::Served) };
    assert!(f.learn(Lesson::of(&named).unwrap()), "a need that named its tool teaches with its words");
    assert!(!f.learn(lesson("the of and", "mail", Verdict::Served, START, "a")));
}

#[test]
fn one_tenant_learns_nothing_from_another() {
    let f = Fixture::new();
    let need = Need::new("umbrella in Oslo");
    let before = f.route(&tenant("other"), &need);
    f.learn(lesson("umbrella in Oslo", "forecast", Verdict::Served, START, "a"));
    assert_eq!(f.route(&tenant("other"), &need), before);
    assert!(f.history.lessons(&TenantId::new("other").unwrap()).is_empty());
}

#[test]
fn a_capability_that_is_not_in_the_catalogue_or_does_not_fit_never_shows() {
    let mut f = Fixture::new();
    let need = Need::new("umbrella in Oslo");
    f.learn(lesson("umbrella in Oslo", "hidden", Verdict::Served, START, "a"));
    let only_hidden = f.route(&f.who, &need);
    assert_eq!(only_hidden, Route::default());
    f.learn(lesson("umbrella for Oslo", "forecast", Verdict::Served, START, "a"));
    let with = f.route(&f.who, &need);
    f.history.remove(&f.who.tenant, &LessonFilter { capability: Some(id("hidden")), ..LessonFilter::default() });
    assert_eq!(with.candidates.len(), 1);
    assert_eq!(history_of(&with.candidates[0]).unwrap().0, 1, "only its own past is counted");
    let heavy = TOOLS.map(|(tool, description)| capability(tool, description, Some(Lane::heavy())));
    f.catalog = Catalog::new(heavy);
    let route = f.route(&f.who, &Need { lane: Some(Lane::light()), ..need });
    assert!(route.candidates.is_empty());
}

#[test]
fn an_input_that_the_schema_refuses_is_told_as_a_rejection() {
    let mut f = Fixture::new();
    let definition = json!({"name": "forecast", "inputSchema": {"type": "object", "required": ["city"]}});
    let server = ServerName::new("s").unwrap();
    f.catalog =
        Catalog::new([Arc::new(Capability::from_definition(&server, Arc::default(), definition.into()).unwrap())]);
    f.learn(lesson("umbrella in Oslo", "forecast", Verdict::Served, START, "a"));
    let route = f.route(&f.who, &Need { input: json!({}).into(), ..Need::new("umbrella in Oslo") });
    assert!(route.candidates.is_empty());
    assert!(route.rejected[0].reason.contains("city"));
}

#[test]
fn removal_by_any_mark_gives_the_route_as_before() {
    let need = "umbrella and money for Oslo";
    let kept = lesson("money for Oslo", "ledger", Verdict::Served, START, "good");
    let poison = lesson("umbrella for Oslo", "mail", Verdict::Served, START + Duration::from_secs(9), "bad");
    let none = LessonFilter::default();
    for filter in [
        LessonFilter { capability: Some(id("mail")), ..none.clone() },
        LessonFilter { job: Some(poison.job), ..none.clone() },
        LessonFilter { subject: Some("bad".to_owned()), ..none.clone() },
        LessonFilter { since: Some(START + Duration::from_secs(1)), ..none.clone() },
    ] {
        let f = Fixture::new();
        f.learn(kept.clone());
        let before = f.route(&f.who, &Need::new(need));
        f.learn(poison.clone());
        assert_ne!(f.route(&f.who, &Need::new(need)), before);
        assert_eq!(f.history.remove(&f.who.tenant, &filter), 1, "{filter:?}");
        assert_eq!(f.route(&f.who, &Need::new(need)), before);
        assert_eq!(f.history.remove(&f.who.tenant, &LessonFilter { before: Some(poison.at), ..none.clone() }), 1);
        assert!(f.history.lessons(&f.who.tenant).is_empty());
    }
}

#[test]
fn asking_again_and_again_does_not_outweigh_others() {
    let f = Fixture::new();
    for n in 0..1_000 {
        f.learn(lesson("umbrella in Oslo", "mail", Verdict::Served, START + Duration::from_millis(n), "bad"));
    }
    for n in 0..3 {
        f.learn(lesson("umbrella in Oslo", "forecast", Verdict::Served, START, &format!("good{n}")));
    }
    assert_eq!(f.ranked("umbrella in Oslo")[0], "forecast");
    assert!(f.history.lessons(&f.who.tenant).len() <= 5);
}

#[test]
fn what_is_old_counts_less_than_what_is_new() {
    let f = Fixture::new();
    f.learn(lesson("umbrella in Oslo", "mail", Verdict::Served, START, "a"));
    let even = f.score("umbrella in Oslo", "mail");
    f.learn(lesson("umbrella in Oslo", "forecast", Verdict::Served, START + 2 * HALF_LIFE, "a"));
    assert_eq!(f.ranked("umbrella in Oslo")[0], "forecast");
    assert!(f.score("umbrella in Oslo", "mail") < even / 2.0);
    let far = START + 200 * HALF_LIFE;
    f.learn(lesson("money for Oslo", "ledger", Verdict::Served, far, "a"));
    assert!(
        f.ranked("umbrella in Oslo").iter().all(|tool| tool == "ledger" || f.score("umbrella in Oslo", tool) < 0.01)
    );
}

/// Needs about rain that the forecast served and needs about money that the ledger served; all of them say `today`.
fn of_rain_and_money() -> Vec<Lesson> {
    let needs =
        [("storm today", "forecast"), ("wet today", "forecast"), ("invoice today", "ledger"), ("tax today", "ledger")];
    let at = |n: u64| START + Duration::from_secs(n);
    let one = |(n, (need, tool)): (u64, &(&str, &str))| lesson(need, tool, Verdict::Served, at(n), "a");
    (0..).zip(&needs).map(one).collect()
}

#[test]
fn what_a_need_is_about_counts_where_its_words_do_not_tell() {
    let (f, words) = (Fixture::with_table(), Fixture::new());
    for lesson in of_rain_and_money() {
        f.learn(lesson.clone());
        words.learn(lesson);
    }
    for (need, tool) in [("umbrella today", "forecast"), ("salary today", "ledger")] {
        assert_eq!(f.ranked(need)[0], tool, "{need}");
    }
    assert_eq!(words.ranked("umbrella today")[0], words.ranked("salary today")[0], "by words they are one need");
}

#[test]
fn what_needs_were_about_is_removed_with_them() {
    let f = Fixture::with_table();
    of_rain_and_money().into_iter().for_each(|lesson| _ = f.learn(lesson));
    let before = f.route(&f.who, &Need::new("umbrella today"));
    f.learn(lesson("rain today", "mail", Verdict::Served, START, "bad"));
    assert_ne!(f.route(&f.who, &Need::new("umbrella today")), before);
    let filter = LessonFilter { subject: Some("bad".to_owned()), ..LessonFilter::default() };
    assert_eq!(f.history.remove(&f.who.tenant, &filter), 1);
    assert_eq!(f.ranked("umbrella today")[0], "forecast");
    let after = f.route(&f.who, &Need::new("umbrella today"));
    for (a, b) in before.candidates.iter().zip(&after.candidates) {
        assert!(a.capability == b.capability && (a.score - b.score).abs() < 1e-4, "{a:?} {b:?}");
    }
}

#[test]
fn the_memory_of_a_tenant_is_bounded_and_forgets_the_oldest() {
    let f = Fixture::with_table();
    let words = |n: usize| format!("alpha{} beta{} gamma{}", n % 97, n % 89, n);
    let count = NEEDS_MAX + NEEDS_MAX / 4;
    for n in 0..count {
        let at = START + HALF_LIFE.mul_f64(n as f64 / 10_000.0);
        assert!(f.learn(lesson(&words(n), "ask", Verdict::Served, at, "a")));
    }
    let lessons = f.history.lessons(&f.who.tenant);
    assert!(lessons.len() <= NEEDS_MAX);
    let kept: HashSet<&str> = lessons.iter().map(|l| l.need.as_str()).collect();
    assert!(kept.contains(words(count - 1).as_str()) && !kept.contains(words(0).as_str()));
    // What is left is still held against the right vectors.
    of_rain_and_money().into_iter().for_each(|lesson| _ = f.learn(Lesson { at: lessons[0].at, ..lesson }));
    assert_eq!(f.ranked("umbrella today")[0], "forecast");
}

#[test]
fn needs_of_any_size_and_script_are_answered() {
    let f = Fixture::new();
    for text in ["", " ", "the of and", "☂️☂️", "明日の天気", "هل ستمطر غدا", &"umbrella ".repeat(120_000)]
    {
        f.learn(lesson(text, "forecast", Verdict::Served, START, "a"));
        f.route(&f.who, &Need::new(text));
    }
    assert_eq!(f.ranked("明日の天気は")[0], "forecast");
    assert!(f.history.lessons(&f.who.tenant).iter().all(|l| l.need.len() <= 512));
}

fn any_lessons() -> impl Strategy<Value = Vec<Lesson>> {
    let words =
        prop::sample::subsequence(vec!["umbrella", "money", "symbol", "letter", "oslo", "please", "city"], 1..4);
    let one = (words, 0..TOOLS.len(), any::<bool>(), 0..50_u64, 0..3_u8);
    prop::collection::vec(one, 1..40).prop_map(|all| {
        all.into_iter()
            .map(|(words, tool, served, at, subject)| {
                let verdict = if served { Verdict::Served } else { Verdict::Refused };
                let at = START + HALF_LIFE.mul_f64(at as f64 / 20.0);
                lesson(&words.join(" "), TOOLS[tool].0, verdict, at, &subject.to_string())
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn order_and_repetition_of_lessons_do_not_matter(lessons in any_lessons(), seed in any::<u64>()) {
        let (one, other) = (Fixture::with_table(), Fixture::with_table());
        lessons.iter().for_each(|l| _ = one.learn(l.clone()));
        let mut shuffled = lessons.clone();
        shuffled.sort_by_key(|l| {
            let bytes = l.job.as_bytes();
            u64::from_be_bytes(bytes[8..].try_into().unwrap()).wrapping_mul(seed | 1)
        });
        shuffled.iter().chain(&lessons).for_each(|l| _ = other.learn(l.clone()));
        prop_assert_eq!(one.history.lessons(&one.who.tenant), other.history.lessons(&other.who.tenant));
        for need in ["umbrella oslo", "money please", "letter symbol city"] {
            for (tool, _) in TOOLS {
                let (a, b) = (one.score(need, tool), other.score(need, tool));
                prop_assert!((a - b).abs() < 1e-3, "{need} {tool}: {a} {b}");
            }
        }
    }

    #[test]
    fn lessons_without_a_shared_word_leave_a_route_as_it_was(lessons in any_lessons()) {
        let f = Fixture::new();
        let need = Need::new("books an amount");
        let before = f.route(&f.who, &need);
        lessons.iter().for_each(|l| _ = f.learn(l.clone()));
        prop_assert_eq!(f.route(&f.who, &need), before);
    }
}
