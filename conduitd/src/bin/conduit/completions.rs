//! `conduit completions`: what a shell needs to complete the command line.

use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::{Shell, generate};

use crate::Cli;
use crate::failure::Failure;

/// Print the completions of a shell.
///
/// The Debian package has them where bash, zsh and fish look; this is for other installations.
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
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "conduit", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(Failure::Output)
}
