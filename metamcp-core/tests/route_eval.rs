//! An evaluation of a matcher counts what its figures say, and a replay tells what a setting would change.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::sync::Mutex;

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    id::CapabilityId,
    matching::{
        CapabilityMatcher, Catalog, LexicalMatcher, MatchError, Outcome, Route, Verdict,
        eval::{LoggedNeed, ToolSet, evaluate, replay, teach},
    },
    task::Need,
};

const TOOLS: &str = r#"
{"id":"Fetcher","server":"web","name":"fetch_page","description":"Downloads a web page","inputSchema":{"type":"object","properties":{"url":{"type":"string"}},"required":["url"]}}
{"id":"Sender","server":"mail","name":"send_mail","description":"Sends an electronic letter"}
{"id":"Stocks","server":"money","name":"stock_price","description":"Tells the price of a share"}
"#;

const QUERIES: &str = r#"
{"query":"download this web page","tools":["Fetcher"]}
{"query":"what is the price of this share","tools":["Stocks","Sender"]}
{"query":"post a telegram","tools":["Sender"]}
{"query":"the price of a web page","tools":["Sender"]}
"#;

fn tools() -> ToolSet {
    ToolSet::read("tools", TOOLS.as_bytes()).unwrap()
}

fn id(text: &str) -> CapabilityId {
    text.parse().unwrap()
}

/// Ranks every tool, A to Z.
#[derive(Debug, Default)]
struct Alphabetical(LexicalMatcher);

#[async_trait]
impl CapabilityMatcher for Alphabetical {
    async fn rank(&self, who: &Principal, _: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        let mut route = Route::default();
        for capability in catalog.capabilities() {
            let named = Need { tool: Some(capability.id.clone()), ..Need::new("") };
            let named = Need { input: metamcp_core::json::RawJson::parse("null").unwrap(), ..named };
            route.candidates.extend(self.0.rank(who, &named, catalog).await?.candidates);
        }
        Ok(route)
    }

    async fn observe(&self, _: &Outcome) -> Result<(), MatchError> {
        Ok(())
    }
}

#[tokio::test]
async fn right_tools_are_counted_where_they_stand() {
    let tools = tools();
    let needs = tools.needs("queries", QUERIES.as_bytes()).unwrap();
    let found = evaluate(&Alphabetical::default(), &Principal::local(), tools.catalog(), &needs).await.unwrap();
    let places: Vec<_> = found.ranked.iter().map(|ranked| (ranked.place, ranked.found)).collect();
    assert_eq!(places, [(Some(3), 1), (Some(1), 2), (Some(1), 1), (Some(1), 1)]);
    let figures = found.figures;
    assert_eq!((figures.n, figures.hit_at_1, figures.hit_at_5, figures.recall_at_10), (4, 0.75, 1.0, 1.0));
    assert!((figures.mrr - 10.0 / 12.0).abs() < 1e-9, "{figures:?}");
    assert!(figures.p50_us > 0.0 && figures.p99_us >= figures.p50_us);
    assert!(evaluate(&LexicalMatcher::new(), &Principal::local(), tools.catalog(), &[]).await.is_err());
}

/// Its input is not made yet, so that a tool with a required one is found; and a setting shows in the figures.
#[tokio::test]
async fn needs_are_ranked_by_their_words() {
    let tools = tools();
    let queries = r#"{"query":"download this web page","tools":["Fetcher"]}
        {"query":"zylophor","tools":["Sender"]}"#;
    let needs = tools.needs("queries", queries.as_bytes()).unwrap();
    for (groups, hit_at_1) in [(None, 0.5), (Some("zylophor letter"), 1.0)] {
        let matcher = LexicalMatcher::with_synonyms(groups);
        let found = evaluate(&matcher, &Principal::local(), tools.catalog(), &needs).await.unwrap();
        assert_eq!(found.figures.hit_at_1, hit_at_1, "{groups:?}");
    }
}

/// Keeps what it is told.
#[derive(Debug, Default)]
struct Listens(Mutex<Vec<Outcome>>);

#[async_trait]
impl CapabilityMatcher for Listens {
    async fn rank(&self, _: &Principal, _: &Need, _: &Catalog) -> Result<Route, MatchError> {
        Ok(Route::default())
    }

    async fn observe(&self, outcome: &Outcome) -> Result<(), MatchError> {
        self.0.lock().unwrap().push(outcome.clone());
        Ok(())
    }
}

#[tokio::test]
async fn history_is_told_in_its_order_as_served() {
    let (tools, matcher, who) = (tools(), Listens::default(), Principal::local());
    let history = tools.needs("history", QUERIES.as_bytes()).unwrap();
    teach(&matcher, &who, &history).await.unwrap();
    let told = matcher.0.into_inner().unwrap();
    let capabilities: Vec<String> = told.iter().map(|outcome| outcome.capability.to_string()).collect();
    assert_eq!(
        capabilities,
        ["web/fetch_page", "money/stock_price", "mail/send_mail", "mail/send_mail", "mail/send_mail"]
    );
    assert!(told.iter().all(|outcome| outcome.verdict == Verdict::Served && outcome.owner == who));
    assert!(told.windows(2).all(|pair| pair[0].at < pair[1].at || pair[0].need == pair[1].need));
    assert!(told[0].at < told[4].at);
}

#[tokio::test]
async fn a_replay_tells_what_changes_and_what_it_costs() {
    let tools = tools();
    let logged = |words: &str, old: &str, served_by: Option<(&str, usize)>| LoggedNeed {
        owner: Principal::local(),
        need: Need::new(words),
        jobs: 2,
        old: Some(id(old)),
        served_by: served_by.map(|(tool, place)| (id(tool), place)),
    };
    let log = [
        logged("tell the price of a share", "money/stock_price", Some(("money/stock_price", 1))),
        logged("send an electronic letter", "money/stock_price", Some(("money/stock_price", 1))),
        logged("send a letter", "web/gone", Some(("web/gone", 1))),
        logged("download a page", "mail/send_mail", None),
    ];
    let found = replay(&LexicalMatcher::new(), tools.catalog(), &log).await.unwrap();
    assert_eq!((found.needs, found.served, found.gone, found.changed), (4, 2, 1, 3));
    assert_eq!((found.regret.first, found.regret.top5), (0.5, 0.5));
    assert_eq!((found.regret.mrr_old, found.regret.mrr_new), (1.0, 0.5));
    // What loses most comes first.
    assert_eq!(found.changes.len(), 3);
    let change = found.changes.iter().find(|change| change.need == "send an electronic letter").unwrap();
    assert_eq!((&change.new, change.new_place), (&Some(id("mail/send_mail")), None));
    assert_eq!(found.changes[2].need, "download a page");
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["changes"][2]["old"], "mail/send_mail");
}
