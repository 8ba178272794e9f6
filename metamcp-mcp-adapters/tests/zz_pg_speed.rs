//! temporary
#![cfg(all(feature = "postgres", feature = "testing"))]
use std::{sync::{Arc, atomic::{AtomicU64, Ordering}}, time::{Duration, Instant}};
use metamcp_core::{auth::Principal, id::{Lane, TenantId, WorkerId}, pointer::{Digest, ResultPointer}, queue::*, testing::job_store::new_job};
use metamcp_mcp_adapters::{store::postgres::*, testing::{PostgresServer, PostgresSetup}};

static NEXT: AtomicU64 = AtomicU64::new(1);
async fn client(store: Arc<PostgresJobStore>, n: usize, rounds: usize, batch: usize, tenants: usize, t: Arc<[AtomicU64; 3]>) {
    let worker = WorkerId::new(format!("w{n}")).unwrap();
    for r in 0..rounds {
        let jobs: Vec<NewJob> = (0..batch).map(|_| NewJob { owner: Principal::new(TenantId::new(format!("t{}", (n + r) % tenants)).unwrap(), "s"), deadline: Some(Duration::from_secs(900)), ..new_job() }).collect();
        let b = Instant::now();
        store.enqueue(&jobs).await.unwrap();
        t[0].fetch_add(b.elapsed().as_micros() as u64, Ordering::Relaxed);
        let b = Instant::now();
        let want = LeaseRequest { lanes: vec![Lane::light()], max: batch as u16, visibility: Duration::from_secs(600), worker: worker.clone(), request: NEXT.fetch_add(1, Ordering::Relaxed), nonce: 7, shares: Arc::default() };
        let got = store.lease(&want).await.unwrap().jobs;
        t[1].fetch_add(b.elapsed().as_micros() as u64, Ordering::Relaxed);
        let b = Instant::now();
        let ends: Vec<Finish> = got.iter().map(|l| Finish { lease: l.key, end: Final::Done(ResultPointer { tenant: Principal::local().tenant, job: l.key.job, digest: Digest::of(b"3") }) }).collect();
        store.finish(&ends).await.unwrap();
        t[2].fetch_add(b.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let e = |k: &str, d: usize| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
    let fsync = e("FSYNC", 0) == 1;
    let server_url = std::env::var("PGURL").ok(); let server = PostgresServer::start(PostgresSetup { fsync, settings: if std::env::var("LOGD").is_ok() { vec![("log_min_duration_statement".into(), "0".into()), ("log_line_prefix".into(), "%p %m ".into())] } else { vec![("shared_buffers".into(), "256MB".into())] }, ..Default::default() }).await.unwrap();
    println!("server {}", server.url());
    let store = PostgresStore::open(&PostgresOptions::parse(&format!("{}?allow_lossy=true&pool=8", server_url.clone().unwrap_or(server.url()))).unwrap()).await.unwrap();
    let jobs = store.jobs();
    let (clients, rounds, batch, tenants) = (e("CLIENTS", 8), e("ROUNDS", 20), e("BATCH", 100), e("TENANTS", 1));
    let warm: Arc<[AtomicU64; 3]> = Arc::default();
    client(Arc::clone(&jobs), 99, 3, batch, tenants, warm).await;
    let t: Arc<[AtomicU64; 3]> = Arc::default();
    let began = Instant::now();
    let hs: Vec<_> = (0..clients).map(|n| tokio::spawn(client(Arc::clone(&jobs), n, rounds, batch, tenants, Arc::clone(&t)))).collect();
    for h in hs { h.await.unwrap(); }
    let took = began.elapsed();
    let n = clients * rounds * batch;
    let per = |i: usize| t[i].load(Ordering::Relaxed) / (clients * rounds) as u64;
    println!("{n} jobs in {took:?}: {:.0}/s; per call us: enqueue {} lease {} finish {}", n as f64 / took.as_secs_f64(), per(0), per(1), per(2));
    println!("{:?}", jobs.counts(&Lane::light()).await.unwrap());
    if e("HOLD", 0) == 1 { tokio::time::sleep(Duration::from_secs(600)).await; }
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads() {
    let Ok(url) = std::env::var("PGURL") else { return };
    let store = PostgresStore::open(&PostgresOptions::parse(&format!("{url}?allow_lossy=true&pool=8")).unwrap()).await.unwrap();
    let jobs = store.jobs();
    for _ in 0..3 {
        for (name, states, owner) in [("all", vec![], None), ("live", vec![JobState::Ready, JobState::Leased], None), ("dead", vec![JobState::Dead], None), ("owned", vec![], Some(Principal::new(TenantId::new("t0").unwrap(), "s"))), ("done", vec![JobState::Done], None), ("nobody", vec![], Some(Principal::new(TenantId::new("t7").unwrap(), "s")))] {
            let mut q = JobQuery::default(); q.states = states; q.owner = owner; q.limit = 50;
            let b = Instant::now(); let p = jobs.list(&q).await.unwrap(); println!("{name} {} next {} {:?}", p.jobs.len(), p.next.is_some(), b.elapsed());
        }
        let b = Instant::now(); let c = jobs.counts(&Lane::light()).await.unwrap(); println!("counts {:?} {c:?}", b.elapsed());
        let b = Instant::now(); let c = jobs.lanes().await.unwrap(); println!("lanes {:?} {c:?}", b.elapsed());
        let b = Instant::now(); let c = jobs.maintain(std::num::NonZeroU16::new(100).unwrap()).await.unwrap().moves(); println!("maintain {:?} {c:?}", b.elapsed());
        let b = Instant::now(); let c = jobs.health().await.unwrap(); println!("health {:?} {}", b.elapsed(), c.detail.len());
    }
}
