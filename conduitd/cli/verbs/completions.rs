//! `conduit completions`: the script by which a shell completes command lines.

use std::io::Write;

use clap::Args as ClapArgs;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::{completion, output};

/// Print the completion script of a shell.
///
/// The Debian package installs the scripts of bash, zsh and fish; this is for other installations.
/// Topic names and external programs are completed too: the script asks `conduit` itself.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  source <(conduit completions bash)
  conduit completions fish > ~/.config/fish/completions/conduit.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let script = completion::script(args.shell)?;
    output::print(|out| out.write_all(&script))
}
