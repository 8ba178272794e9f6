//! News for clients: which lists changed and which resources, gathered from all servers, told to each who asked.
//!
//! Nothing queues up: a client that does not read is told of each changed list and resource once, however often it changed in between.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use metamcp_core::{id::ServerName, json::RawJson};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::{elicitations::Elicitations, members::quoted};

/// Resources that one subscription may watch.
pub(crate) const WATCHED_URIS_MAX: usize = 256;

/// What a client wants to be told, as `subscriptions/listen` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Filter {
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) tools_list_changed: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) prompts_list_changed: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) resources_list_changed: bool,
    /// URIs of resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_subscriptions: Vec<String>,
    /// Ids of tasks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) task_ids: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Filter {
    /// Every list, no resource: what a legacy client is told without asking.
    pub(crate) const fn lists() -> Self {
        Self {
            tools_list_changed: true,
            prompts_list_changed: true,
            resources_list_changed: true,
            resource_subscriptions: Vec::new(),
            task_ids: Vec::new(),
        }
    }
}

/// Something to be told to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// A notification method.
    pub(crate) method: &'static str,
    /// Its `params`, an object without `_meta`.
    pub(crate) params: Option<RawJson>,
}

/// Which lists of an endpoint changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ChangedLists {
    pub(crate) tools: bool,
    pub(crate) prompts: bool,
    pub(crate) resources: bool,
}

/// What else a client is told of on its subscription.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync {
    /// The next news. Cancel safe.
    async fn recv(&self) -> News;
}

/// Everybody who wants to be told.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// The elicitations of which somebody is to be told when they are complete.
    pub(crate) elicitations: Elicitations,
    /// Short sections, never held over an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    subscribers: HashMap<u64, Subscriber>,
    /// How many subscriptions watch each resource of a server.
    watches: BTreeMap<ServerName, Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    counts: BTreeMap<String, usize>,
    told: watch::Sender<Vec<String>>,
}

#[derive(Debug)]
struct Subscriber {
    endpoint: Option<Arc<str>>,
    wants: ChangedLists,
    /// Watched resources, and whose each is.
    uris: BTreeMap<String, ServerName>,
    changed: ChangedLists,
    updated: BTreeSet<String>,
    ready: Arc<Notify>,
}

/// One client's news. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    hub: Arc<Hub>,
    ready: Arc<Notify>,
    granted: Filter,
    tasks: Option<Box<dyn Source>>,
}

impl Hub {
    /// A subscription to the lists of an endpoint.
    pub(crate) fn subscribe(self: &Arc<Self>, endpoint: Option<&Arc<str>>, filter: &Filter) -> Subscription {
        let wants = ChangedLists {
            tools: filter.tools_list_changed,
            prompts: filter.prompts_list_changed,
            resources: filter.resources_list_changed,
        };
        let ready = Arc::new(Notify::new());
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        let subscriber = Subscriber {
            endpoint: endpoint.cloned(),
            wants,
            uris: BTreeMap::new(),
            changed: ChangedLists::default(),
            updated: BTreeSet::new(),
            ready: Arc::clone(&ready),
        };
        state.subscribers.insert(id, subscriber);
        let granted = Filter { resource_subscriptions: Vec::new(), task_ids: Vec::new(), ..filter.clone() };
        Subscription { id, hub: Arc::clone(self), ready, granted, tasks: None }
    }

    /// What an endpoint shows has changed.
    pub(crate) fn changed(&self, endpoint: Option<&str>, lists: ChangedLists) {
        for subscriber in self.state().subscribers.values_mut().filter(|one| one.endpoint.as_deref() == endpoint) {
            let wants = subscriber.wants;
            subscriber.changed.tools |= lists.tools && wants.tools;
            subscriber.changed.prompts |= lists.prompts && wants.prompts;
            subscriber.changed.resources |= lists.resources && wants.resources;
            if subscriber.changed != ChangedLists::default() {
                subscriber.ready.notify_one();
            }
        }
    }

    /// A resource of a server has changed, or something within a resource.
    pub(crate) fn updated(&self, server: &ServerName, uri: &str) {
        for subscriber in self.state().subscribers.values_mut() {
            let watched = |(own, of): (&String, &ServerName)| of == server && is_within(uri, own);
            let Some((own, _)) = subscriber.uris.iter().find(|watch| watched(*watch)) else { continue };
            // A part is named as it was told, as long as there are not too many.
            let named = if subscriber.updated.len() < WATCHED_URIS_MAX { uri } else { own };
            subscriber.updated.insert(named.to_owned());
            subscriber.ready.notify_one();
        }
    }

    /// The resources of a server that somebody watches, as they change.
    pub(crate) fn watched(&self, server: &ServerName) -> watch::Receiver<Vec<String>> {
        self.state().watches.entry(server.clone()).or_default().told.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, server: &ServerName, uri: &str, more: bool) {
        let watches = self.watches.entry(server.clone()).or_default();
        let count = watches.counts.entry(uri.to_owned()).or_default();
        let before = *count;
        *count = if more { before + 1 } else { before.saturating_sub(1) };
        let after = *count;
        if after == 0 {
            watches.counts.remove(uri);
        }
        if (before == 0) != (after == 0) {
            watches.told.send_replace(watches.counts.keys().cloned().collect());
        }
    }
}

impl Subscription {
    /// What is told, of what was asked for.
    pub(crate) const fn granted(&self) -> &Filter {
        &self.granted
    }

    /// Watches a resource of a server, too; `false` when there are too many.
    pub(crate) fn watch(&mut self, uri: &str, server: &ServerName) -> bool {
        let mut state = self.hub.state();
        let Some(subscriber) = state.subscribers.get_mut(&self.id) else { return false };
        if subscriber.uris.contains_key(uri) {
            return true;
        }
        if subscriber.uris.len() >= WATCHED_URIS_MAX {
            return false;
        }
        subscriber.uris.insert(uri.to_owned(), server.clone());
        state.count(server, uri, true);
        self.granted.resource_subscriptions.push(uri.to_owned());
        true
    }

    /// Watches a resource no more.
    pub(crate) fn unwatch(&mut self, uri: &str) {
        let mut state = self.hub.state();
        let Some(subscriber) = state.subscribers.get_mut(&self.id) else { return };
        if let Some(server) = subscriber.uris.remove(uri) {
            subscriber.updated.retain(|updated| !is_within(updated, uri));
            state.count(&server, uri, false);
            self.granted.resource_subscriptions.retain(|granted| granted != uri);
        }
    }

    /// Follows tasks, too.
    pub(crate) fn follow(&mut self, tasks: Box<dyn Source>, granted: Vec<String>) {
        self.granted.task_ids = granted;
        self.tasks = Some(tasks);
    }

    /// The next news. Cancel safe.
    pub(crate) async fn recv(&self) -> News {
        loop {
            if let Some(news) = self.take() {
                return news;
            }
            match &self.tasks {
                Some(tasks) => tokio::select! {
                    () = self.ready.notified() => {}
                    news = tasks.recv() => return news,
                },
                None => self.ready.notified().await,
            }
        }
    }

    fn take(&self) -> Option<News> {
        let mut state = self.hub.state();
        let subscriber = state.subscribers.get_mut(&self.id)?;
        let changed = &mut subscriber.changed;
        let list = |method| Some(News { method, params: None });
        if std::mem::take(&mut changed.tools) {
            return list("notifications/tools/list_changed");
        }
        if std::mem::take(&mut changed.prompts) {
            return list("notifications/prompts/list_changed");
        }
        if std::mem::take(&mut changed.resources) {
            return list("notifications/resources/list_changed");
        }
        let uri = subscriber.updated.pop_first()?;
        let params = RawJson::parse(format!("{{\"uri\":{}}}", quoted(&uri))).expect("an object with a string is JSON");
        Some(News { method: "notifications/resources/updated", params: Some(params) })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(subscriber) = state.subscribers.remove(&self.id) {
            for (uri, server) in &subscriber.uris {
                state.count(server, uri, false);
            }
        }
    }
}

/// Whether `uri` is `of`, or a part of it.
fn is_within(uri: &str, of: &str) -> bool {
    uri.strip_prefix(of).is_some_and(|rest| rest.is_empty() || of.ends_with('/') || rest.starts_with(['/', '?', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerName {
        ServerName::new("s").unwrap()
    }

    #[tokio::test]
    async fn everybody_is_told_once_of_what_they_asked_for() {
        let hub = Arc::new(Hub::default());
        let all = hub.subscribe(None, &Filter::lists());
        let tools = hub.subscribe(None, &Filter { tools_list_changed: true, ..Filter::default() });
        let elsewhere = hub.subscribe(Some(&Arc::from("x")), &Filter::lists());
        for _ in 0..3 {
            hub.changed(None, ChangedLists { tools: true, resources: true, ..ChangedLists::default() });
        }
        assert_eq!(all.recv().await.method, "notifications/tools/list_changed");
        assert_eq!(all.recv().await.method, "notifications/resources/list_changed");
        assert_eq!(tools.recv().await.method, "notifications/tools/list_changed");
        assert_eq!((all.take(), tools.take(), elsewhere.take()), (None, None, None));
    }

    #[tokio::test]
    async fn a_resource_is_watched_as_long_as_somebody_wants_it() {
        let hub = Arc::new(Hub::default());
        let watched = hub.watched(&server());
        let (mut one, mut two) = (hub.subscribe(None, &Filter::default()), hub.subscribe(None, &Filter::default()));
        assert!(one.watch("x://a", &server()) && two.watch("x://a", &server()) && two.watch("x://b", &server()));
        assert_eq!(*watched.borrow(), ["x://a", "x://b"]);
        hub.updated(&server(), "x://a/part");
        hub.updated(&server(), "x://ab");
        hub.updated(&ServerName::new("other").unwrap(), "x://a");
        assert_eq!(one.recv().await.params.unwrap().get(), r#"{"uri":"x://a/part"}"#);
        assert_eq!(one.take(), None);
        one.unwatch("x://a");
        two.unwatch("x://b");
        assert_eq!(*watched.borrow(), ["x://a"]);
        drop(two);
        assert!(watched.borrow().is_empty());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_costs_little() {
        let hub = Arc::new(Hub::default());
        let mut one = hub.subscribe(None, &Filter::lists());
        assert!(one.watch("x://a", &server()));
        for part in 0..10 * WATCHED_URIS_MAX {
            hub.updated(&server(), &format!("x://a/{part}"));
        }
        let told = std::iter::from_fn(|| one.take()).count();
        assert_eq!(told, WATCHED_URIS_MAX + 1, "the last one stands for all the others");
        for n in 1..WATCHED_URIS_MAX {
            assert!(one.watch(&format!("x://{n}"), &server()));
        }
        assert!(!one.watch("x://one-too-many", &server()));
    }
}
