//! Both peers are ours: every fault at every message, without PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::semicolon_if_nothing_returned,
    clippy::never_loop,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "tests: what is wrong fails"
)]

mod guarded_switch;
mod large_messages;
mod servers_that_misbehave;
