//! Sockets: listeners, dialling, TLS, buffers on loan, and tasks that somebody waits for.
//!
//! Promises: a buffer is held only by who is active; no task is orphaned; TLS is done before a
//! byte of the protocol is trusted. Knows nothing of tenants, pools or messages.
//!
//! Uses `config` for addresses and TLS modes, `wire` for message boundaries.

mod buffer;
mod conversation;
mod dial;
mod end_point;
mod listener;
mod shutdown;
mod stream;
mod tasks;
mod tls;
mod version1;

pub use buffer::{BUFFER_LEN, Buffer};
pub use conversation::Conversation;
pub use dial::{Address, DialError, dial, resolve};
pub use listener::{Doors, Incoming, Listener, bind_tcp};
pub use shutdown::{Phase, Shutdown};
pub use stream::Stream;
pub use tasks::Tasks;
pub use tls::{Acceptor, Connector, TlsError};
