//! Child processes that misbehave: they cost their own calls and nothing else, and nothing of them is left behind.
#![cfg(feature = "upstream")]

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    queue::Answer,
    transport::{
        CallContext, Connector, Delivered, McpTransport, Resume, ToolCall, ToolReply, TransportError,
        TransportErrorKind,
    },
};
use metamcp_mcp_adapters::upstream::{Era, StdioConnector, launch};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Longest any wait may take, in seconds.
const WAIT_S_MAX: u64 = 30;

fn script() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/misbehaving.py").to_string_lossy().into_owned()
}

fn server(mode: &str) -> StdioConnector {
    let name = ServerName::new("bad").expect("a valid name");
    StdioConnector::new(name, "python3").args([script(), mode.to_owned()])
}

async fn legacy() -> Arc<dyn McpTransport> {
    server("2025-11-25").connect().await.expect("it connects")
}

async fn call(transport: &Arc<dyn McpTransport>, tool: &str) -> Result<RawJson, TransportError> {
    let call = ToolCall::new(tool, RawJson::empty_object());
    let cx = CallContext::quiet();
    let reply = tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), transport.call(&call, &cx)).await;
    match reply.expect("it ends in time")? {
        ToolReply::Done(output) => Ok(output.body),
        other => panic!("`{tool}` answered {other:?}"),
    }
}

#[tokio::test]
async fn every_legacy_revision_is_accepted_and_an_unknown_one_told() {
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let transport = server(revision).connect().await.expect("it connects");
        assert_eq!(transport.info().protocol, revision);
        assert_eq!(transport.discover().await.expect("it lists").tools.len(), 1, "the nameless tool is left out");
        transport.close().await;
    }
    let error = server("unknown").connect().await.expect_err("nobody speaks it");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Connect, Delivered::No));
    assert!(error.to_string().contains("1999-01-01"), "{error}");
}

#[tokio::test]
async fn a_result_comes_back_byte_for_byte() {
    let transport = legacy().await;
    let raw = call(&transport, "raw").await.expect("it answers");
    assert_eq!(
        raw.get(),
        r#"{"z": 1.0,"big":12345678901234567890123,"huge":1e400,"content":[{"type":"holo","\u00e9":[]},{"type":"text","text":"raw"}],"a":{},"z2":-0}"#
    );
    transport.close().await;
}

#[tokio::test]
async fn second_answers_noise_and_batches_reach_no_other_call() {
    let transport = legacy().await;
    assert!(call(&transport, "twice").await.expect("it answers").get().contains("first"));
    assert!(call(&transport, "noise").await.expect("it answers").get().contains("quiet"));
    let change = tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), transport.changed());
    change.await.expect("the change that came with the noise was heard");
    assert_eq!(call(&transport, "batch").await.expect("it answers").get(), r#"{"batch":true}"#);
    transport.close().await;
}

#[tokio::test]
async fn requests_of_the_server_are_answered_or_put_to_the_owner_of_the_job() {
    let transport = legacy().await;
    let call = ToolCall::new("asks", RawJson::empty_object());
    let reply = transport.call(&call, &CallContext::quiet()).await.expect("it asks");
    let ToolReply::NeedsInput { checkpoint, requests } = reply else { panic!("a question: {reply:?}") };
    assert!(!checkpoint.replay_safe);
    assert_eq!(requests[0].request, r#"{"method":"elicitation/create","params":{}}"#);
    let responses = format!(r#"{{"{}":{{"action":"decline"}}}}"#, requests[0].key);
    let answer = Resume::Answer(Answer { responses });
    let reply = transport.resume(&checkpoint, answer.clone(), &CallContext::quiet()).await.expect("it goes on");
    let ToolReply::Done(output) = reply else { panic!("done: {reply:?}") };
    assert!(output.body.get().contains(r#"[{}, -32601, -32601, {\"action\": \"decline\"}]"#), "{:?}", output.body);
    let again = transport.resume(&checkpoint, answer, &CallContext::quiet()).await.expect_err("it was answered");
    assert_eq!(again.delivered, Delivered::Maybe, "{again}");
    transport.close().await;
}

#[tokio::test]
async fn an_answer_after_a_cancel_is_dropped() {
    let transport = legacy().await;
    let hang = ToolCall::new("hang", RawJson::empty_object());
    let cx = CallContext::quiet();
    assert!(tokio::time::timeout(Duration::from_millis(200), transport.call(&hang, &cx)).await.is_err());
    assert!(call(&transport, "twice").await.expect("it answers").get().contains("first"));
    transport.close().await;
}

#[tokio::test]
async fn what_is_no_answer_may_have_happened_and_an_error_was_delivered() {
    let transport = legacy().await;
    for tool in ["both", "neither", "list"] {
        let error = call(&transport, tool).await.expect_err("it is none");
        assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Protocol, Delivered::Maybe), "{tool}");
    }
    let error = call(&transport, "error").await.expect_err("it refuses");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Rejected { code: -5 }, Delivered::Yes));
    transport.close().await;
}

#[tokio::test]
async fn an_answer_over_the_bound_costs_only_its_call() {
    let transport = legacy().await;
    let error = call(&transport, "huge").await.expect_err("it is too large");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::TooLarge, Delivered::Yes), "{error}");
    assert!(call(&transport, "twice").await.is_ok());
    transport.close().await;
}

#[tokio::test]
async fn a_death_in_a_call_is_told_with_its_last_words() {
    for (tool, words) in [("die", "out of paper"), ("mute", "")] {
        let transport = legacy().await;
        let error = call(&transport, tool).await.expect_err("it died");
        assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Closed, Delivered::Maybe), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(transport.is_closed());
        let error = call(&transport, "raw").await.expect_err("it is gone");
        assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Closed, Delivered::No), "{error}");
        transport.close().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_of_the_modern_question_is_asked_the_old_way() {
    let connector = server("fragile");
    let first = connector.connect().await.expect("a second one is started");
    assert_eq!(first.info().protocol, "2025-11-25");
    assert!(call(&first, "raw").await.is_ok());
    first.close().await;
    let again = connector.connect().await.expect("its era is remembered");
    again.close().await;
    assert!(server("fragile").era(Era::Modern).connect().await.is_err());
}

#[tokio::test]
async fn a_server_that_is_silent_on_the_modern_question_is_asked_the_old_way() {
    let transport = server("silent").connect().await.expect("it is legacy");
    assert_eq!(transport.info().protocol, "2025-11-25");
    transport.close().await;
}

#[tokio::test]
async fn a_server_that_keeps_dying_is_not_started_at_once_again() {
    let connector = server("dead");
    let error = connector.connect().await.expect_err("it dies at start");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Connect, Delivered::No), "{error}");
    assert!(error.to_string().contains("no module named mcp"), "{error}");
    // The pause is drawn from zero upwards: after a few deaths one is long enough to be seen.
    let refused = async {
        loop {
            let error = connector.connect().await.expect_err("it dies at start");
            if error.to_string().contains("is started again") {
                break error;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), refused).await.expect("a pause comes");
    assert!(refused.retry_after.is_some_and(|wait| !wait.is_zero()));
    assert_eq!(refused.delivered, Delivered::No);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let name = ServerName::new("ghost").expect("a valid name");
    let error = StdioConnector::new(name.clone(), "no-such-program").connect().await.expect_err("it is not there");
    assert!(error.to_string().contains("`no-such-program`") && error.delivered == Delivered::No, "{error}");
    let error = StdioConnector::new(name, "python3").cwd("/no/such/dir").connect().await.expect_err("it is not there");
    assert!(error.to_string().contains("/no/such/dir"), "{error}");
}

/// A server and a grandchild that end only when they are killed, and their pids.
struct Family {
    dir: tempfile::TempDir,
}

impl Family {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn pid_file(&self) -> PathBuf {
        self.dir.path().join("pids")
    }

    fn connector(pid_file: &Path) -> StdioConnector {
        let name = ServerName::new("family").expect("a valid name");
        let args = [script(), "family".to_owned(), pid_file.to_string_lossy().into_owned()];
        StdioConnector::new(name, "python3").args(args)
    }

    async fn pids(&self) -> Vec<Pid> {
        let read = async {
            loop {
                match std::fs::read_to_string(self.pid_file()) {
                    Ok(pids) => break pids,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let pids = tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), read).await.expect("it starts in time");
        let pids: Vec<Pid> = pids.split(' ').filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect();
        assert_eq!(pids.len(), 2);
        pids
    }
}

/// Whether a process runs; one that is dead and waits to be reaped does not.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    let dead = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z') || rest.starts_with('X'));
    test_kill_process(pid).is_ok() && !dead
}

async fn all_gone(pids: &[Pid]) {
    let until = Instant::now() + Duration::from_secs(WAIT_S_MAX);
    while pids.iter().any(|pid| runs(*pid)) {
        assert!(Instant::now() < until, "left behind: {pids:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn close_ends_a_whole_family_that_ignores_everything() {
    let family = Family::new();
    let transport = Family::connector(&family.pid_file()).connect().await.expect("it connects");
    let pids = family.pids().await;
    assert!(pids.iter().all(|pid| runs(*pid)));
    transport.close().await;
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_transport_that_is_dropped_leaves_no_family_behind() {
    let family = Family::new();
    let transport = Family::connector(&family.pid_file()).connect().await.expect("it connects");
    let pids = family.pids().await;
    drop(transport);
    all_gone(&pids).await;
}

#[test]
fn a_runtime_that_ends_leaves_no_family_behind() {
    let family = Family::new();
    let start =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let runtime = start();
    let pids = runtime.block_on(async {
        let transport = Family::connector(&family.pid_file()).connect().await.expect("it connects");
        std::mem::forget(transport);
        family.pids().await
    });
    drop(runtime);
    start().block_on(all_gone(&pids));
}

/// Not a test of its own: what `launcher` starts. Its words end at `--`, as those of a real program would end at a subcommand.
#[test]
#[ignore = "a process that other tests start"]
fn launcher_process() {
    let args: Vec<OsString> = std::env::args_os().skip_while(|arg| arg != "--").skip(1).collect();
    let code = launch(args);
    // A test cannot give an exit code but by ending its process.
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 41 });
}

fn launcher() -> Vec<OsString> {
    let program = std::env::current_exe().expect("this program has a path").into_os_string();
    let words = ["--ignored", "--exact", "--nocapture", "launcher_process", "--"].map(OsString::from);
    std::iter::once(program).chain(words).collect()
}

/// Not a test of its own: connects by a launcher, then waits to be killed.
#[tokio::test]
#[ignore = "a process that other tests start"]
async fn parent_process() {
    let pid_file = std::env::var_os("FAMILY_PID_FILE").expect("its parent has set it");
    let connector = Family::connector(Path::new(&pid_file)).launcher(launcher());
    let _transport = connector.connect().await.expect("it connects");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_parent_leaves_no_family_behind() {
    let family = Family::new();
    let mut parent = tokio::process::Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--ignored", "--exact", "--nocapture", "parent_process"])
        .env("FAMILY_PID_FILE", family.pid_file())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let pids = family.pids().await;
    // Connected, not only started.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pid = parent.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    kill_process(pid, Signal::KILL).expect("it runs");
    parent.wait().await.expect("it was killed");
    all_gone(&pids).await;
}

#[tokio::test]
async fn a_launched_server_answers_and_closes_like_any_other() {
    let family = Family::new();
    let transport = Family::connector(&family.pid_file()).launcher(launcher()).connect().await.expect("it connects");
    assert!(call(&transport, "raw").await.is_ok());
    let pids = family.pids().await;
    transport.close().await;
    all_gone(&pids).await;

    let polite = server("2025-11-25").launcher(launcher()).connect().await.expect("it connects");
    let error = call(&polite, "die").await.expect_err("it died");
    assert!(error.to_string().contains("exit status: 3"), "the launcher tells how the server ended: {error}");
    polite.close().await;

    let name = ServerName::new("ghost").expect("a valid name");
    let ghost = StdioConnector::new(name, "no-such-program").launcher(launcher());
    let error = ghost.connect().await.expect_err("it is not there");
    assert!(error.to_string().contains("`no-such-program`") && error.delivered == Delivered::No, "{error}");
}
