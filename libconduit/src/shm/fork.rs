//! Keeps forked children from inheriting a region.
//!
//! A child forked by another thread between `open` and `close` would inherit the description and
//! with it the owner lock: the region would appear to have a living owner for as long as that child
//! lives. [`ForkGuard`] closes the window: `fork` waits for it. A child that inherits a *handle* (a
//! `Publisher`, for example) has no memory behind it, and its descriptors are closed
//! (`descriptor_table`); [`generation`] detects that.
//!
//! The handlers of `pthread_atfork(3)` run for `fork` alone, not for `_Fork` or `clone`. So what
//! must not be inherited lies in a page that the kernel fills with zeros in every kind of child
//! (`MADV_WIPEONFORK`).
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::descriptor_table;

/// What no child inherits. It fills whole pages, wherever it lies: on other machines than x86 they
/// may have 64 KiB.
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(align(4096)))]
#[cfg_attr(not(target_arch = "x86_64"), repr(align(65536)))]
struct WipedPage {
    /// See [`generation`]. Zero is that of a process that has no handles of its own.
    generation: AtomicU32,
    /// A pthread mutex, not one of std's: the handlers of `pthread_atfork(3)` lock in one function
    /// and unlock in another. All zeros is one that is not locked.
    lock: UnsafeCell<libc::pthread_mutex_t>,
}

/// The signal mask of the thread that forks, between the handlers.
struct ForkingMask(UnsafeCell<Option<SigSet>>);

// SAFETY: a pthread mutex may be used by several threads, and this one is accessed by pthread
// functions alone.
unsafe impl Sync for WipedPage {}
// SAFETY: only the thread that holds the lock accesses it.
unsafe impl Sync for ForkingMask {}

static PAGE: WipedPage =
    WipedPage { generation: AtomicU32::new(0), lock: UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER) };
static MASK: ForkingMask = ForkingMask(UnsafeCell::new(None));
/// Whether the kernel wipes the page, from Linux 4.14 on.
static IS_WIPED: AtomicBool = AtomicBool::new(false);
static HANDLERS: Once = Once::new();

/// Blocks the signals of this thread: a handler that forks would wait for the lock that its own
/// thread holds. Not those that an instruction raises, which must not be deferred.
fn block_signals() -> Option<SigSet> {
    let mut signals = SigSet::all();
    for raised in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGSYS] {
        signals.remove(raised);
    }
    signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok()
}

fn restore_signals(mask: Option<SigSet>) {
    if let Some(mask) = mask {
        // It was this thread's mask before: it is valid.
        let _ = mask.thread_set_mask();
    }
}

/// While it exists, its thread handles no signals.
#[derive(Debug)]
pub(super) struct BlockedSignals {
    /// The signals that were blocked before.
    mask: Option<SigSet>,
    _of_this_thread: PhantomData<*const ()>,
}

impl BlockedSignals {
    pub(super) fn new() -> Self {
        Self { mask: block_signals(), _of_this_thread: PhantomData }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        restore_signals(self.mask);
    }
}

fn lock() {
    // SAFETY: the mutex is initialised and never destroyed.
    unsafe { libc::pthread_mutex_lock(PAGE.lock.get()) };
}

fn unlock() {
    // SAFETY: the calling thread has locked the mutex; in a forked child, the thread that it is a
    // copy of.
    unsafe { libc::pthread_mutex_unlock(PAGE.lock.get()) };
}

extern "C" fn before_fork() {
    let mask = block_signals();
    lock();
    // SAFETY: this thread holds the lock.
    unsafe { *MASK.0.get() = mask };
}

extern "C" fn after_fork() {
    // SAFETY: this thread holds the lock.
    let mask = unsafe { *MASK.0.get() };
    unlock();
    restore_signals(mask);
}

extern "C" fn after_fork_in_child() {
    descriptor_table::close_in_child();
    // SAFETY: this is the only thread.
    let mask = unsafe { *MASK.0.get() };
    if !IS_WIPED.load(Ordering::Relaxed) {
        PAGE.generation.store(0, Ordering::Relaxed);
        unlock();
    }
    restore_signals(mask);
}

fn install_handlers() {
    HANDLERS.call_once(|| {
        // SAFETY: the handlers are functions of the program and never unwind. They do what
        // `pthread_atfork(3)` exists for: lock a mutex before the fork, and unlock it on both
        // sides.
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork_in_child)) };
        let page = (&raw const PAGE).cast_mut().cast();
        // SAFETY: the range is one static that fills its pages. In children, zeros are valid for
        // all of it: the generation is 0, and the mutex is not locked.
        let advised = unsafe { libc::madvise(page, size_of::<WipedPage>(), libc::MADV_WIPEONFORK) };
        IS_WIPED.store(advised == 0, Ordering::Relaxed);
    });
}

/// While it exists, no thread of this process can fork, and its own thread handles no signals.
#[derive(Debug)]
pub struct ForkGuard {
    _blocked: BlockedSignals,
}

#[expect(clippy::new_without_default, reason = "creating one may block")]
impl ForkGuard {
    /// Waits until no other thread has one. A thread that has one already deadlocks.
    pub fn new() -> Self {
        install_handlers();
        let blocked = BlockedSignals::new();
        lock();
        Self { _blocked: blocked }
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // The signals are handled again only then.
        unlock();
    }
}

/// Tells this process from those it was forked from, in whatever way. A handle that was made in
/// another generation belongs to an ancestor.
#[inline]
pub fn generation() -> u32 {
    PAGE.generation.load(Ordering::Relaxed)
}

/// The [`generation`] for a new handle.
pub fn watched_generation() -> u32 {
    /// Of this process and its ancestors: a child begins with its parent's.
    static LAST: AtomicU32 = AtomicU32::new(0);
    install_handlers();
    let current = generation();
    if current != 0 {
        return current;
    }
    let next = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let begun = PAGE.generation.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
    // Another thread may have been faster.
    begun.map_or_else(|faster| faster, |_| next)
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, raise, sigaction};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};

    use super::*;

    #[test]
    fn a_child_is_of_the_next_generation() {
        let parents = watched_generation();
        // SAFETY: the child only reads and writes atomics and exits.
        match unsafe { fork() }.unwrap() {
            // SAFETY: `_exit` is async-signal-safe.
            ForkResult::Child => unsafe {
                libc::_exit(i32::from(generation() == parents || watched_generation() == parents))
            },
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                assert_eq!(generation(), parents);
            }
        }
    }

    /// Forks without the handlers of `pthread_atfork`, and checks what the child finds.
    fn child_without_handlers(fork: impl FnOnce() -> i64) {
        let parents = watched_generation();
        // For the child, this is another thread's.
        let guard = ForkGuard::new();
        let child = fork();
        if child == 0 {
            let is_parents = generation() == parents;
            drop(ForkGuard::new());
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { libc::_exit(i32::from(is_parents || watched_generation() == parents)) };
        }
        drop(guard);
        let child = Pid::from_raw(child.try_into().unwrap());
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    }

    #[test]
    fn a_child_of_a_raw_clone_is_of_another_generation_and_finds_no_lock_held() {
        let flags = libc::c_long::from(libc::SIGCHLD);
        // SAFETY: without a stack and flags that share anything, this is fork; the child only
        // accesses statics and exits.
        child_without_handlers(|| unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) });
    }

    #[test]
    fn a_child_of_underscore_fork_is_of_another_generation_and_finds_no_lock_held() {
        // SAFETY: the name ends with NUL.
        let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Fork".as_ptr()) };
        // C libraries before 2022 do not have it.
        if function.is_null() {
            return;
        }
        // SAFETY: that is the type of `_Fork`.
        let fork = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> libc::pid_t>(function) };
        child_without_handlers(|| fork().into());
    }

    /// The child that [`fork_in_handler`] made.
    static CHILD: AtomicU32 = AtomicU32::new(0);

    extern "C" fn fork_in_handler(_signal: libc::c_int) {
        // SAFETY: the child exits at once.
        if let Ok(ForkResult::Parent { child }) = unsafe { fork() } {
            CHILD.store(child.as_raw() as u32, Ordering::Relaxed);
        } else {
            // SAFETY: `_exit` is async-signal-safe.
            unsafe { libc::_exit(0) };
        }
    }

    #[test]
    fn a_signal_handler_that_forks_waits_for_the_guard() {
        let action = SigAction::new(SigHandler::Handler(fork_in_handler), SaFlags::empty(), SigSet::empty());
        // SAFETY: `fork` and `_exit` may be called in a handler; no other test uses this signal.
        unsafe { sigaction(Signal::SIGURG, &action) }.unwrap();
        let guard = ForkGuard::new();
        raise(Signal::SIGURG).unwrap();
        assert_eq!(CHILD.load(Ordering::Relaxed), 0, "not while this thread keeps others from forking");
        drop(guard);
        let child = Pid::from_raw(CHILD.load(Ordering::Relaxed) as i32);
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    }
}
