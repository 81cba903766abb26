//! Tenantry: a tenant-aware connection pooler for PostgreSQL.
//!
//! The rooms, bottom-up: a room uses only rooms above it in this list (`floors.rs` fails otherwise).
//!
//! | room | what it is for |
//! |------|----------------|
//! | [`wire`] | the protocol as bytes: headers, views, builders |
//! | [`sql`] | the lexer: may this statement leave something behind? |
//! | [`tenant`] | who a client is, and which session state is his |
//! | [`config`] | the TOML file, checked |
//! | [`stats`] | counters |
//! | [`flow`] | whose turn it is: owed replies, release |
//! | [`prepared`] | prepared statements that outlive their server |
//! | [`engine`] | a worker's event loop: sockets, tasks |
//! | [`net`] | sockets, TLS, buffers, tasks |
//! | [`server`] | one connection to PostgreSQL; the guarded switch |
//! | [`auth`] | clients prove who they are |
//! | [`pool`] | servers on loan, turns, cancel |
//! | [`client`] | one client: greet, log in, relay |
//! | [`admin`] | the console |
//! | [`http`] | metrics, probes, the dashboard |
//! | [`pooler`] | the wiring: listeners, workers, the way out |
//! | [`demo`] | the main job on a throw-away PostgreSQL |
//! | [`top`] | what the console shows, live in a terminal |
//! | [`import`] | PgBouncer's configuration in ours |

pub mod wire;

pub mod sql;

pub mod tenant;

pub mod config;

pub mod stats;

pub mod flow;

pub mod prepared;

pub mod engine;

pub mod net;

pub mod server;

pub mod auth;

pub mod pool;

pub mod client;

pub mod admin;

pub mod http;

pub mod pooler;

pub mod demo;

pub mod top;

pub mod import;

#[cfg(test)]
mod floors;
