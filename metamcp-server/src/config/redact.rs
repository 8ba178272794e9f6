//! Keeps secrets out of what is printed: passwords and queries of URLs, and arguments that look like secrets. It hides too much rather
//! than too little.

/// What stands in place of a secret.
pub(super) const REDACTED: &str = "(redacted)";

/// Parts of option names whose value is a secret.
const SECRET_WORDS: [&str; 7] = ["token", "secret", "password", "passwd", "key", "auth", "credential"];

/// A text in which every URL has lost its user, its password and the values of its query.
pub(super) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, fragment) = rest.split_once('#').map_or((rest, false), |(rest, _)| (rest, true));
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host =
        authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("{REDACTED}@{host}"));
    let query = query.map_or_else(String::new, |query| {
        let names: Vec<String> =
            query.split('&').map(|pair| format!("{}={REDACTED}", pair.split('=').next().unwrap_or_default())).collect();
        format!("?{}", names.join("&"))
    });
    let fragment = if fragment { format!("#{REDACTED}") } else { String::new() };
    format!("{scheme}://{host}{path}{query}{fragment}")
}

/// Arguments of a command without the values of options that are named like secrets, and with redacted URLs.
pub(super) fn arguments(args: &[String]) -> Vec<String> {
    let mut hide_next = false;
    let redact = |arg: &String| {
        if std::mem::take(&mut hide_next) && !arg.starts_with('-') {
            return REDACTED.to_owned();
        }
        let option = arg.split_once('=');
        let name = option.map_or(arg.as_str(), |(name, _)| name).to_ascii_lowercase();
        let secret = SECRET_WORDS.iter().any(|word| name.contains(word));
        match option {
            Some((name, _)) if secret && !name.contains("://") => format!("{name}={REDACTED}"),
            Some((name, value)) if !name.contains("://") => format!("{name}={}", url(value)),
            _ => {
                hide_next = secret && arg.starts_with('-');
                url(arg)
            }
        }
    };
    args.iter().map(redact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_users_passwords_and_query_values() {
        assert_eq!(url("https://me:pw@host:1/p?a=secret&b"), "https://(redacted)@host:1/p?a=(redacted)&b=(redacted)");
        assert_eq!(url("https://host/p"), "https://host/p");
        assert_eq!(url("https://host#frag"), "https://host#(redacted)");
        assert_eq!(url("plain?a=b"), "plain?a=b");
    }

    #[test]
    fn arguments_named_like_secrets_lose_their_values() {
        let args = ["-y", "pkg", "--api-key", "k1", "--token=t1", "postgres://u:p@h/db", "--db=postgres://u:p@h/db"];
        let shown = arguments(&args.map(str::to_owned)).join(" ");
        let expected =
            "-y pkg --api-key (redacted) --token=(redacted) postgres://(redacted)@h/db --db=postgres://(redacted)@h/db";
        assert_eq!(shown, expected);
    }
}
