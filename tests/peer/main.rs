//! The other side of the end-to-end tests: a process that reads orders from standard input and
//! writes answers to standard output, one per line (see `protocol`).
#![allow(missing_docs, unreachable_pub, reason = "not a library")]

mod accounts;
mod fleet;
mod following;
mod forks;
mod guest;
mod neighbours;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../harness/pattern.rs"]
mod pattern;
#[allow(dead_code, reason = "shared with the tests")]
mod protocol;
mod publishing;
mod receiving;
mod seccomp;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../harness/wait.rs"]
mod wait;
mod waiting;
mod without_calls;

use std::collections::VecDeque;
use std::io::{BufRead, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use conduit::registry::Client;
use conduit::{Domain, PatternSubscriber, Publisher, Sample, ShmRegion, Start, Subscriber};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use pattern::is_pattern;
use protocol::{Answer, Order};

type Outcome = Result<Answer, Box<dyn std::error::Error>>;

/// The peer's handles and the orders still to execute.
struct State {
    orders: Receiver<String>,
    publisher: Option<Publisher<[u8]>>,
    subscriber: Option<Subscriber<[u8]>>,
    all: Option<PatternSubscriber<[u8]>>,
    held: VecDeque<Sample<[u8]>>,
    region: Option<ShmRegion>,
    connections: Vec<UnixStream>,
    publishers: Vec<Publisher<[u8]>>,
    subscribers: Vec<Subscriber<[u8]>>,
    own_files: Vec<guest::OwnFile>,
}

fn main() {
    answer(&Answer::Ready);
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let state = State {
        orders,
        publisher: None,
        subscriber: None,
        all: None,
        held: VecDeque::new(),
        region: None,
        connections: Vec::new(),
        publishers: Vec::new(),
        subscribers: Vec::new(),
        own_files: Vec::new(),
    };
    serve(state)
}

/// Executes orders until the test closes standard input; a clean end is not needed then.
fn serve(mut state: State) -> ! {
    while let Ok(line) = state.orders.recv() {
        let order = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        match state.execute(order) {
            Ok(Answer::MainThreadEnds) => forks::go_on_without_main_thread(move || {
                answer(&Answer::Done);
                serve(state)
            }),
            Ok(done) => answer(&done),
            Err(error) => answer(&Answer::Failed(error.to_string())),
        }
    }
    std::process::exit(9);
}

fn answer(answer: &Answer) {
    let line = serde_json::to_string(answer).expect("an answer is JSON") + "\n";
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(line.as_bytes());
    let _ = output.flush();
}

fn dump_core(folder: &str) -> Outcome {
    std::env::set_current_dir(folder)?;
    setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY)?;
    let heap = std::hint::black_box(vec![1u8; 16 << 20]);
    answer(&Answer::Began);
    std::hint::black_box(&heap);
    std::process::abort()
}

impl State {
    fn execute(&mut self, order: Order) -> Outcome {
        match order {
            Order::PublishOften(topic, deadline_ms) => self.publish_often(topic, Duration::from_millis(deadline_ms)),
            Order::Publish(topic, slots, capacity) => self.publish(topic, slots, capacity),
            Order::Race(topic, timeout_ms) => self.race(topic, Duration::from_millis(timeout_ms)),
            Order::Send(count, len) => self.send(count, len),
            Order::Stream(len) => self.stream(len),
            Order::Loan(len) => self.loan(len),
            Order::EndureSending(len) => self.endure_sending(len),
            Order::Churn(topic, count) => publishing::churn(topic, count, |_| ()),
            Order::ChurnUntilOpened(topic, count) => publishing::churn(topic, count, publishing::await_subscriber),
            Order::OpenInALoop(topic) => receiving::open_in_a_loop(topic, &self.orders),
            Order::EndureReceiving(topic) => self.endure_receiving(topic),
            Order::Subscribe(topic) => self.subscribe(topic, Start::Next),
            Order::SubscribeOldest(topic) => self.subscribe(topic, Start::Oldest),
            Order::SubscribeAdaptive(topic) => self.subscribe_adaptive(topic),
            Order::Recv => self.recv(None),
            Order::RecvFor(patience_ms) => self.recv(Some(Duration::from_millis(patience_ms))),
            Order::Drain => self.drain(),
            Order::WaitBy(way) => self.wait_by(way),
            Order::LeaveUnread => self.leave_unread(),
            Order::ForkWaiting(topic) => forks::fork_waiting(topic),
            Order::Hold(count) => self.hold(count),
            Order::HeldAreWhole => {
                Ok(Answer::Flag(self.held.iter().all(|sample| is_pattern(sample.sequence(), sample))))
            }
            Order::Sessions(topic, len) => self.sessions(topic, len),
            Order::Counts => {
                let subscriber = self.subscriber()?;
                Ok(Answer::Counts { received: subscriber.received(), lost: subscriber.lost() })
            }
            Order::ZeroCopy => Ok(Answer::Flag(self.subscriber()?.is_zero_copy())),
            Order::FollowAll(pattern) => self.follow_all(pattern),
            Order::FollowAllThrough(count, messages) => self.follow_all_through(count, messages),
            Order::Follow(topic) => self.follow(topic),
            Order::FollowUntilTerminated(topic) => self.follow_until_terminated(topic),
            Order::ReceiveUntilStopped => self.receive_until_stopped(),
            Order::FollowThrough(count, messages) => self.follow_through(count, messages),
            order => self.execute_rarer(order),
        }
    }

    fn execute_rarer(&mut self, order: Order) -> Outcome {
        match order {
            Order::PublishFleet(slots, capacity, topics) => self.publish_fleet(slots, capacity, &topics),
            Order::StreamFleet(interval_ms, len) => self.stream_fleet(Duration::from_millis(interval_ms), len),
            Order::SubscribeFleet(topics) => self.subscribe_fleet(&topics),
            Order::DrainFleet => self.drain_fleet(),
            Order::DrainFleetBy(way, threads) => self.drain_fleet_by(way, threads),
            Order::Claim(topic, dev, first, count) => self.claim(topic, dev, first, count),
            Order::HalfOpen(count) => self.half_open(count),
            Order::Fork => self.fork(),
            Order::ForkIdle(by) => self.fork_idle(by),
            Order::CloseFrom => self.close_from(),
            Order::AwaitTopic(topic) => {
                Ok(Answer::Flag(ShmRegion::wait_until_exists_for(topic, Duration::from_secs(30))?))
            }
            Order::OwnFilesAreIntact => self.own_files_are_intact(),
            Order::UseAllAfterCloseFrom(topic) => guest::use_all_after_close_from(topic),
            Order::WithoutCalls(deed) => without_calls::run(deed),
            Order::ProcessorTime => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
                Ok(Answer::Number(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64))
            }
            Order::Descriptors => Ok(Answer::Number(std::fs::read_dir("/proc/self/fd")?.count() as u64)),
            Order::Parkers => Ok(Answer::Number(waiting::parkers().len() as u64)),
            Order::Published => Ok(Answer::Number(self.publisher()?.published())),
            Order::Pid => Ok(Answer::Number(std::process::id().into())),
            Order::Abort => std::process::abort(),
            Order::DumpCore(folder) => dump_core(folder),
            Order::EndMainThread => Ok(Answer::MainThreadEnds),
            Order::Exit => std::process::exit(0),
            order => self.obey(order).map(|()| Answer::Done),
        }
    }

    /// Orders that are answered by `Done`.
    fn obey(&mut self, order: Order) -> Result<(), Box<dyn std::error::Error>> {
        match order {
            Order::Unpublish => self.publisher = None,
            Order::LetGo => self.held.clear(),
            Order::Unsubscribe => (self.subscriber, self.all) = (None, None),
            Order::UnpublishFleet => self.publishers.clear(),
            Order::UnsubscribeFleet => self.subscribers.clear(),
            Order::CreateRegion(name, len) => self.region = Some(ShmRegion::create(name, len)?),
            Order::DropRegion => self.region = None,
            Order::UnlinkRegion(name) => ShmRegion::unlink(name)?,
            Order::DieAt(fault) => conduit::fault::arm(fault),
            Order::DenyWaitv => seccomp::deny_waitv()?,
            Order::DenyListing => seccomp::deny_listing()?,
            Order::DenyThreads => seccomp::deny_threads()?,
            Order::DenyInotify => seccomp::deny_inotify()?,
            Order::LimitDescriptors => guest::limit_descriptors()?,
            Order::Interrupt => guest::interrupt()?,
            Order::GoTo(folder) => std::env::set_current_dir(folder)?,
            Order::LimitFiles(bytes) => setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes)?,
            Order::LockMemory(bytes) => {
                setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes)?;
                mlockall(MlockAllFlags::MCL_FUTURE)?;
            }
            Order::LimitMappings(bytes) => {
                let pages = std::fs::read_to_string("/proc/self/statm")?;
                let pages: u64 = pages.split(' ').next().unwrap_or_default().parse()?;
                let limit = pages * 4096 + bytes;
                setrlimit(Resource::RLIMIT_AS, limit, limit)?;
            }
            Order::Rename(name) => std::fs::write("/proc/self/comm", name.as_bytes())?,
            Order::SubscribeAny(topic) => {
                self.subscriber = Some(Subscriber::<[u8]>::builder().any_type(true).open(topic)?);
            }
            Order::UnlinkByRegistry(topic) => Client::connect(&Domain::from_env())?.unlink(&topic.parse()?, true)?,
            order => return Err(format!("nothing to be done by {order:?}").into()),
        }
        Ok(())
    }

    fn publisher(&mut self) -> Result<&mut Publisher<[u8]>, &'static str> {
        self.publisher.as_mut().ok_or("no publisher")
    }

    fn subscriber(&mut self) -> Result<&mut Subscriber<[u8]>, &'static str> {
        self.subscriber.as_mut().ok_or("no subscriber")
    }
}
