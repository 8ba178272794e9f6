//! Keeps other sites out of a server that trusts whoever can reach it.
//!
//! A page in a browser can send requests to a loopback address, and with DNS rebinding even read the answers under its own name. Both carry
//! what the page cannot forge: a foreign `Host` or a foreign `Origin`.

use std::{net::IpAddr, sync::OnceLock};

use http::{HeaderMap, HeaderValue, Uri, header, uri::Authority};

use super::options::HttpOptions;

/// Looks at whom a request calls and which page it comes from.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// A host that was let in. Most requests name the same one, which need not be taken apart again.
    usual: OnceLock<HeaderValue>,
}

impl Guard {
    /// Says in words why a request is refused.
    pub(super) fn check(&self, options: &HttpOptions, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
        // HTTP/2 has it in the request's target, HTTP/1.1 in a header; two headers are none.
        if let Some(authority) = uri.authority() {
            return check(options, Some(authority.as_str()), headers);
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().filter(|_| hosts.next().is_none());
        if host.is_some() && host == self.usual.get() && !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        check(options, host.and_then(|host| host.to_str().ok()), headers)?;
        if let Some(host) = host {
            self.usual.get_or_init(|| host.clone());
        }
        Ok(())
    }
}

fn check(options: &HttpOptions, host: Option<&str>, headers: &HeaderMap) -> Result<(), String> {
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    let listed = |authority: &Authority| is_listed(&options.allowed_hosts, authority);
    // A page that was rebound to this address has a name; an IP address as host is what was really called.
    let ours = |authority: &Authority| is_localhost(authority) || ip(authority).is_some() || listed(authority);
    if !host.as_ref().is_some_and(ours) {
        let said = host.as_ref().map_or("none", Authority::as_str);
        return Err(format!("the host of the request is `{said}`; use localhost or an IP address, or allow that host"));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
    let near = |authority: &Authority| {
        host.as_ref() == Some(authority) || (options.loopback_only && is_loopback(authority)) || listed(authority)
    };
    if authority.as_ref().is_some_and(near) {
        return Ok(());
    }
    Err(format!("the request comes from a page of `{}`; allow that host if it may call", origin.escape_debug()))
}

fn ip(authority: &Authority) -> Option<IpAddr> {
    authority.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_localhost(authority: &Authority) -> bool {
    authority.host().eq_ignore_ascii_case("localhost")
}

fn is_loopback(authority: &Authority) -> bool {
    is_localhost(authority) || ip(authority).is_some_and(|ip| ip.is_loopback())
}

fn is_listed(allowed: &[String], authority: &Authority) -> bool {
    let full = authority.as_str();
    allowed.iter().any(|name| name.eq_ignore_ascii_case(authority.host()) || name.eq_ignore_ascii_case(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &HttpOptions, headers: &[(header::HeaderName, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        let guard = Guard::default();
        let refused = guard.check(options, &Uri::from_static("/mcp"), &map).is_err();
        assert_eq!(guard.check(options, &Uri::from_static("/mcp"), &map).is_err(), refused);
        refused
    }

    #[test]
    fn loopback_names_and_addresses_are_answered_and_no_other_name() {
        let options = HttpOptions::default();
        for host in ["localhost", "LOCALHOST:7300", "127.0.0.1:7300", "10.0.0.1", "[::1]:80"] {
            assert!(!refused(&options, &[(header::HOST, host)]), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "127.1", "[::1"] {
            assert!(refused(&options, &[(header::HOST, host)]), "{host}");
        }
        assert!(refused(&options, &[]));
        assert!(refused(&options, &[(header::HOST, "localhost"), (header::HOST, "x")]));
        let options = HttpOptions { allowed_hosts: vec!["meta.example".to_owned()], ..HttpOptions::default() };
        assert!(!refused(&options, &[(header::HOST, "meta.example:443")]));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let mut options = HttpOptions::default();
        let refused =
            |options: &HttpOptions, host, origin| refused(options, &[(header::HOST, host), (header::ORIGIN, origin)]);
        assert!(!refused(&options, "localhost:7300", "http://127.0.0.1:3000"));
        for origin in
            ["https://evil.example", "null", "file://", "http://localhost.evil.example", "http://10.0.0.1", ""]
        {
            assert!(refused(&options, "localhost:7300", origin), "{origin}");
        }
        options.loopback_only = false;
        assert!(refused(&options, "10.0.0.1:7300", "http://localhost:3000"));
        assert!(!refused(&options, "10.0.0.1:7300", "http://10.0.0.1:7300"));
    }
}
