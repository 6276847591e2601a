//! A costly answer, shared by all clients that asked before it was computed: a client that asks in
//! a loop costs the others little.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// An answer that takes less time than this is computed anew each time.
const CHEAP: Duration = Duration::from_millis(1);
/// How long an answer's memory is kept for clients that have asked already.
const LIFETIME: Duration = Duration::from_millis(100);

/// Owns the latest costly answer, for [`LIFETIME`].
pub(crate) struct SharedAnswer(Rc<Cache>);

impl Default for SharedAnswer {
    fn default() -> Self {
        let (answer, is_expiring) = Default::default();
        Self(Rc::new(Cache { turn: Semaphore::new(1), answer, is_expiring }))
    }
}

struct Cache {
    turn: Semaphore,
    /// When the computation started, and its result.
    answer: RefCell<Option<(Instant, Rc<Vec<u8>>)>>,
    is_expiring: Cell<bool>,
}

impl SharedAnswer {
    /// The answer to a question of that time: the cached one if its computation started later, else
    /// a new one.
    pub(crate) fn get_or_make(&self, asked: Instant, make: impl FnOnce() -> Vec<u8>) -> Rc<Vec<u8>> {
        self.get(asked).unwrap_or_else(|| {
            let started = Instant::now();
            self.keep(started, make())
        })
    }

    /// The same for an answer that is made in turns with other work, by one task at a time.
    pub(crate) async fn get_or_make_in_turns(
        &self,
        asked: Instant,
        make: impl AsyncFnOnce() -> Vec<u8>,
    ) -> Rc<Vec<u8>> {
        // The semaphore is never closed.
        let _turn = self.0.turn.acquire().await;
        if let Some(answer) = self.get(asked) {
            return answer;
        }
        let started = Instant::now();
        self.keep(started, make().await)
    }

    fn get(&self, asked: Instant) -> Option<Rc<Vec<u8>>> {
        let answer = self.0.answer.borrow();
        answer.as_ref().filter(|(started, _)| asked <= *started).map(|(_, answer)| Rc::clone(answer))
    }

    fn keep(&self, started: Instant, answer: Vec<u8>) -> Rc<Vec<u8>> {
        let answer = Rc::new(answer);
        let is_costly = started.elapsed() >= CHEAP;
        self.0.answer.replace(is_costly.then(|| (started, Rc::clone(&answer))));
        if is_costly {
            self.expire_later();
        }
        answer
    }

    /// Drops the answer: what it says is no longer true.
    pub(crate) fn invalidate(&self) {
        self.0.answer.take();
    }

    fn expire_later(&self) {
        if self.0.is_expiring.replace(true) {
            return;
        }
        let cache = Rc::clone(&self.0);
        spawn_local(async move {
            tokio::time::sleep(LIFETIME).await;
            cache.is_expiring.set(false);
            cache.answer.take();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    fn costly(text: &str) -> Vec<u8> {
        std::thread::sleep(2 * CHEAP);
        text.into()
    }

    #[test]
    fn a_question_asked_before_the_computation_shares_its_answer() {
        run(async {
            let shared = SharedAnswer::default();
            let early = Instant::now();
            let first = shared.get_or_make(early, || costly("first"));
            let same = shared.get_or_make(early, || unreachable!("the first answer is shared"));
            assert!(Rc::ptr_eq(&first, &same));
            assert_eq!(*shared.get_or_make(Instant::now(), || costly("second")), b"second");
            shared.invalidate();
            assert_eq!(*shared.get_or_make(early, || costly("third")), b"third");
        });
    }

    #[test]
    fn an_answer_made_in_turns_is_shared_by_those_who_asked_before() {
        run(async {
            let shared = SharedAnswer::default();
            let asked = Instant::now();
            let make = async || {
                tokio::time::sleep(2 * CHEAP).await;
                b"answer".to_vec()
            };
            let first = shared.get_or_make_in_turns(asked, make);
            let second = shared.get_or_make_in_turns(asked, async || unreachable!("the first answer is shared"));
            let (first, second) = tokio::join!(first, second);
            assert!(Rc::ptr_eq(&first, &second));
            let third = shared.get_or_make_in_turns(Instant::now(), async || b"third".to_vec()).await;
            assert_eq!(*third, b"third");
        });
    }

    #[test]
    fn a_cheap_answer_is_not_kept() {
        run(async {
            let shared = SharedAnswer::default();
            shared.get_or_make(Instant::now(), Vec::new);
            assert!(shared.0.answer.borrow().is_none());
        });
    }

    #[test]
    fn the_memory_of_an_answer_is_freed_after_its_lifetime() {
        run(async {
            let shared = SharedAnswer::default();
            shared.get_or_make(Instant::now(), || costly("answer"));
            assert!(shared.0.answer.borrow().is_some());
            let deadline = Instant::now() + Duration::from_secs(10);
            while shared.0.answer.borrow().is_some() {
                assert!(Instant::now() < deadline, "the answer is still cached");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
}
