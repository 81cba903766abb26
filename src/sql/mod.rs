//! The lexer: may this statement leave something behind in the session?
//!
//! Promises: wrong only on the safe side. A statement that changes session state, or ties the
//! session to its server, is flagged wherever it hides: behind comments, in a message of many
//! statements, in any case, next to any kind of quotes. What no lexer can see (a function that
//! calls `set_config`) is kept inside its tenant by the scrub at the handover (`server::switch`).
//!
//! It reads a stream: a statement of 1 GiB is never gathered. Pure.
//!
//! <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>

mod alarm;
mod code;
mod computed;
mod deallocate;
mod flags;
mod lexer;
mod lone_set;
mod prepare;
mod resets;
mod set;
mod settings;
mod stands;
#[cfg(test)]
mod tests;
mod tokens;
mod words;

pub use alarm::is_plain;
pub use deallocate::deallocated;
pub use flags::{Flag, Flags};
pub use lexer::Lexer;
pub use lone_set::{LoneSet, lone_set, lone_set_path};
pub use prepare::{Named, executes, leaves_block, prepares, says_in_string, used};
pub use resets::{Beside, resets_beside};
pub use settings::{AUTHORIZATION, Assignment, COMPUTED, PG_SETTINGS, Said, Settings};
