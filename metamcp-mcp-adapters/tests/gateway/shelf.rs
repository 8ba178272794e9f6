//! A server of the official SDK whose offer can be changed while it runs, and which counts how often it is asked for it.

use std::{
    borrow::Cow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use metamcp_core::{id::ServerName, transport::Connector};
use metamcp_mcp_adapters::upstream::IoConnector;
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, ServiceExt as _,
    model::{
        CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, GetPromptRequestParams,
        GetPromptResponse, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
        ServerConfig, SubscribeRequestParams, UnsubscribeRequestParams,
    },
    service::{NotificationContext, RequestContext},
};
use serde_json::{Value, json};

/// Buffer of a pipe to a server, in bytes.
const PIPE_BYTES: usize = 64 << 10;

/// A server that legacy clients alone can talk to: its news come without being asked for.
#[derive(Clone)]
pub(crate) struct Shelf {
    name: &'static str,
    tools: Arc<Mutex<Vec<String>>>,
    lists: Arc<AtomicUsize>,
    watched: Arc<Mutex<Vec<String>>>,
    peers: Arc<Mutex<Vec<Peer<RoleServer>>>>,
    /// `ttlMs` and `cacheScope` of its lists.
    fresh: Option<(u64, &'static str)>,
}

impl Shelf {
    /// With these tools.
    pub(crate) fn new(name: &'static str, tools: impl IntoIterator<Item = String>) -> Self {
        Self {
            name,
            tools: Arc::new(Mutex::new(tools.into_iter().collect())),
            lists: Arc::default(),
            watched: Arc::default(),
            peers: Arc::default(),
            fresh: None,
        }
    }

    /// In the modern era, with lists that may be kept so.
    pub(crate) fn kept(mut self, ttl_ms: u64, scope: &'static str) -> Self {
        self.fresh = Some((ttl_ms, scope));
        self
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// How often any of its lists was asked for.
    pub(crate) fn lists(&self) -> usize {
        self.lists.load(Ordering::SeqCst)
    }

    /// The resources that somebody watches.
    pub(crate) fn watched(&self) -> Vec<String> {
        self.watched.lock().unwrap().clone()
    }

    /// Puts one more tool there and tells everybody.
    pub(crate) async fn add(&self, tool: &str) {
        self.tools.lock().unwrap().push(tool.to_owned());
        for peer in self.peers() {
            peer.notify_tool_list_changed().await.unwrap();
        }
    }

    /// Tells that a resource changed.
    pub(crate) async fn update(&self, uri: &str) {
        for peer in self.peers() {
            peer.notify_resource_updated(made(json!({ "uri": uri }))).await.unwrap();
        }
    }

    /// The way to it.
    pub(crate) fn connector(&self) -> Arc<dyn Connector> {
        let shelf = self.clone();
        Arc::new(IoConnector::new(ServerName::new(self.name).unwrap(), move || {
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let shelf = shelf.clone();
            tokio::spawn(async move {
                let (reader, writer) = tokio::io::split(theirs);
                let running = shelf.serve((reader, writer)).await;
                // It ends with the pipe.
                if let Ok(running) = running {
                    let _ = running.waiting().await;
                }
            });
            ours
        }))
    }

    fn peers(&self) -> Vec<Peer<RoleServer>> {
        self.peers.lock().unwrap().clone()
    }

    fn listed<T: serde::de::DeserializeOwned>(&self, mut list: Value) -> Result<T, ErrorData> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        if let Some((ttl_ms, scope)) = self.fresh {
            (list["ttlMs"], list["cacheScope"]) = (ttl_ms.into(), scope.into());
        }
        Ok(made(list))
    }
}

fn made<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

impl ServerHandler for Shelf {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities).with_instructions(format!("how to use {}", self.name))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        let latest = if self.fresh.is_some() { ProtocolVersion::LATEST } else { ProtocolVersion::V_2025_11_25 };
        Cow::Borrowed(ProtocolVersion::known_up_to(&latest))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.peers.lock().unwrap().push(context.peer);
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools.lock().unwrap().clone();
        let tool = |name: &String| json!({ "name": name, "description": "x".repeat(200), "inputSchema": { "type": "object" } });
        self.listed(json!({ "tools": tools.iter().map(tool).collect::<Vec<_>>() }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = format!("{} of {}", request.name, self.name);
        Ok(CallToolResponse::Complete(made(json!({ "content": [{ "type": "text", "text": text }] }))))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        self.listed(json!({ "prompts": [{ "name": "greet", "arguments": [{ "name": "whom" }] }] }))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let text = format!("{} of {}", request.name, self.name);
        let message = json!({ "role": "user", "content": { "type": "text", "text": text } });
        Ok(GetPromptResponse::Complete(made(json!({ "messages": [message] }))))
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let about = serde_json::to_value(&request.r#ref).unwrap();
        let about = about["name"].as_str().or(about["uri"].as_str()).unwrap_or_default().to_owned();
        Ok(made(json!({ "completion": { "values": [format!("{about} of {}", self.name)] } })))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resource = |uri: String| json!({ "uri": uri, "name": "a resource" });
        self.listed(json!({ "resources": [resource(format!("{}://a", self.name)), resource("shared://a".to_owned())] }))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = json!({ "uriTemplate": format!("{}://items/{{id}}", self.name), "name": "item" });
        self.listed(json!({ "resourceTemplates": [template] }))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri.ends_with("/gone") {
            return Err(ErrorData::resource_not_found("it is gone", Some(json!({ "uri": request.uri }))));
        }
        let content = json!({ "uri": request.uri, "text": self.name });
        Ok(ReadResourceResponse::Complete(made(json!({ "contents": [content] }))))
    }

    async fn subscribe(&self, request: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.watched.lock().unwrap().push(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched.lock().unwrap().retain(|uri| *uri != request.uri);
        Ok(())
    }
}
