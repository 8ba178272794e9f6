//! What is refused, in which words, and what is accepted: addresses, accounts, certificates.

use std::{fs, path::Path};

use metamcp_core::error::StoreErrorKind;
use metamcp_mcp_adapters::testing::{RedisAccount, RedisCluster, RedisSetup, Sentinels, TlsFiles, free_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::fixture::{add, count, healed, open, ping, refused, server, with};

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let error = refused(&format!("redis://127.0.0.1:{}", free_port().unwrap())).await;
    assert!(error.is_retryable() && error.to_string().contains("nothing listens at this address"), "{error}");
}

#[tokio::test]
async fn a_wrong_or_missing_login_is_told_in_words_that_do_not_have_its_password() {
    let server = server(RedisSetup { password: Some("right".to_owned()), ..RedisSetup::default() }).await;
    let at = format!("127.0.0.1:{}", server.port());
    for (login, words) in [
        (":s3cret@", "does not know this user and password"),
        ("nobody:s3cret@", "does not know this user and password"),
        ("", "asks for a login"),
    ] {
        let error = refused(&format!("redis://{login}{at}")).await;
        assert!(error.to_string().contains(words), "{login}: {error}");
        assert!(error.kind() == StoreErrorKind::Closed && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    assert_eq!(ping(&open(&server.url()).await).await.unwrap(), "PONG");
}

#[tokio::test]
async fn the_rules_that_are_advised_are_enough_and_fewer_are_told() {
    let account = |rules: &str| RedisSetup {
        account: Some(RedisAccount {
            name: "app".to_owned(),
            password: "p@ss/w%rd".to_owned(),
            rules: rules.to_owned(),
        }),
        ..RedisSetup::default()
    };
    let url = |port: u16| format!("redis://app:p%40ss%2Fw%25rd@127.0.0.1:{port}");
    let advised = server(account("~{metamcp}* +@all -@dangerous +info +config|get")).await;
    let pool = open(&url(advised.port())).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    assert!(pool.check().await.unwrap().warnings.iter().all(|words| !words.contains("ACL")));

    let less = server(account("~* +@connection +@read")).await;
    let error = add(&open(&url(less.port())).await, &count(), 1).await.expect_err("it may not");
    assert!(error.kind() == StoreErrorKind::Closed && error.to_string().contains("ACL SETUSER"), "{error}");
}

#[tokio::test]
async fn databases_are_apart() {
    let server = server(RedisSetup::default()).await;
    let (zero, three) = (open(&server.url()).await, open(&format!("redis://127.0.0.1:{}/3", server.port())).await);
    assert_eq!(add(&zero, &count(), 5).await.unwrap(), 5);
    assert_eq!(add(&three, &count(), 1).await.unwrap(), 1);
    let error = refused(&format!("redis://127.0.0.1:{}/99", server.port())).await;
    assert!(error.to_string().contains("out of range"), "{error}");
}

/// An authority of our own, and a certificate of it for loopback.
fn certificates(dir: &Path) -> TlsFiles {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another name than that of what it signs: OpenSSL takes a certificate that names itself as its issuer for self-signed.
    params.distinguished_name.push(DnType::CommonName, "the authority of a test");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        ca: put("ca.pem", ca.pem()),
        cert: put("server.pem", cert.pem()),
        key: put("server.key", key.serialize_pem()),
    }
}

#[tokio::test]
async fn tls_is_spoken_and_a_certificate_of_an_unknown_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificates(dir.path());
    let server = server(RedisSetup { tls: Some(tls), ..RedisSetup::default() }).await;
    let pool = open(&server.url()).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);

    let error = refused(&format!("rediss://127.0.0.1:{}", server.port())).await;
    assert!(error.to_string().contains("certificate"), "{error}");
    let plain = refused(&format!("redis://127.0.0.1:{}", server.port())).await;
    assert!(plain.is_retryable(), "{plain}");
    let missing = refused(&format!("rediss://127.0.0.1:{}?ca=/nowhere/ca.pem", server.port())).await;
    assert!(missing.to_string().contains("cannot read the certificates in /nowhere/ca.pem"), "{missing}");
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let none =
        refused(&with(&format!("rediss://127.0.0.1:{}", server.port()), &format!("ca={}", empty.display()))).await;
    assert!(none.to_string().contains("certificate"), "{none}");
}

#[tokio::test]
async fn tls_is_spoken_with_sentinels_and_with_each_master_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let setup = RedisSetup { tls: Some(certificates(dir.path())), ..RedisSetup::default() };
    let mut sentinels = Sentinels::start(setup).await.unwrap();
    let pool = open(&sentinels.url()).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    let dead = sentinels.kill_master().await.unwrap();
    sentinels.successor(dead).await.unwrap();
    // What was counted may be lost with the master: that it counts at all is what is asked.
    assert!(healed("a count after the change", async || add(&pool, &count(), 1).await).await >= 1);
    let url = sentinels.url();
    let unknown = refused(url.split("&ca=").next().unwrap()).await;
    assert!(unknown.to_string().contains("certificate") || unknown.is_retryable(), "{unknown}");
}

#[tokio::test]
async fn tls_is_spoken_with_the_nodes_of_a_cluster_and_those_that_take_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let setup = RedisSetup { tls: Some(certificates(dir.path())), ..RedisSetup::default() };
    let mut cluster = RedisCluster::start(setup).await.unwrap();
    let pool = open(&cluster.url()).await;
    assert_eq!(add(&pool, &count(), 1).await.unwrap(), 1);
    // One of the addresses that the pool was given stays.
    for master in 0..2 {
        cluster.kill_node(master).await.unwrap();
        cluster.promoted(master + 3).await.unwrap();
    }
    assert!(healed("a count after the change", async || add(&pool, &count(), 1).await).await >= 1);
}
