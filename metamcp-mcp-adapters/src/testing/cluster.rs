//! A private Redis Cluster: three masters that share the slots, each with a replica that takes its place when it dies.

use std::io;

use super::{
    patience::Patience,
    port::{STARTS_MAX, free_port},
    redis::{RedisServer, RedisSetup},
};

/// Masters; node `i` and node `i + MASTERS` begin as master and replica of the same slots.
const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
/// Hash slots of a Redis Cluster.
const SLOTS: usize = 16_384;
/// Silence of a node before the others take it for dead, in milliseconds.
const NODE_MS_MAX: u32 = 1_000;

/// Six nodes on loopback. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct RedisCluster {
    setup: RedisSetup,
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes, shares the slots and waits until every node calls the cluster well.
    ///
    /// # Errors
    /// `InvalidInput` when `setup` has an account; else when a program is missing or a server does not start.
    pub async fn start(setup: RedisSetup) -> io::Result<Self> {
        setup.for_many()?;
        let mut nodes = Vec::new();
        while nodes.len() < NODES {
            nodes.push(start_node(&setup).await?);
        }
        let cluster = Self { setup, nodes };
        cluster.join().await?;
        cluster.share().await?;
        cluster.healthy().await?;
        Ok(cluster)
    }

    /// Makes every node known to the first; they tell each other about the rest.
    async fn join(&self) -> io::Result<()> {
        for (epoch, node) in (1..).zip(&self.nodes) {
            // Different from the start, so that they need not find out by conflict.
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &format!("{epoch}")]).await?;
        }
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), bus_port(node).await?);
            self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
        }
        let patience = Patience::new("the nodes of a cluster to know each other");
        for node in &self.nodes {
            while known(&node.cli(&["CLUSTER", "NODES"]).await?) < NODES {
                patience.pause().await?;
            }
        }
        Ok(())
    }

    /// Gives each master its third of the slots and its replica.
    async fn share(&self) -> io::Result<()> {
        let (masters, replicas) = self.nodes.split_at(MASTERS);
        for (third, (master, replica)) in masters.iter().zip(replicas).enumerate() {
            let (first, last) = (third * SLOTS / MASTERS, (third + 1) * SLOTS / MASTERS - 1);
            master.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
            let id = master.cli(&["CLUSTER", "MYID"]).await?;
            replica.cli(&["CLUSTER", "REPLICATE", &id]).await?;
        }
        Ok(())
    }

    /// Waits until every node that runs calls the cluster well and every replica that runs has copied its master.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn healthy(&self) -> io::Result<()> {
        let patience = Patience::new("a Redis Cluster to be well");
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            while !is_well(node).await? {
                patience.pause().await?;
            }
        }
        Ok(())
    }

    /// `redis-cluster://HOST:PORT,HOST:PORT,HOST:PORT`, the three nodes that began as masters; `rediss-cluster://…?ca=FILE` with TLS.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes[..MASTERS].iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        let (s, ca) = self.setup.tls_url();
        let query = if ca.is_empty() { ca } else { format!("?{ca}") };
        format!("redis{s}-cluster://{}{}{query}", self.setup.userinfo(), hosts.join(","))
    }

    /// The six nodes; 0, 1 and 2 begin as masters, 3, 4 and 5 as their replicas.
    pub fn nodes(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// Kills node `i` (SIGKILL). No error when it is down.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill_node(&mut self, i: usize) -> io::Result<()> {
        self.nodes[i].kill().await
    }

    /// Waits until node `i` is a master, as after the death of the one it followed.
    ///
    /// # Errors
    /// When it is down, or that does not happen in time.
    pub async fn promoted(&self, i: usize) -> io::Result<()> {
        let patience = Patience::new("a replica of a Redis Cluster to be promoted");
        while !self.nodes[i].cli(&["ROLE"]).await?.starts_with("master") {
            patience.pause().await?;
        }
        self.healthy().await
    }
}

async fn start_node(setup: &RedisSetup) -> io::Result<RedisServer> {
    let mut starts = 1;
    loop {
        let mut setup = setup.clone();
        // The port on which the nodes talk is by default the other one plus 10000; two chosen ones are both known to be free.
        setup.lines.extend([
            "cluster-enabled yes".to_owned(),
            format!("cluster-port {}", free_port()?),
            format!("cluster-node-timeout {NODE_MS_MAX}"),
            // A replica takes over however old its copy is: a test waits for it.
            "cluster-replica-validity-factor 0".to_owned(),
        ]);
        match RedisServer::start_on(setup, free_port()?).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && starts < STARTS_MAX => starts += 1,
            started => return started,
        }
    }
}

/// The port on which a node talks to other nodes.
async fn bus_port(node: &RedisServer) -> io::Result<String> {
    let told = node.cli(&["CONFIG", "GET", "cluster-port"]).await?;
    Ok(told.lines().nth(1).unwrap_or_default().to_owned())
}

/// How many nodes, itself too, one is connected to.
fn known(nodes: &str) -> usize {
    nodes.lines().filter(|line| line.contains(" connected") && !line.contains("handshake")).count()
}

async fn is_well(node: &RedisServer) -> io::Result<bool> {
    let info = node.cli(&["CLUSTER", "INFO"]).await?;
    let well = info.contains("cluster_state:ok") && info.contains(&format!("cluster_slots_ok:{SLOTS}"));
    Ok(well && !node.cli(&["INFO", "replication"]).await?.contains("master_link_status:down"))
}
