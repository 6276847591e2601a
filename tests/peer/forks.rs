//! Forked children that do not execute another program.

use std::time::Duration;

use conduit::{RecvError, Subscriber};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::protocol::{Answer, ForkBy};
use crate::{Outcome, State, answer, waiting};

impl ForkBy {
    /// 0 in the child, which may only call what a signal handler may call.
    pub fn fork(self) -> i64 {
        match self {
            // SAFETY: the child calls only what it may.
            #[allow(unsafe_code)]
            Self::Fork => unsafe { nix::libc::fork() }.into(),
            // SAFETY: without a stack and flags that share anything, this is fork; the child calls
            // only what it may.
            #[allow(unsafe_code)]
            Self::Clone => unsafe { nix::libc::syscall(nix::libc::SYS_clone, nix::libc::SIGCHLD, 0, 0, 0, 0) },
        }
    }
}

impl State {
    /// Forks a child that inherits everything and lives on for a while.
    pub fn fork(&mut self) -> Outcome {
        // SAFETY: the child only reads memory, sleeps and exits; it takes no lock of its parent.
        #[allow(unsafe_code)]
        match unsafe { nix::unistd::fork() }? {
            nix::unistd::ForkResult::Parent { .. } => Ok(Answer::Done),
            nix::unistd::ForkResult::Child => {
                let publisher = self.publisher.as_mut().map(|publisher| publisher.send(b"from the child"));
                let is_refused = matches!(publisher, Some(Err(conduit::LoanError::Forked)) | None);
                // Dropping the handles in the child must not end those of the parent.
                self.publisher = None;
                self.subscriber = None;
                std::thread::sleep(Duration::from_secs(if is_refused { 5 } else { 0 }));
                // SAFETY: `_exit` ends the process without running handlers, as `fork(2)` requires.
                #[allow(unsafe_code)]
                unsafe {
                    nix::libc::_exit(0)
                }
            }
        }
    }
}

/// Forks while the process waits in every way: inherited handles return an error, new ones work.
pub fn fork_waiting(topic: &str) -> Outcome {
    let runtime = waiting::runtime()?;
    let mut old = Subscriber::<[u8]>::open(topic)?;
    let ready = old.ready_fd()?;
    let mut old = old.into_async()?;
    let pending = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(5), old.recv()).await });
    assert!(pending.is_err());
    // SAFETY: the child runs no code that needs a lock another thread may have held; glibc handles
    // malloc's locks.
    #[allow(unsafe_code)]
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => {
            let status = waitpid(child, None)?;
            // The child's end did not affect the parent's handles.
            waiting::wait_readable(&ready)?;
            let sample = runtime.block_on(old.recv())?;
            let WaitStatus::Exited(_, child_exit) = status else { return Err(format!("{status:?}").into()) };
            Ok(Answer::Forked { child_exit, sequence: sample.sequence() })
        }
        nix::unistd::ForkResult::Child => {
            let outcome = (|| -> Result<(), Box<dyn std::error::Error>> {
                let runtime = waiting::runtime()?;
                let refused = runtime.block_on(old.recv());
                if !matches!(refused, Err(RecvError::Forked)) {
                    return Err(format!("{refused:?}").into());
                }
                drop(old);
                let mut new = Subscriber::<[u8]>::open(topic)?.into_async()?;
                answer(&Answer::Began);
                let _sample = runtime.block_on(new.recv())?;
                Ok(())
            })();
            if let Err(error) = &outcome {
                answer(&Answer::Failed(format!("child: {error}")));
            }
            // SAFETY: `_exit` ends the process without running handlers, as `fork(2)` requires.
            #[allow(unsafe_code)]
            unsafe {
                nix::libc::_exit(i32::from(outcome.is_err()))
            }
        }
    }
}

/// Ends the main thread and continues in another one: the process is then a zombie that runs.
pub fn go_on_without_main_thread(go_on: impl FnOnce() + Send + 'static) -> ! {
    std::thread::spawn(go_on);
    // SAFETY: ends this thread alone. Nothing is borrowed from its stack: `go_on` was moved.
    #[allow(unsafe_code)]
    unsafe {
        nix::libc::syscall(nix::libc::SYS_exit, 0)
    };
    unreachable!("the thread has ended")
}
