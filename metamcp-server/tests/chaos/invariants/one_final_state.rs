//! A job ends once: after a caller has seen it ended, it is seen just so ever after, and stands so in the store.

use std::collections::BTreeMap;

use metamcp_core::{id::JobId, queue::JobHead};

use crate::history::{Event, History, Stand};

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut ended = BTreeMap::<JobId, &Stand>::new();
    let mut broken = Vec::new();
    for event in &history.events {
        let Event::Saw { job, stand } = event else { continue };
        match ended.get(job) {
            Some(end) if *end != stand => broken.push(format!("job {job} had ended as {end:?}, then it was {stand:?}")),
            None if stand.is_final() => {
                ended.insert(*job, stand);
            }
            _ => {}
        }
    }
    for (job, seen) in ended {
        let Some(end) = history.ends.get(&job) else { continue };
        let stands = stand(&end.head);
        if *seen != stands {
            broken.push(format!("job {job} was seen to end as {seen:?}, and stands as {stands:?}"));
        }
    }
    broken
}

/// A head as callers are told of it.
pub(crate) fn stand(head: &JobHead) -> Stand {
    use metamcp_server::api::doc::TaskState;
    let code = |error: &metamcp_core::queue::JobError| {
        serde_json::to_value(error.code).ok().and_then(|code| code.as_str().map(str::to_owned))
    };
    Stand {
        state: TaskState::of(head).as_str().to_owned(),
        result: head.result.as_ref().map(ToString::to_string),
        code: head.error.as_ref().and_then(code),
    }
}
