//! Result bodies: whole, in parts, not at all when the caller has them, and never a stranger's.

use metamcp_core::{json::RawJson, pointer::Digest, testing::scripted::Step};
use metamcp_server::api::doc::{JobDocument, ProblemKind};
use reqwest::header;
use serde_json::json;

use crate::house::{House, problem_of};

/// 10 bytes after which every position is easy to tell: a body of exactly this text.
const BODY: &str = r#"{"0":"56"}"#;

async fn house_with_result() -> (House, JobDocument, String) {
    let house = House::open().await;
    house.desk.script("say", [Step::Raw(RawJson::parse(BODY).unwrap())]);
    let job = house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    let path = format!("/api/results/{}", job.result.as_ref().unwrap());
    (house, job, path)
}

#[tokio::test]
async fn a_result_is_answered_as_it_came_with_its_type_and_tag() {
    let (house, job, path) = house_with_result().await;
    let response = house.get(&path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let digest = job.result.unwrap().digest;
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(headers[header::CONTENT_LENGTH], "10");
    assert_eq!(headers[header::ETAG], format!("\"{digest}\""));
    assert_eq!(headers[header::ACCEPT_RANGES], "bytes");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CONTENT_DISPOSITION], format!("inline; filename=\"result-{}\"", job.id));
    let body = response.text().await.unwrap();
    assert_eq!(body, BODY);
    assert_eq!(Digest::of(body.as_bytes()), digest);
}

#[tokio::test]
async fn a_pointer_may_be_written_in_any_of_its_forms() {
    let (house, job, path) = house_with_result().await;
    let pointer = job.result.unwrap().to_string();
    let encoded = pointer.replace(':', "%3A").replace('/', "%2F");
    let bare = pointer.strip_prefix("res://").unwrap();
    for form in
        [path, format!("/api/results/{encoded}"), format!("/api/results/{bare}"), format!("/api/results/res:/{bare}")]
    {
        assert_eq!(house.get(&form).send().await.unwrap().text().await.unwrap(), BODY, "{form}");
    }
}

#[tokio::test]
async fn ranges_answer_the_part_that_was_asked_for() {
    let (house, _, path) = house_with_result().await;
    let cases = [
        ("bytes=0-3", 206, Some("bytes 0-3/10"), &BODY[..4]),
        ("bytes=9-9", 206, Some("bytes 9-9/10"), &BODY[9..]),
        ("bytes=4-", 206, Some("bytes 4-9/10"), &BODY[4..]),
        ("bytes=-3", 206, Some("bytes 7-9/10"), &BODY[7..]),
        ("bytes=-99", 206, Some("bytes 0-9/10"), BODY),
        ("bytes=5-99", 206, Some("bytes 5-9/10"), &BODY[5..]),
        ("bytes=0-1,4-5", 200, None, BODY),
        ("bytes=5-2", 200, None, BODY),
        ("rows=0-1", 200, None, BODY),
    ];
    for (range, status, content_range, body) in cases {
        let response = house.get(&path).header(header::RANGE, range).send().await.unwrap();
        assert_eq!(response.status(), status, "{range}");
        let told = response.headers().get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(told.as_deref(), content_range, "{range}");
        assert_eq!(response.headers()[header::CONTENT_LENGTH], body.len().to_string());
        assert!(response.headers().contains_key(header::ETAG));
        assert_eq!(response.text().await.unwrap(), body, "{range}");
    }
    for range in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
        let response = house.get(&path).header(header::RANGE, range).send().await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes */10", "{range}");
        problem_of(house.get(&path).header(header::RANGE, range), ProblemKind::RangeNotSatisfiable).await;
    }
    let resumed = house.get(&path).header(header::RANGE, "bytes=4-").header(header::IF_RANGE, "\"older\"");
    assert_eq!(resumed.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_caller_that_has_the_body_is_told_so() {
    let (house, job, path) = house_with_result().await;
    let tag = format!("\"{}\"", job.result.unwrap().digest);
    for copies in [tag.clone(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let response = house.get(&path).header(header::IF_NONE_MATCH, &copies).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()[header::ETAG].to_str().unwrap()),
            (304, tag.as_str())
        );
        assert_eq!(response.text().await.unwrap(), "");
    }
    let older = house.get(&path).header(header::IF_NONE_MATCH, "\"older\"").send().await.unwrap();
    assert_eq!((older.status().as_u16(), older.text().await.unwrap().as_str()), (200, BODY));
}

#[tokio::test]
async fn head_tells_everything_but_the_body() {
    let (house, _, path) = house_with_result().await;
    let response = house.head(&path).header(header::RANGE, "bytes=0-1").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()[header::CONTENT_LENGTH]),
        (200, &"10".parse().unwrap())
    );
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert!(response.headers().contains_key(header::ETAG));
}

#[tokio::test]
async fn only_the_pointer_of_a_task_is_a_result() {
    let (house, job, path) = house_with_result().await;
    let pointer = job.result.unwrap();
    let other_digest = path.replace(&pointer.digest.to_string(), &Digest::of(b"another body").to_string());
    let other_tenant = path.replace("res://local/", "res://else/");
    for missing in [other_digest, other_tenant] {
        problem_of(house.get(&missing), ProblemKind::NotFound).await;
        problem_of(house.get(&missing).header(header::IF_NONE_MATCH, "*"), ProblemKind::NotFound).await;
    }
    for malformed in ["/api/results/x", "/api/results/res://local/x/y", "/api/results/%FF", &format!("{path}/more")] {
        problem_of(house.get(malformed), ProblemKind::InvalidName).await;
    }
}
