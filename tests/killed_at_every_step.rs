//! A process is killed at each step of the protocol (`conduit::fault`): the other processes
//! continue, nothing leaks, and the name can be used again at once.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use conduit::fault::Step::{self, *};
use conduit::{Publisher, Subscriber};
use nix::sys::signal::Signal;

use crate::harness::{Peer, World, sample, wait_until};
use crate::protocol::Order::*;
use crate::protocol::{Answer, End};

/// Kills a process at the step and checks the effect on the others.
type Scenario = fn(&mut Place, Step);

/// A world, and which process cleans up in it: the next user of the name, or the daemon before
/// that.
struct Place {
    world: World,
    daemon_cleans_up: bool,
}

impl Deref for Place {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Place {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

const CREATE: &[Step] =
    &[CreateMade, CreateReserved, CreateWritten, CreateMarked, CreateLocked, CreateRegistered, CreateLinked];
const REMOVE: &[Step] = &[RemoveRenamed, RemoveChecked, RemoveUnlinked];

/// The steps at which each scenario is run.
const TABLE: &[(Scenario, &[&[Step]])] = &[
    (creating, &[CREATE]),
    (taking_over, &[CREATE, &[TakeoverLocked, OrphanMarked], REMOVE, &[TakeoverRemoved]]),
    (finishing_a_removal, &[&[RemoveFinishing]]),
    (
        publishing,
        &[
            &[ClaimTaken, PublishWritten, PublishReadable, PublishCounted, PublishMoved, PublishClaimed],
            &[PublishTaken, PublishChanged, PublishWoken],
        ],
    ),
    (closing, &[&[CloseBegun, CloseMarked, CloseWoken], REMOVE, &[CloseRemoved, CloseReleased]]),
    (reclaiming, &[&[ReclaimLocked, ReclaimCleared]]),
    (attaching, &[&[RecordLocked, RecordMapped, RecordSigned, RecordCleared, RecordAttached, RecordRegistered]]),
    (receiving, &[&[PinSet, PinChecked, UnpinBegun, UnpinCleared]]),
    (falling_asleep, &[&[SleepAnnounced]]),
    (leaving, &[&[RecordReleased, RecordUnsigned]]),
    (creating_a_raw_region, &[CREATE]),
    (keeping_a_raw_region, &[&[KeepBegun, KeepMarked]]),
    (unlinking_a_raw_region, &[&[UnlinkBegun], REMOVE]),
];

/// The same for the daemon.
const TABLE_OF_DAEMON: &[(Scenario, &[&[Step]])] =
    &[(reaping, &[&[OrphanMarked], REMOVE]), (adopting, &[&[RemoveFinishing]])];

#[test]
fn every_step_is_in_the_table() {
    let tried: Vec<Step> = TABLE.iter().flat_map(|(_, steps)| steps.iter()).copied().flatten().copied().collect();
    for step in Step::ALL {
        assert!(tried.contains(step), "no scenario kills a process at {step:?}");
    }
}

#[test]
fn with_daemon() {
    try_all(TABLE, || Place { world: World::with_daemon(), daemon_cleans_up: false });
}

#[test]
fn with_daemon_that_cleans_up_before_the_next_user() {
    try_all(TABLE, || Place { world: World::with_daemon(), daemon_cleans_up: true });
}

#[test]
fn without_daemon() {
    try_all(TABLE, || Place { world: World::new(), daemon_cleans_up: false });
}

#[test]
fn daemon_killed_at_every_step() {
    try_all(TABLE_OF_DAEMON, || Place { world: World::new(), daemon_cleans_up: false });
}

/// Runs all scenarios, several at a time, since most of their time is spent waiting.
fn try_all(table: &[(Scenario, &[&[Step]])], place: fn() -> Place) {
    let cases = table.iter().flat_map(|&(scenario, steps)| {
        steps.iter().copied().flatten().map(move |&step| (scenario, step)) //
    });
    let queue = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((scenario, step)) = queue.lock().unwrap().next() else { break };
                    if catch_unwind(AssertUnwindSafe(|| scenario(&mut place(), step))).is_err() {
                        failures.lock().unwrap().push(step);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "it went wrong at {failures:?}; the reasons are above");
}

fn fault(step: Step) -> String {
    format!("{step:?}")
}

fn creating(world: &mut Place, step: Step) {
    world.peer().die_at(&fault(step), Publish("scan", 4, 100));
    topic_can_be_used_again(world);
}

fn taking_over(world: &mut Place, step: Step) {
    let (publisher, sleeper) = publisher_and_sleeper(world);
    // Otherwise the daemon might be faster.
    let daemon_sleeps = world.has_daemon() && !matches!(step, CreateRegistered | CreateLinked);
    let daemon = |world: &mut World, signal| {
        if daemon_sleeps {
            world.daemon().signal(signal);
        }
    };
    let victim = world.peer();
    daemon(world, Signal::SIGSTOP);
    publisher.kill();
    victim.die_at(&fault(step), Publish("scan", 4, 100));
    daemon(world, Signal::SIGCONT);
    topic_can_be_used_again(world);
    assert_eq!(total(sleeper.answer(), End::Died), 10);
}

fn finishing_a_removal(world: &mut Place, step: Step) {
    let victim = world.peer();
    leave_a_private_name(world);
    victim.die_at(&fault(step), Publish("scan", 4, 100));
    topic_can_be_used_again(world);
}

/// For a publisher that was killed while it removed its name.
fn leave_a_private_name(world: &World) {
    let publisher = world.publisher("scan", 4, 100);
    publisher.die_at("RemoveRenamed", Unpublish);
    assert_eq!(world.leftovers().len(), 1);
}

fn publishing(world: &mut Place, step: Step) {
    let (publisher, sleeper) = publisher_and_sleeper(world);
    let mut late = world.peer();
    late.order(SubscribeOldest("scan"));
    world.wait_until_asleep("scan", 1);
    publisher.die_at(&fault(step), Send(1, 100));
    // From W4 on the message is published and all subscribers must receive it; before W4 none may.
    let published = if step >= PublishReadable { 11 } else { 10 };
    assert_eq!(total(sleeper.answer(), End::Died), published);
    // This subscriber starts with the oldest of three messages: the fourth slot belonged to the
    // publisher.
    assert_eq!(total(late.ask(Drain), End::Died), published - 7);
    topic_can_be_used_again(world);
}

fn closing(world: &mut Place, step: Step) {
    let (publisher, sleeper) = publisher_and_sleeper(world);
    publisher.die_at(&fault(step), Unpublish);
    let how = if step == CloseBegun { End::Died } else { End::Closed };
    assert_eq!(total(sleeper.answer(), how), 10);
    topic_can_be_used_again(world);
}

fn reclaiming(world: &mut Place, step: Step) {
    let mut publisher = world.publisher("scan", 4, 100);
    let mut survivor = world.subscriber("scan");
    let mut holder = world.subscriber("scan");
    for count in [3, 1] {
        publisher.order(Send(count, 100));
        holder.order(Hold(count));
    }
    holder.kill();
    publisher.die_at(&fault(step), Send(1, 100));
    assert_eq!(total(survivor.ask(Drain), End::Died), 4);
    topic_can_be_used_again(world);
}

fn attaching(world: &mut Place, step: Step) {
    let others = Others::new(world);
    world.peer().die_at(&fault(step), Subscribe("scan"));
    others.go_on(world, 0);
}

fn receiving(world: &mut Place, step: Step) {
    let mut others = Others::new(world);
    let victim = world.subscriber("scan");
    others.publisher.order(Send(1, 100));
    victim.die_at(&fault(step), Recv);
    others.go_on(world, 1);
}

fn falling_asleep(world: &mut Place, step: Step) {
    let others = Others::new(world);
    let victim = world.subscriber("scan");
    victim.die_at(&fault(step), Recv);
    others.go_on(world, 0);
}

fn leaving(world: &mut Place, step: Step) {
    let mut others = Others::new(world);
    let mut victim = world.subscriber("scan");
    others.publisher.order(Send(3, 100));
    assert_eq!(victim.ask(Recv), sample(0));
    victim.die_at(&fault(step), Unsubscribe);
    others.go_on(world, 3);
}

fn creating_a_raw_region(world: &mut Place, step: Step) {
    world.peer().die_at(&fault(step), CreateRegion("scan", 4096));
    raw_region_can_be_used_again(world);
}

fn keeping_a_raw_region(world: &mut Place, step: Step) {
    let mut creator = world.peer();
    creator.order(CreateRegion("scan", 4096));
    creator.die_at(&fault(step), DropRegion);
    if step == KeepMarked {
        // From this step on the region exists permanently.
        let mut other = world.peer();
        let answer = other.ask(CreateRegion("scan", 64));
        assert!(answer.failure().contains("unlink"), "{answer:?}");
        other.order(UnlinkRegion("scan"));
    }
    raw_region_can_be_used_again(world);
}

fn unlinking_a_raw_region(world: &mut Place, step: Step) {
    let mut creator = world.peer();
    creator.order(CreateRegion("scan", 4096));
    creator.order(DropRegion);
    world.peer().die_at(&fault(step), UnlinkRegion("scan"));
    // The next remover finishes what the killed one began; its answer depends on how far that one
    // got.
    let answer = world.peer().ask(UnlinkRegion("scan"));
    assert!(answer == Answer::Done || answer.failure().contains("does not exist"), "{answer:?}");
    world.wait_until_empty();
    raw_region_can_be_used_again(world);
}

fn reaping(world: &mut Place, step: Step) {
    let daemon = world.daemon_that_dies(&fault(step));
    wait_until("the daemon to listen", || conduit::registry::Client::connect(&world.domain()).is_ok());
    let (publisher, sleeper) = publisher_and_sleeper(world);
    publisher.kill();
    daemon.wait_until_killed();
    assert_eq!(total(sleeper.answer(), End::Died), 10);
    topic_can_be_used_again(world);
    // The next daemon cleans up what the killed one left.
    let daemon = world.daemon_that_dies(&fault(step));
    wait_until("the daemon to listen", || conduit::registry::Client::connect(&world.domain()).is_ok());
    let (publisher, sleeper) = publisher_and_sleeper(world);
    publisher.kill();
    daemon.wait_until_killed();
    world.start_daemon();
    assert_eq!(total(sleeper.answer(), End::Died), 10);
    wait_until("the removal to be finished", || world.leftovers().is_empty());
    assert_eq!(world.list(), []);
}

fn adopting(world: &mut Place, step: Step) {
    leave_a_private_name(world);
    world.daemon_that_dies(&fault(step)).wait_until_killed();
    assert_eq!(world.leftovers().len(), 1);
    world.start_daemon();
    wait_until("the removal to be finished", || world.leftovers().is_empty());
    topic_can_be_used_again(world);
}

/// A publisher of ten messages, and a subscriber that has received those it could and sleeps.
fn publisher_and_sleeper(world: &World) -> (Peer, Peer) {
    let mut publisher = world.publisher("scan", 4, 100);
    let mut sleeper = world.subscriber("scan");
    publisher.order(Send(10, 100));
    sleeper.tell(Drain);
    world.wait_until_asleep("scan", 1);
    (publisher, sleeper)
}

/// The sum of received and lost messages in an answer to `Drain`.
fn total(answer: Answer, end: End) -> u64 {
    let drained = answer.drained();
    assert_eq!((drained.torn, drained.end), (0, end), "{drained:?}");
    drained.received + drained.lost
}

/// A new publisher creates the topic at once, a new subscriber receives from it, and nothing is
/// left afterwards.
fn topic_can_be_used_again(world: &mut Place) {
    let_the_daemon_clean_up(world);
    let started = Instant::now();
    let others = Others::new(world);
    // The default time-out for a dying owner, and the start of two processes.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    others.go_on(world, 0);
}

/// The processes that remain when a subscriber dies.
struct Others {
    publisher: Peer,
    survivor: Peer,
}

impl Others {
    fn new(world: &World) -> Self {
        let publisher = world.publisher("scan", 4, 100);
        let survivor = world.subscriber("scan");
        Self { publisher, survivor }
    }

    /// Checks that they still work, that all slots and records can be used, and that nothing is
    /// left when the topic is dropped.
    fn go_on(mut self, world: &mut World, published: u64) {
        let domain = world.domain();
        self.publisher.order(Send(10, 100));
        let open = || Subscriber::<[u8]>::builder().domain(&domain).max_held(4).open("scan");
        let mut all: Vec<_> = (1..60).map(|_| open().unwrap()).collect();
        open().unwrap_err();
        let mut samples = Vec::new();
        for count in [3, 1] {
            self.publisher.order(Send(count, 100));
            samples.extend((0..count).map(|_| all[0].recv().unwrap()));
        }
        assert!(samples.iter().map(conduit::Sample::lost).eq([0; 4]));
        assert!(self.publisher.ask(Send(1, 100)).failure().contains("all 4 slots are held"));
        drop(samples);
        self.publisher.order(Send(1, 100));
        drop(all);
        self.publisher.order(Unpublish);
        assert_eq!(total(self.survivor.ask(Drain), End::Closed), published + 15);
        nothing_is_left(world);
    }
}

fn let_the_daemon_clean_up(world: &mut Place) {
    if world.daemon_cleans_up {
        wait_until("the daemon to clean up", || world.leftovers().is_empty() && world.list().is_empty());
    }
}

fn raw_region_can_be_used_again(world: &mut Place) {
    let_the_daemon_clean_up(world);
    let mut creator = world.peer();
    creator.order(CreateRegion("scan", 64));
    creator.order(DropRegion);
    creator.order(UnlinkRegion("scan"));
    nothing_is_left(world);
    // The name can also be used for a topic.
    drop(Publisher::<[u8]>::builder().domain(&world.domain()).create("scan").unwrap());
    nothing_is_left(world);
}

fn nothing_is_left(world: &mut World) {
    world.wait_until_empty();
    if world.has_daemon() {
        assert!(world.daemon().is_running());
        assert_eq!(world.list(), []);
    }
}
