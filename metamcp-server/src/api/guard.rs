//! Keeps other sites out of a server that trusts whoever can reach it.
//!
//! A page in a browser can send requests to a loopback address, and with DNS rebinding even read the answers under its own name. Both carry
//! what the page cannot forge: a foreign `Host`, a foreign `Origin`, or `Sec-Fetch-Site: cross-site`.

use std::net::IpAddr;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, Uri, header, uri::Authority};

use super::{doc::ProblemKind, options::ApiOptions, problem::Problem, state::ApiState};

/// Refuses what comes from elsewhere.
pub(super) async fn guard(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    match check(state.options(), request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(options: &ApiOptions, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = host(uri, headers);
    let listed = |authority: &Authority| is_listed(&options.allowed_hosts, authority);
    // A page that was rebound to this address has a name; an IP address as host is what was really called.
    let ours = |authority: &Authority| is_localhost(authority) || ip(authority).is_some() || listed(authority);
    if !host.as_ref().is_some_and(ours) {
        let said = host.as_ref().map_or("none", Authority::as_str);
        return Err(Problem::new(ProblemKind::ForbiddenHost, format!("the host of the request is `{said}`"))
            .with_field("Host", "use localhost or an IP address, or add the name to the allowed hosts of the server"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
        let same = |authority: &Authority| {
            let near = options.loopback_only && is_loopback(authority);
            host.as_ref() == Some(authority) || near || listed(authority)
        };
        if !authority.as_ref().is_some_and(same) {
            return Err(foreign(format!("the request comes from a page of `{}`", origin.escape_debug())));
        }
    } else if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        // Following a link to this server is fine; reading it from a page of another site is not.
        let follows_link =
            method == Method::GET && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
        if !follows_link {
            return Err(foreign("the browser says that the request comes from another site".to_owned()));
        }
    }
    Ok(())
}

fn foreign(detail: String) -> Problem {
    Problem::new(ProblemKind::ForbiddenOrigin, detail)
        .with_field("Origin", "call the server from its own pages, or add the site to the allowed hosts of the server")
}

/// HTTP/2 has it in the request's target, HTTP/1.1 in a header; two headers are none.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    if let Some(authority) = uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok()?.parse().ok(),
        _ => None,
    }
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

    fn refused(options: &ApiOptions, headers: &[(&str, &str)]) -> Option<ProblemKind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        check(options, &Method::POST, &Uri::from_static("/api/tasks"), &map).err().map(|p| p.document().kind)
    }

    #[test]
    fn loopback_names_and_addresses_are_answered_and_no_other_name() {
        for loopback_only in [true, false] {
            let options = ApiOptions { loopback_only, ..ApiOptions::default() };
            for host in ["localhost", "LOCALHOST:7300", "127.0.0.1:7300", "10.0.0.1", "[::1]:80", "[::2]"] {
                assert_eq!(refused(&options, &[("host", host)]), None, "{host}");
            }
            for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "127.1", "[::1"] {
                assert_eq!(refused(&options, &[("host", host)]), Some(ProblemKind::ForbiddenHost), "{host}");
            }
        }
        let options = ApiOptions::default();
        assert_eq!(refused(&options, &[]), Some(ProblemKind::ForbiddenHost));
        assert_eq!(refused(&options, &[("host", "localhost"), ("host", "x")]), Some(ProblemKind::ForbiddenHost));
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let options = ApiOptions::default();
        for origin in ["http://localhost:3000", "http://127.0.0.1:7300", "http://[::1]:1"] {
            assert_eq!(refused(&options, &[("host", "localhost:7300"), ("origin", origin)]), None, "{origin}");
        }
        for origin in
            ["https://evil.example", "null", "file://", "http://localhost.evil.example", "http://10.0.0.1", ""]
        {
            let kind = refused(&options, &[("host", "localhost:7300"), ("origin", origin)]);
            assert_eq!(kind, Some(ProblemKind::ForbiddenOrigin), "{origin}");
        }
        let cross = [("host", "localhost"), ("sec-fetch-site", "cross-site")];
        assert_eq!(refused(&options, &cross), Some(ProblemKind::ForbiddenOrigin));
    }

    #[test]
    fn a_public_server_answers_its_names_and_its_own_pages() {
        let mut options = ApiOptions { loopback_only: false, ..ApiOptions::default() };
        assert_eq!(refused(&options, &[("host", "meta.example")]), Some(ProblemKind::ForbiddenHost));
        options.allowed_hosts = vec!["meta.example".to_owned()];
        let foreign = [("host", "meta.example"), ("origin", "http://localhost:3000")];
        assert_eq!(refused(&options, &foreign), Some(ProblemKind::ForbiddenOrigin));
        assert_eq!(refused(&options, &[("host", "meta.example"), ("origin", "https://meta.example")]), None);
        assert_eq!(refused(&options, &[("host", "meta.example:443")]), None);
        assert_eq!(refused(&options, &[("host", "127.0.0.1")]), None);
        assert_eq!(refused(&options, &[("host", "10.0.0.1"), ("origin", "http://10.0.0.1")]), None);
        let other_port = [("host", "10.0.0.1:7300"), ("origin", "http://10.0.0.1:3000")];
        assert_eq!(refused(&options, &other_port), Some(ProblemKind::ForbiddenOrigin));
    }
}
