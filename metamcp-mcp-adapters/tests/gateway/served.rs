//! A gateway on a loopback port with the fixture server of the conformance suite behind it, for clients that come from outside.

use std::{collections::BTreeMap, convert::Infallible, error::Error, sync::Arc};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use metamcp_core::{
    engine::{Orchestrator, Worker, WorkerOptions},
    id::ServerName,
    record::MemoryRecordStore,
    time::SystemClock,
};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayOptions, GatewayService, HttpOptions, Naming, Pattern, ServerView},
    upstream::HttpConnector,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service;

use super::conformance_fixture::{Eras, Server, serve_http};

/// Both servers; they end when it is dropped.
pub(crate) struct Served {
    /// The gateway's endpoint.
    pub(crate) url: String,
    _worker: Worker,
    _servers: [AbortOnDropHandle<()>; 2],
}

impl Served {
    /// A gateway in front of a fixture that speaks `eras`. Of its tools `slow_compute` is declared to take long.
    pub(crate) async fn new(eras: Eras) -> Self {
        let (upstream, fixture) = {
            let (listener, url) = listen().await;
            let serving = tokio::spawn(async move {
                serve_http(Server::new(eras), listener).await;
            });
            (url, AbortOnDropHandle::new(serving))
        };
        let name = ServerName::new("fixture").unwrap();
        let connector = HttpConnector::new(name.clone(), &upstream).unwrap();
        let engine = Orchestrator::builder().server(name.clone(), Arc::new(connector)).build();
        let mut view = ServerView::default();
        view.naming = Naming::plain();
        view.heavy = vec![Pattern::new("slow_compute")];
        let mut options = GatewayOptions::default();
        options.servers = BTreeMap::from([(name, view)]);
        let worker = engine.worker(WorkerOptions::default());
        let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
        let gateway = Gateway::builder(engine, records).options(options).build().await.unwrap();
        let (listener, url) = listen().await;
        let front = tokio::spawn(serve(GatewayService::new(gateway, HttpOptions::default()), listener));
        Self { url, _worker: worker, _servers: [fixture, AbortOnDropHandle::new(front)] }
    }
}

/// A loopback port, and the address of an endpoint on it.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    (listener, url)
}

/// Serves on it until the future is dropped.
pub(crate) async fn serve<S, B>(service: S, listener: TcpListener)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let service = TowerToHyperService::new(service.clone());
        connections.spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
