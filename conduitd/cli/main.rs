//! The `conduit` command: a demonstration, and the tools to inspect, write and read topics.

mod arguments;
mod backoff;
mod child;
mod closed_output;
mod completion;
mod external;
mod failure;
mod hexdump;
mod output;
mod private_directory;
mod removal;
mod reports;
mod sampler;
mod signals;
mod source;
mod suggestion;
mod verbs;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::engine::SubcommandCandidates;
use conduit::internal::foreign_text::{clean_lines, is_shown};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use failure::Failure;
use verbs::{
    bench, completions, deaths, delay, demo, doctor, echo, gc, hz, info, list, publish, rm, top, types, wait, watch,
};

const EXTERNAL: &str = "\
External verbs:
  conduit NAME runs the program conduit-NAME if it is on PATH or beside conduit";

const ENVIRONMENT: &str = "\
Environment:
  CONDUIT_SHM_DIR  directory of the regions (default: /dev/shm)
  CONDUIT_SOCKET   socket of the registry (default: the user's, then the system's)
  NO_COLOR         no colours, if it is not empty
  RUST_LOG         what the library logs to standard error (default: warn)

Exit codes:
  0  success
  1  error, reported on standard error; `conduit doctor`: warnings
  2  wrong usage; `conduit doctor`: problems
  3  `conduit echo`: the publisher died
  141  nobody reads standard output any more, as shells report SIGPIPE
  An external verb has exit codes of its own.";

/// Publish/subscribe through shared memory on one machine.
#[derive(Debug, Parser)]
#[command(
    name = "conduit",
    version,
    after_help = format!("{EXTERNAL}\n\n{ENVIRONMENT}"),
    disable_help_subcommand = true,
    add = SubcommandCandidates::new(|| external::candidates(&Cli::command()))
)]
struct Cli {
    /// Print without colours, as with NO_COLOR in the environment; only terminals get colours
    /// anyway
    #[arg(long, global = true)]
    no_color: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Demo(demo::Args),
    List(list::Args),
    Info(info::Args),
    Hz(hz::HzArgs),
    Bw(hz::BwArgs),
    Delay(delay::Args),
    Type(types::TypeArgs),
    Find(types::FindArgs),
    Top(top::Args),
    Pub(publish::Args),
    Echo(echo::Args),
    Wait(wait::Args),
    Watch(watch::Args),
    Deaths(deaths::Args),
    Rm(rm::Args),
    Gc(gc::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    BenchSecond(bench::second::Args),
    #[command(hide = true)]
    DemoPublisher(demo::publisher::Args),
    #[command(hide = true)]
    DemoSubscriber(demo::subscriber::Args),
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

fn main() -> ExitCode {
    completion::answer_shell(Cli::command);
    let Cli { no_color, verb } = match parse() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    if no_color {
        anstream::ColorChoice::Never.write_global();
    }
    log_to_stderr();
    let done = match &verb {
        Verb::Demo(args) => demo::run(args),
        Verb::List(args) => list::run(args),
        Verb::Info(args) => info::run(args),
        Verb::Hz(args) => hz::run(&args.args, hz::Quantity::Rate),
        Verb::Bw(args) => hz::run(&args.args, hz::Quantity::Bandwidth),
        Verb::Delay(args) => delay::run(args),
        Verb::Type(args) => types::run_type(args),
        Verb::Find(args) => types::run_find(args),
        Verb::Top(args) => top::run(args),
        Verb::Pub(args) => publish::run(args),
        Verb::Echo(args) => echo::run(args),
        Verb::Wait(args) => wait::run(args),
        Verb::Watch(args) => watch::run(args),
        Verb::Deaths(args) => deaths::run(args),
        Verb::Rm(args) => rm::run(args),
        Verb::Gc(args) => gc::run(args),
        Verb::Doctor(args) => return doctor::run(args).unwrap_or_else(Failure::exit),
        Verb::Bench(args) => bench::run(args),
        Verb::Completions(args) => completions::run(args),
        Verb::BenchSecond(args) => bench::second::run(args),
        Verb::DemoPublisher(args) => demo::publisher::run(args),
        Verb::DemoSubscriber(args) => demo::subscriber::run(args),
        Verb::External(arguments) => Err(external::run(&Cli::command(), arguments, no_color)),
    };
    done.map_or_else(Failure::exit, |()| ExitCode::SUCCESS)
}

/// Parses the command line; otherwise it prints what it says, an error, help or the version, and
/// returns the exit code. Only if help is wanted, PATH is searched for external verbs to list.
fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|mut error| {
        let wants_help = [ErrorKind::DisplayHelp, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
        if wants_help.contains(&error.kind()) {
            let found = external::help(&Cli::command());
            let command = Cli::command().after_help(format!("{EXTERNAL}{found}\n\n{ENVIRONMENT}"));
            error = command.try_get_matches().err().unwrap_or(error);
        }
        let is_answer = !error.use_stderr();
        match report(&error).and_then(|()| std::io::stdout().flush()) {
            Err(error) if is_answer => Failure::Output(error).exit(),
            _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
        }
    })
}

/// Prints what the parser says. An error quotes arguments, which may come from others.
fn report(error: &clap::Error) -> std::io::Result<()> {
    let is_shown = |argument: OsString| argument.to_str().is_some_and(|text| text.chars().all(is_shown));
    if !error.use_stderr() || std::env::args_os().skip(1).all(is_shown) {
        return error.print();
    }
    write!(std::io::stderr(), "{}", clean_lines(&error.render().to_string()))
}

fn log_to_stderr() {
    let wanted = std::env::var("RUST_LOG").ok().and_then(|it| it.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| failure::HastyStderr)
        .with_ansi(output::is_coloured(&std::io::stderr()))
        .with_target(false)
        // Else a line that cannot be written would end this process.
        .log_internal_errors(false)
        .without_time()
        .compact();
    tracing_subscriber::registry().with(filter).with(lines).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// What the package installs beside the programs, by its path.
    fn generated() -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut command = Cli::command();
        command.build();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        for page in verbs.chain([&command]) {
            // As users type it, and as `man` wants it.
            let name = page.get_bin_name().unwrap_or("conduit").replace(' ', "-");
            let mut text = Vec::new();
            let page = clap_mangen::Man::new(page.clone().version(env!("CARGO_PKG_VERSION")));
            let source = format!("conduit {}", env!("CARGO_PKG_VERSION"));
            page.title(&name).date("").source(source).manual("User Commands").render(&mut text).unwrap();
            files.push((format!("man/{name}.1"), text));
        }
        for (shell, path) in [
            (clap_complete::Shell::Bash, "completions/conduit.bash"),
            (clap_complete::Shell::Zsh, "completions/_conduit"),
            (clap_complete::Shell::Fish, "completions/conduit.fish"),
        ] {
            files.push((path.into(), completion::script(shell).unwrap()));
        }
        files
    }

    #[test]
    fn manual_pages_and_completions_are_those_of_the_command() {
        let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (path, text) in generated() {
            let path = package.join(path);
            if std::env::var_os("CONDUIT_BLESS").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &text).unwrap();
            }
            let found = std::fs::read(&path).unwrap_or_default();
            assert!(found == text, "{} is stale: run the tests with CONDUIT_BLESS=1", path.display());
        }
    }

    #[test]
    fn the_daemons_page_has_every_option() {
        let page = include_str!("../man/conduitd.8").replace("\\-", "-");
        let source = include_str!("../src/main.rs");
        let options = source.split("Long(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let options: Vec<_> = options.collect();
        assert!(options.len() > 8, "{options:?}");
        for option in options {
            assert!(page.contains(&format!("--{option}")), "--{option}");
        }
    }

    #[test]
    fn every_verb_a_user_sees_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("conduit {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
