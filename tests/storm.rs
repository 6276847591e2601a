//! Everything at once: publishers and subscribers of many sizes, and the daemon, are killed,
//! stopped and restarted at random.
//!
//! `CONDUIT_STORM_SECONDS` is the duration (default 10), `CONDUIT_STORM_SEED` the seed of the
//! random actions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use conduit::Subscriber;
use conduit::internal::ReapRegion;
use conduit::internal::shm::clock::now_ns;
use nix::sys::signal::Signal;

use crate::harness::{Peer, Random, World, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{self, Answer, Order, Session};

/// Topics and the length of their messages. The publisher of the last one is never killed.
const TOPICS: [(&str, usize); 5] =
    [("tiny", 8), ("small", 1000), ("medium", 64 << 10), ("large", 1 << 20), ("steady", 100)];
const STEADY: usize = TOPICS.len() - 1;
const SLOTS: usize = 16;
const SUBSCRIBERS: usize = 2;

/// The limit for noticing a death. The daemon takes milliseconds; without it a sleeper probes twice
/// a second. The rest is slack for twenty processes on two busy processors.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// The limit for taking over a name.
const CREATED_WITHIN: Duration = Duration::from_secs(1);

struct Storm {
    world: World,
    random: Random,
    /// By topic: its publisher, or when one starts again.
    publishers: Vec<Result<Publisher, Instant>>,
    subscribers: Vec<Reader>,
    /// When each publisher ended, by the inode of its file.
    ends: BTreeMap<u64, End>,
    daemon_back: Instant,
    sessions: usize,
    slowest: Duration,
}

struct Publisher {
    peer: Peer,
    file: u64,
    stopped_until: Option<Instant>,
}

struct Reader {
    peer: Peer,
    topic: usize,
    stopped_until: Option<Instant>,
    /// When it was continued after SIGSTOP.
    continued_ns: Vec<u64>,
}

struct End {
    at_ns: u64,
    /// The publisher's own count, if it closed the topic cleanly.
    published: Option<u64>,
}

#[test]
fn storm() {
    let variable = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let seconds = variable("CONDUIT_STORM_SECONDS").unwrap_or(10);
    let seed = variable("CONDUIT_STORM_SEED").unwrap_or_else(now_ns);
    println!("CONDUIT_STORM_SEED={seed} CONDUIT_STORM_SECONDS={seconds}");
    let mut storm = Storm::begin(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut deeds = 0;
    while Instant::now() < end {
        storm.do_something();
        storm.let_run_again(false);
        storm.start_again(false);
        storm.hear_out();
        std::thread::sleep(Duration::from_millis(storm.random.below(40)));
        deeds += 1;
    }
    storm.let_run_again(true);
    storm.start_again(true);
    let (sessions, slowest) = storm.end();
    println!("{deeds} deeds, {sessions} sessions, slowest notice of an end {} ms", slowest.as_millis());
    assert!(sessions as u64 > seconds, "no session ended in this storm");
}

impl Storm {
    fn begin(seed: u64) -> Self {
        let world = World::with_daemon();
        let publishers = (0..TOPICS.len()).map(|topic| Ok(Publisher::start(&world, topic))).collect();
        let all = (0..TOPICS.len()).flat_map(|topic| [topic; SUBSCRIBERS]);
        let subscribers = all.map(|topic| Reader::start(&world, topic)).collect();
        let (random, ends) = (Random(seed), BTreeMap::new());
        let (daemon_back, slowest) = (Instant::now(), Duration::ZERO);
        Self { world, random, publishers, subscribers, ends, daemon_back, sessions: 0, slowest }
    }

    fn do_something(&mut self) {
        let publisher = self.random.below(STEADY as u64) as usize;
        let subscriber = self.random.below(self.subscribers.len() as u64) as usize;
        let pause = Duration::from_millis(self.random.below(300));
        match self.random.below(12) {
            0 | 1 => self.kill_publisher(publisher, None),
            2 => self.kill_publisher(publisher, Some(Unpublish)),
            3 => self.close_publisher(publisher),
            4..=6 => self.kill_subscriber(subscriber),
            7 | 8 => {
                if let Ok(publisher) = &mut self.publishers[self.random.below(TOPICS.len() as u64) as usize] {
                    publisher.stop(pause);
                }
            }
            9 | 10 => self.subscribers[subscriber].stop(pause),
            _ if self.world.has_daemon() => {
                self.world.kill_daemon();
                self.daemon_back = self.random.rest();
            }
            _ => {}
        }
    }

    /// Kills the publisher as it is, or in the middle of another operation.
    fn kill_publisher(&mut self, topic: usize, in_the_middle_of: Option<Order>) {
        let Ok(publisher) = &mut self.publishers[topic] else { return };
        assert!(publisher.peer.answers_so_far().is_empty(), "it has ended by itself");
        if let Some(deed) = in_the_middle_of {
            publisher.peer.tell(Stop);
            publisher.peer.tell(deed);
        }
        let end = End { at_ns: now_ns(), published: None };
        publisher.peer.signal(Signal::SIGKILL);
        self.ends.insert(publisher.file, end);
        self.let_rest(topic);
    }

    fn close_publisher(&mut self, topic: usize) {
        let Ok(publisher) = &mut self.publishers[topic] else { return };
        publisher.let_run_again();
        let published = publisher.peer.ask(Stop).number();
        let end = End { at_ns: now_ns(), published: Some(published) };
        publisher.peer.order(Unpublish);
        self.ends.insert(publisher.file, end);
        self.let_rest(topic);
    }

    fn let_rest(&mut self, topic: usize) {
        self.publishers[topic] = Err(self.random.rest());
    }

    fn start_again(&mut self, all: bool) {
        if !self.world.has_daemon() && (all || self.daemon_back <= Instant::now()) {
            self.world.start_daemon();
        }
        for (topic, publisher) in self.publishers.iter_mut().enumerate() {
            if matches!(publisher, Err(when) if all || *when <= Instant::now()) {
                *publisher = Ok(Publisher::start(&self.world, topic));
            }
        }
    }

    fn kill_subscriber(&mut self, which: usize) {
        // Sessions that it has reported so far count.
        self.hear_out_one(which);
        let topic = self.subscribers[which].topic;
        self.subscribers[which] = Reader::start(&self.world, topic);
    }

    fn let_run_again(&mut self, all: bool) {
        let now = Instant::now();
        let is_over = |until: Option<Instant>| until.is_some_and(|until| all || until <= now);
        for publisher in self.publishers.iter_mut().flatten() {
            if is_over(publisher.stopped_until) {
                publisher.let_run_again();
            }
        }
        for subscriber in &mut self.subscribers {
            if is_over(subscriber.stopped_until) {
                subscriber.let_run_again();
            }
        }
    }

    fn hear_out(&mut self) {
        for which in 0..self.subscribers.len() {
            self.hear_out_one(which);
        }
    }

    fn hear_out_one(&mut self, which: usize) {
        for answer in self.subscribers[which].peer.answers_so_far() {
            self.check_session(which, answer);
        }
    }

    fn check_session(&mut self, which: usize, answer: Answer) {
        let Answer::Session(session) = answer else { panic!("{answer:?}") };
        let Session { file, end: seen_as, seen_ns, first, received, lost, wrong, published } = session.clone();
        assert_eq!(wrong, 0, "{session:?}");
        assert_eq!(first + received + lost, published, "{session:?}");
        let end = self.ends.get(&file).unwrap_or_else(|| panic!("the publisher lives: {session:?}"));
        if let Some(own_word) = end.published {
            assert_eq!((published, seen_as), (own_word, protocol::End::Closed), "{session:?}");
        }
        let continued = self.subscribers[which].continued_ns.iter().rev().find(|&&at_ns| at_ns <= seen_ns);
        let could_see_ns = end.at_ns.max(continued.copied().unwrap_or(0));
        let took = Duration::from_nanos(seen_ns.saturating_sub(could_see_ns));
        assert!(took < NOTICED_WITHIN, "it took {took:?} to notice: {session:?}");
        self.slowest = self.slowest.max(took);
        // A region that is being removed can still be opened, and ends at once.
        self.sessions += usize::from(received + lost > 0);
    }

    fn end(mut self) -> (usize, Duration) {
        self.steady_topic_is_as_new();
        for (topic, publisher) in self.publishers.iter_mut().enumerate() {
            let publisher = publisher.as_mut().expect("all have been started");
            let published = Some(publisher.peer.ask(if topic == STEADY { Published } else { Stop }).number());
            let end = End { at_ns: now_ns(), published };
            publisher.peer.order(Unpublish);
            self.ends.insert(publisher.file, end);
        }
        // Attached subscribers report the end; after that no sessions are left.
        for which in 0..self.subscribers.len() {
            self.subscribers[which].peer.tell(Stop);
            loop {
                let answer = self.subscribers[which].peer.answer();
                if answer == Answer::Done {
                    break;
                }
                self.check_session(which, answer);
            }
        }
        wait_until("everything to be removed", || self.world.leftovers().is_empty());
        assert_eq!(self.world.list(), []);
        (self.sessions, self.slowest)
    }

    /// On the topic whose publisher ran the whole time, every record and slot can still be used.
    fn steady_topic_is_as_new(&mut self) {
        let domain = self.world.domain();
        let publisher = &mut self.publishers[STEADY].as_mut().expect("it is never killed").peer;
        let published: u64 = publisher.ask(Stop).number();
        assert!(published > 0);
        let attached = || self.world.region("steady").counters().unwrap().subscribers.len();
        wait_until("its subscribers to attach", || attached() == SUBSCRIBERS);
        let open = || Subscriber::<[u8]>::builder().domain(&domain).max_held(u32::MAX).open("steady");
        let mut all: Vec<_> = (SUBSCRIBERS..60).map(|_| open().expect("a record has leaked")).collect();
        open().unwrap_err();
        // Subscribers release the samples that they hold once no more messages arrive.
        let held = || self.world.region("steady").counters().unwrap().subscribers.iter().any(|(_, it)| it.held > 0);
        wait_until("the slots to be released", || !held());
        // One slot is always claimed by the publisher, until no other slot is free.
        let mut samples = Vec::new();
        for count in [SLOTS - 1, 1] {
            publisher.order(Send(count as u64, 100));
            samples.extend((0..count).map(|_| all[0].recv().expect("a slot has leaked")));
        }
        assert!(samples.iter().map(conduit::Sample::lost).eq([0; SLOTS]));
    }
}

impl Random {
    /// When a dead process is restarted: at once, or late enough for every sleeper to notice by
    /// itself.
    fn rest(&mut self) -> Instant {
        let rest_ms = if self.below(3) == 0 { 2000 + self.below(2500) } else { 0 };
        Instant::now() + Duration::from_millis(rest_ms)
    }
}

impl Publisher {
    fn start(world: &World, topic: usize) -> Self {
        let mut peer = world.peer();
        let (name, len) = TOPICS[topic];
        let started = Instant::now();
        peer.order(Publish(name, SLOTS as u32, len));
        let took = started.elapsed();
        assert!(took < CREATED_WITHIN, "it took {took:?} to create {name}");
        let file = world.region(name).id().ino;
        peer.begin(Stream(len));
        Self { peer, file, stopped_until: None }
    }

    fn stop(&mut self, pause: Duration) {
        self.peer.signal(Signal::SIGSTOP);
        self.stopped_until = Some(Instant::now() + pause);
    }

    fn let_run_again(&mut self) {
        self.peer.signal(Signal::SIGCONT);
        self.stopped_until = None;
    }
}

impl Reader {
    fn start(world: &World, topic: usize) -> Self {
        let mut peer = world.peer();
        let (name, len) = TOPICS[topic];
        peer.begin(Sessions(name, len));
        Self { peer, topic, stopped_until: None, continued_ns: Vec::new() }
    }

    fn stop(&mut self, pause: Duration) {
        self.peer.signal(Signal::SIGSTOP);
        self.stopped_until = Some(Instant::now() + pause);
    }

    fn let_run_again(&mut self) {
        self.peer.signal(Signal::SIGCONT);
        self.stopped_until = None;
        self.continued_ns.push(now_ns());
    }
}
