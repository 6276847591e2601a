//! The second process of `conduit bench`: it answers.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

use clap::Args as ClapArgs;
use conduit_bench::limits::{PingPong, Stream};
use serde::{Deserialize, Serialize};

use super::cores;
use super::game::{self, Channel, Content, Game, PATIENCE, Side, Way};
use crate::child::{self, Child, Report as _};
use crate::failure::Failure;

/// How long a death takes to be heard of.
const HEARING: Duration = Duration::from_secs(1);

/// Answers `conduit bench`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Process id of the bench
    #[arg(long)]
    parent: i32,
    /// Where the regions are
    #[arg(long)]
    directory: PathBuf,
    /// Where to run
    #[arg(long)]
    core: usize,
    /// Whether there are large messages
    #[arg(long)]
    large: bool,
}

/// What the second process tells the first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(super) enum Report {
    /// Its topics are there, and it has subscribed.
    Ready,
    /// It gives up.
    Failed { message: String },
}

impl child::Report for Report {
    fn failed(message: String) -> Self {
        Self::Failed { message }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    child::run::<Report>(args.parent, || {
        cores::pin(args.core)?;
        let domain = game::domain(&args.directory);
        let region = game::open_limits_region(&domain)?;
        let channel = |large| Channel::open(&domain, Side::Second, game::create(&domain, Side::Second, large)?, large);
        let mut small = channel(false)?;
        let mut large = args.large.then(|| channel(true)).transpose()?;
        let mut lines = Stream::new(&region);
        Report::Ready.send()?;
        for line in BufReader::new(io::stdin().lock()).lines() {
            let game = serde_json::from_str(&line.map_err(Failure::new)?).map_err(Failure::new)?;
            match game {
                Game::Ball(way) => {
                    PingPong::new(&region, way.into()).answer(|| true);
                }
                Game::Lines => {
                    lines.receive(|| true);
                }
                Game::PingPong(way, content) => {
                    let channel = if content.is_large() { large.as_mut() } else { Some(&mut small) };
                    answer(channel.ok_or_else(no_large)?, way, content)?;
                }
                Game::Stream(content) => {
                    let channel = if content.is_large() { large.as_mut() } else { Some(&mut small) };
                    receive_all(channel.ok_or_else(no_large)?, content)?;
                }
            }
        }
        Ok(())
    })
}

fn no_large() -> Failure {
    Failure::new("there are no large messages")
}

/// Answers every message by one of the same size and another content.
fn answer(channel: &mut Channel, way: Way, content: Content) -> Result<(), Failure> {
    let mut index = 0;
    loop {
        let sample = channel.receive(way, || Ok(()))?;
        if game::is_end(&sample) {
            return Ok(());
        }
        game::check(content, index, &sample)?;
        drop(sample);
        channel.send(content, !index)?;
        index += 1;
    }
}

/// Receives everything and says now and then, and at the end, how many messages that were.
fn receive_all(channel: &mut Channel, content: Content) -> Result<(), Failure> {
    let mut received = 0;
    let at_once = (channel.window() / 4).max(1);
    loop {
        let sample = channel.receive(Way::Poll, || Ok(()))?;
        if game::is_end(&sample) {
            return channel.send_words([received, LAST]);
        }
        game::check(content, received, &sample)?;
        drop(sample);
        received += 1;
        // The first one is a greeting.
        if received == 1 || received.is_multiple_of(at_once) {
            channel.send_words([received, 0])?;
        }
    }
}

/// After the number of messages received: no more will be.
pub(super) const LAST: u64 = 1;

/// The second process as the first one sees it.
pub(super) struct Second {
    child: Child<Role>,
    commands: ChildStdin,
    hear: Receiver<News>,
}

pub(super) type News = child::News<Role, Report>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Role;

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the second process")
    }
}

impl Second {
    /// Starts it and waits until its topics are there.
    pub(super) fn start(
        directory: &Path,
        core: usize,
        large: bool,
        (news, hear): (&Sender<News>, Receiver<News>),
    ) -> Result<Self, Failure> {
        let mut command = child::command("bench-second")?;
        command.arg("--directory").arg(directory).args(["--core", &core.to_string()]);
        command.args(large.then_some("--large")).stdin(Stdio::piped());
        let mut child = Child::start(Role, command, news)?;
        let commands = child.take_stdin().ok_or_else(|| Failure::new("the second process has no standard input"))?;
        let mut second = Self { child, commands, hear };
        match second.hear.recv_timeout(PATIENCE) {
            Ok(News::Report(_, Report::Ready)) => Ok(second),
            Ok(news) => Err(second.bad(news)),
            Err(_) => Err(Failure::new(format_args!("the second process was not ready after {PATIENCE:?}"))),
        }
    }

    /// Tells it what to do next.
    pub(super) fn play(&mut self, game: Game) -> Result<(), Failure> {
        let line = serde_json::to_string(&game).map_err(Failure::new)?;
        let told = writeln!(self.commands, "{line}").and_then(|()| self.commands.flush());
        told.map_err(|error| Failure::new(format_args!("can not tell the second process what to do: {error}")))
    }

    /// Whether all is well: it lives, and nobody asks to end.
    pub(super) fn look(&mut self) -> Result<(), Failure> {
        match self.hear.try_recv() {
            Ok(news) => Err(self.bad(news)),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => Ok(()),
        }
    }

    /// What failed, or why, if that is the second process's fault.
    pub(super) fn reason(&mut self, failure: Failure) -> Failure {
        if !matches!(failure, Failure::Error { .. }) {
            return failure;
        }
        match self.hear.recv_timeout(HEARING) {
            Ok(news) => self.bad(news),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => failure,
        }
    }

    fn bad(&mut self, news: News) -> Failure {
        match news {
            News::Report(_, Report::Failed { message }) => Failure::new(format_args!("{Role}: {message}")),
            News::Report(_, report) => Failure::new(format_args!("{Role}: unexpected {report:?}")),
            News::Ended(_) => match self.child.end() {
                Err(failure) => failure,
                Ok(()) => Failure::new(format_args!("{Role} ended too early")),
            },
            News::Interrupted => Failure::Interrupted,
        }
    }
}
