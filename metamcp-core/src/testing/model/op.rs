//! What can be drawn: calls in terms of few jobs, lanes, tenants and workers, so that they meet each other often.

use proptest::{collection::vec, option, prelude::*};

/// Distinct jobs of one run.
pub const JOBS_MAX: u8 = 8;
/// The lanes of one run.
pub const LANES: [&str; 2] = ["light", "heavy"];
const TENANTS: u8 = 2;
const WORKERS: u8 = 2;
const KEYS: u8 = 2;

/// Which lease of a job a call is made with.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// The one that is held, of those that are.
    Held,
    /// The one that was given last.
    Newest,
    /// The one before.
    Older,
    /// The last one's epoch with another nonce.
    OtherNonce,
    /// The last one's nonce with an epoch to come.
    OtherEpoch,
}

/// A lease of a job.
#[derive(Debug, Clone, Copy)]
pub struct Pick {
    /// Which job, counted among those that are held or were ever leased.
    pub job: u8,
    /// Which of its leases.
    pub which: Which,
}

/// The terms of a new job.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Below [`JOBS_MAX`]: the id.
    pub job: u8,
    /// Whose it is.
    pub tenant: u8,
    /// Index into [`LANES`].
    pub lane: u8,
    /// 0 to 9.
    pub priority: u8,
    /// In seconds.
    pub delay_s: u64,
    /// In seconds.
    pub deadline_s: Option<u64>,
    /// In seconds.
    pub retain_s: u64,
    /// At least 1.
    pub attempts_max: u32,
    /// At least 1.
    pub lost_max: u32,
    /// The idempotency key.
    pub key: Option<u8>,
    /// What is asked.
    pub request: u8,
    /// The jobs it waits for, each once and not itself.
    pub after: Vec<u8>,
    /// The bound of the one concurrency key.
    pub concurrency: Option<u32>,
    /// The burst of the one rate key.
    pub rate: Option<u32>,
    /// The worker that holds it from the start, if it waits for nothing.
    pub held: Option<u8>,
}

/// How a lease ends its job.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// With one of few results.
    Done(u8),
    /// With one of few results, not its own.
    Cached(u8),
    /// With one of few errors.
    Dead(u8),
    /// As wished.
    Cancelled,
}

/// How a job is given back.
#[derive(Debug, Clone, Copy)]
pub enum Back {
    /// The attempt failed.
    Fail {
        /// In seconds.
        delay_s: u64,
        /// The next candidate.
        candidate: u16,
    },
    /// Released.
    Release {
        /// In seconds.
        delay_s: u64,
        /// The call may have happened.
        maybe_called: bool,
    },
    /// Moved to this candidate.
    Move(u16),
    /// Parked for so many seconds.
    Park(u64),
}

/// One drawn call.
#[derive(Debug, Clone)]
pub enum Op {
    /// New jobs in one call.
    Enqueue(Vec<Terms>),
    /// A wish for work; `again`: the worker's last one, asked again.
    Lease {
        /// Who asks.
        worker: u8,
        /// Whether the second lane stands first.
        heavy_first: bool,
        /// How many.
        max: u16,
        /// The last request once more.
        again: bool,
    },
    /// Signs of life in one call, with or without progress.
    Heartbeat(Vec<(Pick, bool)>),
    /// A checkpoint.
    Checkpoint(Pick, u8),
    /// Ends in one call.
    Finish(Vec<(Pick, End)>),
    /// Jobs given back in one call.
    Nack(Vec<(Pick, Back)>),
    /// One of few answers.
    Answer(u8, u8),
    /// A redrive.
    Redrive(u8),
    /// A wish to cancel.
    Cancel(u8),
    /// A lane stops or goes on.
    Pause(u8, bool),
    /// Maintenance until there is nothing more to do.
    Maintain,
    /// So many milliseconds pass.
    Advance(u64),
}

fn pick() -> impl Strategy<Value = Pick> {
    let which = prop_oneof![
        6 => Just(Which::Held),
        3 => Just(Which::Newest),
        2 => Just(Which::Older),
        1 => Just(Which::OtherNonce),
        1 => Just(Which::OtherEpoch),
    ];
    (0..JOBS_MAX, which).prop_map(|(job, which)| Pick { job, which })
}

fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => 1..40_u64]
}

fn terms() -> impl Strategy<Value = Terms> {
    let place = (0..JOBS_MAX, 0..TENANTS, 0..2_u8, prop_oneof![Just(0), 0..=9_u8]);
    let retain = prop_oneof![2 => 0..40_u64, 1 => 40..200_u64];
    let times = (delay(), option::weighted(0.3, 1..120_u64), retain);
    let lost_max = prop_oneof![1..3_u32, 3..9_u32];
    let counts = (1..4_u32, lost_max, option::weighted(0.4, 0..KEYS), 0..2_u8);
    let after = prop_oneof![2 => Just(Vec::new()), 1 => vec(0..JOBS_MAX, 1..3)];
    let limits = (after, keys());
    let terms = (place, times, counts, limits, option::of(0..WORKERS));
    terms.prop_map(|(place, times, counts, limits, worker)| {
        let after = others(limits.0, place.0);
        let waits = times.0 > 0 || !after.is_empty() || limits.1 != (None, None);
        Terms {
            job: place.0,
            tenant: place.1,
            lane: place.2,
            priority: place.3,
            delay_s: times.0,
            deadline_s: times.1,
            retain_s: times.2,
            attempts_max: counts.0,
            lost_max: counts.1,
            key: counts.2,
            request: counts.3,
            after,
            concurrency: limits.1.0,
            rate: limits.1.1,
            held: worker.filter(|_| !waits),
        }
    })
}

/// The bound of the concurrency key and the burst of the rate key: often both, so that one waits for the other.
fn keys() -> impl Strategy<Value = (Option<u32>, Option<u32>)> {
    let key = || (1..3_u32).prop_map(Some);
    prop_oneof![
        6 => (Just(None), Just(None)),
        2 => (key(), Just(None)),
        1 => (Just(None), key()),
        2 => (key(), key()),
    ]
}

fn others(mut jobs: Vec<u8>, job: u8) -> Vec<u8> {
    jobs.sort_unstable();
    jobs.dedup();
    jobs.retain(|other| *other != job);
    jobs
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![3 => (0..2_u8).prop_map(End::Done), 1 => (0..2_u8).prop_map(End::Cached), 1 => (0..2_u8).prop_map(End::Dead), 1 => Just(End::Cancelled)]
}

fn back() -> impl Strategy<Value = Back> {
    prop_oneof![
        2 => (delay(), 0..3_u16).prop_map(|(delay_s, candidate)| Back::Fail { delay_s, candidate }),
        1 => (delay(), any::<bool>()).prop_map(|(delay_s, maybe_called)| Back::Release { delay_s, maybe_called }),
        1 => (0..3_u16).prop_map(Back::Move),
        1 => (1..60_u64).prop_map(Back::Park),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let lease = (0..WORKERS, any::<bool>(), 0..4_u16, prop::bool::weighted(0.2));
    prop_oneof![
        6 => vec(terms(), 1..6).prop_map(Op::Enqueue),
        10 => lease.prop_map(|(worker, heavy_first, max, again)| Op::Lease { worker, heavy_first, max, again }),
        6 => vec((pick(), any::<bool>()), 1..4).prop_map(Op::Heartbeat),
        2 => (pick(), 0..3_u8).prop_map(|(pick, text)| Op::Checkpoint(pick, text)),
        5 => vec((pick(), end()), 1..4).prop_map(Op::Finish),
        7 => vec((pick(), back()), 1..4).prop_map(Op::Nack),
        3 => (0..JOBS_MAX, 0..2_u8).prop_map(|(job, text)| Op::Answer(job, text)),
        5 => (0..JOBS_MAX).prop_map(Op::Redrive),
        6 => (0..JOBS_MAX).prop_map(Op::Cancel),
        1 => (0..2_u8, prop::bool::weighted(0.3)).prop_map(|(lane, paused)| Op::Pause(lane, paused)),
        6 => Just(Op::Maintain),
        7 => prop_oneof![4 => 0..20_000_u64, 1 => 20_000..200_000_u64].prop_map(Op::Advance),
    ]
}

/// Jobs are leased and lost, twice: by chance alone few jobs come to lose more than one lease.
fn losses() -> impl Strategy<Value = Vec<Op>> {
    let lease = (0..WORKERS, any::<bool>(), 1..4_u16);
    let loss = (lease, 30_000..35_000_u64).prop_map(|((worker, heavy_first, max), ms)| {
        [Op::Lease { worker, heavy_first, max, again: false }, Op::Advance(ms), Op::Maintain]
    });
    vec(loss, 2).prop_map(|losses| losses.concat())
}

/// Up to `max` calls.
pub fn ops(max: usize) -> impl Strategy<Value = Vec<Op>> {
    let calls = prop_oneof![60 => op().prop_map(|op| vec![op]), 1 => losses()];
    vec(calls, 1..=max).prop_map(move |calls| calls.into_iter().flatten().take(max).collect())
}
