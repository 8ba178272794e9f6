//! `embed` with its matcher swapped: the built-in ranking, turned round by a rule of one's own. Here: tools that only read come first.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    engine::Orchestrator,
    id::ServerName,
    matching::{CapabilityMatcher, Catalog, LexicalMatcher, MatchError, Outcome, Reason, Route},
    task::{Need, Task},
};
use metamcp_examples::code_server;
use serde_json::json;

/// Ranks as the lexical matcher does, then prefers harmless tools by a fixed bonus.
#[derive(Debug, Default)]
struct HarmlessFirst(LexicalMatcher);

const BONUS: f32 = 2.0;

#[async_trait]
impl CapabilityMatcher for HarmlessFirst {
    async fn rank(&self, who: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        let mut route = self.0.rank(who, need, catalog).await?;
        for candidate in &mut route.candidates {
            if catalog.get(&candidate.capability).is_some_and(|c| c.annotations.read_only_hint == Some(true)) {
                candidate.score += BONUS;
                candidate.reasons.push(Reason::Other { text: "it only reads".to_owned(), score: BONUS });
            }
        }
        route.candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.capability.cmp(&b.capability)));
        Ok(route)
    }

    async fn observe(&self, outcome: &Outcome) -> Result<(), MatchError> {
        println!("{}: {:?} in {:?}", outcome.capability, outcome.verdict, outcome.took);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let code = ServerName::new("code")?;
    let orchestrator = Orchestrator::builder()
        .server(code.clone(), code_server(code)?)
        .matcher(Arc::new(HarmlessFirst::default()))
        .build();
    let worker = orchestrator.worker(Default::default());
    let who = Principal::local();

    let need =
        Task::new("list the symbols defined here").with_input(json!({ "text": "fn main() {}", "language": "rust" }));
    let submitted = orchestrator.submit(&who, need).await?;
    for candidate in &submitted.job.body.route.candidates {
        println!("{:6.2} {} {:?}", candidate.score, candidate.capability, candidate.reasons.last());
    }
    let job = orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(30)).await?;
    println!("{:?} {:?}", job.head.state, job.head.result.map(|pointer| pointer.to_string()));

    worker.drain(Duration::from_secs(5)).await;
    orchestrator.close().await;
    Ok(())
}
