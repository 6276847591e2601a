//! Keeps forked children from inheriting a region.
//!
//! A child forked by another thread between `open` and `close` would inherit the description and with it the owner
//! lock: the region would look alive for as long as that child lives. [`Guard`] closes the window: `fork` waits for it.
//! A child that inherits a *handle* (a `Publisher`, say) has no memory behind it; [`generation`] tells.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

struct ForkLock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex is made to be used from several threads, and is only touched by pthread functions.
unsafe impl Sync for ForkLock {}

// A pthread mutex, not one of std's: the handlers of `pthread_atfork(3)` lock in one function and unlock in another.
static LOCK: ForkLock = ForkLock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
static GENERATION: AtomicU32 = AtomicU32::new(0);
static HANDLERS: Once = Once::new();

extern "C" fn lock() {
    // SAFETY: the mutex is initialised and never destroyed.
    unsafe { libc::pthread_mutex_lock(LOCK.0.get()) };
}

extern "C" fn unlock() {
    // SAFETY: every caller holds the mutex; a forked child is the copy of the thread that locked it.
    unsafe { libc::pthread_mutex_unlock(LOCK.0.get()) };
}

extern "C" fn unlock_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    unlock();
}

fn install_handlers() {
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions that live as long as the program and only use async-signal-safe calls.
        unsafe { libc::pthread_atfork(Some(lock), Some(unlock), Some(unlock_in_child)) };
    });
}

/// While it lives, no thread of this process can fork.
#[derive(Debug)]
pub struct Guard(PhantomData<*const ()>);

#[expect(clippy::new_without_default, reason = "making one may wait")]
impl Guard {
    /// Waits until no other thread has one. A thread can have only one at a time.
    pub fn new() -> Self {
        install_handlers();
        lock();
        Self(PhantomData)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        unlock();
    }
}

/// How many forks lie between the first user of the library and this process. A handle that was made in another
/// generation belongs to an ancestor.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// The same, for a handle that is being made: from now on forks are counted.
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
