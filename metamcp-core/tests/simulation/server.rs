//! Servers that fail in every way: unreachable, late, silent, broken off before or after they acted. What they really did goes to the ledger.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    entropy::Entropy,
    id::{JobId, ServerName},
    json::RawJson,
    matching::{Candidate, CapabilityMatcher, Catalog, MatchError, Outcome, Reason, Route},
    queue::{Checkpoint, Progress},
    task::Need,
    transport::{
        CallContext, Connector, Delivered, Discovered, McpTransport, Resume, ToolCall, ToolOutput, ToolReply,
        TransportError, TransportErrorKind, TransportInfo,
    },
};
use tokio::time::Instant;

use crate::{ledger::Ledger, world::Twin};

/// What outlives connections: the far side.
#[derive(Debug)]
pub(crate) struct FarSide {
    pub(crate) name: ServerName,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) twin: Twin,
    /// Faults in a thousand.
    pub(crate) per_mille: AtomicU32,
    /// Remote tasks: when each is done, and for which job.
    pub(crate) tasks: Mutex<BTreeMap<String, (Instant, JobId)>>,
}

impl FarSide {
    fn strikes(&self) -> bool {
        self.entropy.next_u64() % 1_000 < u64::from(self.per_mille.load(Ordering::Relaxed))
    }

    async fn pause(&self, most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.entropy.next_u64() % most_ms)).await;
    }

    fn broken(kind: TransportErrorKind, delivered: Delivered) -> TransportError {
        TransportError::new(kind, delivered, "simulated")
    }
}

/// Connects to a far side; shared by all processes, as a remote server is.
#[derive(Debug)]
pub(crate) struct SimConnector(pub(crate) Arc<FarSide>);

#[async_trait]
impl Connector for SimConnector {
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        self.0.pause(500).await;
        if self.0.strikes() {
            return Err(FarSide::broken(TransportErrorKind::Connect, Delivered::No));
        }
        let info = TransportInfo::new(self.0.name.clone(), "local", "2026-07-28", "simulated 1");
        Ok(Arc::new(SimTransport { far: Arc::clone(&self.0), info, closed: AtomicBool::new(false) }))
    }

    fn target(&self) -> String {
        "simulated".to_owned()
    }
}

#[derive(Debug)]
struct SimTransport {
    far: Arc<FarSide>,
    info: TransportInfo,
    closed: AtomicBool,
}

fn body(job: JobId, remote: bool, epoch: u64) -> ToolOutput {
    let text = format!(r#"{{"content":[],"job":"{job}","remote":{remote},"epoch":{epoch}}}"#);
    ToolOutput::new(RawJson::parse(text).unwrap(), false)
}

#[async_trait]
impl McpTransport for SimTransport {
    fn info(&self) -> &TransportInfo {
        &self.info
    }

    async fn discover(&self) -> Result<Discovered, TransportError> {
        // Twin: the tool that may act only once says that repeating it is safe.
        let lie = self.far.twin == Twin::BlindReplay;
        let tools = [
            r#"{"name":"safe","annotations":{"readOnlyHint":true}}"#.to_owned(),
            format!(r#"{{"name":"once","annotations":{{"idempotentHint":{lie}}}}}"#),
            format!(r#"{{"name":"remote","annotations":{{"idempotentHint":{lie}}}}}"#),
        ];
        Ok(Discovered::new(tools.into_iter().map(|t| RawJson::parse(t).unwrap()).collect(), None))
    }

    async fn call(&self, call: &ToolCall, cx: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        let (far, job) = (&self.far, call.job.expect("the engine names the job"));
        if self.is_closed() {
            return Err(FarSide::broken(TransportErrorKind::Closed, Delivered::No));
        }
        if far.strikes() {
            return Err(FarSide::broken(TransportErrorKind::Busy, Delivered::Yes));
        }
        (cx.progress)(Progress { value: 1.0, total: Some(2.0), message: None });
        far.pause(4_000).await;
        if far.strikes() {
            self.closed.store(true, Ordering::Relaxed);
            return Err(FarSide::broken(TransportErrorKind::Closed, Delivered::Maybe));
        }
        if call.tool != "safe" {
            far.ledger.acted(job);
        }
        if call.tool == "remote" {
            let id = format!("{:032x}", far.entropy.next_u64());
            let done = Instant::now() + Duration::from_millis(far.entropy.next_u64() % 90_000);
            far.tasks.lock().unwrap().insert(id.clone(), (done, job));
            let checkpoint = Checkpoint { text: id, replay_safe: true };
            return Ok(ToolReply::Working { checkpoint, poll_after: Duration::from_secs(2), progress: None });
        }
        // Acted, but the answer is late: longer than a lease, or for ever.
        if far.strikes() {
            far.pause(120_000).await;
        }
        if far.strikes() {
            std::future::pending::<()>().await;
        }
        if far.strikes() {
            self.closed.store(true, Ordering::Relaxed);
            return Err(FarSide::broken(TransportErrorKind::Closed, Delivered::Maybe));
        }
        Ok(ToolReply::Done(body(job, false, call.epoch)))
    }

    async fn resume(&self, from: &Checkpoint, with: Resume, _: &CallContext<'_>) -> Result<ToolReply, TransportError> {
        assert_eq!(with, Resume::Poll, "nothing here asks for input");
        self.far.pause(1_000).await;
        if self.far.strikes() {
            return Err(FarSide::broken(TransportErrorKind::Timeout, Delivered::No));
        }
        let task = self.far.tasks.lock().unwrap().get(&from.text).copied();
        let Some((done, job)) = task else {
            return Err(FarSide::broken(TransportErrorKind::Rejected { code: -32602 }, Delivered::Yes));
        };
        if done > Instant::now() {
            let checkpoint = from.clone();
            return Ok(ToolReply::Working { checkpoint, poll_after: Duration::from_secs(2), progress: None });
        }
        Ok(ToolReply::Done(body(job, true, 0)))
    }

    async fn cancel(&self, from: &Checkpoint) -> Result<(), TransportError> {
        self.far.tasks.lock().unwrap().remove(&from.text);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// The need is the tool's name; every server that has it is a candidate.
#[derive(Debug)]
pub(crate) struct ByName;

#[async_trait]
impl CapabilityMatcher for ByName {
    async fn rank(&self, _: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        let candidates = catalog
            .capabilities()
            .iter()
            .filter(|c| c.id.tool() == need.text)
            .map(|c| Candidate::new(c, 1.0, vec![Reason::Named]))
            .collect();
        Ok(Route { candidates, rejected: Vec::new() })
    }

    async fn observe(&self, _: &Outcome) -> Result<(), MatchError> {
        Ok(())
    }
}
