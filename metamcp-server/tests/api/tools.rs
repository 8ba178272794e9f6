//! What can be called, as the API tells it.

use metamcp_server::api::doc::{ProblemKind, ServerList, ServerStateDocument, ToolPage};

use crate::house::{House, json_of, problem_of};

#[tokio::test]
async fn servers_are_told_without_being_started_and_tools_start_them() {
    let house = House::open().await;
    let list = || async { json_of::<ServerList>(house.get("/api/servers").send().await.unwrap()).await.servers };
    let before = list().await;
    assert_eq!(before.iter().map(|server| server.name.as_str()).collect::<Vec<_>>(), ["desk", "local"]);
    assert!(before.iter().all(|server| server.state == ServerStateDocument::Idle && server.tools == 0));

    let page: ToolPage = json_of(house.get("/api/tools").send().await.unwrap()).await;
    let ids: Vec<_> = page.tools.iter().map(|tool| tool.id.to_string()).collect();
    assert_eq!(ids, ["desk/ask", "desk/hold", "desk/measure", "desk/say", "local/echo"]);
    assert_eq!(page.next_cursor, None);
    let echo = page.tools.last().unwrap();
    assert_eq!((echo.server.as_str(), echo.name.as_str()), ("local", "echo"));
    assert_eq!((echo.annotations.read_only, echo.annotations.destructive), (Some(true), None));
    assert!(echo.input_schema.get().contains("object"));

    let after = list().await;
    assert!(after.iter().all(|server| server.state == ServerStateDocument::Ready && server.tools > 0), "{after:?}");
}

#[tokio::test]
async fn tools_come_in_pages_and_by_server() {
    let house = House::open().await;
    let mut ids = Vec::new();
    let mut path = "/api/tools?limit=2".to_owned();
    for _ in 0..10 {
        let page: ToolPage = json_of(house.get(&path).send().await.unwrap()).await;
        assert!((1..=2).contains(&page.tools.len()));
        ids.extend(page.tools.iter().map(|tool| tool.id.to_string()));
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/api/tools?limit=2&cursor={cursor}");
    }
    assert_eq!(ids, ["desk/ask", "desk/hold", "desk/measure", "desk/say", "local/echo"]);
    let local: ToolPage = json_of(house.get("/api/tools?server=local").send().await.unwrap()).await;
    assert_eq!((local.tools.len(), local.next_cursor), (1, None));
    let exact: ToolPage = json_of(house.get("/api/tools?server=desk&limit=4").send().await.unwrap()).await;
    assert_eq!((exact.tools.len(), exact.next_cursor), (4, None), "no empty page follows");

    for (query, field) in [("server=nobody", "server"), ("limit=0", "limit"), ("cursor=x", "cursor"), ("q=x", "q")] {
        let problem = problem_of(house.get(&format!("/api/tools?{query}")), ProblemKind::InvalidParameter).await;
        assert_eq!(problem.field.as_deref(), Some(field));
    }
}
