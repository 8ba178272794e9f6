//! Large bodies of jobs. They come and go beside the scripts: Lua looks at every byte of what it is given, and that holds up everybody else.

use metamcp_core::{error::StoreResult, id::JobId};

use super::{head::ToldJob, namespace::Namespace};

/// Longest body that goes through a script, in bytes of JSON.
const SMALL_BYTES_MAX: usize = 2 << 10;
/// How long a large body stays whose job is not accepted, in seconds.
const UNCLAIMED_TTL_S: u64 = 600;

/// The body, if it goes through the script.
pub(super) fn small(body: &str) -> Option<&str> {
    (body.len() <= SMALL_BYTES_MAX).then_some(body)
}

/// Sends the large ones of these bodies. The script that accepts their jobs makes them stay. What a job that stands has already is left as it
/// is.
pub(super) async fn send_large<'b>(
    namespace: &Namespace,
    bodies: impl Iterator<Item = (JobId, &'b String)>,
) -> StoreResult<()> {
    let mut commands = redis::pipe();
    for (id, body) in bodies.filter(|(_, body)| small(body).is_none()) {
        let key = namespace.key(&format!("b:{id}"));
        commands.cmd("SET").arg(key).arg(body).arg("NX").arg("EX").arg(UNCLAIMED_TTL_S).ignore();
    }
    if commands.is_empty() { Ok(()) } else { namespace.pool.pipeline(&commands).await }
}

/// Brings the bodies that a script left out. Those of jobs that are gone by now stay `None`.
pub(super) async fn bring_large(namespace: &Namespace, told: &mut [ToldJob]) -> StoreResult<()> {
    let mut command = redis::cmd("MGET");
    let mut without: Vec<_> = told.iter_mut().filter(|(_, _, body, _)| body.is_none()).collect();
    for (id, ..) in &without {
        command.arg(namespace.key(&format!("b:{id}")));
    }
    if without.is_empty() {
        return Ok(());
    }
    let bodies: Vec<Option<Vec<u8>>> = namespace.pool.query(&command).await?;
    for ((_, _, place, _), body) in without.iter_mut().zip(bodies) {
        *place = body;
    }
    Ok(())
}
