//! Programs that close what they did not open, and that fork without executing.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use conduit::inspect::Region;
use conduit::registry::Client;
use conduit::{Domain, Publisher, ShmRegion, Start, Subscriber, WaitSet};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::protocol::Answer;
use crate::{Outcome, State};

/// A file of the program: its inode, under which number, and what is in it.
pub struct OwnFile {
    file: File,
    inode: u64,
    text: String,
}

/// Closes all descriptors from 3 on, as daemons do.
fn close_others() {
    // SAFETY: this process has no descriptors in use but standard ones, and those of the library,
    // which must cope.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
    }
}

fn open_own(count: u64) -> std::io::Result<Vec<OwnFile>> {
    let path = std::env::temp_dir().join(format!("conduit-own-{}", std::process::id()));
    let mut all = Vec::new();
    for number in 0..count {
        let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        let text = format!("text {number} of the program");
        file.write_all(text.as_bytes())?;
        all.push(OwnFile { inode: file.metadata()?.ino(), file, text });
    }
    Ok(all)
}

impl OwnFile {
    fn check(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let number = self.file.as_raw_fd();
        let metadata = self.file.metadata().map_err(|error| format!("{number}: {error}"))?;
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        if (metadata.ino(), &text) != (self.inode, &self.text) {
            return Err(format!("{number} is not the program's file any more: {text}").into());
        }
        Ok(())
    }
}

impl State {
    /// Closes the library's descriptors, and opens files that get their numbers.
    pub fn close_from(&mut self) -> Outcome {
        close_others();
        self.own_files = open_own(40)?;
        Ok(Answer::Done)
    }

    pub fn own_files_are_intact(&mut self) -> Outcome {
        self.own_files.iter_mut().try_for_each(OwnFile::check)?;
        Ok(Answer::Done)
    }

    /// The pid of a forked child that uses nothing, and lives until it is killed.
    pub fn fork_idle(&mut self, by: crate::protocol::ForkBy) -> Outcome {
        let child = by.fork();
        if child == 0 {
            loop {
                // SAFETY: `pause` is async-signal-safe.
                #[allow(unsafe_code)]
                unsafe {
                    libc::pause()
                };
            }
        }
        Ok(Answer::Number(u64::try_from(child)?))
    }
}

/// Has handles of every kind, loses all their descriptors, uses them, and drops them.
pub fn use_all_after_close_from(topic: &str) -> Outcome {
    let domain = Domain::from_env();
    let mut publisher = Publisher::<[u8]>::create(topic)?;
    let mut subscriber = Subscriber::<[u8]>::builder().start(Start::Oldest).open(topic)?;
    let mut other = Subscriber::<[u8]>::builder().copy_samples(true).open(topic)?;
    let ready = subscriber.ready_fd()?;
    let raw = ShmRegion::create(format!("{topic}/raw").as_str(), 4096)?;
    let region = Region::open(&domain, topic)?;
    let mut registry = Client::connect(&domain).ok();
    let mut set = WaitSet::new();
    set.add(&other)?;

    close_others();
    let mut own = open_own(40)?;
    for round in 0..3 {
        publisher.send(b"message")?;
        // Whatever has the number of the descriptor now, the library leaves it alone.
        assert_eq!(&*subscriber.recv()?, b"message");
        assert!(subscriber.try_recv()?.is_none());
        assert_eq!(set.wait()?.count(), 1);
        assert_eq!(&*other.recv()?, b"message");
        let _ = (region.describe(), region.shape(), region.messages_since(0), region.access());
        let _ = (publisher.subscribers(), registry.as_mut().map(Client::list));
        // Long enough for the checks of locks and leases.
        let patience = Duration::from_millis(if round == 0 { 1100 } else { 1 });
        assert!(subscriber.recv_timeout(patience).is_err());
        assert!(set.wait_timeout(patience)?.is_empty());
        own.iter_mut().try_for_each(OwnFile::check)?;
    }
    // Each in its way: with a message on its way, in any order.
    publisher.send(b"message")?;
    drop((ready, registry, region, raw, subscriber, set, other));
    own.iter_mut().try_for_each(OwnFile::check)?;
    drop(publisher);
    own.iter_mut().try_for_each(OwnFile::check)?;
    // New handles work, and their descriptors are their own.
    let mut publisher = Publisher::<[u8]>::create(topic)?;
    let mut subscriber = Subscriber::<[u8]>::open(topic)?;
    publisher.send(b"again")?;
    assert_eq!(&*subscriber.recv()?, b"again");
    drop((publisher, subscriber));
    own.iter_mut().try_for_each(OwnFile::check)?;
    Ok(Answer::Done)
}

/// From now on this process may open nothing more.
pub fn limit_descriptors() -> Result<(), Box<dyn std::error::Error>> {
    // The lowest number that is free is the limit.
    let next = File::open("/dev/null")?.as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, next.try_into()?, next.try_into()?)?;
    Ok(())
}

extern "C" fn handle(_: libc::c_int) {}

/// From now on a signal interrupts this thread every millisecond.
pub fn interrupt() -> Result<(), Box<dyn std::error::Error>> {
    let action = SigAction::new(SigHandler::Handler(handle), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing.
    #[allow(unsafe_code)]
    unsafe { sigaction(Signal::SIGUSR1, &action) }?;
    // SAFETY: it only returns the thread's number.
    #[allow(unsafe_code)]
    let thread = unsafe { libc::pthread_self() };
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(1));
            // SAFETY: the main thread lives as long as the process.
            #[allow(unsafe_code)]
            unsafe {
                libc::pthread_kill(thread, Signal::SIGUSR1 as i32)
            };
        }
    });
    Ok(())
}
