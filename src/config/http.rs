//! `[http]`: where metrics, probes and the dashboard are.

use std::net::SocketAddr;

use toml::Value;

use super::load::tcp;
use super::read::Section;

/// `[http]`.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where; empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// Who gets the dashboard.
    pub dashboard: Dashboard,
    /// Tenants that have metrics of their own.
    pub tenant_labels: usize,
}

/// `http.dashboard`: who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dashboard {
    /// Nobody.
    Off,
    /// Browsers on this host.
    Loopback,
    /// Everybody who can connect.
    Any,
}

pub(super) fn read(section: Section<'_>) -> Http {
    let expected = "an address such as \"127.0.0.1:9127\", or a list of them";
    let listen = section.get("listen", expected, |value| {
        let entries = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        entries.iter().map(|entry| tcp(entry.as_str()?)).collect::<Option<Vec<_>>>()
    });
    let dashboard =
        section.get("dashboard", "off, loopback or any", |value| match value.as_str()? {
            "off" => Some(Dashboard::Off),
            "loopback" => Some(Dashboard::Loopback),
            "any" => Some(Dashboard::Any),
            _ => None,
        });
    let labels = section.get("tenant_labels", "a whole number from 0 to 1000", |value: &Value| {
        usize::try_from(value.as_integer()?).ok().filter(|count| *count <= 1000)
    });
    section.finish();
    Http {
        listen: listen.unwrap_or_default(),
        dashboard: dashboard.unwrap_or(Dashboard::Loopback),
        tenant_labels: labels.unwrap_or(20),
    }
}
