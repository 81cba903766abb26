//! Settings and users.

use super::{Rows, mode_name};
use crate::admin::cell::Cell;
use crate::client::{Access, Shared};
use crate::config::Shown;
use crate::pool::{Activity, ClientReport};

pub(in crate::admin) fn config(access: &Access) -> Rows {
    let is = |yes: bool| if yes { "yes" } else { "no" };
    let row = |shown: &Shown| {
        let Shown { path, value, default, changeable } = shown;
        vec![path.into(), value.into(), (*default).into(), is(*changeable).into()]
    };
    access.config.shown().iter().map(row).collect()
}

pub(in crate::admin) fn users(access: &Access, shared: &Shared) -> Rows {
    let clients = shared.cancels.clients();
    let config = &access.config;
    let mut names: Vec<&str> = config.users.secrets().map(|(name, _)| name).collect();
    names.sort_unstable();
    let row = |name: &str| {
        let own: Vec<&ClientReport> =
            clients.iter().filter(|client| *client.slot.facts().user == *name).collect();
        let linked = own.iter().filter(|c| matches!(c.activity, Activity::Linked { .. })).count();
        let mode = config.users.get(name).and_then(|user| user.pool_mode());
        vec![
            name.into(),
            Cell::Null,
            Cell::Null,
            mode.map_or(Cell::Null, |mode| mode_name(mode).into()),
            0_usize.into(),
            linked.into(),
            0_usize.into(),
            own.len().into(),
        ]
    };
    names.into_iter().map(row).collect()
}
