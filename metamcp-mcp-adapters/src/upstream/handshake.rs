//! Finds out how a server is to be spoken to: the modern question first, the legacy handshake when that is not understood.
//!
//! The fallback hangs on no single error code: servers were seen to answer the question with -32601, -32602, an HTTP 400, with silence, or
//! by dying. A slow server is not taken for a silent one: both questions stay open and the first good answer counts.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, Introduction, RelayMeta, TransportError, TransportErrorKind},
};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    abilities::{self, LEGACY_CAPABILITIES},
    meta,
    way::{Ask, Failure, Way, error, plain},
};
use crate::wire::{
    era::{CLIENT_INFO, Era, HEADER_MISMATCH, LEGACY, LEGACY_LATEST, MISSING_CAPABILITY, MODERN, UNSUPPORTED_REVISION},
    frame,
};

/// How long a server may be silent on the modern question before the legacy one is asked beside it.
const PROBE_MS: u64 = 5_000;
/// Longest the whole may take.
const HANDSHAKE_S_MAX: u64 = 50;
/// Longest name or instructions that are kept, in bytes.
const WORDS_BYTES_MAX: usize = 16 << 10;

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    pub(super) era: Era,
    pub(super) revision: String,
    pub(super) implementation: String,
    /// Its instructions, or else its description.
    pub(super) instructions: Option<String>,
    /// What it says that it can do.
    pub(super) can: Can,
    pub(super) introduction: Introduction,
}

/// What of a server's capabilities decides here.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Can {
    #[serde(default)]
    pub(super) tools: Option<Offer>,
    #[serde(default)]
    pub(super) prompts: Option<Offer>,
    #[serde(default)]
    pub(super) resources: Option<Offer>,
    #[serde(default)]
    pub(super) logging: Option<serde::de::IgnoredAny>,
}

/// One kind of thing that a server offers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Offer {
    /// Whether it tells when the list changes.
    #[serde(default)]
    pub(super) list_changed: bool,
    /// Whether it tells when one of them changes.
    #[serde(default)]
    pub(super) subscribe: bool,
}

/// Why there is no agreement.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection ended over the modern question: a fresh one may do for the legacy handshake.
    Died(TransportError),
    /// There is nothing to be done.
    Final(TransportError),
}

/// Agrees on an era and a revision; with `only`, on no other era.
pub(super) async fn agree(
    way: &dyn Way,
    server: &ServerName,
    ids: &AtomicU64,
    only: Option<Era>,
) -> Result<Agreed, Refusal> {
    let hands = Hands { way, server, ids };
    let agreeing = async {
        match only {
            None => hands.probe().await,
            Some(Era::Legacy) => hands.initialize().await.map_err(Refusal::Final),
            Some(Era::Modern) => match hands.discover().await {
                Verdict::Modern(agreed) => Ok(agreed),
                Verdict::Legacy(why) => {
                    Err(Refusal::Final(hands.refuse(format_args!("does not speak {MODERN}: {why}"))))
                }
                Verdict::Died(error) | Verdict::No(error) => Err(Refusal::Final(error)),
            },
        }
    };
    let agreed = timeout(Duration::from_secs(HANDSHAKE_S_MAX), agreeing).await.unwrap_or_else(|_| {
        let what = format!("did not agree on a protocol revision within {HANDSHAKE_S_MAX} s");
        Err(Refusal::Final(error(server, TransportErrorKind::Timeout, Delivered::No, what)))
    })?;
    way.agreed(&agreed.revision);
    if agreed.era == Era::Legacy {
        let told = way.tell("notifications/initialized").await;
        told.map_err(|failure| Refusal::Final(hands.failed("notifications/initialized", failure)))?;
    }
    Ok(agreed)
}

/// What the answer to the modern question means.
enum Verdict {
    Modern(Agreed),
    /// Not understood, for this reason.
    Legacy(String),
    /// The connection ended.
    Died(TransportError),
    /// Understood and refused, or not to be reached at all.
    No(TransportError),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiscoverView {
    supported_versions: Vec<String>,
    #[serde(default)]
    capabilities: RawJson,
    instructions: Option<String>,
    #[serde(rename = "_meta", default)]
    meta: DiscoverMeta,
}

#[derive(Deserialize, Default)]
struct DiscoverMeta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<RawJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitializeView {
    protocol_version: String,
    #[serde(default)]
    capabilities: RawJson,
    server_info: Option<RawJson>,
    instructions: Option<String>,
}

#[derive(Deserialize)]
struct ServerInfo {
    name: String,
    #[serde(default)]
    version: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Supported {
    supported: Vec<String>,
}

struct Hands<'a> {
    way: &'a dyn Way,
    server: &'a ServerName,
    ids: &'a AtomicU64,
}

impl Hands<'_> {
    async fn probe(&self) -> Result<Agreed, Refusal> {
        let mut discover = std::pin::pin!(self.discover());
        if let Ok(verdict) = timeout(Duration::from_millis(PROBE_MS), &mut discover).await {
            return match verdict {
                Verdict::Modern(agreed) => Ok(agreed),
                Verdict::Legacy(why) => {
                    tracing::debug!(server = %self.server, why, "not a modern server");
                    self.initialize().await.map_err(Refusal::Final)
                }
                Verdict::Died(error) => Err(Refusal::Died(error)),
                Verdict::No(error) => Err(Refusal::Final(error)),
            };
        }
        tracing::debug!(server = %self.server, "silent on the modern question, asking the legacy one beside it");
        let mut initialize = std::pin::pin!(self.initialize());
        let (mut silent, mut refused) = (true, None);
        loop {
            tokio::select! {
                biased;
                verdict = &mut discover, if silent => match verdict {
                    Verdict::Modern(agreed) => return Ok(agreed),
                    Verdict::Died(error) => return Err(Refusal::Died(error)),
                    Verdict::Legacy(_) | Verdict::No(_) => silent = false,
                },
                outcome = &mut initialize, if refused.is_none() => match outcome {
                    Ok(agreed) => return Ok(agreed),
                    Err(error) => refused = Some(error),
                },
                else => break,
            }
        }
        Err(Refusal::Final(
            refused.unwrap_or_else(|| self.refuse("answers neither `server/discover` nor `initialize`")),
        ))
    }

    async fn discover(&self) -> Verdict {
        match self.discover_once().await {
            // It may have refused the request for what another said; it is asked once more, as it wants to be.
            Err(revisions) if revisions.iter().any(|revision| revision == MODERN) => {
                self.discover_once().await.unwrap_or_else(|revisions| self.speaks(&revisions))
            }
            Err(revisions) => self.speaks(&revisions),
            Ok(verdict) => verdict,
        }
    }

    /// `Err`: it does not take our revision, but these.
    async fn discover_once(&self) -> Result<Verdict, Vec<String>> {
        let (id, method) = (self.next_id(), "server/discover");
        let meta = RelayMeta { capabilities: Some(abilities::of_job()), ..RelayMeta::default() };
        let frame = meta::request(Era::Modern, id, method, &[], &meta);
        let failure = match self.ask(Era::Modern, id, method, frame).await {
            Ok(result) => return Ok(self.discovered(&result)),
            Err(failure) => failure,
        };
        Ok(match failure {
            Failure::Status(401 | 403 | 429 | 503, _) | Failure::Rpc(_, Some(401 | 403 | 429 | 503)) => {
                Verdict::No(failure.into_error(self.server))
            }
            Failure::Rpc(rpc, _) => match rpc.code {
                UNSUPPORTED_REVISION => {
                    let spoken = rpc.data.and_then(|data| data.view::<Supported>().ok()).map(|data| data.supported);
                    return Err(spoken.unwrap_or_default());
                }
                HEADER_MISMATCH | MISSING_CAPABILITY => Verdict::No(
                    self.refuse(format_args!("refused `server/discover` with {}: {}", rpc.code, rpc.message)),
                ),
                code => Verdict::Legacy(format!("{code} {}", rpc.message)),
            },
            Failure::Status(status, _) => Verdict::Legacy(format!("HTTP {status}")),
            Failure::Other(error) => match error.kind {
                TransportErrorKind::Closed => Verdict::Died(error),
                // It answered, with something that is not of this protocol.
                TransportErrorKind::Protocol => Verdict::Legacy(error.to_string()),
                _ => Verdict::No(error),
            },
        })
    }

    fn discovered(&self, result: &RawJson) -> Verdict {
        let view = match result.view::<DiscoverView>() {
            Ok(view) => view,
            Err(error) => return Verdict::Legacy(format!("an answer that is none: {error}")),
        };
        if !view.supported_versions.iter().any(|revision| revision == MODERN) {
            return self.speaks(&view.supported_versions);
        }
        Verdict::Modern(agreed(Era::Modern, MODERN, view.capabilities, view.meta.server_info, view.instructions))
    }

    /// A modern server that does not speak our modern revision.
    fn speaks(&self, revisions: &[String]) -> Verdict {
        if revisions.is_empty() || revisions.iter().any(|revision| LEGACY.contains(&revision.as_str())) {
            return Verdict::Legacy(format!("it speaks {revisions:?}"));
        }
        Verdict::No(
            self.refuse(format_args!("speaks only the revisions {revisions:?}, we speak {MODERN} and {LEGACY:?}")),
        )
    }

    async fn initialize(&self) -> Result<Agreed, TransportError> {
        let (id, method) = (self.next_id(), "initialize");
        let frame = frame::request(id, method, LEGACY_CAPABILITIES.len() + CLIENT_INFO.len(), |params| {
            params.string("protocolVersion", LEGACY_LATEST).raw("capabilities", LEGACY_CAPABILITIES);
            params.raw("clientInfo", CLIENT_INFO);
        });
        let asked = self.ask(Era::Legacy, id, method, frame).await;
        let result = asked.map_err(|failure| self.failed(method, failure))?;
        let view = result
            .view::<InitializeView>()
            .map_err(|error| self.refuse(format_args!("answered `initialize` with something else: {error}")))?;
        if !LEGACY.contains(&view.protocol_version.as_str()) {
            let revision: String = view.protocol_version.chars().take(32).collect();
            return Err(self.refuse(format_args!("wants the revision `{revision}`, we speak {MODERN} and {LEGACY:?}")));
        }
        Ok(agreed(Era::Legacy, &view.protocol_version, view.capabilities, view.server_info, view.instructions))
    }

    async fn ask(&self, era: Era, id: u64, method: &'static str, frame: String) -> Result<RawJson, Failure> {
        let (name, headers, capabilities) = (None, Vec::new(), None);
        // The protocol forbids to cancel `initialize`, and an unknown `server/discover` is better not mentioned again.
        let (cancellable, standing) = (false, false);
        plain(self.way, Ask { id, era, method, frame, name, headers, capabilities, cancellable, standing }).await
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn refuse(&self, what: impl std::fmt::Display) -> TransportError {
        error(self.server, TransportErrorKind::Connect, Delivered::No, what)
    }

    /// No call was made yet: whatever failed, nothing was delivered.
    fn failed(&self, method: &str, failure: Failure) -> TransportError {
        match failure {
            Failure::Rpc(rpc, _) => self.refuse(format_args!("refused `{method}` with {}: {}", rpc.code, rpc.message)),
            Failure::Status(_, mut error) | Failure::Other(mut error) => {
                if !matches!(error.kind, TransportErrorKind::Rejected { .. }) {
                    error.delivered = Delivered::No;
                }
                error
            }
        }
    }
}

fn agreed(
    era: Era,
    revision: &str,
    capabilities: RawJson,
    info: Option<RawJson>,
    instructions: Option<String>,
) -> Agreed {
    let cut = |mut words: String| {
        words.truncate(words.floor_char_boundary(WORDS_BYTES_MAX));
        words
    };
    let instructions = instructions.filter(|words| !words.trim().is_empty()).map(cut);
    let (implementation, description) = match info.as_ref().and_then(|info| info.view::<ServerInfo>().ok()) {
        Some(info) => (format!("{} {}", info.name, info.version).trim().to_owned(), info.description),
        None => ("unknown".to_owned(), None),
    };
    let mut introduction = Introduction::default();
    introduction.modern = era == Era::Modern;
    introduction.server_info = info.filter(|info| info.get().len() <= WORDS_BYTES_MAX);
    introduction.instructions.clone_from(&instructions);
    // What it says there may be of a form we do not know; then it is as if it had not said it.
    let can = capabilities.view::<Can>().unwrap_or_default();
    introduction.capabilities = if capabilities.is_object() { capabilities } else { RawJson::empty_object() };
    Agreed {
        era,
        revision: revision.to_owned(),
        implementation: cut(implementation),
        instructions: instructions.or(description.map(cut)),
        can,
        introduction,
    }
}
