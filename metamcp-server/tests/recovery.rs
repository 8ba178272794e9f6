//! A worker that is killed while it holds a job: another one has the job again within the lease and one second.

mod support;

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use metamcp_mcp_adapters::testing::{RedisServer, RedisSetup};
use support::{Home, Serve, eventually, spawn, within};

/// How long a lease lasts, in seconds.
const LEASE_S: u64 = 3;
/// Kills, one after the other.
const KILLS: usize = 4;
/// Longest recovery, in seconds: the promise is the lease and one second, and machines may be busy.
const RECOVERY_S_MAX: u64 = LEASE_S + 10;
/// How long a call takes, in milliseconds: longer than all of this.
const CALL_MS: u64 = 600_000;

/// A `metamcp worker` that is killed with the test.
struct Worker(Child);

impl Worker {
    /// Starts one and waits until it works: what that takes is no part of a recovery.
    fn start(home: &Home, store: &str, config: &str) -> Self {
        let args = ["worker", "--store", store, "--config", config, "--log", "off"];
        let mut child = spawn(&mut home.command(args));
        let (mut said, mut line) = (BufReader::new(child.stderr.take().expect("piped")), String::new());
        said.read_line(&mut line).expect("text");
        assert!(line.starts_with("metamcp works on "), "{line}");
        // It goes on saying things to somebody.
        child.stderr = Some(said.into_inner());
        Self(child)
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_a_killed_worker_is_at_work_again_within_its_lease_and_a_second() {
    let redis = RedisServer::start(RedisSetup::default()).await.expect("a Redis starts");
    let (home, store) = (Home::new(), redis.url());
    let settings = format!("[jobs]\nlease_s = {LEASE_S}\nlost_max = 20\n[builtin.code]\nenabled = false");
    let config = home.notes_config(&settings);
    let config = config.to_str().expect("a path in words");
    let mut serve =
        home.command(["serve", "--no-worker", "--listen", "127.0.0.1:0", "--store", &store, "--config", config]);
    let serve = Serve::of(&mut serve);
    let call = format!("pause_ms:={CALL_MS}");
    let run = ["run", "--no-wait", "--server", &serve.url, "--tool", "notes/slow", "--arg", "key=k", "--arg", &call];
    let stand = |job: &str| home.run(["tasks", "show", "--json", "--server", &serve.url, job]).exits(0).json();
    let is_held = |job: &str, lost: usize| {
        let now = stand(job);
        (now["state"] == "working" && now["lost"] == lost).then_some(())
    };

    let mut holder = Worker::start(&home, &store, config);
    let mut took = Vec::new();
    for _ in 0..KILLS {
        // One that was never lost before: a second loss is followed by a pause.
        let job = home.run(run).exits(0).stdout.trim().to_owned();
        eventually("the first lease", || is_held(&job, 0));
        let next = Worker::start(&home, &store, config);
        holder.kill();
        let killed = Instant::now();
        let back = within(Duration::from_secs(RECOVERY_S_MAX), || is_held(&job, 1));
        assert!(back.is_some(), "not within {RECOVERY_S_MAX} s: {}", stand(&job));
        took.push(killed.elapsed());
        holder = next;
    }
    println!("leases of {LEASE_S} s, {KILLS} workers killed; their jobs were at work again after {took:.2?}");
}
