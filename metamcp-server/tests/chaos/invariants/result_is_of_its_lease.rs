//! The result that is visible was made under the lease that completed the job, for that job: nothing of a stale lease ever shows.

use metamcp_core::queue::JobState;

use crate::history::{Answer, End, Event, History};

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    for (job, end) in &history.ends {
        let done = end.head.state == JobState::Done;
        match &end.answer {
            Some(answer) if done => broken.extend(wrong(answer, end)),
            Some(_) => broken.push(format!("job {job} is {:?} and yet has a result", end.head.state)),
            None if done => broken.push(format!("job {job} is done and its result is not readable")),
            None => {}
        }
    }
    for event in &history.events {
        if let Event::Read { job, answer } = event
            && let Some(end) = history.ends.get(job)
        {
            broken.extend(wrong(answer, end));
        }
    }
    broken
}

fn wrong(answer: &Answer, end: &End) -> Option<String> {
    let head = &end.head;
    let fits = answer.job == head.id.to_string() && answer.epoch == head.epoch && Some(&answer.key) == end.key.as_ref();
    (!fits).then(|| format!("job {} ended under lease {} with {answer:?}", head.id, head.epoch))
}
