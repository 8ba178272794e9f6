//! Callers: they submit through any replica, alone and in batches, submit again what they got no answer to, cancel, look, read results,
//! and write down what they are told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use metamcp_core::id::JobId;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    history::{Answer, Event, History, Stand},
    plan::{Plan, Tool},
};

/// How long a caller waits for an answer while things go wrong, in milliseconds; then it asks again or gives up.
const ANSWER_MS_MAX: u64 = 2_500;
/// Pause of a caller between two wishes, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 20..160;
/// Most tasks of a batch.
const BATCH_MAX: u64 = 8;
/// Jobs among the newest that a caller looks at or builds upon, and that it cancels: those may still be at work.
const NEWEST: usize = 200;
const NEWEST_TO_CANCEL: usize = 8;

/// What is submitted in one call.
#[derive(Debug, Clone)]
enum Order {
    One(Plan),
    Batch { key: String, plans: Vec<Plan> },
}

impl Order {
    fn plans(&self) -> &[Plan] {
        match self {
            Self::One(plan) => std::slice::from_ref(plan),
            Self::Batch { plans, .. } => plans,
        }
    }

    /// Submitting it again does no harm.
    fn is_keyed(&self) -> bool {
        match self {
            Self::One(plan) => plan.keyed,
            Self::Batch { .. } => true,
        }
    }

    fn path(&self) -> &'static str {
        match self {
            Self::One(_) => "/api/tasks/create",
            Self::Batch { .. } => "/api/batches/create",
        }
    }

    fn document(&self) -> Value {
        match self {
            Self::One(plan) => plan.document(false),
            Self::Batch { key, plans } => {
                let tasks: Vec<_> = plans.iter().map(|plan| plan.document(true)).collect();
                json!({ "tasks": tasks, "idempotency_key": key })
            }
        }
    }
}

/// What all callers share.
#[derive(Debug, Clone)]
pub(crate) struct Callers {
    http: reqwest::Client,
    urls: Arc<Vec<String>>,
    pub(crate) history: Arc<Mutex<History>>,
    /// Submitted without an answer, to be submitted again.
    unanswered: Arc<Mutex<VecDeque<Order>>>,
    /// Accepted jobs with their keys, in order.
    jobs: Arc<Mutex<Vec<(JobId, String)>>>,
}

impl Callers {
    pub(crate) fn new(urls: Vec<String>, history: Arc<Mutex<History>>) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("an HTTP client");
        Self { http, urls: Arc::new(urls), history, unanswered: Arc::default(), jobs: Arc::default() }
    }

    fn tell(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no panic")
    }

    /// One caller, until `until`.
    pub(crate) fn call(&self, name: usize, seed: u64, until: Instant) -> tokio::task::JoinHandle<()> {
        let (callers, mut rng) = (self.clone(), StdRng::seed_from_u64(seed));
        tokio::spawn(async move {
            let mut number = 0;
            while Instant::now() < until {
                number += 1;
                callers.wish(format!("c{name}_{number}"), &mut rng).await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(PAUSE_MS))).await;
            }
        })
    }

    async fn wish(&self, key: String, rng: &mut StdRng) {
        let wish = rng.random_range(0..100);
        let known = self.any_of(if wish < 8 { NEWEST_TO_CANCEL } else { NEWEST }, rng);
        match (wish, known) {
            (0..8, Some((job, _))) => self.cancel(job, rng).await,
            (8..30, Some((job, _))) => self.look(job, rng).await,
            (30..40, Some((parent, parent_key))) => {
                self.submit(Order::One(Plan::child(key, parent, parent_key)), rng, ANSWER_MS_MAX).await;
            }
            (40..45, _) => {
                let plans = (0..rng.random_range(2..=BATCH_MAX)).map(|at| Plan::any(format!("{key}_{at}"), rng));
                let plans = plans.map(|plan| Plan { keyed: true, ..plan }).collect();
                self.submit(Order::Batch { key: format!("{key}_batch"), plans }, rng, ANSWER_MS_MAX).await;
            }
            (45..70, _) => {
                let again = self.unanswered.lock().expect("no panic").pop_front();
                let order = again.unwrap_or_else(|| Order::One(Plan::any(key, rng)));
                self.submit(order, rng, ANSWER_MS_MAX).await;
            }
            _ => self.submit(Order::One(Plan::any(key, rng)), rng, ANSWER_MS_MAX).await,
        }
    }

    /// Any of so many of the newest jobs.
    fn any_of(&self, most: usize, rng: &mut StdRng) -> Option<(JobId, String)> {
        let jobs = self.jobs.lock().expect("no panic");
        let newest = &jobs[jobs.len().saturating_sub(most)..];
        (!newest.is_empty()).then(|| newest[rng.random_range(0..newest.len())].clone())
    }

    fn url(&self, rng: &mut StdRng, path: &str) -> String {
        format!("{}{path}", self.urls[rng.random_range(0..self.urls.len())])
    }

    /// A task that kills whoever works on it.
    pub(crate) async fn poison(&self, key: &str, rng: &mut StdRng) {
        self.submit(Order::One(Plan::new(key, Tool::Poison)), rng, ANSWER_MS_MAX).await;
    }

    /// A plain task.
    pub(crate) async fn plain(&self, key: String, rng: &mut StdRng, answer_ms: u64) {
        self.submit(Order::One(Plan::new(key, Tool::Mark)), rng, answer_ms).await;
    }

    async fn submit(&self, order: Order, rng: &mut StdRng, answer_ms: u64) {
        order.plans().iter().for_each(|plan| self.tell().plan(plan));
        let body = serde_json::to_vec(&order.document()).expect("it is JSON");
        let request = self.http.post(self.url(rng, order.path())).header("content-type", "application/json").body(body);
        let Some((status, document)) = answered(request, answer_ms).await else { return self.unknown(order) };
        match (status.is_success(), &order) {
            (true, Order::One(plan)) => {
                self.accept(plan, &document["id"]);
                self.saw(&document);
            }
            (true, Order::Batch { plans, .. }) => {
                let tasks = document["tasks"].as_array().expect("tasks");
                assert_eq!(tasks.len(), plans.len(), "{document}");
                for (plan, task) in plans.iter().zip(tasks) {
                    match &task["job"] {
                        Value::Null => self.refuse(plan, &task["refused"]),
                        job => self.accept(plan, job),
                    }
                }
            }
            // It may have been done before the answer failed.
            (false, _) if status.is_server_error() => self.unknown(order),
            (false, _) => order.plans().iter().for_each(|plan| self.refuse(plan, &document)),
        }
    }

    fn accept(&self, plan: &Plan, job: &Value) {
        let job: JobId = job.as_str().and_then(|id| id.parse().ok()).expect("a job's id");
        self.tell().add(Event::Accepted { key: plan.key.clone(), job });
        if plan.tool != Tool::Poison {
            self.jobs.lock().expect("no panic").push((job, plan.key.clone()));
        }
    }

    fn refuse(&self, plan: &Plan, why: &Value) {
        self.tell().add(Event::Refused { key: plan.key.clone(), why: why.to_string() });
    }

    fn unknown(&self, order: Order) {
        for plan in order.plans() {
            self.tell().add(Event::Unknown { key: plan.key.clone() });
        }
        if order.is_keyed() {
            self.unanswered.lock().expect("no panic").push_back(order);
        }
    }

    fn saw(&self, document: &Value) {
        if let Some(job) = document["id"].as_str().and_then(|id| id.parse().ok()) {
            self.tell().add(Event::Saw { job, stand: Stand::of(document) });
        }
    }

    async fn cancel(&self, job: JobId, rng: &mut StdRng) {
        let request = self.http.post(self.url(rng, &format!("/api/tasks/{job}/cancel")));
        if let Some((status, document)) = answered(request, ANSWER_MS_MAX).await
            && status.is_success()
        {
            self.saw(&document);
        }
    }

    /// Looks at a job, and reads its result if it has one.
    async fn look(&self, job: JobId, rng: &mut StdRng) {
        let Some(stand) = self.see(job, rng, ANSWER_MS_MAX).await else { return };
        let Some(pointer) = stand.result else { return };
        let request = self.http.get(self.url(rng, &format!("/api/results/{pointer}")));
        if let Some((status, body)) = answered(request, ANSWER_MS_MAX).await
            && status.is_success()
        {
            let answer = Answer::of(body.to_string().as_bytes()).expect("what the tools answer");
            self.tell().add(Event::Read { job, answer });
        }
    }

    async fn see(&self, job: JobId, rng: &mut StdRng, answer_ms: u64) -> Option<Stand> {
        let request = self.http.get(self.url(rng, &format!("/api/tasks/{job}")));
        let (status, document) = answered(request, answer_ms).await?;
        if status == StatusCode::NOT_FOUND {
            self.tell().add(Event::Missing { job });
        }
        status.is_success().then(|| {
            self.saw(&document);
            Stand::of(&document)
        })
    }

    /// Submits again what got no answer. Answers whether anything is left.
    pub(crate) async fn resubmit(&self, rng: &mut StdRng, answer_ms: u64) -> bool {
        let orders = std::mem::take(&mut *self.unanswered.lock().expect("no panic"));
        for order in orders {
            self.submit(order, rng, answer_ms).await;
        }
        !self.unanswered.lock().expect("no panic").is_empty()
    }

    /// Looks at these jobs. Answers those that have not ended.
    pub(crate) async fn open(&self, jobs: Vec<JobId>, rng: &mut StdRng, answer_ms: u64) -> Vec<JobId> {
        let mut open = Vec::new();
        for job in jobs {
            if self.see(job, rng, answer_ms).await.is_none_or(|stand| !stand.is_final()) {
                open.push(job);
            }
        }
        open
    }
}

/// Status and document of an answer; `None` when none came, or only a part of one.
async fn answered(request: reqwest::RequestBuilder, answer_ms: u64) -> Option<(StatusCode, Value)> {
    let answer = request.timeout(Duration::from_millis(answer_ms)).send().await.ok()?;
    let status = answer.status();
    let document = answer.json().await.ok()?;
    Some((status, document))
}
