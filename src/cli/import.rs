//! `tenantry import-pgbouncer`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use tenantry::import::import as read;

use super::Failure;

/// What is read, and where it goes.
#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The pgbouncer.ini.
    #[arg(value_name = "INI")]
    ini: PathBuf,
    /// Where PgBouncer runs: relative paths in the file start there.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
    /// A file that is not there yet, for its owner only: it may hold passwords [default: stdout]
    #[arg(short, long, value_name = "TOML")]
    output: Option<PathBuf>,
}

pub(super) fn import(args: &ImportArgs) -> Result<(), Failure> {
    let directory = std::path::absolute(&args.directory)?;
    let imported = read(&args.ini, &directory)?;
    match &args.output {
        None => io::stdout().write_all(imported.toml.as_bytes())?,
        Some(path) => {
            let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = open.map_err(|error| format!("{}: {error}", path.display()))?;
            file.write_all(imported.toml.as_bytes())?;
        }
    }
    let mut told = io::stderr().lock();
    for (title, notes) in [
        ("Decide before you use it:", &imported.decide),
        ("No counterpart:", &imported.without),
        ("tenantry check would say:", &imported.faults),
    ] {
        if !notes.is_empty() {
            writeln!(told, "{title}")?;
            for note in notes {
                writeln!(told, "  - {note}")?;
            }
        }
    }
    Ok(())
}
