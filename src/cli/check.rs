//! `tenantry check`: is it right, and what does it come to?

use std::io::{self, Write};
use std::path::Path;

use tenantry::config::{Config, Shown, Tenant};

use super::{Failure, load};

pub(super) fn check(path: &Path, tenant: Option<&str>) -> Result<(), Failure> {
    let config = load(path)?;
    if let Some(warning) = config.users.warning() {
        eprintln!("warning: {warning}");
    }
    let mut out = io::stdout().lock();
    let Some(name) = tenant else {
        writeln!(out, "{} is valid", path.display())?;
        return effective(&config, &mut out);
    };
    let id = config.tenancy.name_pattern.parse(name)?;
    let (tenant, explained) =
        config.explain(&id).ok_or_else(|| format!("tenant {name:?} does not exist"))?;
    let width = explained.iter().map(|e| e.value.len()).max().unwrap_or(0);
    for setting in &explained {
        writeln!(out, "{:<24} {:<width$}  # {}", setting.key, setting.value, setting.from)?;
    }
    writeln!(out, "\n{}", summary(&tenant))?;
    for sql in tenant.baseline.statements() {
        writeln!(out, "  {sql};")?;
    }
    Ok(())
}

/// Settings that are not their defaults.
fn effective(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let shown = config.shown();
    let set: Vec<&Shown> = shown.iter().filter(|it| it.value != it.default).collect();
    let width = set.iter().map(|it| it.path.len()).max().unwrap_or(0);
    for Shown { path, value, default, .. } in set {
        match *default {
            "" => writeln!(out, "{path:<width$}  {value}")?,
            default => writeln!(out, "{path:<width$}  {value}  # default: {default}")?,
        }
    }
    writeln!(out, "\nA tenant's settings, and the rule behind each: --tenant <name>")?;
    Ok(())
}

fn summary(tenant: &Tenant) -> String {
    let state = tenant.availability.name();
    let hosts: Vec<String> = tenant.cluster.hosts.iter().map(ToString::to_string).collect();
    format!(
        "Tenant {} is {state}. Its servers are logged in as {} to {} on {}; every session begins with:",
        tenant.id,
        tenant.user,
        tenant.database,
        hosts.join(" or ")
    )
}
