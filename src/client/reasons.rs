//! What a refusal is counted under: a word for its reason, and whose it is.

use super::Shared;
use super::refusal::Refusal;
use crate::auth::AuthError;
use crate::pool::CheckoutError;
use crate::stats::Tally;

impl Refusal {
    /// Its reason in metrics: the setting that limits, where there is one.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        if let Some(quota) = self.quota() {
            return quota;
        }
        match self {
            Self::NoTenant { .. } => "no_tenant",
            Self::Claim(_) => "tenant_claim",
            Self::MayNotClaim { .. } => "tenant_not_allowed",
            Self::NotAdmin { .. } => "not_admin",
            Self::UnknownTenant { .. } => "unknown_tenant",
            Self::LongName { .. } => "name_too_long",
            Self::NoSchema { .. } => "no_schema",
            Self::UnknownDatabase { .. } => "unknown_database",
            Self::Suspended { .. } => "suspended",
            Self::Draining { .. } => "draining",
            Self::Disabled { .. } => "disabled",
            Self::TooManyClients { .. } => "max_client_conn",
            Self::TooManyConsoles => "consoles",
            Self::TooManyTenantClients { .. } => "max_client_connections",
            Self::TooFast { .. } => "max_connection_rate",
            Self::Checkout { error, .. } => match error {
                CheckoutError::TimedOut { .. } => "query_wait_timeout",
                CheckoutError::QueueFull { .. } => "max_waiting_clients",
                CheckoutError::Login(_) => "server_login",
                CheckoutError::Stopping => "shutdown",
                CheckoutError::Moved => "moved",
            },
            Self::Switch { .. } => "switch_failed",
            Self::StateGone { .. } => "state_gone",
            Self::Server(_) => "server_error",
            Self::ServerLost { .. } => "server_lost",
            Self::Auth(AuthError::TooManyFailures { .. }) => "too_many_failures",
            Self::Auth(_) | Self::Certificate { .. } => "authentication",
            Self::Setting { .. } | Self::UnknownSetting { .. } | Self::InvalidSetting { .. } => {
                "startup_setting"
            }
            Self::TlsRequired => "tls_required",
            Self::Unsupported { .. } => "unsupported",
            Self::Protocol { .. } => "protocol",
            Self::DuplicateStatement { .. } | Self::UnknownStatement { .. } => "statement_name",
            Self::Guarded { .. } | Self::LeftTenant { .. } => "guard",
            Self::Ties { .. } => "on_session_state",
            Self::PinnedTooLong { .. } => "max_pin_time",
            Self::LeftBehind { .. } => "left_behind",
            Self::Paused { .. } => "paused",
            Self::Overdue { what, .. } => what.setting(),
            Self::Stuck => "stuck",
            Self::Cancelled => "cancelled",
            Self::LoginTimedOut => "login_timeout",
            Self::NoUser => "protocol",
            Self::Killed => "killed",
            Self::ShuttingDown => "shutdown",
        }
    }

    /// The tenant it speaks of.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::MayNotClaim { tenant, .. }
            | Self::UnknownTenant { tenant }
            | Self::LongName { tenant, .. }
            | Self::NoSchema { tenant, .. }
            | Self::UnknownDatabase { tenant, .. }
            | Self::Suspended { tenant, .. }
            | Self::Draining { tenant }
            | Self::Disabled { tenant, .. }
            | Self::TooManyTenantClients { tenant, .. }
            | Self::Checkout { tenant, .. }
            | Self::Switch { tenant, .. }
            | Self::StateGone { tenant, .. }
            | Self::LeftTenant { tenant, .. }
            | Self::Ties { tenant, .. }
            | Self::LeftBehind { tenant, .. }
            | Self::Paused { tenant, .. }
            | Self::TooFast { tenant, .. } => Some(tenant),
            Self::NoTenant { .. }
            | Self::Claim(_)
            | Self::NotAdmin { .. }
            | Self::TooManyClients { .. }
            | Self::TooManyConsoles
            | Self::Server(_)
            | Self::ServerLost { .. }
            | Self::Auth(_)
            | Self::Certificate { .. }
            | Self::Setting { .. }
            | Self::UnknownSetting { .. }
            | Self::InvalidSetting { .. }
            | Self::TlsRequired
            | Self::Unsupported { .. }
            | Self::Protocol { .. }
            | Self::DuplicateStatement { .. }
            | Self::Guarded { .. }
            | Self::PinnedTooLong { .. }
            | Self::Overdue { .. }
            | Self::UnknownStatement { .. }
            | Self::Cancelled
            | Self::LoginTimedOut
            | Self::NoUser
            | Self::Stuck
            | Self::Killed
            | Self::ShuttingDown => None,
        }
    }
}

impl Shared {
    /// Somebody is refused: counted by the reason, and for the tenant if there is one.
    pub fn count_refusal(&self, refusal: &Refusal, tally: Option<&Tally>) {
        self.stats.refusals.add_one((refusal.reason(), refusal.summary().0));
        if let Some(tally) = tally {
            tally.refusals.add(1);
        }
    }

    /// The same at a login: for the tenant that the refusal speaks of, if that exists.
    pub fn count_refused_login(&self, refusal: &Refusal) {
        let access = self.access();
        let id =
            refusal.tenant().and_then(|name| access.config.tenancy.name_pattern.parse(name).ok());
        let tenant = id.and_then(|id| access.tenant(&id));
        let tally = tenant.map(|tenant| self.stats.tallies.of(&tenant.id, &tenant.database));
        self.count_refusal(refusal, tally.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// SQLSTATEs that stand in a source as texts of their own.
    fn codes(source: &str) -> BTreeSet<&str> {
        let is_code = |word: &&str| {
            word.len() == 5
                && word.starts_with(|c: char| c.is_ascii_digit())
                && word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
        };
        source.split('"').filter(is_code).collect()
    }

    #[test]
    fn every_sqlstate_is_on_the_page_for_troubleshooting() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let page = std::fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
        let mut all = 0;
        for file in ["client/refusal.rs", "client/texts.rs", "admin/obey.rs", "admin/console.rs"] {
            let source = std::fs::read_to_string(root.join("src").join(file)).unwrap();
            for code in codes(&source) {
                all += 1;
                assert!(
                    page.contains(code),
                    "{code} of {file} is missing from docs/troubleshooting.md"
                );
            }
        }
        assert!(all > 25, "{all}");
    }
}
