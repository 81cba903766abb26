//! Columns of what `SHOW` gives: PgBouncer's in PgBouncer's order, and more behind them.
//!
//! <https://www.pgbouncer.org/usage.html#show-commands>

use crate::wire::build::ColumnType;

/// A column's name and type.
pub(super) type Column = (&'static str, ColumnType);

const fn text(name: &'static str) -> Column {
    (name, ColumnType::Text)
}

const fn number(name: &'static str) -> Column {
    (name, ColumnType::Bigint)
}

pub(super) const VERSION: &[Column] = &[text("version")];
pub(super) const HELP: &[Column] = &[text("commands")];
pub(super) const STATE: &[Column] = &[text("key"), text("value")];
pub(super) const LISTS: &[Column] = &[text("list"), number("items")];
pub(super) const CONFIG: &[Column] =
    &[text("key"), text("value"), text("default"), text("changeable")];
pub(super) const OVERRIDES: &[Column] =
    &[text("tenant"), text("key"), text("value"), text("database")];
pub(super) const TENANT: &[Column] = &[text("key"), text("value"), text("rule")];
pub(super) const TOTALS: &[Column] = &[text("name"), number("value")];

pub(super) const CLIENTS: &[Column] = &[
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

pub(super) const SERVERS: &[Column] = &[
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
    text("cluster"),
    number("warm"),
    text("warm_tenants"),
];

pub(super) const PINS: &[Column] = &[
    text("tenant"),
    text("user"),
    text("reason"),
    number("age"),
    number("client"),
    number("server_pid"),
    text("application_name"),
];

pub(super) const POOLS: &[Column] = &[
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

pub(super) const DATABASES: &[Column] = &[
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

pub(super) const USERS: &[Column] = &[
    text("name"),
    number("pool_size"),
    number("reserve_pool_size"),
    text("pool_mode"),
    number("max_user_connections"),
    number("current_connections"),
    number("max_user_client_connections"),
    number("current_client_connections"),
];

pub(super) const TENANTS: &[Column] = &[
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
    number("total_xact_count"),
    number("total_xact_time"),
    number("total_wait_time"),
    number("refusals"),
    number("pins"),
];

pub(super) const STATS: &[Column] = &[
    text("database"),
    number("total_server_assignment_count"),
    number("total_xact_count"),
    number("total_query_count"),
    number("total_received"),
    number("total_sent"),
    number("total_xact_time"),
    number("total_query_time"),
    number("total_wait_time"),
    number("total_client_parse_count"),
    number("total_server_parse_count"),
    number("total_bind_count"),
    number("total_client_connect_count"),
    number("avg_server_assignment_count"),
    number("avg_xact_count"),
    number("avg_query_count"),
    number("avg_recv"),
    number("avg_sent"),
    number("avg_xact_time"),
    number("avg_query_time"),
    number("avg_wait_time"),
    number("avg_client_parse_count"),
    number("avg_server_parse_count"),
    number("avg_bind_count"),
    number("avg_client_connect_count"),
];

pub(super) const STATS_TOTALS: &[Column] = &[
    text("database"),
    number("server_assignment_count"),
    number("xact_count"),
    number("query_count"),
    number("bytes_received"),
    number("bytes_sent"),
    number("xact_time"),
    number("query_time"),
    number("wait_time"),
    number("client_parse_count"),
    number("server_parse_count"),
    number("bind_count"),
    number("client_connect_count"),
];

pub(super) const STATS_AVERAGES: &[Column] = &[
    text("database"),
    number("server_assignment_count"),
    number("xact_count"),
    number("query_count"),
    number("bytes_received"),
    number("bytes_sent"),
    number("xact_time"),
    number("query_time"),
    number("wait_time"),
    number("avg_client_parse_count"),
    number("avg_server_parse_count"),
    number("avg_bind_count"),
    number("client_connect_count"),
];
