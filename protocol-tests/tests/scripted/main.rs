//! Both peers are ours: every fault at every message, without PostgreSQL.

mod guarded_switch;
mod servers_that_misbehave;
