//! Shows where a server is without showing what lets one in: secrets in arguments and addresses become `…`.
//!
//! This is care, not proof: secrets belong into the environment or headers, whose values are never shown at all.

use reqwest::Url;

/// Words in the name of an option whose value is not for everybody.
const SECRET_WORDS: [&str; 8] = ["token", "key", "secret", "password", "passwd", "auth", "credential", "cookie"];

/// A command with its arguments.
pub(crate) fn command_line(command: &str, args: &[String]) -> String {
    let mut shown = vec![command.to_owned()];
    let mut hide_next = false;
    for arg in args {
        let hide = std::mem::take(&mut hide_next) && !arg.starts_with('-');
        shown.push(match arg.split_once('=') {
            _ if hide => "…".to_owned(),
            _ if Url::parse(arg).is_ok_and(|parsed| parsed.has_host()) => any(arg),
            Some((name, _)) if is_secret(name) => format!("{name}=…"),
            Some((name, value)) => format!("{name}={}", any(value)),
            None => {
                hide_next = arg.starts_with('-') && is_secret(arg);
                any(arg)
            }
        });
    }
    shown.join(" ")
}

/// An address without credentials and query.
pub(crate) fn url(url: &Url) -> String {
    let mut shown = url.clone();
    // These fail only for addresses that cannot have such parts.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    let query = shown.query().is_some();
    shown.set_query(None);
    format!("{shown}{}", if query { "?…" } else { "" })
}

fn any(text: &str) -> String {
    match Url::parse(text) {
        Ok(parsed) if parsed.has_host() => url(&parsed),
        Ok(_) | Err(_) => text.to_owned(),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_arguments_are_not_shown() {
        let args = [
            "--api-key",
            "s3cret",
            "--token=s3cret",
            "-y",
            "pg://u:s3cret@h/db?k=s3cret",
            "--url=http://u:s3cret@h/",
            "dir",
        ];
        let shown = command_line("npx", &args.map(str::to_owned));
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(shown, "npx --api-key … --token=… -y pg://h/db?… --url=http://h/ dir");
    }
}
