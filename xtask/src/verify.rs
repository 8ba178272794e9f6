//! `cargo xtask verify`: every check that only reads the sources, then the tests; and `fix`, the one that writes them.
//! The dependency rules that cargo-deny cannot say (what the core stays free of, one TLS stack) are checked here over `cargo tree`.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::process::{Ended, Place, Run, Step, take};
use crate::{test, tools};

/// Crates the core must never pull in, not even through another: it names no wire and no database.
const CORE_IS_FREE_OF: &[&str] = &[
    "axum",
    "http",
    "http-body",
    "hyper",
    "hyper-util",
    "postgres",
    "redb",
    "redis",
    "reqwest",
    "rmcp",
    "rustls",
    "sqlx",
    "tokio-postgres",
    "tungstenite",
];

/// Crates that speak TLS. Of the whole tree only `TLS` may be there.
const TLS_STACKS: &[&str] =
    &["boring", "mbedtls", "native-tls", "openssl", "openssl-sys", "rustls", "s2n-tls", "wolfssl"];
const TLS: &str = "rustls";

/// Crates that bring the cryptography under TLS and signatures. Of the whole tree only `CRYPTO` may be there.
const CRYPTO_STACKS: &[&str] = &["aws-lc-rs", "boring", "graviola", "mbedtls", "openssl", "ring", "rustls-rustcrypto"];
const CRYPTO: &str = "aws-lc-rs";

/// `cargo xtask verify [--no-test] [--online]`.
pub(crate) fn verify(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let (no_test, online) = (args.switch("--no-test"), args.switch("--online"));
    args.finish()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    let docs = ["doc", "--workspace", "--no-deps", "--all-features"];
    let mut steps = vec![
        Step::run("format", Run::cargo(place, &["fmt", "--all", "--check"])),
        Step::run("lints", Run::cargo(place, &clippy)),
        Step::run("docs", Run::cargo(place, &docs).env("RUSTDOCFLAGS", "-D warnings")),
        Step::work("core is light", format!("no {} under metamcp-core", CORE_IS_FREE_OF.join(", ")), || core(place)),
        Step::work("one TLS stack", format!("{TLS} over {CRYPTO} and nothing else"), || one_stack(place)),
        Step::work("dependencies", "cargo deny check bans licenses sources", || {
            deny(place, &["bans", "licenses", "sources"])
        }),
    ];
    steps.push(if online {
        Step::work("advisories", "cargo deny check advisories", || deny(place, &["advisories"]))
    } else {
        Step::skipped("advisories", "they need the internet: add --online")
    });
    if no_test {
        steps.push(Step::skipped("tests", "--no-test"));
    } else {
        steps.extend(test::steps(place, &[]));
    }
    take(steps)
}

/// `cargo xtask fix`.
pub(crate) fn fix(place: &Place, args: &[String]) -> Result<()> {
    Args::new(args).finish()?;
    let clippy =
        ["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets", "--all-features"];
    take(vec![
        Step::run("lints", Run::cargo(place, &clippy)),
        // Last, as what clippy writes is not formatted.
        Step::run("format", Run::cargo(place, &["fmt", "--all"])),
    ])
}

fn deny(place: &Place, checks: &[&str]) -> Result<Ended> {
    let program = tools::cargo_deny(place)?;
    let args: Vec<&str> =
        ["--workspace", "--all-features", "check", "--hide-inclusion-graph"].iter().chain(checks).copied().collect();
    Run::program(place, &program, &args).status()?;
    Ok(Ended::Done(None))
}

fn core(place: &Place) -> Result<Ended> {
    let tree = tree(place, &["-p", "metamcp-core"])?;
    if !tree.iter().any(|(name, _)| name == "metamcp-core") {
        bail!("`cargo tree` shows no metamcp-core");
    }
    let found: Vec<&str> =
        CORE_IS_FREE_OF.iter().copied().filter(|bad| tree.iter().any(|(name, _)| name == bad)).collect();
    if !found.is_empty() {
        bail!("metamcp-core pulls in {}; see `cargo tree -p metamcp-core -e normal -i {}`", found.join(", "), found[0]);
    }
    Ok(Ended::Done(Some(format!("{} crates", tree.len()))))
}

fn one_stack(place: &Place) -> Result<Ended> {
    let tree = tree(place, &["--workspace"])?;
    let tls = only(&tree, TLS_STACKS, TLS)?;
    let crypto = only(&tree, CRYPTO_STACKS, CRYPTO)?;
    Ok(Ended::Done(Some(format!("{tls} over {crypto}"))))
}

/// The one crate of `stacks` in `tree`, which must be `wanted` and there in one version.
fn only(tree: &BTreeSet<(String, String)>, stacks: &[&str], wanted: &str) -> Result<String> {
    let found: Vec<String> = tree
        .iter()
        .filter(|(name, _)| stacks.contains(&name.as_str()))
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    match found.as_slice() {
        [one] if one.split(' ').next() == Some(wanted) => Ok(one.clone()),
        [] => bail!("{wanted} is not in the tree; if that is meant, change the rule in xtask/src/verify.rs"),
        many => bail!("only one {wanted} is allowed, found {}; see `cargo tree --workspace -i NAME`", many.join(", ")),
    }
}

/// Every (name, version) under what `which` chooses, with all features, leaving out what only tests and builds use.
fn tree(place: &Place, which: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let form = ["tree", "--edges", "normal", "--all-features", "--prefix", "none", "--format", "{p}"];
    let args: Vec<&str> = form.iter().chain(which).copied().collect();
    Ok(crates_in(&Run::cargo(place, &args).output()?))
}

fn crates_in(tree: &str) -> BTreeSet<(String, String)> {
    let crate_of = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    tree.lines().filter_map(crate_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "app v0.1.0 (/somewhere)\nrustls v0.23.46\nring v0.17.0 (*)\n\nrustls v0.23.46 (*)\n";

    #[test]
    fn a_tree_is_read_as_a_set_of_names_and_versions() {
        let names: Vec<String> =
            crates_in(TREE).into_iter().map(|(name, version)| format!("{name} {version}")).collect();
        assert_eq!(names, ["app v0.1.0", "ring v0.17.0", "rustls v0.23.46"]);
    }

    #[test]
    fn one_stack_passes_and_a_second_or_another_is_refused() {
        let tree = crates_in(TREE);
        assert_eq!(only(&tree, TLS_STACKS, TLS).unwrap(), "rustls v0.23.46");
        assert!(only(&tree, CRYPTO_STACKS, CRYPTO).unwrap_err().to_string().contains("found ring v0.17.0"));
        let two = crates_in("rustls v0.23.46\nrustls v0.22.0\n");
        assert!(only(&two, TLS_STACKS, TLS).is_err());
        assert!(only(&crates_in("app v0.1.0"), TLS_STACKS, TLS).is_err());
    }
}
