//! The other side of a test: a process that executes orders. Its program is `tests/peer/main.rs`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::World;
use super::wait::{DEADLINE, wait_for};
use crate::protocol::{Answer, Drained, End, Order};

pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<Answer>,
}

impl Peer {
    pub(super) fn start(world: &World, uid: Option<u32>) -> Self {
        Self::run(world.command(Self::PROGRAM), uid)
    }

    pub const PROGRAM: &str = env!("CARGO_BIN_EXE_conduit-test-peer");

    /// Starts the peer by a command that may be a wrapper around it.
    pub fn run(mut command: Command, uid: Option<u32>) -> Self {
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let answer = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        let peer = Self { child, orders, answers };
        peer.expect(Answer::Ready);
        peer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn tell(&mut self, order: Order) {
        writeln!(self.orders, "{}", serde_json::to_string(&order).unwrap()).unwrap();
    }

    pub fn answer(&self) -> Answer {
        self.answers.recv_timeout(DEADLINE).expect("the peer answers")
    }

    /// All answers received so far and not returned yet.
    pub fn answers_so_far(&self) -> Vec<Answer> {
        self.answers.try_iter().collect()
    }

    #[track_caller]
    pub fn expect(&self, answer: Answer) {
        assert_eq!(self.answer(), answer);
    }

    pub fn ask(&mut self, order: Order) -> Answer {
        self.tell(order);
        self.answer()
    }

    /// Sends an order that must succeed.
    #[track_caller]
    pub fn order(&mut self, order: Order) {
        let what = format!("{order:?}");
        assert_eq!(self.ask(order), Answer::Done, "{what}");
    }

    /// Sends an order that starts a continuing activity.
    #[track_caller]
    pub fn begin(&mut self, order: Order) {
        let what = format!("{order:?}");
        assert_eq!(self.ask(order), Answer::Began, "{what}");
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Kills the peer with SIGKILL; returns when it is reaped.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends an order that ends the peer; returns its last answer, if any, and its exit status.
    pub fn end_by(mut self, order: Order) -> (Option<Answer>, ExitStatus) {
        let what = format!("{order:?}");
        self.tell(order);
        let answer = self.answers.recv_timeout(DEADLINE);
        assert_ne!(answer, Err(mpsc::RecvTimeoutError::Timeout), "{what} hangs");
        assert!(!matches!(answer, Ok(Answer::Failed(_))), "{what}: {answer:?}");
        (answer.ok(), wait_for("the peer to end", || self.child.try_wait().unwrap()))
    }

    /// Sends a signal that ends the peer; returns the one that has.
    pub fn end_by_signal(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        wait_for("the peer to end", || self.child.try_wait().unwrap()).signal()
    }

    /// Sends an order that kills the peer at a step (see `conduit::fault`); returns when it is
    /// reaped.
    pub fn die_at(mut self, fault: &str, order: Order) {
        let what = format!("{order:?}");
        self.order(Order::DieAt(fault));
        self.tell(order);
        match self.answers.recv_timeout(DEADLINE) {
            Ok(answer) => panic!("{what} did not reach {fault} and answered: {answer:?}"),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} did not reach {fault} and hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
        }
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    /// The error text; empty if there was no error.
    pub fn failure(&self) -> &str {
        if let Self::Failed(sentence) = self { sentence } else { "" }
    }

    #[track_caller]
    pub fn number(&self) -> u64 {
        if let Self::Number(number) = self { *number } else { panic!("{self:?}") }
    }

    #[track_caller]
    pub fn drained(self) -> Drained {
        if let Self::Drained(drained) = self { drained } else { panic!("{self:?}") }
    }
}

/// An intact message, before which none was lost.
pub fn sample(sequence: u64) -> Answer {
    Answer::Sample { sequence, lost: 0, is_whole: true }
}

/// The result of a subscription without torn messages.
pub fn drained(received: u64, lost: u64, end: End) -> Answer {
    Answer::Drained(Drained { received, lost, torn: 0, end })
}
