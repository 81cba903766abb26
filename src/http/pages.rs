//! What is where, and who gets it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::livez::silent_worker;
use super::looked::Looked;
use super::metrics::Metrics;
use super::readyz::{Knocks, readiness};
use super::state::state;
use crate::client::Shared;
use crate::config::Dashboard;

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Nothing but the page's own files, and nobody may frame it.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

type Answer = Response<Full<Bytes>>;

/// Everything that can be asked for.
pub(super) struct Pages {
    shared: Arc<Shared>,
    metrics: Metrics,
    knocks: Knocks,
    dashboard: Dashboard,
    since: SystemTime,
}

impl Pages {
    pub(super) fn new(
        shared: Arc<Shared>,
        tenant_labels: usize,
        dashboard: Dashboard,
        since: SystemTime,
    ) -> Self {
        let metrics = Metrics::new(Arc::clone(&shared), tenant_labels, since);
        Self { shared, metrics, knocks: Knocks::default(), dashboard, since }
    }

    pub(super) async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(header::ALLOW, allowed);
            return refused;
        }
        match request.uri().path() {
            "/metrics" => match self.metrics.encode() {
                Ok(text) => page(StatusCode::OK, OPEN_METRICS, text),
                Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
            },
            "/livez" => match silent_worker(&self.shared).await {
                None => page(StatusCode::OK, TEXT, "ok\n"),
                Some(worker) => {
                    let problem = format!("worker {worker} does not answer\n");
                    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, problem)
                }
            },
            "/readyz" => {
                let looked = Looked::now(&self.shared, self.since);
                let (ready, said) = readiness(&looked, &self.knocks).await;
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                page(status, TEXT, said)
            }
            path if self.may_look(request, peer) => self.dashboard(path),
            _ => {
                let problem = "the dashboard is not shown here: see the setting http.dashboard\n";
                page(StatusCode::FORBIDDEN, TEXT, problem)
            }
        }
    }

    fn dashboard(&self, path: &str) -> Answer {
        match path {
            "/" => page(StatusCode::OK, "text/html; charset=utf-8", include_str!("dashboard.html")),
            "/dashboard.css" => {
                page(StatusCode::OK, "text/css; charset=utf-8", include_str!("dashboard.css"))
            }
            "/dashboard.js" => {
                page(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("dashboard.js"))
            }
            "/state.json" => {
                let state = state(&Looked::now(&self.shared, self.since));
                page(StatusCode::OK, "application/json", state.to_string())
            }
            _ => page(StatusCode::NOT_FOUND, TEXT, "there are /, /metrics, /livez and /readyz\n"),
        }
    }

    /// Whether the peer gets the dashboard. A page of another origin that has its own name lead here is no browser
    /// of this host's: the name it was asked for says so.
    fn may_look(&self, request: &Request<Incoming>, peer: SocketAddr) -> bool {
        let named = request.headers().get_all(header::HOST).iter();
        let mut hosts = named.map(|host| host.to_str().unwrap_or_default());
        let in_line = request.uri().authority().map(hyper::http::uri::Authority::as_str);
        match self.dashboard {
            Dashboard::Off => false,
            Dashboard::Loopback => {
                peer.ip().to_canonical().is_loopback()
                    && hosts.all(is_loopback)
                    && in_line.is_none_or(is_loopback)
            }
            Dashboard::Any => true,
        }
    }
}

/// Whether a Host header names this host by a name that nobody else can give it.
fn is_loopback(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = without_port.trim_start_matches('[').trim_end_matches(']');
    let is_local = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_local)
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_that_nobody_can_give_away_are_this_hosts() {
        for host in
            ["localhost", "LOCALHOST:9127", "127.0.0.1", "127.0.0.1:80", "[::1]:9127", "[::1]"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9127",
            "localhost.evil.example",
            "10.0.0.1:9127",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
