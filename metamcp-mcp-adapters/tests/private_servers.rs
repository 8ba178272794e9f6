//! The private servers themselves: each starts, answers, comes back with its data, and dies with its owner.
#![cfg(feature = "testing")]

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _},
    net::{Ipv4Addr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use metamcp_mcp_adapters::testing::{
    CutProxy, PostgresPair, PostgresServer, PostgresSetup, ProxyMode, RedisAccount, RedisCluster, RedisServer,
    RedisSetup, S3Server, Sentinels,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longest wait for a server to be gone after its owner, in milliseconds, and between two looks.
const GONE_MS_MAX: u64 = 10_000;
const LOOK_MS: u64 = 10;

/// Waits until nothing listens at `port` any more.
async fn gone(port: u16) -> bool {
    for _ in 0..GONE_MS_MAX / LOOK_MS {
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
    false
}

#[tokio::test]
async fn redis_comes_back_with_its_data_after_a_kill() {
    let mut redis = RedisServer::start(RedisSetup::default()).await.unwrap();
    let port = redis.port();
    assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{port}/0"));
    redis.cli(&["SET", "key", "value"]).await.unwrap();

    redis.kill().await.unwrap();
    assert!(redis.pid().is_none());
    assert!(redis.cli(&["PING"]).await.is_err(), "a killed server must not answer");
    redis.restart().await.unwrap();
    assert_eq!((redis.port(), redis.cli(&["GET", "key"]).await.unwrap().as_str()), (port, "value"));

    drop(redis);
    assert!(gone(port).await);
}

#[tokio::test]
async fn redis_paused_answers_nothing_until_resumed() {
    let redis = RedisServer::start(RedisSetup::default()).await.unwrap();
    redis.pause().unwrap();
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, redis.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    std::io::Write::write_all(&mut socket, b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    let silent = socket.read(&mut answer).unwrap_err().kind();
    assert!(matches!(silent, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent:?}");
    redis.resume().unwrap();
    socket.set_read_timeout(None).unwrap();
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn redis_has_the_accounts_and_settings_it_was_given() {
    let account =
        RedisAccount { name: "worker".into(), password: "s3cret".into(), rules: "~* &* +@all -config".into() };
    let setup = RedisSetup { account: Some(account), maxmemory_bytes: Some(8 << 20), ..RedisSetup::default() };
    let redis = RedisServer::start(setup.clone()).await.unwrap();
    assert_eq!(redis.url(), format!("redis://worker:s3cret@127.0.0.1:{}/0", redis.port()));
    assert_eq!(redis.cli(&["ACL", "WHOAMI"]).await.unwrap(), "worker");
    let refused = redis.cli(&["CONFIG", "GET", "maxmemory"]).await.unwrap_err().to_string();
    assert!(refused.contains("NOPERM"), "{refused}");

    let setup = RedisSetup { password: Some("master".into()), lines: vec!["maxclients 77".into()], ..setup };
    let redis = RedisServer::start(setup).await.unwrap();
    assert_eq!(redis.cli(&["ACL", "WHOAMI"]).await.unwrap(), "default");
    assert_eq!(redis.cli(&["CONFIG", "GET", "maxmemory"]).await.unwrap(), "maxmemory\n8388608");
    assert_eq!(redis.cli(&["CONFIG", "GET", "maxclients"]).await.unwrap(), "maxclients\n77");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let setup = RedisSetup { lines: vec!["no-such-setting 1".into()], ..RedisSetup::default() };
    let error = RedisServer::start(setup).await.unwrap_err().to_string();
    assert!(error.contains("no-such-setting"), "{error}");
}

#[tokio::test]
async fn postgres_comes_back_with_its_data_after_a_kill() {
    let mut postgres = PostgresServer::start(PostgresSetup::default()).await.unwrap();
    let port = postgres.port();
    assert_eq!(postgres.psql("SELECT 1").await.unwrap(), "1");
    postgres.psql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();

    postgres.kill().await.unwrap();
    assert!(postgres.pid().is_none());
    postgres.psql("SELECT 1").await.expect_err("a killed server must not answer");
    postgres.restart().await.unwrap();
    assert_eq!(postgres.psql("SELECT n FROM kept").await.unwrap(), "7");
    postgres.stop().await.unwrap();
    postgres.restart().await.unwrap();
    assert_eq!((postgres.port(), postgres.psql("SELECT n FROM kept").await.unwrap().as_str()), (port, "7"));

    drop(postgres);
    assert!(gone(port).await);
}

#[tokio::test]
async fn postgres_has_the_password_and_settings_it_was_given() {
    let settings = vec![("max_connections".to_owned(), "13".to_owned())];
    let setup =
        PostgresSetup { fsync: true, password: Some("s3cret".to_owned()), settings, ..PostgresSetup::default() };
    let postgres = PostgresServer::start(setup).await.unwrap();
    let port = postgres.port();
    assert_eq!(postgres.url(), format!("postgres://metamcp:s3cret@127.0.0.1:{port}/postgres"));
    assert_eq!(postgres.psql("SHOW max_connections").await.unwrap(), "13");
    assert_eq!(postgres.psql("SHOW fsync").await.unwrap(), "on");
    let wrong = format!("postgres://metamcp:wrong@127.0.0.1:{port}/postgres");
    let refused = postgres.psql_at(&wrong, "SELECT 1").await.unwrap_err().to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");
}

#[tokio::test]
async fn a_postgres_replica_follows_and_takes_no_writes() {
    let mut pair = PostgresPair::start(PostgresSetup::default()).await.unwrap();
    assert_ne!(pair.url(), pair.read_url());
    pair.primary.psql("CREATE TABLE told (n int); INSERT INTO told VALUES (3)").await.unwrap();
    pair.caught_up().await.unwrap();
    assert_eq!(pair.replica.psql("SELECT n FROM told").await.unwrap(), "3");
    let refused = pair.replica.psql("INSERT INTO told VALUES (4)").await.unwrap_err().to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");

    pair.replica.kill().await.unwrap();
    pair.primary.psql("INSERT INTO told VALUES (5)").await.unwrap();
    pair.replica.restart().await.unwrap();
    pair.caught_up().await.unwrap();
    assert_eq!(pair.replica.psql("SELECT sum(n) FROM told").await.unwrap(), "8");
}

#[tokio::test]
async fn sentinels_replace_a_dead_master_and_change_it_when_asked() {
    let setup = RedisSetup { password: Some("s3cret".into()), ..RedisSetup::default() };
    let mut redis = Sentinels::start(setup).await.unwrap();
    assert!(redis.url().starts_with("redis-sentinel://default:s3cret@127.0.0.1:"), "{}", redis.url());
    assert!(redis.url().ends_with("/0?master=metamcp"), "{}", redis.url());

    let first = redis.kill_master().await.unwrap();
    let second = redis.successor(first).await.unwrap();
    assert_ne!(first, second);
    let master = redis.servers().iter().find(|server| server.port() == second).unwrap();
    assert_eq!(master.cli(&["SET", "key", "value"]).await.unwrap(), "OK");
    redis.revive().await.unwrap();
    let third = redis.failover().await.unwrap();
    assert_ne!(second, third);
    assert_eq!(redis.master_port().await.unwrap(), third);
}

#[tokio::test]
async fn a_cluster_shares_its_keys_and_survives_a_dead_master() {
    let mut cluster = RedisCluster::start(RedisSetup::default()).await.unwrap();
    assert!(cluster.url().starts_with("redis-cluster://127.0.0.1:"), "{}", cluster.url());
    // Slot 5061 (`bar`) is the first master's, slot 12182 (`foo`) the third's.
    assert_eq!(cluster.nodes()[0].cli(&["SET", "bar", "1"]).await.unwrap(), "OK");
    let moved = cluster.nodes()[0].cli(&["SET", "foo", "1"]).await.unwrap_err().to_string();
    assert!(moved.contains(&format!("MOVED 12182 127.0.0.1:{}", cluster.nodes()[2].port())), "{moved}");

    cluster.kill_node(0).await.unwrap();
    cluster.promoted(3).await.unwrap();
    assert_eq!(cluster.nodes()[3].cli(&["GET", "bar"]).await.unwrap(), "1");
    cluster.nodes()[0].restart().await.unwrap();
    cluster.healthy().await.unwrap();
    assert!(cluster.nodes()[0].cli(&["ROLE"]).await.unwrap().starts_with("slave"));
}

#[tokio::test]
async fn s3_has_its_bucket_and_comes_back_empty() {
    let mut s3 = S3Server::start().await.unwrap();
    let object = format!("/{}/key", s3.bucket());
    let put = http(s3.port(), "PUT", &object, "hello").await.unwrap();
    assert!(put.starts_with("HTTP/1.1 200"), "{put}");
    let got = http(s3.port(), "GET", &object, "").await.unwrap();
    assert!(got.ends_with("\r\n\r\nhello"), "{got}");
    assert_eq!(s3.endpoint(), format!("http://127.0.0.1:{}", s3.port()));
    s3.kill().await.unwrap();
    assert!(gone(s3.port()).await);
    s3.restart().await.unwrap();
    let missing = http(s3.port(), "GET", &object, "").await.unwrap();
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
}

/// One HTTP request and the whole answer. The server takes any signature, but wants one.
async fn http(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut socket = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let signed = "AWS4-HMAC-SHA256 Credential=any/20261122/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {signed}");
    let ask = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    socket.write_all(ask.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A connection to Redis through a proxy.
struct Wire(tokio::net::TcpStream);

impl Wire {
    async fn open(proxy: &CutProxy) -> std::io::Result<Self> {
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.map(Self)
    }

    async fn ask(&mut self, line: &str) -> std::io::Result<String> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut answer = String::new();
        while !answer.ends_with("\r\n") {
            answer.push(self.0.read_u8().await?.into());
        }
        Ok(answer.trim_end().to_owned())
    }
}

#[tokio::test]
async fn a_proxy_passes_cuts_refuses_and_stalls() {
    let redis = RedisServer::start(RedisSetup::default()).await.unwrap();
    let proxy = CutProxy::start(redis.port()).await.unwrap();
    let mut wire = Wire::open(&proxy).await.unwrap();
    assert_eq!(wire.ask("INCR n").await.unwrap(), ":1");

    proxy.cut_all();
    assert_eq!(wire.ask("INCR n").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut wire = Wire::open(&proxy).await.unwrap();
    assert_eq!(wire.ask("INCR n").await.unwrap(), ":2", "a request after the cut must not have arrived");

    proxy.set_mode(ProxyMode::Refuse);
    while let Ok(mut early) = Wire::open(&proxy).await {
        // The mode is set before the socket is closed; what was taken meanwhile ends unserved or served.
        let _ = early.0.shutdown().await;
    }
    assert_eq!(wire.ask("INCR n").await.unwrap(), ":3", "what is there goes on");

    proxy.set_mode(ProxyMode::Blackhole);
    let silent = tokio::time::timeout(Duration::from_millis(100), wire.ask("INCR n")).await;
    assert!(silent.is_err(), "{silent:?}");
    assert_eq!(redis.cli(&["GET", "n"]).await.unwrap(), "3");
    proxy.set_mode(ProxyMode::Pass);
    assert_eq!(wire.ask("GET n").await.unwrap(), ":4", "the request that was held goes on when the partition heals");
}

#[tokio::test]
async fn a_proxy_loses_the_reply_to_a_request_that_arrived() {
    let redis = RedisServer::start(RedisSetup::default()).await.unwrap();
    let proxy = CutProxy::start(redis.port()).await.unwrap();
    let mut wire = Wire::open(&proxy).await.unwrap();
    assert_eq!(wire.ask("INCR n").await.unwrap(), ":1");
    proxy.cut_after_request_before_reply();
    assert_eq!(wire.ask("INCR n").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(proxy.replies_lost(), 1);
    assert_eq!(redis.cli(&["GET", "n"]).await.unwrap(), "2", "the request itself must have arrived");
    assert_eq!(Wire::open(&proxy).await.unwrap().ask("INCR n").await.unwrap(), ":3", "one reply is lost, not two");
}

#[tokio::test]
async fn a_proxy_delays_and_changes_its_target() {
    let (one, two) = (RedisServer::start(RedisSetup::default()).await, RedisServer::start(RedisSetup::default()).await);
    let (one, two) = (one.unwrap(), two.unwrap());
    two.cli(&["SET", "me", "two"]).await.unwrap();
    let proxy = CutProxy::start(one.port()).await.unwrap();
    let held = Duration::from_millis(200);
    proxy.set_mode(ProxyMode::Delay(held));
    let started = std::time::Instant::now();
    let mut wire = Wire::open(&proxy).await.unwrap();
    assert_eq!(wire.ask("PING").await.unwrap(), "+PONG");
    // A lower bound only: a busy machine is later, never earlier.
    assert!(started.elapsed() >= held, "{:?}", started.elapsed());

    proxy.set_mode(ProxyMode::Pass);
    proxy.set_target(two.port());
    assert_eq!(wire.ask("STRLEN me").await.unwrap(), ":0");
    assert_eq!(Wire::open(&proxy).await.unwrap().ask("STRLEN me").await.unwrap(), ":3");
}

const OWNER: &str = "METAMCP_TEST_OWNER";

/// Not a test of its own: what [`servers_die_with_an_owner_that_is_killed`] starts and kills. Without the variable there is nothing to do.
#[tokio::test]
async fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    // Asked for by a thread that ends at once: the servers must not depend on it.
    let start = async || {
        let redis = RedisServer::start(RedisSetup::default()).await.unwrap();
        (redis, PostgresServer::start(PostgresSetup::default()).await.unwrap())
    };
    let thread = std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(start()));
    let (redis, postgres) = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    assert_eq!(redis.cli(&["PING"]).await.unwrap(), "PONG");
    assert_eq!(postgres.psql("SELECT 1").await.unwrap(), "1");
    println!("ports {} {}", redis.port(), postgres.port());
    std::future::pending::<()>().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn servers_die_with_an_owner_that_is_killed() {
    // A killed owner cannot tidy up: what its servers leave behind goes with this folder.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let left = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "owner", "--nocapture"])
        .env(OWNER, "1")
        .env("TMPDIR", left.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut owner = command.spawn().unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let told = lines.map(Result::unwrap).find_map(|line| line.split_once("ports ").map(|(_, told)| told.to_owned()));
    let ports: Vec<u16> = told.unwrap().split(' ').map(|port| port.parse().unwrap()).collect();
    for port in &ports {
        TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).expect("the server serves while its owner lives");
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    for port in ports {
        assert!(gone(port).await, "a server outlived its owner");
    }
}
