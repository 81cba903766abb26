//! Names made of a tenant's own must fit: PostgreSQL cuts what is longer, and two tenants would share what it names.

use super::read::Section;
use super::rules::Rules;
use super::{Config, IDENTIFIER_LEN_MAX};

/// Looks at tenants that are listed; others are looked at when they log in.
pub(super) fn check(config: &Config, root: &Section<'_>) {
    let longest = config.listed().map(|id| id.as_str().len()).max().unwrap_or(0);
    let layers = config.tenants.values().chain(&config.templates).chain([&config.tenancy.rules]);
    let mut names = layers.flat_map(Rules::composed);
    let longer =
        |name: &str| name.len() + longest * name.matches("{tenant}").count() > IDENTIFIER_LEN_MAX;
    if !names.any(longer) {
        return;
    }
    for id in config.listed() {
        let Some((tenant, explained)) = config.explain(&id) else { continue };
        let Some((key, name)) = tenant.cut_name() else { continue };
        let from = explained.iter().find(|it| it.key == key).map_or("tenants", |it| &it.from);
        let len = name.len();
        root.context.faults.add(
            format!("{from}.{key}"),
            format!(
                "{name:?} of tenant {id} has {len} bytes: PostgreSQL would cut it after {IDENTIFIER_LEN_MAX}, and it may be another tenant's then"
            ),
        );
    }
}
