//! The daemon is killed a hundred times under load, without any effect on the other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use conduit::inspect::{Counters, Region};
use conduit::internal::ReapRegion;
use conduit::internal::shm::dir::FileId;
use conduit::registry::{EventKind, RegionState, TopicInfo};

use crate::harness::{Events, Peer, Random, World, wait_until};
use crate::protocol::Order::{DrainFleet, PublishFleet, Stop, StreamFleet, SubscribeFleet, UnpublishFleet};
use crate::protocol::{Account, Answer, End};

const ROUNDS: u64 = 100;
/// Number of processes of each kind; subscriber process i receives the topics of publisher process
/// i.
const PROCESSES: usize = 10;
const TOPICS_EACH: usize = 5;
const SUBSCRIBERS_PER_TOPIC: usize = 2;
const WATCHERS: usize = 3;
/// Each topic carries a message per interval: 2,500 a second in total, to 100 subscribers that
/// sleep in between.
const INTERVAL_MS: u64 = 20;
const LEN: usize = 256;
/// Five seconds of messages, which tolerates a busy machine.
const SLOTS: u64 = 256;
/// How long a running daemon may take to know every topic and client.
const KNOWS_WITHIN: Duration = Duration::from_secs(1);

struct Fleet {
    world: World,
    publishers: Vec<Peer>,
    subscribers: Vec<Peer>,
    /// By name: the state of each topic when its publisher started.
    regions: BTreeMap<String, Region>,
    /// Messages counted by subscribers whose publisher has ended.
    received: u64,
    slowest: Duration,
}

#[test]
fn a_hundred_kills_under_load_lose_no_message_topic_or_client() {
    let mut fleet = Fleet::launch();
    let mut watchers: Vec<Events> = (0..WATCHERS).map(|_| fleet.world.watch()).collect();
    let mut random = Random(9);
    let mut before = fleet.inspect();
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(random.below(40)));
        fleet.world.kill_daemon();
        for watcher in watchers.drain(..) {
            // Nothing was lost while the daemon ran.
            let bad = |kind: &EventKind| {
                !matches!(kind, EventKind::Present | EventKind::SubscriberPresent | EventKind::Subscribed)
            };
            let bad: Vec<_> = watcher.so_far().into_iter().filter(|event| bad(&event.kind)).collect();
            assert!(bad.is_empty(), "round {round}: {bad:?}");
        }
        if round % 7 == 3 {
            // Killing it earlier, even before it listens, does no harm either.
            let starting = fleet.world.daemon_that_starts();
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            starting.kill();
        }
        let process = random.below(PROCESSES as u64) as usize;
        match round % 20 {
            9 => fleet.kill_publisher(process),
            19 => fleet.kill_subscriber(process),
            _ => fleet.restart(),
        }
        watchers.extend((0..WATCHERS).map(|_| fleet.world.watch()));
        let after = fleet.inspect();
        for (topic, now) in &after {
            // A new topic under the same name starts from zero.
            let Some(then) = before.get(topic).filter(|then| then.file == now.file) else { continue };
            assert!(now.published >= then.published, "round {round}, {topic}: {now:?} after {then:?}");
            for (pid, received) in &now.received {
                let then = then.received.get(pid).unwrap_or(&0);
                assert!(received >= then, "round {round}, {topic}: {now:?} after {then:?}");
            }
        }
        before = after;
    }
    fleet.land();
}

/// What the daemon and the region report about a topic.
#[derive(Debug)]
struct Sight {
    file: FileId,
    published: u64,
    /// By subscriber pid: the lower of its two counts, since each process has two subscribers per
    /// topic.
    received: BTreeMap<u32, u64>,
}

fn topics_of(process: usize) -> Vec<String> {
    (0..TOPICS_EACH).map(|topic| format!("fleet/{process}/{topic}")).collect()
}

impl Fleet {
    fn launch() -> Self {
        let world = World::with_daemon();
        let (received, slowest, regions) = (0, Duration::ZERO, BTreeMap::new());
        let mut fleet = Self { world, publishers: Vec::new(), subscribers: Vec::new(), regions, received, slowest };
        for process in 0..PROCESSES {
            let publisher = fleet.publisher(process);
            fleet.publishers.push(publisher);
            let subscriber = fleet.subscriber(process);
            fleet.subscribers.push(subscriber);
        }
        for publisher in &mut fleet.publishers {
            stream(publisher);
        }
        fleet
    }

    fn publisher(&mut self, process: usize) -> Peer {
        let mut peer = self.world.peer();
        let topics = topics_of(process);
        peer.order(PublishFleet(SLOTS as u32, LEN, topics.iter().map(String::as_str).collect()));
        for topic in topics {
            let region = self.world.region(&topic);
            self.regions.insert(topic, region);
        }
        peer
    }

    fn subscriber(&self, process: usize) -> Peer {
        let mut peer = self.world.peer();
        for _ in 0..SUBSCRIBERS_PER_TOPIC {
            peer.order(SubscribeFleet(topics_of(process).iter().map(String::as_str).collect()));
        }
        peer.begin(DrainFleet);
        peer
    }

    /// Starts the daemon and waits until it knows every topic and client.
    fn restart(&mut self) {
        self.world.start_daemon();
        let up = Instant::now();
        let listed = self.world.list();
        self.slowest = self.slowest.max(up.elapsed());
        assert!(up.elapsed() < KNOWS_WITHIN, "{:?}", up.elapsed());
        self.compare(&listed);
    }

    /// Compares the daemon's answer with the processes that are running.
    fn compare(&self, listed: &[TopicInfo]) {
        let names: BTreeSet<String> = (0..PROCESSES).flat_map(topics_of).collect();
        assert_eq!(listed.iter().map(|topic| topic.name.clone()).collect::<BTreeSet<_>>(), names);
        for topic in listed {
            let process: usize = topic.name.split('/').nth(1).unwrap().parse().unwrap();
            assert_eq!(topic.state, RegionState::Live, "{topic:?}");
            let owner = topic.publisher.as_ref().unwrap();
            assert_eq!(owner.pid, self.publishers[process].pid(), "{topic:?}");
            assert!(owner.program.starts_with("conduit-test"), "{topic:?}");
            let pids: Vec<u32> = topic.subscribers.iter().map(|subscriber| subscriber.pid).collect();
            assert_eq!(pids, [self.subscribers[process].pid(); SUBSCRIBERS_PER_TOPIC], "{topic:?}");
            let region = &self.regions[&topic.name];
            assert_eq!(self.world.region(&topic.name).id(), region.id(), "the file behind {} has changed", topic.name);
        }
    }

    /// Reads the regions, asks the daemon, and reads the regions again: the daemon's numbers must
    /// lie in between.
    fn inspect(&self) -> BTreeMap<String, Sight> {
        let counters = || -> BTreeMap<&str, Counters> {
            self.regions.iter().map(|(topic, region)| (topic.as_str(), region.counters().unwrap())).collect()
        };
        let earlier = counters();
        let listed = self.world.list();
        let later = counters();
        assert_eq!(listed.len(), PROCESSES * TOPICS_EACH);
        let sight = |topic: TopicInfo| {
            let (earlier, later) = (&earlier[topic.name.as_str()], &later[topic.name.as_str()]);
            let published = topic.published.unwrap();
            assert!((earlier.published..=later.published).contains(&published), "{topic:?} {earlier:?} {later:?}");
            assert_eq!(topic.subscribers.len(), SUBSCRIBERS_PER_TOPIC, "{topic:?}");
            let mut received = BTreeMap::new();
            for ((one, earlier), later) in topic.subscribers.iter().zip(&earlier.subscribers).zip(&later.subscribers) {
                assert_eq!((one.pid, one.lost), (earlier.1.pid, 0), "{topic:?}");
                assert!(
                    (earlier.1.received..=later.1.received).contains(&one.received),
                    "{one:?} {earlier:?} {later:?}"
                );
                let least = received.entry(one.pid).or_insert(one.received);
                *least = one.received.min(*least);
            }
            let file = self.regions[&topic.name].id();
            (topic.name, Sight { file, published, received })
        };
        listed.into_iter().map(sight).collect()
    }

    /// Kills a publisher while no daemon runs, and replaces it.
    fn kill_publisher(&mut self, process: usize) {
        let victim = self.publishers.remove(process);
        let pid = victim.pid();
        victim.kill();
        assert!(self.world.exists(&topics_of(process)[0]));
        self.world.start_daemon();
        for topic in topics_of(process) {
            self.world.wait_until_gone(&topic);
        }
        // It waits briefly for the kernel to report how the process ended.
        wait_until("the certificates", || {
            let deaths = self.world.client().deaths().unwrap();
            let of_victim = deaths.iter().filter(|event| event.process.as_ref().is_some_and(|it| it.pid == pid));
            assert_eq!(of_victim.clone().count(), deaths.len(), "somebody else was taken for dead: {deaths:?}");
            deaths.len() == TOPICS_EACH
        });
        let ends = self.subscribers[process].answer();
        let mut published = BTreeMap::new();
        for topic in topics_of(process) {
            let count = self.regions[&topic].counters().unwrap().published;
            published.insert(topic, count);
        }
        self.check(ends, &published, End::Died);
        let mut publisher = self.publisher(process);
        self.subscribers[process] = self.subscriber(process);
        stream(&mut publisher);
        self.publishers.insert(process, publisher);
        let listed = self.world.list();
        self.compare(&listed);
    }

    /// Kills a process with subscribers while no daemon runs, and replaces it.
    fn kill_subscriber(&mut self, process: usize) {
        self.subscribers.remove(process).kill();
        self.world.start_daemon();
        let listed = self.world.list();
        for topic in &listed {
            let expected = if topics_of(process).contains(&topic.name) { 0 } else { SUBSCRIBERS_PER_TOPIC };
            assert_eq!(topic.subscribers.len(), expected, "{topic:?}");
        }
        self.subscribers.insert(process, self.subscriber(process));
        let listed = self.world.list();
        self.compare(&listed);
    }

    /// Compares what subscribers have received with what was published.
    fn check(&mut self, ends: Answer, published: &BTreeMap<String, u64>, expected: End) {
        let Answer::Fleet(ends) = ends else { panic!("{ends:?}") };
        assert_eq!(ends.len(), TOPICS_EACH * SUBSCRIBERS_PER_TOPIC, "{ends:?}");
        for (topic, account) in ends {
            let Account { first, received, lost, wrong, end } = account.clone();
            assert_eq!((lost, wrong, end), (0, 0, Ok(expected)), "{topic}");
            // A publisher killed between W6 and W7 has not counted its last message.
            let killed = u64::from(expected == End::Died);
            let published = published[&topic];
            let seen = first + received;
            assert!((published..=published + killed).contains(&seen), "{topic}: {account:?} of {published}");
            self.received += received;
        }
    }

    fn land(mut self) {
        // Including the processes that were started last.
        wait_until("everybody to receive something", || {
            self.inspect().values().all(|topic| topic.received.values().all(|received| *received > 0))
        });
        let mut published = BTreeMap::new();
        for publisher in &mut self.publishers {
            let Answer::Published(counts) = publisher.ask(Stop) else { panic!("no counts") };
            published.extend(counts);
            publisher.order(UnpublishFleet);
        }
        for process in 0..PROCESSES {
            let ends = self.subscribers[process].answer();
            self.check(ends, &published, End::Closed);
        }
        self.world.wait_until_empty();
        println!("{ROUNDS} kills, {} messages received, 0 lost; slowest answer {:?}", self.received, self.slowest);
    }
}

fn stream(publisher: &mut Peer) {
    publisher.begin(StreamFleet(INTERVAL_MS, LEN));
}
