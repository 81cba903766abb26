//! `tenantry health`: for a container that has neither a shell nor curl.

use std::io::{self, Write};
use std::path::Path;

use tenantry::http::ask;

use super::{Failure, load};

pub(super) fn health(path: &Path, ready: bool) -> Result<(), Failure> {
    let config = load(path)?;
    let address =
        config.http.listen.first().ok_or("[http] listen is not set: nobody can be asked")?;
    let asked = ask(*address, if ready { "/readyz" } else { "/livez" })
        .map_err(|error| format!("nobody answers at {address}: {error}"))?;
    write!(io::stdout(), "{}", asked.body)?;
    if asked.ok { Ok(()) } else { Err("it is not well".into()) }
}
