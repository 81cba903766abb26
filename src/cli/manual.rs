//! The man page and completions, made of what the commands take.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Failure};

pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenantry", &mut out);
    io::Write::write_all(&mut io::stdout(), &out)?;
    Ok(())
}

/// All commands on one page.
pub(super) fn man() -> Result<(), Failure> {
    let mut out = Vec::new();
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("tenantry {}", sub.get_name());
        let man = clap_mangen::Man::new(sub.clone().display_name(name.clone()).name(name));
        man.render_synopsis_section(&mut out)?;
        man.render_description_section(&mut out)?;
        man.render_options_section(&mut out)?;
    }
    io::Write::write_all(&mut io::stdout(), &out)?;
    Ok(())
}
