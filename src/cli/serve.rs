//! `tenantry serve`.

use std::path::Path;

use tenantry::pooler::{Pooler, Signals};

use super::{Failure, load, runtime};

pub(super) fn serve(path: &Path) -> Result<(), Failure> {
    let config = load(path)?;
    runtime()?.block_on(async {
        let signals = Signals::catch()?;
        let pooler = Pooler::start(config)?;
        let path = path.to_owned();
        signals.rule(pooler, move || load(&path)).await;
        Ok(())
    })
}
