//! What protects whoever looks at the page: headers that let nothing but our own files run or load, and a check of the
//! address that was asked for, so that no other site's name leads here (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};

/// Everything comes from here, and nothing is written into the page itself: no script, no style, no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// For probes and scrapers, which may know the service by any name; there is nothing of the data in them.
const FOR_ANY_HOST: [&str; 3] = ["/livez", "/readyz", "/metrics"];

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Puts both around routes that are served at an address.
pub fn guarded(routes: Router, address: &str) -> Router {
    let configured: Arc<str> = Arc::from(host_of(address));
    routes.layer(from_fn_with_state(configured, check_host)).layer(from_fn(add_headers))
}

async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn check_host(State(configured): State<Arc<str>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Names of HTTP/2 stand in the address of the request.
    let asked = request.uri().authority().map(|a| a.as_str().to_owned()).or_else(|| host_header(request.headers()));
    if FOR_ANY_HOST.contains(&path) || asked.as_deref().is_some_and(|asked| is_ours(asked, &configured)) {
        return next.run(request).await;
    }
    let asked = asked.unwrap_or_default();
    let why = format!("this is not {asked:?}: ask for 127.0.0.1, localhost or the address in lockstep.http.address\n");
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

fn host_header(headers: &HeaderMap) -> Option<String> {
    headers.get(header::HOST)?.to_str().ok().map(str::to_owned)
}

/// The loopback's names, and the address that is configured. Where that is "every address", any address, but no name.
fn is_ours(asked: &str, configured: &str) -> bool {
    let host = host_of(asked);
    let address = host.parse::<IpAddr>().ok();
    let everywhere = configured.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    host == "localhost"
        || host.eq_ignore_ascii_case(configured)
        || address.is_some_and(|ip| ip.is_loopback() || everywhere)
}

/// Without the port and the brackets.
fn host_of(address: &str) -> &str {
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) && !host.is_empty() => host,
        _ => address,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_and_the_configured_address_are_answered() {
        let loopback = ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "127.0.0.1"];
        assert!(loopback.iter().all(|host| is_ours(host, "127.0.0.1")));
        let foreign =
            ["evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:8080", "10.0.0.1:8080", ""];
        assert!(foreign.iter().all(|host| !is_ours(host, "127.0.0.1")));
        assert!(is_ours("stream.internal:8080", "stream.internal"));
        assert!(is_ours("10.0.0.1:8080", "0.0.0.0") && !is_ours("evil.example:8080", "0.0.0.0"));
    }
}
