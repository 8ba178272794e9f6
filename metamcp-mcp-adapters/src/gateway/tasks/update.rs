//! Answers to a task's questions, which may come one by one: those that came are kept beside the job until all are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use metamcp_core::{
    engine::EngineError,
    error::StoreError,
    id::JobId,
    json::RawJson,
    queue::{Answer, InputRequest, Job, JobState},
    record::{Expect, RecordKind, Written},
};
use serde_json::value::RawValue;

use super::refused::fault;
use crate::{
    gateway::{
        Caller, Gateway, RpcFault,
        bridge::QUESTION_TTL,
        members::{Members, quoted},
    },
    wire::era::{INTERNAL_ERROR, INVALID_PARAMS},
};

/// Most tries to add an answer to those that came.
const TRIES_MAX: u32 = 8;

/// Answers by the key of their question.
type Answers = BTreeMap<String, RawJson>;

/// What a job is called among the answers that came.
fn answers_name(job: JobId) -> String {
    format!("answers/{job}")
}

/// Takes answers. Those to questions that are not open are of no use and do no harm.
pub(crate) async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    job: &Job,
    responses: Option<&RawValue>,
) -> Result<(), RpcFault> {
    let given = responses.and_then(|responses| Members::of(responses.get()).ok());
    let Some(given) = given else {
        return Err(RpcFault::new(INVALID_PARAMS, "inputResponses: must be an object from question to answer"));
    };
    if let Some((key, _)) = given.0.iter().find(|(_, answer)| !answer.get().starts_with('{')) {
        return Err(RpcFault::new(INVALID_PARAMS, format!("inputResponses: the answer to `{key}` must be an object")));
    }
    if job.head.state != JobState::Input {
        return Ok(());
    }
    let asked = &job.head.requests;
    let name = answers_name(job.head.id);
    for _ in 0..TRIES_MAX {
        let (mut answers, version) = kept(gateway, &name).await?;
        answers.retain(|key, _| asked.iter().any(|request| request.key == *key));
        for (key, answer) in given.0.iter().filter(|(key, _)| asked.iter().any(|request| request.key == **key)) {
            answers.insert(key.clone().into_owned(), (*answer).to_owned().into());
        }
        if answers.len() == asked.len() {
            let answer = Answer { responses: text_of(&answers) };
            return match gateway.engine().answer(&caller.principal, job.head.id, answer).await {
                // Answered by another at the same moment.
                Ok(_) | Err(EngineError::State { .. }) => forget(gateway, &name).await,
                Err(error) => Err(fault(&error)),
            };
        }
        let expect = version.map_or(Expect::Absent, Expect::Version);
        let value = Bytes::from(text_of(&answers));
        let written = gateway.records().put(RecordKind::Gateway, &name, value, expect, Some(QUESTION_TTL)).await;
        if matches!(written.map_err(|error| broken(&error))?, Written::Ok { .. }) {
            return Ok(());
        }
    }
    Err(RpcFault::new(INTERNAL_ERROR, "answers to the task come too fast; bring them again"))
}

/// The questions that no answer came for.
pub(crate) async fn outstanding<'a>(gateway: &Gateway, job: &'a Job) -> Result<Vec<&'a InputRequest>, RpcFault> {
    let asked = &job.head.requests;
    // One question is open or answered as a whole.
    if asked.len() == 1 {
        return Ok(asked.iter().collect());
    }
    let (answers, _) = kept(gateway, &answers_name(job.head.id)).await?;
    Ok(asked.iter().filter(|request| !answers.contains_key(&request.key)).collect())
}

async fn kept(gateway: &Gateway, name: &str) -> Result<(Answers, Option<u64>), RpcFault> {
    let record = gateway.records().get(RecordKind::Gateway, name).await.map_err(|error| broken(&error))?;
    let Some(record) = record else { return Ok((Answers::new(), None)) };
    Ok((serde_json::from_slice(&record.value).unwrap_or_default(), Some(record.version)))
}

async fn forget(gateway: &Gateway, name: &str) -> Result<(), RpcFault> {
    // Left behind it would run out by itself.
    if let Err(error) = gateway.records().delete(RecordKind::Gateway, name).await {
        tracing::debug!(%error, "answers of a task stay for a while");
    }
    Ok(())
}

fn text_of(answers: &Answers) -> String {
    let members: Vec<String> =
        answers.iter().map(|(key, answer)| format!("{}:{}", quoted(key), answer.get())).collect();
    format!("{{{}}}", members.join(","))
}

fn broken(error: &StoreError) -> RpcFault {
    RpcFault::new(INTERNAL_ERROR, error.to_string())
}
