pub mod wire;
pub mod sql;
pub mod tenant;
pub mod config;
pub mod stats;
pub mod flow;
pub mod net;
pub mod server;
