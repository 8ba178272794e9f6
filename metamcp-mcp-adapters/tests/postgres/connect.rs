//! What is refused, in which words, and what is accepted: addresses, accounts, databases, standbys, certificates.

use std::{fs, path::Path};

use metamcp_core::error::StoreErrorKind;
use metamcp_mcp_adapters::{
    store::postgres::PostgresStore,
    testing::{PostgresPair, PostgresServer, PostgresSetup, TlsFiles, free_port},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::fixture::{number, open, options, refused, server, server_with, with};

#[tokio::test]
async fn a_wrong_account_is_told_in_words_that_do_not_have_its_password() {
    let setup = PostgresSetup { password: Some("right".to_owned()), ..PostgresSetup::default() };
    let server = PostgresServer::start(setup).await.unwrap();
    let at = format!("127.0.0.1:{}", server.port());
    for (account, database, words) in [
        ("metamcp:s3cret@", "postgres", "check user and password"),
        ("metamcp@", "postgres", "asks for a password"),
        ("metamcp:right@", "nowhere", "make it with createdb"),
    ] {
        let error = refused(&format!("postgres://{account}{at}/{database}")).await;
        let said = error.to_string();
        assert!(said.contains(words) && said.contains(&at), "{said}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    open(&server.url()).await;
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let error = refused(&format!("postgres://u@127.0.0.1:{}/d", free_port().unwrap())).await;
    assert!(error.is_retryable() && error.to_string().contains("check that the server runs"), "{error}");
}

#[tokio::test]
async fn an_account_that_may_make_no_schema_is_told_so_and_may_use_one_that_is_there() {
    let server = server().await;
    server.psql("create role plain login").await.unwrap();
    let plain = format!("postgres://plain@127.0.0.1:{}/postgres", server.port());
    let error = refused(&plain).await;
    assert!(error.to_string().contains("grant it to this user"), "{error}");
    server.psql("create schema metamcp authorization plain").await.unwrap();
    let store = open(&plain).await;
    let told = store.health().await.unwrap().detail;
    assert!(told.contains("grant pg_read_all_stats"), "{told}");
}

#[tokio::test]
async fn sessions_are_set_up() {
    let server = server_with(&[("synchronous_commit", "off"), ("default_transaction_isolation", "serializable")]).await;
    let shown = "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings where name in (
        'application_name', 'default_transaction_isolation', 'idle_in_transaction_session_timeout', 'lock_timeout',
        'search_path', 'statement_timeout', 'synchronous_commit')";
    let url = with(&server.url(), "schema=fleet&statement_ms=1500");
    // Only because losing is allowed here does a commit not wait for the disk.
    let rows = open(&url).await.pools().write().query(shown, &[]).await.unwrap();
    assert_eq!(
        rows[0].get::<_, String>(0),
        "application_name=metamcp default_transaction_isolation=read committed idle_in_transaction_session_timeout=30000 \
         lock_timeout=1500 search_path=fleet statement_timeout=1500 synchronous_commit=off"
    );
}

#[tokio::test]
async fn a_standby_is_good_for_reads_and_refused_for_writes() {
    let pair = PostgresPair::start(PostgresSetup::default()).await.unwrap();
    let error = refused(&pair.read_url()).await;
    assert!(error.to_string().contains("is a standby") && error.to_string().contains("read_url"), "{error}");

    let with_reads = options(&pair.url()).with_read_url(&pair.read_url()).unwrap();
    let mut store = PostgresStore::open(&with_reads).await.unwrap();
    pair.caught_up().await.unwrap();
    let in_recovery = "select pg_is_in_recovery() and exists (select 1 from migration)";
    for (pool, expected) in [(store.pools().read(), true), (store.pools().write(), false)] {
        assert_eq!(pool.query(in_recovery, &[]).await.unwrap()[0].get::<_, bool>(0), expected);
    }
    let error = store.pools().read().execute("delete from migration", &[]).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("takes no writes"), "{error}");

    store = open(&pair.url()).await;
    assert!(!store.pools().read().query(in_recovery, &[]).await.unwrap()[0].get::<_, bool>(0), "one place for both");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_used_also_after_a_failover() {
    let mut pair = PostgresPair::start(PostgresSetup::default()).await.unwrap();
    let (replica, primary) = (pair.replica.port(), pair.primary.port());
    let store =
        open(&format!("postgres://metamcp@127.0.0.1:{replica},127.0.0.1:{primary}/postgres?connect_ms=1000")).await;
    let port = "select inet_server_port()";
    assert_eq!(number(&store, port).await.unwrap(), i32::from(primary));
    pair.caught_up().await.unwrap();
    pair.primary.kill().await.unwrap();
    assert!(number(&store, port).await.unwrap_err().is_retryable());
    pair.replica.psql("select pg_promote()").await.unwrap();
    assert_eq!(number(&store, port).await.unwrap(), i32::from(replica));
}

/// An authority of one's own, and a certificate of it for 127.0.0.1, as files in `dir`.
fn tls_files(dir: &Path) -> TlsFiles {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a good name");
    let certificate = names.signed_by(&key, &authority).expect("a certificate");
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).expect("room on the disk");
        path
    };
    TlsFiles {
        ca: put("ca.pem", authority.pem()),
        cert: put("server.pem", certificate.pem()),
        key: put("key.pem", key.serialize_pem()),
    }
}

#[tokio::test]
async fn certificates_are_checked_against_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let setup = PostgresSetup { tls: Some(tls_files(dir.path())), ..PostgresSetup::default() };
    let server = PostgresServer::start(setup).await.unwrap();

    let store = open(&server.url()).await;
    let ssl = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert!(store.pools().write().query(ssl, &[]).await.unwrap()[0].get::<_, bool>(0));
    crate::fixture::listens(&store).await;

    let plain = format!("postgres://metamcp@127.0.0.1:{}/postgres", server.port());
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let other = tls_files(&other);
    let named = |host: &str, ca: &Path| {
        format!("postgres://metamcp@{host}:{}/postgres?sslmode=require&sslrootcert={}", server.port(), ca.display())
    };
    let ca = &server.setup().tls.as_ref().unwrap().ca;
    let missing = dir.path().join("none.pem");
    for (url, words) in [
        (named("127.0.0.1", &other.ca), "name its authority by sslrootcert"),
        (named("localhost", ca), "the host as the certificate does"),
        (with(&plain, "sslmode=require"), "sslrootcert"),
        (plain, "no encryption"),
        (named("127.0.0.1", &missing), "none.pem cannot be used"),
        (named("127.0.0.1", &other.key), "it holds no certificate"),
    ] {
        let said = refused(&url).await.to_string();
        assert!(said.contains(words), "{url}: {said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_when_tls_is_asked_for() {
    let server = server().await;
    let error = refused(&with(&server.url(), "sslmode=require")).await;
    assert!(error.to_string().contains("offers no TLS") && error.to_string().contains("sslmode=disable"), "{error}");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
}
