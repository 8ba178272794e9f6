//! The transport suite over functions of this process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    matching::Annotations,
    testing::mcp_transport::Fixture,
    transport::{Connector, LocalTools, ToolError},
};
use serde_json::{Value, json};

/// Counts when it is dropped before it is disarmed.
struct CountOnDrop(Option<Arc<AtomicU64>>);

impl CountOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn make() -> Fixture {
    let any = || json!({ "type": "object" });
    let hints = Annotations::default();
    let cancelled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&cancelled);
    let tools = LocalTools::new(ServerName::new("local").expect("a valid name"))
        .tool("echo", "answers what it got", any(), hints, async |arguments, _| {
            Ok(Value::String(arguments.get().to_owned()))
        })
        .tool("fail", "fails", any(), hints, async |arguments, _| {
            let arguments: Value = arguments.view().map_err(|e| e.to_string())?;
            Err::<Value, _>(ToolError::new(arguments["message"].as_str().unwrap_or_default()))
        })
        .tool("slow", "sleeps", any(), hints, move |arguments, _| {
            let guard = CountOnDrop(Some(Arc::clone(&count)));
            async move {
                let arguments: Value = arguments.view().map_err(|e| e.to_string())?;
                tokio::time::sleep(Duration::from_millis(arguments["ms"].as_u64().unwrap_or_default())).await;
                guard.disarm();
                Ok(json!("slept"))
            }
        })
        .tool("cancelled", "counts", any(), hints, move |_, _| {
            let count = cancelled.load(Ordering::SeqCst).to_string();
            async move { Ok(Value::String(count)) }
        })
        .tool("progress", "reports", any(), hints, async |arguments, progress| {
            let arguments: Value = arguments.view().map_err(|e| e.to_string())?;
            let steps = arguments["steps"].as_u64().unwrap_or_default();
            for step in 1..=steps {
                progress.report(step as f64, Some(steps as f64), None);
            }
            Ok(json!("done"))
        });
    Fixture { transport: tools.connect().await.expect("local tools connect"), guard: Box::new(()) }
}

metamcp_core::mcp_transport_suite!(make);
