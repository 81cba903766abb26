//! `[clusters.<name>]`: where a PostgreSQL is, and how many servers all may have there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use toml::Value;

use super::read::Section;
use super::{Cluster, Host, ServerTls, SessionAttrs};
use crate::tenant::GucName;

pub(super) fn read(
    section: &Section<'_>,
    tls: &ServerTls,
    neutral: &BTreeSet<GucName>,
) -> BTreeMap<String, Arc<Cluster>> {
    let mut clusters = BTreeMap::new();
    for (name, cluster) in section.children() {
        let required = |key: &'static str| {
            cluster.string(key).unwrap_or_else(|| {
                cluster.fault(key, "required");
                String::new()
            })
        };
        let port = cluster.get("port", "a port from 1 to 65535", |value| {
            u16::try_from(value.as_integer()?).ok().filter(|port| *port > 0)
        });
        let user = required("user");
        let seconds = Duration::from_secs;
        let read = Cluster {
            name: name.to_owned(),
            hosts: hosts(&cluster, port.unwrap_or(5432)),
            target_session_attrs: cluster
                .get("target_session_attrs", "\"any\" or \"primary\"", |value| {
                    match value.as_str()? {
                        "any" => Some(SessionAttrs::Any),
                        "primary" => Some(SessionAttrs::Primary),
                        _ => None,
                    }
                })
                .unwrap_or(SessionAttrs::Any),
            database: cluster.string("database").unwrap_or_else(|| user.clone()),
            user,
            password: cluster.password(),
            tls: tls.clone(),
            max_server_connections: cluster.count("max_server_connections", 1).unwrap_or(20),
            max_tenants_per_server: cluster.count("max_tenants_per_server", 1).unwrap_or(200),
            server_idle_timeout: cluster.duration("server_idle_timeout").unwrap_or(seconds(600)),
            server_lifetime: cluster.duration("server_lifetime").unwrap_or(seconds(3600)),
            server_check_delay: cluster.duration("server_check_delay").unwrap_or(seconds(30)),
            server_connect_timeout: cluster
                .duration("server_connect_timeout")
                .unwrap_or(seconds(15)),
            neutral: neutral.iter().filter(|name| name.is_custom()).cloned().collect(),
        };
        cluster.finish();
        clusters.insert(name.to_owned(), Arc::new(read));
    }
    if clusters.is_empty() {
        section.fault("main", "no cluster is configured: there is no PostgreSQL to connect to");
    }
    clusters
}

/// `host`: one, or a list of them, each with a port of its own if it names one.
fn hosts(cluster: &Section<'_>, port: u16) -> Vec<Host> {
    let listed = cluster.value("host").is_some_and(Value::is_array);
    let names = if listed {
        cluster.strings("host")
    } else {
        cluster.string("host").map(|host| vec![host])
    };
    let names = names.unwrap_or_else(|| vec!["127.0.0.1".to_owned()]);
    if names.is_empty() || names.iter().any(String::is_empty) {
        cluster.fault("host", "expected a host, or a list of them");
    }
    let host = |text: &String| {
        // An address of IPv6 has colons too.
        let split = text.rsplit_once(':').filter(|(name, _)| {
            !name.contains(':') || (name.starts_with('[') && name.ends_with(']'))
        });
        let Some((name, own)) = split else { return Host { name: text.clone(), port } };
        let own = own.parse().ok().filter(|port| *port > 0).unwrap_or_else(|| {
            cluster.fault("host", format!("expected \"host:port\", got {text:?}"));
            port
        });
        Host { name: name.trim_matches(['[', ']']).to_owned(), port: own }
    };
    names.iter().map(host).collect()
}
