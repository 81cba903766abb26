//! The longer texts of [`super::refusal`]: what a client is told, why, and what helps.

use std::fmt::Write;
use std::time::Duration;

use super::clock::Overdue;
use crate::auth::AuthError;
use crate::config::IDENTIFIER_LEN_MAX;
use crate::pool::{CREDIT_MAX, CheckoutError, Holder, Holds, Oldest, PAID_A_SECOND, Stop};
use crate::server::LoginError;
use crate::tenant::ClaimError;

/// SQLSTATE, message, detail, hint.
pub(super) type Text = (&'static str, String, Option<String>, Option<String>);

pub(super) fn text(sqlstate: &'static str, message: impl Into<String>) -> Text {
    (sqlstate, message.into(), None, None)
}

pub(super) fn detail(text: Text, detail: impl Into<String>) -> Text {
    (text.0, text.1, Some(detail.into()), text.3)
}

pub(super) fn hint(text: Text, hint: impl Into<String>) -> Text {
    (text.0, text.1, text.2, Some(hint.into()))
}

pub(super) fn too_many(message: String, connected: String, setting: &str) -> Text {
    hint(detail(text("53300", message), connected), setting)
}

pub(super) fn guarded(name: &str) -> Text {
    let denied = text("42501", format!("permission denied to set parameter \"{name}\""));
    hint(denied, "It belongs to the tenant: guard = \"reject\".")
}

pub(super) fn left_tenant(name: &str, tenant: &str) -> Text {
    let ended = format!("terminating connection: the session has left tenant \"{tenant}\"");
    let why = format!(
        "Parameter \"{name}\" was changed by something that no text shows, such as a function."
    );
    hint(detail(text("42501", ended), why), "It belongs to the tenant: guard = \"reject\".")
}

pub(super) fn ties(what: &str, tenant: &str) -> Text {
    let refused = text("0A000", format!("{what} is not supported for tenant \"{tenant}\""));
    let why = "It would keep a server connection for this session alone.";
    hint(detail(refused, why), "The tenant has on_session_state = \"reject\".")
}

pub(super) fn pinned_too_long(what: &str, limit: Duration) -> Text {
    let ended = text("57P05", "terminating connection: it kept its server for too long");
    let why = format!("It was kept for {what}, longer than {limit:?}.");
    hint(detail(ended, why), "The tenant's limit is max_pin_time.")
}

pub(super) fn stuck() -> Text {
    let ended = text("XX000", "terminating connection: the pooler made no progress with it");
    hint(ended, "This is a fault of the pooler's; its log says more. Connect again.")
}

pub(super) fn not_admin(user: &str) -> Text {
    let denied = text("42501", format!("user \"{user}\" may not use the console"));
    hint(denied, "The operator allows users by the setting admin.users.")
}

pub(super) fn not_there(database: &str, tenant: &str) -> Text {
    let unknown = text("3D000", format!("database \"{database}\" does not exist"));
    hint(unknown, format!("Tenant \"{tenant}\" does not live in that database."))
}

pub(super) fn left_behind(what: &str, tenant: &str) -> Text {
    let ended = text("57P01", format!("terminating connection: tenant \"{tenant}\" has changed"));
    let why = format!("The session kept a server in the tenant's old place or state, for {what}.");
    hint(detail(ended, why), "Connect again.")
}

pub(super) fn paused(tenant: &str, waited: Duration) -> Text {
    let paused = text("57P03", format!("tenant \"{tenant}\" is paused"));
    hint(
        detail(paused, format!("The session has waited for longer than {waited:?}.")),
        "The limit is the tenant's setting query_wait_timeout.",
    )
}

pub(super) fn with_state(message: String, error: &str) -> Text {
    detail(text("58000", message), error)
}

pub(super) fn state(tenant: &str, error: &str) -> Text {
    with_state(format!("could not establish session state for tenant \"{tenant}\""), error)
}

pub(super) fn state_gone(tenant: &str, error: &str) -> Text {
    let lost = format!("could not establish the session's own state for tenant \"{tenant}\"");
    let why =
        "What the session had set does not exist any more. A new connection begins without it.";
    hint(with_state(lost, error), why)
}

pub(super) fn claim(error: &ClaimError) -> Text {
    match error {
        ClaimError::Conflict { first, second } => detail(
            text("28000", "conflicting tenant identifiers"),
            format!("{} says {:?}, {} says {:?}.", first.0, first.1, second.0, second.1),
        ),
        ClaimError::Invalid { source_name } => detail(
            hint(text("22023", "invalid tenant identifier"), "See tenancy.name_pattern."),
            format!("The name given by {source_name} does not match the pattern for names."),
        ),
    }
}

pub(super) fn suspended(tenant: &str, message: Option<&String>) -> Text {
    let suspended = text("57P03", format!("tenant \"{tenant}\" is suspended"));
    match message {
        Some(message) => detail(suspended, message.clone()),
        None => suspended,
    }
}

pub(super) fn too_fast(tenant: &str, limit: u32) -> Text {
    too_many(
        format!("too many connections for tenant \"{tenant}\" within a second"),
        format!("The tenant may open {limit} connections a second."),
        "The limit is the tenant's setting max_connection_rate.",
    )
}

/// PostgreSQL's own codes and words for its own limits of the same kind.
pub(super) fn overdue(what: Overdue, limit: Duration) -> Text {
    let ended = match what {
        Overdue::Transaction => text("25P04", "terminating connection due to transaction timeout"),
        Overdue::IdleInTransaction => {
            text("25P03", "terminating connection due to idle-in-transaction timeout")
        }
        Overdue::Query => text("57014", "canceling statement due to statement timeout"),
    };
    let ended = detail(ended, format!("It took longer than {limit:?}."));
    hint(ended, format!("The limit is the tenant's setting {}.", what.setting()))
}

pub(super) fn draining(tenant: &str) -> Text {
    text("57P03", format!("tenant \"{tenant}\" is draining"))
}

pub(super) fn long_name(tenant: &str, key: &str, name: &str) -> Text {
    hint(
        detail(
            text("42622", format!("{key} of tenant \"{tenant}\" is too long")),
            format!(
                "\"{name}\" has {} bytes. PostgreSQL would cut it after {IDENTIFIER_LEN_MAX}, and it may be another tenant's then.",
                name.len()
            ),
        ),
        format!("Give the tenant a shorter name, or a {key} of its own."),
    )
}

pub(super) fn checkout(tenant: &str, error: &CheckoutError) -> Text {
    match error {
        CheckoutError::TimedOut { login: Some(login), .. } | CheckoutError::Login(login) => {
            could_not_connect(login)
        }
        CheckoutError::TimedOut { waited, tenant: of_tenant, cluster, holder, stop, .. } => {
            let message = format!(
                "query_wait_timeout: no server connection for tenant \"{tenant}\" within {waited:?}"
            );
            let why = format!(
                "The tenant has {} of {} server connections, the cluster {} of {}.",
                of_tenant.0, of_tenant.1, cluster.0, cluster.1
            );
            let (more, what) = waited_for(*stop, holder.as_deref(), cluster.1);
            hint(detail(text("53300", message), why + &more), what)
        }
        CheckoutError::QueueFull { limit } => hint(
            detail(
                text("53300", format!("too many clients of tenant \"{tenant}\" wait for a server")),
                format!("{limit} clients of the tenant wait already."),
            ),
            "The limit is the tenant's setting max_waiting_clients.",
        ),
        CheckoutError::Moved => {
            hint(text("57P03", format!("tenant \"{tenant}\" is being moved")), "Connect again.")
        }
        CheckoutError::Stopping => {
            text("57P01", "terminating connection due to administrator command")
        }
    }
}

/// What a client has waited for in vain: for the DETAIL, and for the HINT.
fn waited_for(stop: Option<Stop>, holder: Option<&Holder>, all: usize) -> (String, &'static str) {
    match stop {
        Some(Stop::Paused) => (String::new(), "The tenant is paused by the operator."),
        Some(Stop::Owes) => (
            format!(
                " More than {CREDIT_MAX} of its servers were closed for what its clients did; {PAID_A_SECOND} a second are replaced."
            ),
            "What closes a server: setseed, LOAD, a client that leaves in the middle of a pipeline or a COPY, a backend that is terminated.",
        ),
        None => (
            holder.map_or_else(String::new, |holder| format!(" {}", held(holder, all))),
            "The limits are the settings max_server_connections of the tenant and of the cluster.",
        ),
    }
}

fn could_not_connect(login: &LoginError) -> Text {
    match login {
        // With PostgreSQL's code, as PgBouncer does it, but a client must not take it for its own wrong password.
        LoginError::Refused(error) => (
            if error.sqlstate() == "28P01" { "28P01" } else { "28000" },
            format!("server login failed: {}", error.message()),
            Some("PostgreSQL does not let in the role by which the pooler logs in. It is not about this client.".to_owned()),
            Some("See user and password of the tenant and of its cluster in the pooler's configuration, and pg_hba.conf.".to_owned()),
        ),
        other => detail(text("08006", "could not connect to server"), other.to_string()),
    }
}

fn held(holder: &Holder, all: usize) -> String {
    let Holder { tenant, servers, oldest } = holder;
    let how = match oldest.map(|oldest| oldest.holds) {
        Some(Holds::Kept) => "are kept by sessions",
        Some(Holds::Idle | Holds::Busy) | None => "are in transactions",
    };
    let mut told = format!("{servers} of {all} servers {how} of tenant \"{tenant}\"");
    if let Some(Oldest { time, holds }) = oldest {
        let what = match holds {
            Holds::Idle => "idle",
            Holds::Busy => "at work",
            Holds::Kept => "kept",
        };
        let _ = write!(told, ", the oldest {what} for {} s", time.as_secs());
    }
    told + "."
}

pub(super) fn certificate(user: &str) -> Text {
    let failed = text("28000", format!("certificate authentication failed for user \"{user}\""));
    let why =
        "No client certificate has the user's name, or one that auth.cert_map gives the user.";
    detail(failed, why)
}

pub(super) fn auth(error: &AuthError) -> Text {
    match error {
        AuthError::Failed { user } => {
            text("28P01", format!("password authentication failed for user \"{user}\""))
        }
        AuthError::NotLocal => hint(
            text("28000", error.to_string()),
            "Set auth.type to \"scram-sha-256\" for clients on other hosts.",
        ),
        AuthError::NotOwner { user } => certificate(user),
        AuthError::TooManyFailures { wait } => hint(
            text("28000", "too many failed authentication attempts"),
            format!("This user may try again from this address in {} s.", wait.as_secs()),
        ),
        // What exactly failed is the operator's business: it is in the log.
        AuthError::Query(_) => text("08006", "could not look up the user's secret"),
        AuthError::Unexpected
        | AuthError::Scram { .. }
        | AuthError::Malformed(_)
        | AuthError::Io(_) => text("08P01", error.to_string()),
    }
}

pub(super) fn setting(name: &str) -> Text {
    hint(
        text("42501", format!("permission denied to set parameter \"{name}\"")),
        "The operator's configuration sets it for the tenant.",
    )
}

pub(super) fn no_schema(schema: &str, tenant: &str) -> Text {
    text("3F000", format!("schema \"{schema}\" of tenant \"{tenant}\" does not exist"))
}

pub(super) fn no_tenant(accepted: &[String]) -> Text {
    hint(
        text("28000", "no tenant identifier in startup parameters"),
        format!("Name the tenant by one of: {}.", accepted.join(", ")),
    )
}

pub(super) fn may_not_claim(user: &str, tenant: &str) -> Text {
    hint(
        text("28000", format!("user \"{user}\" may not connect as tenant \"{tenant}\"")),
        "The operator allows tenants by the setting users.<name>.tenants.",
    )
}
