//! What differs between two configurations, for the log of a reload.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::Config;
use super::rules::Rules;

impl Config {
    /// Sections in which another configuration says something else, by their paths. A secret is compared
    /// and not shown.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let shown = |value: &dyn Debug| format!("{value:?}");
        let whole = [
            ("general", shown(&self.general), shown(&other.general)),
            ("tls.client", shown(&self.client_tls), shown(&other.client_tls)),
            ("auth", shown(&self.users.method), shown(&other.users.method)),
            ("admin", shown(&self.admin), shown(&other.admin)),
            ("http", shown(&self.http), shown(&other.http)),
            ("registry", shown(&self.registry), shown(&other.registry)),
        ];
        let whole = whole.into_iter().filter(|(_, mine, theirs)| mine != theirs);
        let mut paths: Vec<String> = whole.map(|(path, ..)| path.to_owned()).collect();
        let users = |config: &Self| {
            let secrets = config.users.secrets();
            secrets.map(|(name, secret)| (format!("users.{name}"), secret.clone())).collect()
        };
        paths.extend(unequal(&users(self), &users(other), |mine, theirs| mine == theirs));
        let clusters = |config: &Self| {
            let named = config.clusters.iter().map(|(n, c)| (format!("clusters.{n}"), c.clone()));
            named.collect()
        };
        paths.extend(unequal(&clusters(self), &clusters(other), |mine, theirs| {
            mine.password == theirs.password && shown(mine) == shown(theirs)
        }));
        paths.extend(unequal(&self.rules(), &other.rules(), |mine, theirs| mine == theirs));
        paths
    }

    fn rules(&self) -> BTreeMap<String, &Rules> {
        let tenants = self
            .tenants
            .values()
            .chain(&self.templates)
            .chain(self.registered.values())
            .chain(self.overridden.values());
        let all = self.classes.values().chain([&self.tenancy.rules]).chain(tenants);
        all.map(|rules| (rules.path.clone(), rules)).collect()
    }
}

/// Paths that only one of two has, or that are not the same in both.
fn unequal<T>(
    mine: &BTreeMap<String, T>,
    theirs: &BTreeMap<String, T>,
    same: impl Fn(&T, &T) -> bool,
) -> Vec<String> {
    let differs = |path: &&String| match (mine.get(*path), theirs.get(*path)) {
        (Some(mine), Some(theirs)) => !same(mine, theirs),
        (Some(_), None) | (None, Some(_)) => true,
        (None, None) => false,
    };
    let new = theirs.keys().filter(|path| !mine.contains_key(*path));
    mine.keys().chain(new).filter(differs).cloned().collect()
}
