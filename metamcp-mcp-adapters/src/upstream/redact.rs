//! Shows where a server is without showing what lets one in: secrets in arguments and addresses become [`REDACTED`].
//!
//! It hides too much rather than too little. Still this is care, not proof: secrets belong into the environment or headers, whose values
//! are never shown at all.

use std::collections::BTreeSet;

use url::Url;

/// What stands in place of a secret.
pub const REDACTED: &str = "(redacted)";

/// Parts of a name whose value is not for everybody. What `--header` takes is hidden as a whole.
const SECRET_WORDS: [&str; 10] =
    ["token", "key", "secret", "pass", "pwd", "auth", "credential", "cookie", "header", "bearer"];
/// Schemes of authorization: the next word is the secret.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// A command with its arguments, those at the positions `secret` hidden as a whole.
pub(crate) fn command_line(command: &str, args: &[String], secret: &BTreeSet<usize>) -> String {
    let shown: Vec<String> = std::iter::once(command.to_owned()).chain(arguments(args, secret)).collect();
    shown.join(" ")
}

/// Arguments of a command without values that are named like secrets, credentials, and what stands at the positions `secret`.
#[must_use]
pub fn arguments(args: &[String], secret: &BTreeSet<usize>) -> Vec<String> {
    let mut hide_next = false;
    let show = |(at, arg): (usize, &String)| {
        let hide = std::mem::take(&mut hide_next) && !is_option(arg) || secret.contains(&at);
        hide_next = announces(arg);
        if hide { REDACTED.to_owned() } else { any(arg) }
    };
    args.iter().enumerate().map(show).collect()
}

/// An address without credentials, query and fragment.
#[must_use]
pub fn url(text: &str) -> String {
    let Some((scheme, _)) = text.split_once("://") else { return text.to_owned() };
    let Some(mut shown) = Url::parse(text).ok().filter(Url::has_host) else { return format!("{scheme}://{REDACTED}") };
    let has_user = !shown.username().is_empty() || shown.password().is_some();
    let (query, fragment) = (shown.query().is_some(), shown.fragment().is_some());
    if !has_user && !query && !fragment {
        return text.to_owned();
    }
    // These fail only for addresses without a host.
    let _ = shown.set_username(if has_user { REDACTED } else { "" });
    let _ = shown.set_password(None);
    shown.set_query(query.then_some(REDACTED));
    shown.set_fragment(fragment.then_some(REDACTED));
    shown.into()
}

/// Any text: an address in it loses its secrets, and so does what follows a name like one or a scheme of authorization.
fn any(text: &str) -> String {
    let Some((before, _)) = text.split_once("://") else { return named(text) };
    let in_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let (head, address) = text.split_at(before.trim_end_matches(in_scheme).len());
    if let Some(at) = secret_from(head) {
        return format!("{}{REDACTED}", &head[..at]);
    }
    let host_at = before.len() - head.len() + "://".len();
    if address[host_at..].contains("://") {
        // Where one address ends and the next begins is not known.
        return format!("{head}{}{REDACTED}", &address[..host_at]);
    }
    let shown = url(address);
    let (place, path) = shown.split_at(shown[host_at..].find('/').map_or(shown.len(), |at| host_at + at));
    format!("{head}{place}{}", named(path))
}

/// Text without an address.
fn named(text: &str) -> String {
    match secret_from(text).filter(|at| *at < text.len()) {
        Some(at) => format!("{}{REDACTED}", &text[..at]),
        None => text.to_owned(),
    }
}

/// Where a secret begins: after `NAME=` or `NAME:`, after `Bearer`, or after `-H`.
fn secret_from(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let named = lower.match_indices(['=', ':']).map(|(at, _)| at + 1).find(|at| is_secret(&lower[..*at]));
    let schemes = SCHEMES.iter().filter_map(|scheme| {
        let at = lower.find(&format!("{scheme} "))?;
        Some(at + scheme.len() + 1)
    });
    let glued = (text.starts_with("-H") && text.len() > 2).then_some(2);
    named.into_iter().chain(schemes).chain(glued).min()
}

/// Whether the next argument is the value of this one, and a secret.
fn announces(arg: &str) -> bool {
    let lower = arg.to_ascii_lowercase();
    let unfinished = lower.trim_end().ends_with(['=', ':']) && is_secret(&lower);
    let option = arg.starts_with('-') && !arg.contains(['=', ':']) && is_secret(&lower);
    unfinished || option || arg == "-H" || SCHEMES.iter().any(|scheme| lower.trim_end().ends_with(scheme))
}

/// `-x`, `--name`: a value may begin with a dash too, but hardly like this.
fn is_option(arg: &str) -> bool {
    let mut letters = arg.trim_start_matches('-').chars();
    let begins_with_letter = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    begins_with_letter && (arg.starts_with("--") || arg.starts_with('-') && letters.next().is_none())
}

fn is_secret(lower: &str) -> bool {
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &[&str]) -> String {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        arguments(&args, &BTreeSet::new()).join(" ")
    }

    #[test]
    fn secrets_in_arguments_are_not_shown() {
        for (args, expected) in [
            (&["--api-key", "s3cret", "--token=s3cret", "-y"][..], "--api-key (redacted) --token=(redacted) -y"),
            (&["pg://u:s3cret@h/db?k=s3cret"], "pg://(redacted)@h/db?(redacted)"),
            (&["--url=http://u:s3cret@h/", "dir"], "--url=http://(redacted)@h/ dir"),
            (
                &["mcp-remote", "https://h/mcp", "--header", "Authorization: Bearer s3cret"],
                "mcp-remote https://h/mcp --header (redacted)",
            ),
            (&["--header=X-Api-Key: s3cret"], "--header=(redacted)"),
            (&["-H", "X: s3cret", "-HX: s3cret"], "-H (redacted) -H(redacted)"),
            (&["Authorization: Basic s3cret=="], "Authorization:(redacted)"),
            (&["Authorization:", "s3cret", "Bearer", "s3cret"], "Authorization: (redacted) Bearer (redacted)"),
            (&["say Bearer s3cret"], "say Bearer (redacted)"),
            (&["-e", "GITHUB_TOKEN=s3cret", "--env=A_KEY=s3cret"], "-e GITHUB_TOKEN=(redacted) --env=A_KEY=(redacted)"),
            (&[r#"{"a":1,"password":"s3cret"}"#], r#"{"a":1,"password":(redacted)"#),
            (&["--auth-url=http://s3cret", "--token", "-s3cret"], "--auth-url=(redacted) --token (redacted)"),
            (&["--no-auth", "--root", "/srv", "a=b", "x:y"], "--no-auth --root /srv a=b x:y"),
            (
                &[r#"{"u":"https://h/x","token":"s3cret"}"#, "https://h/,https://u:s3cret@h"],
                r#"{"u":"https://h/x","token":(redacted) https://(redacted)"#,
            ),
            (&["X-Url: https://h:s3cret", "é://s3cret"], "X-Url: https://(redacted) é://(redacted)"),
        ] {
            assert_eq!(shown(args), expected);
        }
    }

    #[test]
    fn arguments_that_came_from_variables_are_not_shown() {
        let args = ["a", "s3cret", "b"].map(str::to_owned);
        assert_eq!(command_line("x", &args, &BTreeSet::from([1])), "x a (redacted) b");
    }

    #[test]
    fn addresses_lose_user_password_query_and_fragment() {
        assert_eq!(url("https://me:pw@host:1/p?a=secret&b"), "https://(redacted)@host:1/p?(redacted)");
        assert_eq!(url("https://host"), "https://host");
        assert_eq!(url("https://host#frag"), "https://host/#(redacted)");
        assert_eq!(url("https://a b?key=s3cret"), "https://(redacted)");
        assert_eq!(url("plain?a=b"), "plain?a=b");
    }
}
