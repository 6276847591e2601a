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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// Counts its thread's turns.
    struct Turns(u64);

    impl Contestant for Turns {
        fn spans(&self) -> u64 {
            3
        }

        fn measure(&mut self, _partner: &mut Partner, _until: Until, into: &mut Measurements) -> Result<()> {
            self.0 += 1;
            into.times.record(1);
            Ok(())
        }

        fn answer(&mut self) -> Result<Counts> {
            self.0 += 1;
            Ok(Counts { received: self.0, lost: 0 })
        }

        fn verify(&mut self, counts: Counts) -> Result<()> {
            if counts.received == self.0 { Ok(()) } else { Err(format!("{counts:?}").into()) }
        }
    }

    /// A turn of the first process's contestant.
    fn turn(contestant: &mut dyn Contestant) -> Result<()> {
        let mut partner = Partner::start(Command::new("cat"), mpsc::channel()).unwrap();
        let until = Until { end: Instant::now() + Duration::from_millis(1), rounds: 1 };
        contestant.measure(&mut partner, until, &mut Measurements::new(1))?;
        contestant.verify(Counts { received: 1_000, lost: 0 })
    }

    #[test]
    fn a_thread_takes_the_second_process_s_place() {
        let core = cores::choose(None).unwrap().second;
        let mut both = within_one_process(BenchSide::First, core, |_| Ok(Box::new(Turns(0)))).unwrap();
        assert_eq!(both.spans(), 3);
        for _ in 0..3 {
            turn(both.as_mut()).unwrap();
        }
        let mut second = within_one_process(BenchSide::Second, core, |_| Err("not here".into())).unwrap();
        assert_eq!(second.answer().unwrap(), Counts::default());
    }

    #[test]
    fn the_thread_s_failure_ends_the_turn() {
        let core = cores::choose(None).unwrap().second;
        let half = |side| -> Result<Box<dyn Contestant>> {
            if side == BenchSide::Second { Err("no memory".into()) } else { Ok(Box::new(Turns(0))) }
        };
        let mut both = within_one_process(BenchSide::First, core, half).unwrap();
        assert_eq!(turn(both.as_mut()).unwrap_err().to_string(), "no memory");
    }
}
