//! The other side: a process that executes commands from standard input and answers with a line each.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use conduit::inspect::Region;
use conduit::internal::ReapRegion;
use conduit::internal::shm::clock::now_ns;
use conduit::internal::shm::dir::ShmDir;
use conduit::registry::Client;
use conduit::{
    CreateError, Domain, Event, Gone, OpenError, Publisher, RecvError, Sample, ShmRegion, Start, Subscriber, TopicName,
    WaitSet,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::{fill_pattern, is_pattern, wait_until};
use crate::{frugal, seccomp};

/// Not a test: see [`crate::harness::Peer`].
#[test]
fn peer() {
    if std::env::var_os("CONDUIT_TEST_PEER").is_none() {
        return;
    }
    // The test runner has begun a line of its own.
    println!();
    answer("ready");
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut state = State {
        commands,
        publisher: None,
        subscriber: None,
        held: VecDeque::new(),
        region: None,
        claims: Vec::new(),
        publishers: Vec::new(),
        subscribers: Vec::new(),
    };
    while let Ok(line) = state.commands.recv() {
        let words: Vec<&str> = line.split(' ').collect();
        match state.execute(&words) {
            Ok(text) => answer(&text),
            Err(error) => answer(&format!("error {error}")),
        }
    }
    // The test has gone without a word: nobody waits for a clean end.
    std::process::exit(9);
}

fn answer(text: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "@ {text}");
    let _ = output.flush();
}

struct State {
    commands: Receiver<String>,
    publisher: Option<Publisher<[u8]>>,
    subscriber: Option<Subscriber<[u8]>>,
    held: VecDeque<Sample<[u8]>>,
    region: Option<ShmRegion>,
    claims: Vec<std::os::unix::net::UnixStream>,
    publishers: Vec<Publisher<[u8]>>,
    subscribers: Vec<Subscriber<[u8]>>,
}

type Outcome = Result<String, Box<dyn std::error::Error>>;

impl State {
    fn execute(&mut self, words: &[&str]) -> Outcome {
        let number = |at: usize| words[at].parse::<u64>();
        match words[0] {
            "publish" => self.publish(words[1], number(2)?, number(3)?),
            "race" => self.race(words[1]),
            "send" => self.send(number(1)?, number(2)? as usize),
            "stream" => self.stream(number(1)? as usize),
            "loan" => {
                // Half-written, and never finished.
                let mut loan = self.publisher.as_mut().ok_or("no publisher")?.loan_slice(number(1)? as usize)?;
                loan.fill(0xEE);
                Ok("ok".into())
            }
            "endure-sending" => self.endure_sending(number(1)? as usize),
            "endure-receiving" => self.endure_receiving(words[1]),
            "unpublish" => {
                self.publisher = None;
                Ok("ok".into())
            }
            "churn" => churn(words[1], number(2)?),
            "open-in-a-loop" => open_in_a_loop(words[1], &self.commands),
            "subscribe" => self.subscribe(words[1], words.get(2).copied()),
            "subscribe-any" => {
                self.subscriber = Some(Subscriber::<[u8]>::builder().any_type(true).open(words[1])?);
                Ok("ok".into())
            }
            "recv" => self.recv(None),
            "recv-for" => self.recv(Some(Duration::from_millis(number(1)?))),
            "try-recv" => self.recv(Some(Duration::ZERO)),
            "wait-by" => self.wait_by(words[1]),
            "drain-fleet-by" => self.drain_fleet_by(words[1], number(2)? as usize),
            "leave-unread" => self.leave_unread(),
            "deny-waitv" => {
                seccomp::deny_waitv()?;
                Ok("ok".into())
            }
            "without-calls" => frugal::without_calls(words[1], answer),
            "descriptors" => Ok(std::fs::read_dir("/proc/self/fd")?.count().to_string()),
            "go-to" => {
                std::env::set_current_dir(words[1])?;
                Ok("ok".into())
            }
            "parkers" => Ok(parkers().len().to_string()),
            "fork-waiting" => self.fork_waiting(words[1]),
            "hold" => self.hold(number(1)?),
            "held-are-whole" => {
                let whole = self.held.iter().all(|sample| is_pattern(sample.sequence(), sample));
                Ok(whole.to_string())
            }
            "drain" => self.drain(),
            "sessions" => self.sessions(words[1], number(2)? as usize),
            "counts" => {
                let subscriber = self.subscriber.as_ref().ok_or("no subscriber")?;
                Ok(format!("{} {}", subscriber.received(), subscriber.lost()))
            }
            "zero-copy" => Ok(self.subscriber.as_ref().ok_or("no subscriber")?.is_zero_copy().to_string()),
            "let-go" => {
                self.held.clear();
                Ok("ok".into())
            }
            "unsubscribe" => {
                self.subscriber = None;
                Ok("ok".into())
            }
            "create-region" => {
                self.region = Some(ShmRegion::create(words[1], number(2)? as usize)?);
                Ok("ok".into())
            }
            "drop-region" => {
                self.region = None;
                Ok("ok".into())
            }
            "fork" => self.fork(),
            "claim" => self.claim(words[1], number(2)?, number(3)?, number(4)?),
            "unlink-region" => {
                ShmRegion::unlink(words[1])?;
                Ok("ok".into())
            }
            "half-open" => self.half_open(number(1)? as usize),
            "unlink-by-registry" => {
                Client::connect(&Domain::from_env())?.unlink(&words[1].parse()?, true)?;
                Ok("ok".into())
            }
            "die-at" => {
                conduit::fault::arm(words[1]);
                Ok("ok".into())
            }
            "publish-fleet" => {
                let (slots, capacity) = (number(1)?, number(2)?);
                for topic in &words[3..] {
                    self.publishers
                        .push(Publisher::builder().slots(slots as u32).capacity(capacity as usize).create(*topic)?);
                }
                Ok("ok".into())
            }
            "stream-fleet" => self.stream_fleet(Duration::from_millis(number(1)?), number(2)? as usize),
            "unpublish-fleet" => {
                self.publishers.clear();
                Ok("ok".into())
            }
            "subscribe-fleet" => {
                for topic in &words[1..] {
                    self.subscribers.push(Subscriber::open(*topic)?);
                }
                Ok("ok".into())
            }
            "drain-fleet" => self.drain_fleet(),
            "rename" => {
                std::fs::write("/proc/self/comm", words[1])?;
                Ok("ok".into())
            }
            "published" => Ok(self.publisher.as_ref().ok_or("no publisher")?.published().to_string()),
            "pid" => Ok(std::process::id().to_string()),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(0),
            other => Err(format!("what is {other}?").into()),
        }
    }

    fn publish(&mut self, topic: &str, slots: u64, capacity: u64) -> Outcome {
        self.publisher = Some(Publisher::builder().slots(slots as u32).capacity(capacity as usize).create(topic)?);
        Ok("ok".into())
    }

    fn race(&mut self, topic: &str) -> Outcome {
        match Publisher::builder().takeover_timeout(Duration::ZERO).create(topic) {
            Ok(publisher) => {
                self.publisher = Some(publisher);
                Ok("won".into())
            }
            Err(CreateError::AlreadyPublished { .. }) => Ok("lost".into()),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&mut self, count: u64, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        for _ in 0..count {
            let number = publisher.published();
            let mut loan = publisher.loan_slice(len)?;
            fill_pattern(number, &mut loan);
            loan.publish();
        }
        Ok("ok".into())
    }

    /// Sends until it is told anything.
    fn stream(&mut self, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        answer("streaming");
        while self.commands.try_recv().is_err() {
            let started = Instant::now();
            let number = publisher.published();
            let mut loan = publisher.loan_slice(len)?;
            fill_pattern(number, &mut loan);
            loan.publish();
            // Up to 2,000 messages a second: the others need the processors too.
            std::thread::sleep((10 * started.elapsed()).max(Duration::from_micros(500)));
        }
        Ok(publisher.published().to_string())
    }

    /// Announces files that are somebody else's, each on a connection of its own.
    fn claim(&mut self, topic: &str, dev: u64, first: u64, count: u64) -> Outcome {
        let socket = std::env::var("CONDUIT_SOCKET")?;
        for inode in first..first + count {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
            let parameters = serde_json::json!({"topic": topic, "dev": dev, "inode": inode});
            let call = serde_json::json!({"method": "io.conduit.Registry.Register", "parameters": parameters});
            stream.write_all(format!("{call}\0").as_bytes())?;
            std::io::Read::read(&mut stream, &mut [0; 256])?;
            self.claims.push(stream);
        }
        Ok("ok".into())
    }

    /// Begins messages on many connections and ends none.
    fn half_open(&mut self, count: usize) -> Outcome {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let socket = std::env::var("CONDUIT_SOCKET")?;
        for _ in 0..count.min(hard.saturating_sub(50) as usize) {
            let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
            // Who is not let in may be hung up on already.
            let _ = stream.write_all(b"{\"method\":");
            self.claims.push(stream);
        }
        Ok(self.claims.len().to_string())
    }

    /// Leaves a child behind that has inherited all it can and lives on for a while.
    fn fork(&mut self) -> Outcome {
        // SAFETY: the child only reads memory, sleeps and ends without running anything of its parent's.
        #[allow(unsafe_code)]
        match unsafe { nix::unistd::fork() }? {
            nix::unistd::ForkResult::Parent { .. } => Ok("ok".into()),
            nix::unistd::ForkResult::Child => {
                let publisher = self.publisher.as_mut().map(|publisher| publisher.send(b"from the child"));
                let is_refused = matches!(publisher, Some(Err(conduit::LoanError::Forked)) | None);
                // A child's drop must not end what is its parent's.
                self.publisher = None;
                self.subscriber = None;
                std::thread::sleep(Duration::from_secs(if is_refused { 5 } else { 0 }));
                // SAFETY: ends the process, as `fork(2)` allows.
                #[allow(unsafe_code)]
                unsafe {
                    nix::libc::_exit(0)
                }
            }
        }
    }

    /// Sends until it is told anything, whatever comes of it. Answers how often it went well and how often not, and how
    /// long the longest call took.
    fn endure_sending(&mut self, len: usize) -> Outcome {
        let publisher = self.publisher.as_mut().ok_or("no publisher")?;
        let (mut sent, mut refused, mut longest) = (0, 0, Duration::ZERO);
        answer("enduring");
        while self.commands.try_recv().is_err() {
            let started = Instant::now();
            match publisher.loan_slice(len) {
                Ok(mut loan) => {
                    loan.fill(0xAB);
                    loan.publish();
                    sent += 1;
                }
                Err(_) => refused += 1,
            }
            longest = longest.max(started.elapsed());
            std::thread::yield_now();
        }
        Ok(format!("{sent} sent {refused} refused {} ms", longest.as_millis()))
    }

    /// Opens the topic and receives, again and again, until it is told anything.
    fn endure_receiving(&mut self, topic: &str) -> Outcome {
        let (mut opened, mut received, mut bytes) = (0, 0, 0);
        answer("enduring");
        while self.commands.try_recv().is_err() {
            let start = [Start::Next, Start::Latest, Start::Oldest][opened % 3];
            let Ok(mut subscriber) = Subscriber::<[u8]>::builder().start(start).open(topic) else { continue };
            opened += 1;
            for _ in 0..20 {
                let Ok(sample) = subscriber.recv_timeout(Duration::from_millis(1)) else { continue };
                received += 1;
                bytes += sample.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
        }
        Ok(format!("{opened} opened {received} received {bytes}"))
    }

    /// Subscribes whenever there is a publisher, until it is told anything. Says at the end of each publisher which file
    /// it was, how it ended and when, the first number that counted, how many messages were received, lost and wrong, and
    /// how many were published.
    fn sessions(&mut self, topic: &str, len: usize) -> Outcome {
        let domain = Domain::from_env();
        let directory = ShmDir::open(&domain)?;
        let name: TopicName = topic.parse()?;
        answer("waiting");
        loop {
            if self.commands.try_recv().is_ok() {
                return Ok("done".into());
            }
            let before = Region::open_in(&directory, &name);
            let opened = Subscriber::<[u8]>::open(topic);
            let region = Region::open_in(&directory, &name);
            let (Ok(before), Ok(mut subscriber), Ok(region)) = (before, opened, region) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if before.id() != region.id() {
                continue;
            }
            let (mut wrong, mut first, mut next) = (0, None, 0);
            let mut held: VecDeque<Sample<[u8]>> = VecDeque::new();
            let how = loop {
                // Longer than anybody may take to notice an end: a sleeper must do so by himself.
                match subscriber.recv_timeout(Duration::from_secs(3)) {
                    Ok(sample) => {
                        let number = sample.sequence();
                        first.get_or_insert(number - sample.lost());
                        let is_right = number >= next && sample.len() == len && is_pattern(number, &sample);
                        wrong += u64::from(!is_right);
                        next = number + 1;
                        // Up to three are kept for a while and must not change.
                        held.push_back(sample);
                        while held.len() as u64 > number % 4 {
                            let sample = held.pop_front().unwrap();
                            wrong += u64::from(!is_pattern(sample.sequence(), &sample));
                        }
                    }
                    Err(RecvError::TimedOut { .. }) => {
                        held.clear();
                        if self.commands.try_recv().is_ok() {
                            return Ok("done".into());
                        }
                    }
                    Err(RecvError::PublisherGone { how: Gone::Died, .. }) => break "died",
                    Err(RecvError::PublisherGone { how: Gone::Closed, .. }) => break "closed",
                    Err(error) => return Err(error.into()),
                }
            };
            let (received, lost) = (subscriber.received(), subscriber.lost());
            // A publisher that is killed between W6 and W7 has not counted its last message.
            let published = region.counters().ok_or("no counters")?.published.max(next);
            let first = first.unwrap_or(published - lost);
            let (file, now) = (region.id().ino, now_ns());
            answer(&format!("session {file} {how} {now} {first} {received} {lost} {wrong} {published}"));
        }
    }

    /// Sends a message on every topic once per interval, until it is told anything.
    fn stream_fleet(&mut self, interval: Duration, len: usize) -> Outcome {
        answer("streaming");
        while matches!(self.commands.recv_timeout(interval), Err(mpsc::RecvTimeoutError::Timeout)) {
            for publisher in &mut self.publishers {
                let number = publisher.published();
                let seed = seed_of(publisher.topic(), number);
                let mut loan = publisher.loan_slice(len)?;
                fill_pattern(seed, &mut loan);
                loan.publish();
            }
        }
        let published =
            self.publishers.iter().map(|publisher| format!("{}={}", publisher.topic(), publisher.published()));
        Ok(published.collect::<Vec<_>>().join(" "))
    }

    /// Receives on every topic until its publisher is gone, asleep in between. Answers for each the first number that counted,
    /// how many messages were received, lost and wrong, and how it ended.
    fn drain_fleet(&mut self) -> Outcome {
        let drain = |mut subscriber: Subscriber<[u8]>| {
            let (mut first, mut next, mut wrong) = (None, None, 0);
            let how = loop {
                match subscriber.recv() {
                    Ok(sample) => {
                        let number = sample.sequence();
                        first.get_or_insert(number - sample.lost());
                        let is_next = next.is_none_or(|next| next == number);
                        wrong += u64::from(!is_next || !is_pattern(seed_of(subscriber.topic(), number), &sample));
                        next = Some(number + 1);
                    }
                    Err(RecvError::PublisherGone { how: Gone::Died, .. }) => break "died".to_owned(),
                    Err(RecvError::PublisherGone { how: Gone::Closed, .. }) => break "closed".to_owned(),
                    Err(error) => break error.to_string().replace(' ', "-"),
                }
            };
            let (received, lost, first) = (subscriber.received(), subscriber.lost(), first.unwrap_or(0));
            format!("{}={first}/{received}/{lost}/{wrong}/{how}", subscriber.topic())
        };
        let threads: Vec<_> = self.subscribers.drain(..).map(|one| std::thread::spawn(move || drain(one))).collect();
        answer("draining");
        let ends = threads.into_iter().map(|thread| thread.join().map_err(|_| "a subscriber panicked"));
        Ok(ends.collect::<Result<Vec<_>, _>>()?.join(" "))
    }

    /// Receives until the publisher is gone, and waits for each message by a wait set, a future or a descriptor.
    fn wait_by(&mut self, how: &str) -> Outcome {
        let subscriber = self.subscriber.take().ok_or("no subscriber")?;
        let end = match how {
            "set" => {
                let mut subscriber = subscriber;
                let mut set = WaitSet::new();
                let token = set.add(&subscriber)?;
                loop {
                    assert_eq!(set.wait()?.collect::<Vec<_>>(), [Event::Ready(token)]);
                    if let Err(error) = subscriber.try_recv() {
                        break (subscriber, error);
                    }
                }
            }
            "future" => runtime()?.block_on(async {
                let mut subscriber = subscriber.into_async()?;
                loop {
                    if let Err(error) = subscriber.recv().await {
                        return std::io::Result::Ok((subscriber.into_inner(), error));
                    }
                }
            })?,
            "descriptor" => {
                let mut subscriber = subscriber;
                let ready = subscriber.ready_fd()?;
                loop {
                    wait_readable(&ready)?;
                    if let Err(error) = subscriber.try_recv() {
                        assert!(is_readable(&ready)?, "the end stays");
                        break (subscriber, error);
                    }
                }
            }
            other => return Err(format!("what is {other}?").into()),
        };
        let (subscriber, RecvError::PublisherGone { how, .. }) = end else { return Err(end.1.into()) };
        Ok(format!("{} received {} lost, publisher {how}", subscriber.received(), subscriber.lost()))
    }

    /// Receives on every topic until its publisher is gone, in one thread and with so many parkers. Answers like `drain-fleet`.
    fn drain_fleet_by(&mut self, how: &str, threads: usize) -> Outcome {
        let mut accounts: Vec<_> = self.subscribers.iter().map(|it| Account::new(it.topic())).collect();
        if how == "set" {
            let mut set = WaitSet::new();
            let tokens: Vec<_> = self.subscribers.iter().map(|it| set.add(it)).collect::<Result<_, _>>()?;
            let places: HashMap<_, _> = tokens.into_iter().enumerate().map(|(place, token)| (token, place)).collect();
            // Nothing is there yet: now it has the parkers that it needs.
            assert!(set.wait_timeout(Duration::from_millis(1))?.is_empty());
            wait_until("the parkers", || parkers().len() == threads);
            answer("draining");
            let mut left = places.len();
            while left > 0 {
                for event in set.wait()? {
                    let Event::Ready(token) = event else { return Err("not ready".into()) };
                    let place = places[&token];
                    match self.subscribers[place].try_recv() {
                        Ok(Some(sample)) => accounts[place].note(&sample),
                        Ok(None) => return Err("there was nothing".into()),
                        Err(error) => {
                            accounts[place].end(&error, self.subscribers[place].lost());
                            set.remove(token);
                            left -= 1;
                        }
                    }
                }
            }
        } else {
            let subscribers: Vec<_> = self.subscribers.drain(..).collect();
            accounts = runtime()?.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for (subscriber, mut account) in subscribers.into_iter().zip(accounts) {
                    let mut subscriber = subscriber.into_async()?;
                    tasks.spawn(async move {
                        loop {
                            match subscriber.recv().await {
                                Ok(sample) => account.note(&sample),
                                Err(error) => {
                                    account.end(&error, subscriber.get_ref().lost());
                                    return account;
                                }
                            }
                        }
                    });
                }
                // A thread's name comes after its start.
                wait_until("the parkers", || parkers().len() == threads);
                answer("draining");
                std::io::Result::Ok(tasks.join_all().await)
            })?;
        }
        self.subscribers.clear();
        Ok(accounts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    /// Waits for a message by the descriptor and leaves it; then says whether it can still be seen, and whether the parker is
    /// at rest meanwhile.
    fn leave_unread(&mut self) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let ready = subscriber.ready_fd()?;
        answer("waiting");
        wait_readable(&ready)?;
        let switches = || parkers().iter().map(|it| it.switches).sum::<u64>();
        let first = switches();
        let mut before = first;
        for _ in 0..5 {
            before = switches();
            std::thread::sleep(Duration::from_millis(1100));
            if switches() == before {
                break;
            }
        }
        let is_at_rest = switches() == before;
        let runs = before - first;
        let sees = is_readable(&ready)?;
        drop(subscriber.try_recv()?.ok_or("no message")?);
        let still_sees = is_readable(&ready)?;
        let rests = if is_at_rest && runs <= 3 { "rests".into() } else { format!("ran {runs} times") };
        Ok(format!("readable {sees}, then {still_sees}, the parker {rests}"))
    }

    /// A child of a process that waits in every way: what it inherits says so, and it can begin anew.
    fn fork_waiting(&mut self, topic: &str) -> Outcome {
        let runtime = runtime()?;
        let mut old = Subscriber::<[u8]>::open(topic)?;
        let ready = old.ready_fd()?;
        let mut old = old.into_async()?;
        let pending = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(5), old.recv()).await });
        assert!(pending.is_err());
        // SAFETY: the child runs no code that another thread of its parent could have left a lock for: glibc sees to malloc's.
        #[allow(unsafe_code)]
        match unsafe { nix::unistd::fork() }? {
            nix::unistd::ForkResult::Parent { child } => {
                let status = nix::sys::wait::waitpid(child, None)?;
                // The child's end took nothing from the parent.
                wait_readable(&ready)?;
                let sample = runtime.block_on(old.recv())?;
                Ok(format!("{status:?}, {} in the parent", sample.sequence()))
            }
            nix::unistd::ForkResult::Child => {
                let outcome = (|| -> Result<(), Box<dyn std::error::Error>> {
                    let runtime = self::runtime()?;
                    let refused = runtime.block_on(old.recv());
                    if !matches!(refused, Err(RecvError::Forked)) {
                        return Err(format!("{refused:?}").into());
                    }
                    drop(old);
                    let mut new = Subscriber::<[u8]>::open(topic)?.into_async()?;
                    answer("child waits");
                    drop(runtime.block_on(new.recv())?);
                    Ok(())
                })();
                if let Err(error) = &outcome {
                    answer(&format!("child {error}"));
                }
                // SAFETY: ends the process, as `fork(2)` allows.
                #[allow(unsafe_code)]
                unsafe {
                    nix::libc::_exit(i32::from(outcome.is_err()))
                }
            }
        }
    }

    fn subscribe(&mut self, topic: &str, start: Option<&str>) -> Outcome {
        let start = match start {
            Some("oldest") => Start::Oldest,
            Some("latest") => Start::Latest,
            _ => Start::Next,
        };
        self.subscriber = Some(Subscriber::builder().start(start).open(topic)?);
        Ok("ok".into())
    }

    fn recv(&mut self, timeout: Option<Duration>) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let received = match timeout {
            None => subscriber.recv(),
            Some(timeout) => subscriber.recv_timeout(timeout),
        };
        Ok(match received {
            Ok(sample) => {
                let whole = if is_pattern(sample.sequence(), &sample) { "whole" } else { "torn" };
                format!("sample {} {} {whole}", sample.sequence(), sample.lost())
            }
            Err(RecvError::PublisherGone { how, .. }) => format!("gone {how}"),
            Err(RecvError::TimedOut { .. }) => "nothing".into(),
            Err(error) => return Err(error.into()),
        })
    }

    fn hold(&mut self, count: u64) -> Outcome {
        for _ in 0..count {
            self.held.push_back(self.subscriber.as_mut().ok_or("no subscriber")?.recv()?);
        }
        Ok("ok".into())
    }

    /// Receives until the publisher is gone.
    fn drain(&mut self) -> Outcome {
        let subscriber = self.subscriber.as_mut().ok_or("no subscriber")?;
        let mut torn = 0;
        loop {
            match subscriber.recv() {
                Ok(sample) => torn += u64::from(!is_pattern(sample.sequence(), &sample)),
                Err(RecvError::PublisherGone { how, .. }) => {
                    let (received, lost) = (subscriber.received(), subscriber.lost());
                    return Ok(format!("{received} received {lost} lost {torn} torn, publisher {how}"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn wait_readable(descriptor: impl AsFd) -> nix::Result<()> {
    poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).map(drop)
}

fn is_readable(descriptor: impl AsFd) -> nix::Result<bool> {
    Ok(poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)? > 0)
}

/// A thread of the library's that sleeps for others.
struct Parker {
    /// How often it went to sleep.
    switches: u64,
}

fn parkers() -> Vec<Parker> {
    let mut parkers = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
        if value("Name:") == "conduit-parker" {
            let switches = value("voluntary_ctxt_switches:").parse().unwrap_or(0);
            parkers.push(Parker { switches });
        }
    }
    parkers
}

/// What came of one topic of a fleet.
struct Account {
    topic: TopicName,
    first: Option<u64>,
    next: u64,
    received: u64,
    wrong: u64,
    end: String,
}

impl Account {
    fn new(topic: &TopicName) -> Self {
        Self { topic: topic.clone(), first: None, next: 0, received: 0, wrong: 0, end: String::new() }
    }

    fn note(&mut self, sample: &Sample<[u8]>) {
        let number = sample.sequence();
        let is_right = self.first.is_none() || number == self.next + sample.lost();
        self.wrong += u64::from(!is_right || !is_pattern(seed_of(&self.topic, number), sample));
        self.first.get_or_insert(number - sample.lost());
        self.next = number + 1;
        self.received += 1;
    }

    fn end(&mut self, error: &RecvError, lost: u64) {
        let how = match error {
            RecvError::PublisherGone { how: Gone::Died, .. } => "died".into(),
            RecvError::PublisherGone { how: Gone::Closed, .. } => "closed".into(),
            error => error.to_string().replace(' ', "-"),
        };
        self.end = format!("{lost}/{}/{how}", self.wrong);
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}/{}/{}", self.topic, self.first.unwrap_or(0), self.received, self.end)
    }
}

/// So that no message is like one of another topic.
fn seed_of(topic: &TopicName, number: u64) -> u64 {
    let name = topic.as_str().bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(257) + u64::from(byte));
    number ^ name << 20
}

/// Publishes and drops the topic again and again, each time at the latest when somebody has opened it.
fn churn(topic: &str, count: u64) -> Outcome {
    for number in 0..count {
        let mut publisher = Publisher::<[u8]>::create(topic)?;
        publisher.send(&number.to_le_bytes())?;
        let patience = Instant::now() + Duration::from_millis(5);
        while number % 2 == 0 && publisher.subscribers().is_empty() && Instant::now() < patience {
            std::thread::yield_now();
        }
    }
    Ok("ok".into())
}

/// Opens a topic that comes and goes, until it is told anything: the topic is there, or not, and never half there.
fn open_in_a_loop(topic: &str, commands: &Receiver<String>) -> Outcome {
    answer("opening");
    let mut opened = 0;
    while commands.try_recv().is_err() {
        match Subscriber::<[u8]>::builder().start(Start::Oldest).open(topic) {
            Ok(mut subscriber) => {
                opened += 1;
                match subscriber.try_recv() {
                    Ok(Some(sample)) if sample.len() != 8 || sample.sequence() != 0 => {
                        return Err("a strange message".into());
                    }
                    Ok(_) | Err(RecvError::PublisherGone { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Its publisher may let the lock go between our open and our look.
            Err(OpenError::NotFound { .. } | OpenError::Orphaned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(opened.to_string())
}
