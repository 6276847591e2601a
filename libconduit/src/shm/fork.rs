//! Keeps forked children from inheriting a region.
//!
//! A child forked by another thread between `open` and `close` would inherit the description and
//! with it the owner lock: the region would appear to have a living owner for as long as that child
//! lives. [`ForkGuard`] closes the window: `fork` waits for it. A child that inherits a *handle* (a
//! `Publisher`, for example) has no memory behind it; [`generation`] detects that.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

struct ForkLock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex may be used by several threads, and this one is accessed by pthread
// functions alone.
unsafe impl Sync for ForkLock {}

// A pthread mutex, not one of std's: the handlers of `pthread_atfork(3)` lock in one function and
// unlock in another.
static LOCK: ForkLock = ForkLock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
static GENERATION: AtomicU32 = AtomicU32::new(0);
static HANDLERS: Once = Once::new();

extern "C" fn lock() {
    // SAFETY: the mutex is initialised and never destroyed.
    unsafe { libc::pthread_mutex_lock(LOCK.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: the calling thread has locked the mutex; in a forked child, the thread that it is a
    // copy of.
    unsafe { libc::pthread_mutex_unlock(LOCK.0.get()) };
}

extern "C" fn unlock_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    unlock();
}

fn install_handlers() {
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions of the program and never unwind. They do what
        // `pthread_atfork(3)` exists for: lock a mutex before the fork, and unlock it on both
        // sides.
        unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock_in_child)) };
    });
}

/// While it exists, no thread of this process can fork.
#[derive(Debug)]
pub struct ForkGuard(PhantomData<*const ()>);

#[expect(clippy::new_without_default, reason = "creating one may block")]
impl ForkGuard {
    /// Waits until no other thread has one. A thread that has one already deadlocks.
    pub fn new() -> Self {
        install_handlers();
        lock();
        Self(PhantomData)
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        unlock();
    }
}

/// Number of forks between the first process that used the library and this one. A handle that was
/// made in another generation belongs to an ancestor.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// The [`generation`] for a new handle: starts to count forks.
pub fn watched_generation() -> u32 {
    install_handlers();
    generation()
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    #[test]
    fn a_child_is_of_the_next_generation() {
        let parents = watched_generation();
        // SAFETY: the child only reads an atomic and exits.
        match unsafe { fork() }.unwrap() {
            // SAFETY: `_exit` is async-signal-safe.
            ForkResult::Child => unsafe { libc::_exit(i32::from(generation() != parents + 1)) },
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                assert_eq!(generation(), parents);
            }
        }
    }
}
