//! Whether a client takes tasks, and how long it waits before a call becomes one.

use std::time::Duration;

use crate::{
    gateway::{Caller, Gateway, members::Members},
    wire::era::{Era, TASKS_EXTENSION},
};

/// Whether the client takes tasks in the place of results.
pub(crate) fn takes_tasks(caller: &Caller) -> bool {
    let text = caller.capabilities.get();
    caller.era == Era::Modern && text.contains(TASKS_EXTENSION) && {
        let extensions = Members::of(text).ok().and_then(|can| can.get("extensions"));
        extensions.and_then(|map| Members::of(map.get()).ok()).is_some_and(|map| map.get(TASKS_EXTENSION).is_some())
    }
}

/// How long the client waits before a call becomes a task; `None`: as long as it takes.
pub(crate) fn patience(gateway: &Gateway, caller: &Caller) -> Option<Duration> {
    let options = gateway.options();
    if takes_tasks(caller) { options.upgrade_after } else { options.detach_after }
}
