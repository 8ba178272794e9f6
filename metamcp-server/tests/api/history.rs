//! What is learned from tasks, as the API tells it, takes it in and removes it.

use metamcp_server::api::doc::{LessonPage, LessonsChanged, ProblemKind, RouteDocument, TaskState, VerdictDocument};
use serde_json::json;

use crate::house::{House, json_of, problem_of};

const WAIT_MS: u64 = 20_000;

async fn lessons(house: &House, query: &str) -> LessonPage {
    json_of(house.get(&format!("/api/history{query}")).send().await.unwrap()).await
}

async fn route(house: &House, need: &str) -> RouteDocument {
    json_of(house.post("/api/route", json!({ "need": need })).send().await.unwrap()).await
}

#[tokio::test]
async fn a_task_that_was_served_raises_its_tool_for_similar_needs_until_it_is_removed() {
    let house = House::open().await;
    let similar = "shall I take an umbrella tomorrow";
    assert_eq!(route(&house, similar).await.candidates, []);
    let task = json!({ "need": "umbrella for tomorrow", "tool": "local/echo", "wait_ms": WAIT_MS });
    let done = house.submit(task).await;
    assert_eq!(done.state, TaskState::Completed);

    let page = lessons(&house, "").await;
    let [lesson] = &page.lessons[..] else { panic!("{page:?}") };
    assert_eq!(
        (lesson.job, lesson.verdict, lesson.need.as_str()),
        (done.id, VerdictDocument::Served, "umbrella for tomorrow")
    );
    let best = &route(&house, similar).await.candidates[0];
    assert_eq!(best.tool.to_string(), "local/echo");
    assert_eq!(best.reasons[0].kind, "history");
    assert!(best.reasons[0].text.contains("umbrella for tomorrow"));

    let remove = house.delete(&format!("/api/history?job={}", done.id)).send().await.unwrap();
    assert_eq!(json_of::<LessonsChanged>(remove).await.lessons, 1);
    assert_eq!(route(&house, similar).await.candidates, []);
    assert_eq!(lessons(&house, "").await, LessonPage::default());
}

#[tokio::test]
async fn lessons_are_taken_in_once_paged_and_filtered() {
    let house = House::open().await;
    let lesson = |n: u32| {
        let tool = if n.is_multiple_of(2) { "a/even" } else { "a/odd" };
        json!({ "need": format!("word{n}"), "tool": tool, "verdict": "served", "subject": "s",
            "at": format!("2026-01-01T00:00:{n:02}Z"), "job": format!("01997f3e-5c1a-7d3e-9c55-0000000000{n:02}") })
    };
    let body = json!({ "lessons": (0..5).map(lesson).collect::<Vec<_>>() });
    for new in [5, 0] {
        let told: LessonsChanged = json_of(house.post("/api/history", &body).send().await.unwrap()).await;
        assert_eq!(told.lessons, new);
    }
    let mut cursor = String::new();
    let mut needs = Vec::new();
    loop {
        let page = lessons(&house, &format!("?limit=2{cursor}")).await;
        needs.extend(page.lessons.into_iter().map(|lesson| lesson.need));
        let Some(next) = page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(needs, ["word4", "word3", "word2", "word1", "word0"]);
    assert_eq!(lessons(&house, "?tool=a/odd").await.lessons.len(), 2);
    assert_eq!(lessons(&house, "?since=2026-01-01T00:00:02Z&before=2026-01-01T00:00:04Z").await.lessons.len(), 2);
    let removed = house.delete("/api/history?tool=a/odd").send().await.unwrap();
    assert_eq!(json_of::<LessonsChanged>(removed).await.lessons, 2);
    let removed = house.delete("/api/history?all=true").send().await.unwrap();
    assert_eq!(json_of::<LessonsChanged>(removed).await.lessons, 3);
}

#[tokio::test]
async fn a_request_that_does_not_say_which_lessons_removes_none() {
    let house = House::open().await;
    for query in ["", "?all=false", "?all=true&tool=a/b"] {
        problem_of(house.delete(&format!("/api/history{query}")), ProblemKind::InvalidParameter).await;
    }
    for query in ["?tool=x", "?since=yesterday", "?cursor=x", "?tol=a/b", "?limit=0"] {
        problem_of(house.get(&format!("/api/history{query}")), ProblemKind::InvalidParameter).await;
    }
    let lesson = json!({ "need": "x", "tool": "a/b", "verdict": "served", "at": "2999-01-01T00:00:00Z", "subject": "s",
        "job": "01997f3e-5c1a-7d3e-9c55-000000000001" });
    let future =
        problem_of(house.post("/api/history", json!({ "lessons": [lesson] })), ProblemKind::InvalidField).await;
    assert_eq!(future.field.as_deref(), Some("lessons[0].at"));
}
