//! The id of a legacy session: sealed, and holding all that was said in the handshake, so that any replica can take the session up.

use std::{borrow::Cow, sync::Arc, time::Duration};

use metamcp_core::{auth::Principal, json::RawJson, time::Timestamp};
use rand::random;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    gateway::{
        Caller, RpcFault,
        lifecycle::{Hello, default_log_level},
        members::Members,
        seal::Seal,
    },
    wire::era::{Era, INVALID_PARAMS, LEGACY},
};

/// What the seal is for.
const PURPOSE: &str = "session";
/// Largest `capabilities` of a legacy client, in bytes: they go along with each of its requests.
const CAPABILITIES_BYTES_MAX: usize = 2 << 10;
/// Largest `clientInfo` that is kept whole, in bytes; of larger ones (icons) name and version are.
const CLIENT_INFO_BYTES_MAX: usize = 512;
/// Longest session id that is looked at, in bytes.
pub(crate) const SESSION_ID_BYTES_MAX: usize = 6 << 10;

/// What a session id says.
#[derive(Debug, Serialize, Deserialize)]
struct Ticket<'a> {
    /// Tells sessions apart that say the same.
    #[serde(rename = "n")]
    nonce: u128,
    #[serde(rename = "x")]
    expires_ms: u64,
    #[serde(rename = "r", borrow)]
    revision: Cow<'a, str>,
    #[serde(rename = "w")]
    who: Cow<'a, Principal>,
    #[serde(rename = "e", borrow, skip_serializing_if = "Option::is_none", default)]
    endpoint: Option<Cow<'a, str>>,
    #[serde(rename = "c", borrow)]
    capabilities: &'a RawValue,
    #[serde(rename = "i", borrow, skip_serializing_if = "Option::is_none", default)]
    client_info: Option<&'a RawValue>,
}

/// A session as its id tells it.
#[derive(Debug)]
pub(super) struct Opened {
    /// The client.
    pub(super) caller: Caller,
    /// Tells the session apart in the records of the store.
    pub(super) nonce: u128,
    /// When it ends.
    pub(super) expires: Timestamp,
}

/// A new session of this client.
///
/// # Errors
/// When what the client says of itself is too large to go along with each of its requests.
pub(super) fn issue(
    seal: &Seal,
    principal: &Principal,
    endpoint: Option<&str>,
    hello: &Hello,
    now: Timestamp,
    lifetime: Duration,
) -> Result<(Arc<str>, Opened), RpcFault> {
    let capabilities = hello.capabilities.get();
    if capabilities.len() > CAPABILITIES_BYTES_MAX {
        let bytes = capabilities.len();
        let why = format!("`capabilities` have {bytes} bytes and at most {CAPABILITIES_BYTES_MAX} are taken; say less");
        return Err(RpcFault::new(INVALID_PARAMS, why));
    }
    let client_info = hello.client_info.as_ref().and_then(kept_info);
    let (nonce, expires) = (random(), now + lifetime);
    let ticket = Ticket {
        nonce,
        expires_ms: expires.as_millis(),
        revision: hello.revision.into(),
        who: Cow::Borrowed(principal),
        endpoint: endpoint.map(Cow::Borrowed),
        capabilities: hello.capabilities.raw(),
        client_info: client_info.as_ref().map(RawJson::raw),
    };
    let id: Arc<str> = seal.seal(PURPOSE, &serde_json::to_string(&ticket).expect("a ticket is JSON")).into();
    let caller = Caller {
        principal: principal.clone(),
        endpoint: endpoint.map(Arc::from),
        era: Era::Legacy,
        revision: hello.revision.into(),
        capabilities: hello.capabilities.clone(),
        client_info,
        log_level: Some(default_log_level()),
    };
    Ok((id, Opened { caller, nonce, expires }))
}

/// What the id says; `None` when it is not ours, or past its time.
pub(super) fn open(seal: &Seal, id: &str, now: Timestamp) -> Option<Opened> {
    if id.len() > SESSION_ID_BYTES_MAX {
        return None;
    }
    let text = seal.open(PURPOSE, id)?;
    let ticket: Ticket<'_> = serde_json::from_str(&text).ok()?;
    let expires = Timestamp::from_millis(ticket.expires_ms);
    if expires <= now {
        return None;
    }
    let revision = LEGACY.into_iter().find(|known| *known == ticket.revision)?;
    let caller = Caller {
        principal: ticket.who.into_owned(),
        endpoint: ticket.endpoint.map(|name| name.into()),
        era: Era::Legacy,
        revision: revision.into(),
        capabilities: ticket.capabilities.to_owned().into(),
        client_info: ticket.client_info.map(|info| info.to_owned().into()),
        log_level: Some(default_log_level()),
    };
    Some(Opened { caller, nonce: ticket.nonce, expires })
}

fn kept_info(info: &RawJson) -> Option<RawJson> {
    if info.get().len() <= CLIENT_INFO_BYTES_MAX {
        return Some(info.clone());
    }
    let members = Members::of(info.get()).ok()?;
    let (name, version) = (members.get("name")?.get(), members.get("version")?.get());
    let short = format!(r#"{{"name":{name},"version":{version}}}"#);
    (short.len() <= CLIENT_INFO_BYTES_MAX).then(|| RawJson::parse(short).expect("made of JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gateway::seal::SEAL_KEY_BYTES, wire::era::LEGACY_LATEST};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn hello(capabilities: &str, info: &str) -> Hello {
        let parse = |text: &str| RawJson::parse(text).unwrap();
        Hello { revision: LEGACY_LATEST, capabilities: parse(capabilities), client_info: Some(parse(info)) }
    }

    fn issued(hello: &Hello) -> Result<Arc<str>, RpcFault> {
        let seal = Seal::new(&[3; SEAL_KEY_BYTES]);
        let issued = issue(&seal, &Principal::local(), Some("team"), hello, NOW, Duration::from_secs(60));
        issued.map(|(id, _)| id)
    }

    #[test]
    fn another_replica_reads_the_session_from_its_id() {
        let (capabilities, info) = (r#"{"elicitation":{ },"n":1.0}"#, r#"{"name":"c","version":"1"}"#);
        let id = issued(&hello(capabilities, info)).unwrap();
        let replica = Seal::new(&[3; SEAL_KEY_BYTES]);
        let opened = open(&replica, &id, NOW).unwrap().caller;
        assert_eq!((opened.capabilities.get(), &*opened.revision), (capabilities, LEGACY_LATEST));
        assert_eq!((opened.client_info.unwrap().get(), opened.endpoint.as_deref()), (info, Some("team")));
        assert_eq!(opened.principal, Principal::local());
        assert!(open(&replica, &id, NOW + Duration::from_secs(60)).is_none());
        assert!(open(&Seal::new(&[4; SEAL_KEY_BYTES]), &id, NOW).is_none());
        assert!(
            open(&replica, "x", NOW).is_none() && open(&replica, &"x".repeat(SESSION_ID_BYTES_MAX + 1), NOW).is_none()
        );
    }

    #[test]
    fn an_id_stays_short_whatever_the_client_says() {
        let info = format!(r#"{{"name":"c","icons":["{}"],"version":"1"}}"#, "x".repeat(100_000));
        let id = issued(&hello("{}", &info)).unwrap();
        let opened = open(&Seal::new(&[3; SEAL_KEY_BYTES]), &id, NOW).unwrap();
        assert_eq!(opened.caller.client_info.unwrap().get(), r#"{"name":"c","version":"1"}"#);
        let largest = format!(r#"{{"a":"{}"}}"#, "x".repeat(CAPABILITIES_BYTES_MAX - 8));
        assert!(issued(&hello(&largest, "{}")).unwrap().len() <= SESSION_ID_BYTES_MAX);
        assert!(
            issued(&hello(&format!("{largest} "), "{}")).is_ok_and(|_| true) || largest.len() == CAPABILITIES_BYTES_MAX
        );
        let over = format!(r#"{{"a":"{}"}}"#, "x".repeat(CAPABILITIES_BYTES_MAX));
        assert_eq!(issued(&hello(&over, "{}")).unwrap_err().code, INVALID_PARAMS);
    }
}
