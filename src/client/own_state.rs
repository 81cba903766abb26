//! What a client sets for itself in its start-up packet, as far as it may.

use super::guard::blinds_with;
use super::hello::Hello;
use super::refusal::Refusal;
use super::welcome::APPLICATION_NAME;
use crate::config::Tenant;
use crate::tenant::{GucName, SessionState, Source, TenantId, Value, names_in};

/// Longest `application_name`, in bytes: `NAMEDATALEN` less one. PostgreSQL cuts the rest off.
const NAME_LEN_MAX: usize = 63;

/// The client's own settings. It may not start as another role than the tenant's, nor with
/// another value of a setting by which policies know the tenant.
pub(super) fn own_state(
    hello: &Hello,
    tenant: &Tenant,
    sources: &[Source],
    guarded: bool,
) -> Result<SessionState, Refusal> {
    let mut own = SessionState::default();
    let names_tenant = |name: &GucName| {
        let is_source = |s: &Source| matches!(s, Source::Options { guc } if guc == name.as_str());
        sources.iter().any(is_source)
    };
    for (name, value) in &hello.settings {
        let guc = GucName::new(name).map_err(|_| Refusal::UnknownSetting { name: name.clone() })?;
        let value = Value::Text(value.clone().into());
        let denied = || Refusal::Setting { name: name.clone() };
        match guc.as_str() {
            "session_authorization" => return Err(denied()),
            "role" => {
                let Value::Text(text) = value else { return Err(denied()) };
                let role = String::from_utf8(text.into_vec()).map_err(|_| denied())?;
                if tenant.baseline.role() != Some(role.as_str()) {
                    return Err(denied());
                }
                own = own.with_role(Some(role));
            }
            _ if guarded && !may_start_with(&guc, &value, tenant) => {
                return Err(denied());
            }
            _ if tenant.fixed_settings.contains(&guc) => {
                if tenant.baseline.get(guc.as_str()) != Some(&value) {
                    return Err(denied());
                }
            }
            // A source of one word is no setting PostgreSQL would know.
            _ if names_tenant(&guc) && !guc.is_custom() => {}
            _ => own = own.with(guc, value),
        }
    }
    Ok(own)
}

/// `application_name_add_tenant`: the tenant's name in front of the application's.
pub(super) fn with_tenants_name(own: SessionState, tenant: &TenantId) -> SessionState {
    let guc = GucName::new(APPLICATION_NAME).expect("a name PostgreSQL has");
    let mut name = tenant.as_str().as_bytes().to_vec();
    if let Some(Value::Text(application)) = own.get(APPLICATION_NAME)
        && !application.is_empty()
    {
        name.extend_from_slice(b": ");
        name.extend_from_slice(application);
    }
    name.truncate(NAME_LEN_MAX);
    own.with(guc, Value::Text(name.into()))
}

/// With `guard = "reject"`: nothing that is the tenant's, and nothing behind which texts cannot be read.
fn may_start_with(guc: &GucName, value: &Value, tenant: &Tenant) -> bool {
    let Value::Text(text) = value else { return false };
    let is_own = !tenant.policy.guarded.contains(guc);
    let is_home = tenant.baseline.shows(guc.as_str().as_bytes(), text)
        || (guc.as_str() == "search_path"
            && std::str::from_utf8(text)
                .ok()
                .and_then(names_in)
                .is_some_and(|names| tenant.baseline.has_in_path(&names)));
    !blinds_with(guc.as_str(), text) && (is_own || is_home)
}
