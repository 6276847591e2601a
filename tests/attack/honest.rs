//! An honest user: many topics, and a client that measures.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use conduit::internal::shm::clock::now_ns;
use conduit::registry::Client;
use conduit::{Domain, Publisher, RecvError, Subscriber};

use crate::figures::{Figures, Times};
use crate::machine::{Role, say_ready, wait_for_the_end};

/// The honest user's topics, each with a subscriber; and two more.
const TOPICS: usize = 400;
/// Through which messages flow.
const BUSY: &str = "honest/busy";
/// That nobody else may open, and nobody subscribes to.
const PRIVATE: &str = "honest/private";
const MESSAGE_INTERVAL: Duration = Duration::from_millis(10);
/// What a reader of a region without memory may have allocated of it.
const MOST_BLOCKS: u64 = (16 << 20) / 512;
/// Between two deeds.
const PAUSE: Duration = Duration::from_millis(15);
/// A publisher that is not reaped by then is a failure.
const PATIENCE: Duration = Duration::from_secs(10);

fn publisher(topic: &str) -> Result<Publisher<[u8]>, conduit::CreateError> {
    Publisher::builder().slots(4).slot_size(1024).mode(0o644).create(topic)
}

/// Publishes the honest user's topics until standard input ends.
pub fn populate() {
    let names = (0..TOPICS).map(|number| format!("honest/{number}"));
    let pairs: Vec<_> =
        names.map(|name| (publisher(&name).unwrap(), Subscriber::<[u8]>::open(&*name).unwrap())).collect();
    let private = Publisher::<u64>::builder().slots(4).mode(0o600).create(PRIVATE).unwrap();
    let mut busy = Publisher::<u64>::builder().slots(4).mode(0o644).create(BUSY).unwrap();
    say_ready();
    std::thread::spawn(move || {
        loop {
            busy.send(&now_ns()).unwrap();
            std::thread::sleep(MESSAGE_INTERVAL);
        }
    });
    wait_for_the_end();
    drop((pairs, private));
}

/// Publishes one topic until it is killed.
pub fn publish(topic: &str) {
    let _publisher = publisher(topic).unwrap();
    say_ready();
    wait_for_the_end();
}

/// Measures for some seconds, and prints the figures.
pub fn measure(seconds: u64) {
    let mut client = HonestClient { domain: Domain::from_env(), client: None, failures: Vec::new() };
    let mut times: [Vec<Duration>; 4] = Default::default();
    let deliveries = receive();
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        let name = format!("measured/{}_{round}", std::process::id());
        let deeds = [client.list(), client.connect(), client.create(&name), client.have_reaped(&name)];
        for (times, outcome) in times.iter_mut().zip(deeds) {
            match outcome {
                Ok(time) => times.push(time),
                Err(sentence) => client.fail(sentence),
            }
        }
        round += 1;
    }
    client.look_at_holes();
    client.look_for_forgeries();
    let [list, connection, create, reaping] = times.map(Times::of);
    let (delivered, failed): (Vec<_>, Vec<_>) = deliveries.try_iter().partition(Result::is_ok);
    failed.into_iter().filter_map(Result::err).for_each(|sentence| client.fail(sentence));
    let delivery = Times::of(delivered.into_iter().flatten().collect());
    let figures = Figures { list, connection, create, reaping, delivery, failures: client.failures };
    println!("{}", serde_json::to_string(&figures).unwrap());
}

/// Receives the messages of the busy topic, asleep in between; sends how long each was on its way.
fn receive() -> mpsc::Receiver<Outcome> {
    let (sender, deliveries) = mpsc::channel();
    std::thread::spawn(move || {
        let mut subscriber = match Subscriber::<u64>::open(BUSY) {
            Ok(subscriber) => subscriber,
            Err(error) => return sender.send(Err(format!("open: {error}"))),
        };
        while let Ok(stamp_ns) = subscriber.recv().map(|sample| *sample) {
            sender.send(Ok(Duration::from_nanos(now_ns().saturating_sub(stamp_ns))))?;
        }
        sender.send(Err("the busy topic has ended".into()))
    });
    deliveries
}

struct HonestClient {
    domain: Domain,
    client: Option<Client>,
    failures: Vec<String>,
}

type Outcome = Result<Duration, String>;

impl HonestClient {
    /// Each sentence once.
    fn fail(&mut self, sentence: String) {
        if !self.failures.contains(&sentence) {
            self.failures.push(sentence);
        }
    }

    /// A region whose file is larger than its memory must not grow when it is read.
    fn look_at_holes(&mut self) {
        let path = self.domain.shm_dir().join("conduit_holes");
        if !exists(&path) {
            return;
        }
        let _subscriber = Subscriber::<[u8]>::open("holes");
        let blocks = path.metadata().map_or(0, |metadata| metadata.blocks());
        if blocks > MOST_BLOCKS {
            self.fail(format!("a reader of a region of holes has allocated {} MiB", blocks / 2048));
        }
    }

    /// A topic that nobody may open has no subscribers, whatever others say.
    fn look_for_forgeries(&mut self) {
        let topic = Client::connect(&self.domain).and_then(|mut client| client.describe(&PRIVATE.parse().unwrap()));
        match topic.map(|topic| topic.subscribers.len()) {
            Ok(0) => {}
            Ok(count) => self.fail(format!("{count} subscribers of a topic that nobody can open")),
            Err(error) => self.fail(format!("Describe: {error}")),
        }
    }

    fn list(&mut self) -> Outcome {
        std::thread::sleep(PAUSE);
        let failed = |error| format!("List: {error}");
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.domain).map_err(failed)?,
        };
        let started = Instant::now();
        let topics = client.list().map_err(failed)?;
        let time = started.elapsed();
        self.client = Some(client);
        let count = topics.iter().filter(|topic| topic.name.as_str().starts_with("honest/")).count();
        if count == TOPICS + 2 { Ok(time) } else { Err(format!("List: {count} of {} honest topics", TOPICS + 2)) }
    }

    fn connect(&self) -> Outcome {
        std::thread::sleep(PAUSE);
        let started = Instant::now();
        let status = Client::connect(&self.domain).and_then(|mut client| client.status());
        status.map_err(|error| format!("a new connection: {error}"))?;
        Ok(started.elapsed())
    }

    fn create(&self, name: &str) -> Outcome {
        std::thread::sleep(PAUSE);
        let started = Instant::now();
        publisher(name)
            .map(|_publisher| started.elapsed())
            .map_err(|error| format!("create: {}", without(&error, name)))
    }

    /// Kills a publisher; returns the time until its subscriber knows and its name is gone.
    fn have_reaped(&self, name: &str) -> Outcome {
        std::thread::sleep(PAUSE);
        let mut publisher = Role::of_this_user(&["role-publish", name]).wait_until_ready();
        let mut subscriber =
            Subscriber::<[u8]>::open(name).map_err(|error| format!("open: {}", without(&error, name)))?;
        let path = self.domain.shm_dir().join(format!("conduit_{}", name.replace('/', ".")));
        let (sender, told) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = sender.send(subscriber.recv().map(|_| ()));
        });
        std::thread::sleep(PAUSE);
        let killed = Instant::now();
        publisher.kill();
        match told.recv_timeout(PATIENCE) {
            Ok(Err(RecvError::PublisherGone { .. })) => {}
            other => return Err(format!("a subscriber of a dead publisher: {other:?}")),
        }
        while exists(&path) {
            if killed.elapsed() > PATIENCE {
                return Err(format!("a dead publisher's name is still there after {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(killed.elapsed())
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// An error's sentence without the name of the topic, which differs from round to round.
fn without(error: &impl std::fmt::Display, name: &str) -> String {
    error.to_string().replace(name, "...")
}
