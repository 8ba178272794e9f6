//! A replicated private Redis: one master, two replicas, and three Sentinels that replace a dead master within seconds.

use std::{fs, io};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    patience::Patience,
    port::{STARTS_MAX, free_port},
    process::Launch,
    program::find,
    redis::{RedisServer, RedisSetup, TlsFiles, redis_cli},
    server::Server,
};

/// The name under which the Sentinels know the master.
const MASTER: &str = "metamcp";
/// Servers: one master and its replicas.
const SERVERS: usize = 3;
const SENTINELS: usize = 3;
/// Sentinels that must agree that the master is dead.
const QUORUM: usize = 2;
/// Silence of the master before a Sentinel takes it for dead, in milliseconds; three pings, or a living one is replaced.
const DOWN_AFTER_MS: u32 = 1_000;
/// How long one failover may take before it is tried anew, in milliseconds.
const FAILOVER_MS_MAX: u32 = 3_000;
/// What the log of a Sentinel says once it serves.
const READY: &str = "+monitor master";
/// The Sentinels' own clock made fast, in milliseconds: they ask and tell each other often, as a test will not wait for the usual
/// seconds; and a pause of a busy machine does not make them distrust the clock ("tilt") and stand still for half a minute.
const HASTE: [(&str, &str); 6] = [
    ("INFO-PERIOD", "200"),
    // A Sentinel makes a master it does not know of a replica after four of these, while the one that leads a failover looks
    // once a second whether its new master is one: shorter, and the others undo what it does.
    ("PUBLISH-PERIOD", "500"),
    // Five of these without news of a replica and it is not good enough to be promoted; news come once a second.
    ("PING-PERIOD", "300"),
    ("ASK-PERIOD", "100"),
    ("TILT-TRIGGER", "30000"),
    ("TILT-PERIOD", "100"),
];

/// One Sentinel.
#[derive(Debug)]
struct Sentinel {
    port: u16,
    tls: Option<TlsFiles>,
    _server: Server,
    _dir: TempDir,
}

impl Sentinel {
    async fn start(master: u16, setup: &RedisSetup) -> io::Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_on(free_port()?, master, setup).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                started => return started,
            }
        }
        Self::start_on(free_port()?, master, setup).await
    }

    async fn start_on(port: u16, master: u16, setup: &RedisSetup) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let conf = dir.path().join("sentinel.conf");
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            setup.tls.as_ref().map_or_else(|| format!("port {port}"), |tls| tls.conf(port)),
            format!("dir \"{}\"", dir.path().display()),
            format!("sentinel monitor {MASTER} 127.0.0.1 {master} {QUORUM}"),
            format!("sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}"),
            format!("sentinel failover-timeout {MASTER} {FAILOVER_MS_MAX}"),
        ];
        lines.extend(setup.password.as_ref().map(|password| format!("sentinel auth-pass {MASTER} \"{password}\"")));
        fs::write(&conf, lines.join("\n") + "\n")?;
        let args = vec![conf.into(), "--sentinel".into()];
        let launch =
            Launch { program: find("redis-server")?, args, account: None, log: dir.path().join("sentinel.log") };
        let server = Server::start(launch, READY, Signal::TERM).await?;
        let sentinel = Self { port, tls: setup.tls.clone(), _server: server, _dir: dir };
        let mut haste = vec!["SENTINEL", "DEBUG"];
        haste.extend(HASTE.iter().flat_map(|(name, value)| [*name, *value]));
        sentinel.cli(&haste).await?;
        Ok(sentinel)
    }

    async fn cli(&self, words: &[&str]) -> io::Result<String> {
        redis_cli(self.port, &RedisSetup { tls: self.tls.clone(), ..RedisSetup::default() }, words).await
    }

    /// What it says of the master: a line with a name, a line with the value, and so on.
    async fn master(&self) -> io::Result<String> {
        self.cli(&["SENTINEL", "MASTER", MASTER]).await
    }

    /// Whether it knows the replicas and the other Sentinels.
    async fn knows_all(&self) -> io::Result<bool> {
        let master = self.master().await?;
        let number = |name: &str| field(&master, name).parse().unwrap_or(0);
        let all = number("num-slaves") == SERVERS - 1 && number("num-other-sentinels") == SENTINELS - 1;
        Ok(all && self.cli(&["SENTINEL", "CKQUORUM", MASTER]).await.is_ok())
    }
}

/// A master with two replicas under three Sentinels, all on loopback. Dropping it kills them and removes their data.
#[derive(Debug)]
pub struct Sentinels {
    setup: RedisSetup,
    servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

impl Sentinels {
    /// Starts all six and waits until they know each other.
    ///
    /// # Errors
    /// `InvalidInput` when `setup` has an account; else when a program is missing or a server does not start.
    pub async fn start(setup: RedisSetup) -> io::Result<Self> {
        setup.for_many()?;
        let master = RedisServer::start(setup.clone()).await?;
        let first = master.port();
        let mut servers = vec![master];
        let mut replica = setup.clone();
        replica.lines.push(format!("replicaof 127.0.0.1 {first}"));
        while servers.len() < SERVERS {
            servers.push(RedisServer::start(replica.clone()).await?);
        }
        // Before the Sentinels look, so that they find the replicas at the first look.
        let patience = Patience::new("the replicas to follow their master");
        while replicas(&servers[0]).await? < SERVERS - 1 {
            patience.pause().await?;
        }
        let mut sentinels = Vec::new();
        while sentinels.len() < SENTINELS {
            sentinels.push(Sentinel::start(first, &setup).await?);
        }
        let patience = Patience::new("the Sentinels to know all servers and each other");
        for sentinel in &sentinels {
            while !sentinel.knows_all().await? {
                patience.pause().await?;
            }
        }
        Ok(Self { setup, servers, sentinels })
    }

    /// `redis-sentinel://HOST:PORT,HOST:PORT,HOST:PORT/0?master=metamcp`, with the password of the master if it has
    /// one; `rediss-sentinel://…&ca=FILE` with TLS.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        let (s, ca) = self.setup.tls_url();
        let and = if ca.is_empty() { "" } else { "&" };
        format!("redis{s}-sentinel://{}{}/0?master={MASTER}{and}{ca}", self.setup.userinfo(), hosts.join(","))
    }

    /// The port of the server that the Sentinels call the master now, dead or alive.
    ///
    /// # Errors
    /// When no Sentinel answers.
    pub async fn master_port(&self) -> io::Result<u16> {
        port_in(&self.sentinels[0].master().await?)
    }

    /// The three servers; which of them is the master changes.
    pub fn servers(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// Kills the master (SIGKILL) and gives its port. Wait for its successor with [`successor`](Self::successor).
    ///
    /// # Errors
    /// When no Sentinel answers.
    pub async fn kill_master(&mut self) -> io::Result<u16> {
        let port = self.master_port().await?;
        let master = self.servers.iter_mut().find(|server| server.port() == port);
        let master = master.ok_or_else(|| io::Error::other(format!("the master at port {port} is not ours")))?;
        master.kill().await?;
        Ok(port)
    }

    /// Asks the Sentinels for another master, as an operator does before maintenance, and gives its port once it is the master.
    ///
    /// # Errors
    /// When they refuse, such as for the lack of a good replica, or it does not happen in time.
    pub async fn failover(&self) -> io::Result<u16> {
        let before = self.master_port().await?;
        let patience = Patience::new("the Sentinels to change the master");
        let mut refused = String::new();
        loop {
            let master = self.sentinels[0].master().await?;
            if port_in(&master)? != before {
                return self.successor(before).await;
            }
            // Asked again when the Sentinel has given up, as it does when a machine is slow.
            if !field(&master, "flags").contains("failover_in_progress")
                && let Err(error) = self.sentinels[0].cli(&["SENTINEL", "FAILOVER", MASTER]).await
            {
                refused = error.to_string();
            }
            patience.pause().await.map_err(|late| io::Error::new(late.kind(), format!("{late} {refused}")))?;
        }
    }

    /// Waits until all Sentinels name another master than the one at port `before` and it serves as such; gives its port.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn successor(&self, before: u16) -> io::Result<u16> {
        let patience = Patience::new("another Redis to become the master");
        loop {
            let port = self.master_port().await?;
            let server = self.servers.iter().find(|server| server.port() == port && port != before);
            if let Some(server) = server
                && server.cli(&["ROLE"]).await.is_ok_and(|role| role.starts_with("master"))
                && self.agree(port).await?
            {
                return Ok(port);
            }
            patience.pause().await?;
        }
    }

    async fn agree(&self, port: u16) -> io::Result<bool> {
        for sentinel in &self.sentinels {
            if port_in(&sentinel.master().await?)? != port {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Restarts the servers that are down and waits until two replicas follow the master again.
    ///
    /// # Errors
    /// When one does not start, or they do not find together in time.
    pub async fn revive(&mut self) -> io::Result<()> {
        for server in &mut self.servers {
            if server.pid().is_none() {
                server.restart().await?;
            }
        }
        let patience = Patience::new("the replicas to follow the master again");
        loop {
            // Asked each time: the Sentinels may still change their mind.
            let port = self.master_port().await?;
            let master = self.servers.iter().find(|server| server.port() == port);
            if let Some(master) = master
                && replicas(master).await? == SERVERS - 1
            {
                return Ok(());
            }
            patience.pause().await?;
        }
    }
}

/// The value that follows the line `name`.
fn field<'a>(told: &'a str, name: &str) -> &'a str {
    let mut lines = told.lines().skip_while(|line| *line != name);
    lines.nth(1).unwrap_or_default()
}

fn port_in(master: &str) -> io::Result<u16> {
    let wrong = |_| io::Error::other(format!("a Sentinel tells no master: {master}"));
    field(master, "port").parse().map_err(wrong)
}

/// How many replicas have copied all of `master` and follow it.
async fn replicas(master: &RedisServer) -> io::Result<usize> {
    Ok(master.cli(&["INFO", "replication"]).await?.matches("state=online").count())
}
