//! What `SHOW` gives: PgBouncer's columns in PgBouncer's order, and more behind them.
//!
//! <https://www.pgbouncer.org/usage.html#show-commands>

use bytes::BytesMut;

use super::command::KNOWN;
use super::rows;
use crate::client::Shared;
use crate::wire::build::{self, ColumnType, Format};

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// `SHOW VERSION`.
    Version,
    /// `SHOW HELP`.
    Help,
    /// `SHOW STATE`: whether it serves.
    State,
    /// `SHOW LISTS`: how many of what there are.
    Lists,
    /// `SHOW POOLS`: a row for each database and login role that is in use.
    Pools,
    /// `SHOW DATABASES`: the same, by their limits.
    Databases,
    /// `SHOW TENANTS`: a row for each tenant that has clients.
    Tenants,
    /// `SHOW CLIENTS`: a row for each client.
    Clients,
    /// `SHOW OVERRIDES`: what was set for tenants here.
    Overrides,
}

type Column = (&'static str, ColumnType);

const fn text(name: &'static str) -> Column {
    (name, ColumnType::Text)
}

const fn number(name: &'static str) -> Column {
    (name, ColumnType::Bigint)
}

const VERSION: &[Column] = &[text("version")];
const HELP: &[Column] = &[text("commands")];
const STATE: &[Column] = &[text("key"), text("value")];
const LISTS: &[Column] = &[text("list"), number("items")];

const CLIENTS: &[Column] = &[
    text("type"),
    text("user"),
    text("database"),
    text("replication"),
    text("state"),
    text("addr"),
    number("port"),
    text("local_addr"),
    number("local_port"),
    text("connect_time"),
    text("request_time"),
    number("wait"),
    number("wait_us"),
    number("close_needed"),
    text("ptr"),
    text("link"),
    number("remote_pid"),
    text("tls"),
    text("application_name"),
    number("prepared_statements"),
    number("id"),
    text("tenant"),
];

const OVERRIDES: &[Column] = &[text("tenant"), text("key"), text("value")];

const POOLS: &[Column] = &[
    text("database"),
    text("user"),
    number("cl_active"),
    number("cl_waiting"),
    number("cl_active_cancel_req"),
    number("cl_waiting_cancel_req"),
    number("sv_active"),
    number("sv_active_cancel"),
    number("sv_being_canceled"),
    number("sv_idle"),
    number("sv_used"),
    number("sv_tested"),
    number("sv_login"),
    number("maxwait"),
    number("maxwait_us"),
    text("pool_mode"),
    text("load_balance_hosts"),
    text("cluster"),
];

const DATABASES: &[Column] = &[
    text("name"),
    text("host"),
    number("port"),
    text("database"),
    text("force_user"),
    number("pool_size"),
    number("min_pool_size"),
    number("reserve_pool_size"),
    number("server_lifetime"),
    text("pool_mode"),
    text("load_balance_hosts"),
    number("max_connections"),
    number("current_connections"),
    number("max_client_connections"),
    number("current_client_connections"),
    number("paused"),
    number("disabled"),
    text("cluster"),
];

const TENANTS: &[Column] = &[
    text("tenant"),
    text("state"),
    text("cluster"),
    text("database"),
    text("user"),
    number("clients"),
    number("max_client_connections"),
    number("waiting"),
    number("servers"),
    number("max_server_connections"),
    number("guaranteed_server_connections"),
    number("weight"),
    number("waits"),
    number("maxwait_us"),
];

impl Show {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let all = [
            ("version", Self::Version),
            ("help", Self::Help),
            ("state", Self::State),
            ("lists", Self::Lists),
            ("pools", Self::Pools),
            ("databases", Self::Databases),
            ("tenants", Self::Tenants),
            ("clients", Self::Clients),
            ("overrides", Self::Overrides),
        ];
        all.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, show)| show)
    }

    pub(super) const fn columns(self) -> &'static [Column] {
        match self {
            Self::Version => VERSION,
            Self::Help => HELP,
            Self::State => STATE,
            Self::Lists => LISTS,
            Self::Pools => POOLS,
            Self::Databases => DATABASES,
            Self::Tenants => TENANTS,
            Self::Clients => CLIENTS,
            Self::Overrides => OVERRIDES,
        }
    }

    /// Writes the rows, and the end of the command.
    pub(super) fn rows(
        self,
        shared: &Shared,
        format: impl Fn(usize) -> Format,
        out: &mut BytesMut,
    ) {
        let access = shared.access();
        let rows = match self {
            Self::Version => vec![vec![concat!("Tenantry ", env!("CARGO_PKG_VERSION")).into()]],
            Self::Help => vec![vec![KNOWN.into()]],
            Self::State => rows::state(shared),
            Self::Lists => rows::lists(&access, shared),
            Self::Pools => rows::pools(&access),
            Self::Databases => rows::databases(&access),
            Self::Tenants => rows::tenants(&access),
            Self::Clients => rows::clients(shared),
            Self::Overrides => rows::overrides(&access),
        };
        for row in rows {
            let cells = row.iter().enumerate().map(|(at, cell)| cell.encode(format(at)));
            let cells: Vec<_> = cells.collect();
            build::data_row(cells.iter().map(Option::as_deref), out);
        }
        build::command_complete("SHOW", out);
    }
}
