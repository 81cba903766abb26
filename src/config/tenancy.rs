//! `[tenancy]`: how a tenant is named, and what tenants have in common.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::read::Section;
use super::rules::Rules;
use super::{Cluster, Tenancy, Unknown};
use crate::tenant::{GucName, NamePattern, Source};

pub(super) fn read(
    section: Section<'_>,
    rules: Rules,
    clusters: &BTreeMap<String, Arc<Cluster>>,
) -> Tenancy {
    let default = || vec!["options:app.tenant".to_owned()];
    let written = section.strings("tenant_from").unwrap_or_else(default);
    let sni_pattern = section.string("sni_pattern").and_then(|text| sni_pattern(&section, &text));
    let sources = written.iter().filter_map(|text| source(&section, text, sni_pattern.as_ref()));
    let tenant_from: Vec<Source> = sources.collect();
    let pattern = section.string("name_pattern").unwrap_or_else(|| "[a-z0-9_-]{1,63}".to_owned());
    let name_pattern = NamePattern::new(&pattern).unwrap_or_else(|error| {
        section.fault("name_pattern", error.to_string());
        NamePattern::new("").expect("an empty pattern compiles")
    });
    let unknown = section.get("unknown", "reject or template", |value| match value.as_str()? {
        "reject" => Some(Unknown::Reject),
        "template" => Some(Unknown::Template),
        _ => None,
    });
    let default_tenant = section.string("default_tenant").filter(|tenant| !tenant.is_empty());
    let by_path = tenant_from.iter().any(|source| matches!(source, Source::SearchPath));
    if by_path && default_tenant.is_none() {
        section.fault(
            "default_tenant",
            "required for the source \"search_path\": who a client is before it sets one",
        );
    }
    if clusters.len() > 1 && rules.cluster.is_none() {
        section.fault("cluster", "required when there is more than one cluster");
    }
    section.finish();
    Tenancy {
        tenant_from,
        tenant_from_text: written,
        name_pattern,
        unknown: unknown.unwrap_or(Unknown::Reject),
        default_tenant,
        shared_databases: clusters.values().map(|cluster| cluster.database.clone()).collect(),
        rules,
    }
}

fn sni_pattern(section: &Section<'_>, text: &str) -> Option<Regex> {
    match Regex::new(text) {
        Ok(regex) if regex.capture_names().flatten().any(|name| name == "tenant") => Some(regex),
        Ok(_) => {
            section.fault("sni_pattern", "must have a group named tenant: (?<tenant>...)");
            None
        }
        Err(error) => {
            section.fault("sni_pattern", error.to_string());
            None
        }
    }
}

fn source(section: &Section<'_>, text: &str, sni: Option<&Regex>) -> Option<Source> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("options", guc) => match GucName::new(guc) {
            Ok(guc) => Some(Source::Options { guc: guc.as_str().to_owned() }),
            Err(error) => {
                section.fault("tenant_from", format!("{text:?}: {error}"));
                None
            }
        },
        ("user", separator) if !separator.is_empty() => {
            Some(Source::User { separator: separator.to_owned() })
        }
        ("database", "") => Some(Source::Database),
        ("fixed", "") => Some(Source::Fixed),
        ("search_path", "") => Some(Source::SearchPath),
        ("sni", "") => {
            if sni.is_none() {
                let problem =
                    "required for the source \"sni\", such as '^(?<tenant>[^.]+)\\.db\\.'";
                section.fault("sni_pattern", problem);
            }
            sni.map(|pattern| Source::Sni { pattern: pattern.clone() })
        }
        _ => {
            let known = "options:<setting>, user:<separator>, database, sni, fixed, search_path";
            section.fault("tenant_from", format!("unknown source {text:?}; known are {known}"));
            None
        }
    }
}
