//! The daemon killed a hundred times while fifty topics stream: nobody loses anything by it, and it knows everything again.

use std::collections::BTreeMap;

use conduit::inspect::Region;
use conduit::protocol::{State, Topic};
use conduit::shm::dir::FileId;

use crate::harness::{Peer, World, wait_until};

const TOPICS: u64 = 50;
const PROCESSES: u64 = 10;
const ROUNDS: usize = 100;
/// What each process publishes, or receives.
const SHARE: u64 = TOPICS / (PROCESSES / 2);

fn name(number: u64) -> String {
    format!("fleet/{number}")
}

/// The fleet: what must be known of each topic whatever happens to the daemon.
struct Expected {
    owners: BTreeMap<String, u32>,
    subscribers: BTreeMap<String, Vec<u32>>,
    files: BTreeMap<String, FileId>,
    regions: Vec<Region>,
}

impl Expected {
    /// Compares a list with what must be in it; `before` is what the regions said before it was asked for.
    fn check(&self, world: &World, listed: &[Topic], before: &[u64]) {
        let names: Vec<_> = listed.iter().map(|topic| &topic.name).collect();
        assert_eq!(names, self.owners.keys().collect::<Vec<_>>());
        let published = |region: &Region| region.counters().unwrap().published;
        for (topic, (region, before)) in listed.iter().zip(self.regions.iter().zip(before)) {
            let name = &topic.name;
            assert_eq!(topic.state, State::Live, "{name}");
            let owner = topic.publisher.as_ref().unwrap();
            assert_eq!(owner.pid, self.owners[name], "{name}");
            assert!(owner.program.starts_with("e2e"), "{name}: {}", owner.program);
            let mut pids: Vec<u32> = topic.subscribers.iter().map(|one| one.pid).collect();
            pids.sort_unstable();
            assert_eq!(pids, self.subscribers[name], "{name}");
            let listed = topic.published.unwrap();
            assert!((*before..=published(region)).contains(&listed), "{name}: {before} {listed} {}", published(region));
            assert!(topic.subscribers.iter().all(|one| one.lost == 0), "{name}");
            let found = world.shm().id_of(&name.parse().unwrap()).unwrap();
            assert_eq!(found, Some(self.files[name]), "{name} is another file now");
        }
    }
}

#[test]
fn a_hundred_kills_of_the_daemon_under_load_cost_nothing() {
    let mut world = World::with_daemon();
    let (mut publishers, mut receivers): (Vec<Peer>, Vec<Peer>) = (Vec::new(), Vec::new());
    let mut expected =
        Expected { owners: BTreeMap::new(), subscribers: BTreeMap::new(), files: BTreeMap::new(), regions: Vec::new() };
    for process in 0..PROCESSES / 2 {
        let mut publisher = world.peer();
        let (first, end) = (process * SHARE, (process + 1) * SHARE);
        publisher.order(&format!("fleet-publish {first} {end}"));
        expected.owners.extend((first..end).map(|number| (name(number), publisher.pid())));
        publishers.push(publisher);
    }
    for process in 0..PROCESSES {
        let mut receiver = world.peer();
        // Every topic has two subscribers.
        let first = process * SHARE % TOPICS;
        receiver.order(&format!("fleet-receive {first} {}", first + SHARE));
        for number in first..first + SHARE {
            expected.subscribers.entry(name(number)).or_default().push(receiver.pid());
        }
        receivers.push(receiver);
    }
    expected.subscribers.values_mut().for_each(|pids| pids.sort_unstable());
    // In the order of the list.
    for topic in expected.owners.keys() {
        let region = world.region(topic);
        expected.files.insert(topic.clone(), region.id());
        expected.regions.push(region);
    }
    for publisher in &mut publishers {
        assert_eq!(publisher.ask("fleet-stream 50"), "streaming");
    }

    for round in 0..ROUNDS {
        let mut watchers: Vec<_> = (0..3).map(|_| world.client().watch().unwrap()).collect();
        assert!(watchers.iter_mut().all(|events| events.next().unwrap().is_ok()));
        // Every now and then somebody else dies while no daemon runs.
        let mut victims = (round % 10 == 3).then(|| [world.peer(), world.peer()]);
        if let Some([publisher, subscriber]) = &mut victims {
            publisher.order("publish victim 16 100");
            subscriber.order("subscribe fleet/7");
        }
        world.kill_daemon();
        let has_victims = victims.is_some();
        for victim in victims.into_iter().flatten() {
            victim.kill();
        }
        assert_eq!(world.exists("victim"), has_victims);
        assert!(watchers.iter_mut().all(|events| events.any(|event| event.is_err())), "no watcher hangs");

        let before: Vec<u64> = expected.regions.iter().map(|region| region.counters().unwrap().published).collect();
        world.start_daemon();
        if has_victims {
            world.wait_until_gone("victim");
        }
        // The first answer is right: everything is adopted before anything is answered.
        expected.check(&world, &world.list(), &before);
    }

    let counts: Vec<String> = publishers.iter_mut().map(|publisher| publisher.ask("stop")).collect();
    for publisher in &mut publishers {
        publisher.order("fleet-close");
    }
    for (process, receiver) in receivers.iter_mut().enumerate() {
        let count = &counts[process % publishers.len()];
        assert!(count.parse::<u64>().unwrap() > ROUNDS as u64 / 10, "messages flowed");
        let results = receiver.ask("fleet-results");
        for result in results.split(' ') {
            assert_eq!(result, format!("{count}/0/0/Closed"), "received/lost/wrong/end: {results}");
        }
    }
    wait_until("the closed topics to be forgotten", || world.list().is_empty());
    world.wait_until_empty();
}
