//! Contestants of transports that connect only the threads of one process.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::partner::Partner;
use crate::turns::{Contestant, Counts, Measurements};
use crate::until::Until;
use crate::{BenchSide, Result, cores};

/// The second process's half while a thread of the first process stands in for it.
struct Spectator;

impl Contestant for Spectator {}

/// Both halves in the first process; a thread on the second process's core has the second one.
struct BothHalves {
    first: Box<dyn Contestant>,
    turns: Sender<()>,
    counts: Receiver<Result<Counts>>,
}

/// A contestant both halves of which are in the first process. `half` makes each in the thread that
/// uses it.
pub fn within_one_process(
    side: BenchSide,
    second_core: usize,
    half: impl Fn(BenchSide) -> Result<Box<dyn Contestant>> + Clone + Send + 'static,
) -> Result<Box<dyn Contestant>> {
    if side == BenchSide::Second {
        return Ok(Box::new(Spectator));
    }
    let (turns, turn) = mpsc::channel::<()>();
    let (counted, counts) = mpsc::channel();
    let make = half.clone();
    let answer = move || {
        let made = cores::pin(second_core).and_then(|()| make(BenchSide::Second));
        let mut second = match made {
            Ok(second) => second,
            Err(error) => return drop(counted.send(Err(error))),
        };
        while turn.recv().is_ok() && counted.send(second.answer()).is_ok() {}
    };
    thread::Builder::new().name("second half".into()).spawn(answer)?;
    Ok(Box::new(BothHalves { first: half(BenchSide::First)?, turns, counts }))
}

impl Contestant for BothHalves {
    fn spans(&self) -> u64 {
        self.first.spans()
    }

    fn turn_share(&self) -> f64 {
        self.first.turn_share()
    }

    fn measure(&mut self, partner: &mut Partner, until: Until, into: &mut Measurements) -> Result<()> {
        // If the thread has ended, its reason is among the counts.
        if self.turns.send(()).is_err() {
            return self.counts.recv()?.map(drop);
        }
        self.first.measure(partner, until, into)
    }

    fn verify(&mut self, _second_process: Counts) -> Result<()> {
        let counts = self.counts.recv()??;
        self.first.verify(counts)
    }
}
