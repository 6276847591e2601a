//! Handles: what they are behind the pointers that C has, and how a wrong one is told.
//!
//! A handle begins with a seal, a word that says of which kind it is and in which process it was made (forks are counted). The
//! memory of a closed handle is kept for later handles of its kind, so that the seal of one that was closed can be read: a second
//! close is an error and not a crash.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use conduit::internal::shm::fork;

use crate::error::Error::{CONDUIT_ERROR_FORKED, CONDUIT_ERROR_INVALID_HANDLE};
use crate::error::Failure;

/// How many closed handles of a kind are remembered as such at least.
const REMEMBERED: usize = 64;

/// A kind of handle; the type that implements it stands for it in C.
pub(crate) trait Kind {
    /// What is behind the handle.
    type State: 'static;
    /// A word that nothing else in memory is likely to have; the lower half is 0.
    const SEAL: u64;
    /// As a message names it, with its article.
    const NAME: &'static str;

    fn pool() -> &'static Pool;
}

#[repr(C)]
struct Handle<T> {
    seal: AtomicU64,
    state: MaybeUninit<T>,
}

/// The memory of the closed handles of a kind, the longest closed first.
#[derive(Debug)]
pub(crate) struct Pool(Mutex<VecDeque<Shell>>);

#[derive(Debug)]
struct Shell(*mut ());

// SAFETY: it is memory that nobody uses.
unsafe impl Send for Shell {}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// The lock is never held in the middle of a fork.
    fn with<R>(&self, action: impl FnOnce(&mut VecDeque<Shell>) -> R) -> R {
        let _no_fork = fork::Guard::new();
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[inline]
fn seal<K: Kind>() -> u64 {
    K::SEAL ^ u64::from(fork::generation())
}

/// A new handle.
pub(crate) fn open<K: Kind>(state: K::State) -> *mut K {
    fork::watched_generation();
    let used = K::pool().with(|pool| if pool.len() > REMEMBERED { pool.pop_front() } else { None });
    let handle = match used {
        Some(Shell(shell)) => shell.cast::<Handle<K::State>>(),
        None => Box::into_raw(Box::new(Handle { seal: AtomicU64::new(0), state: MaybeUninit::uninit() })),
    };
    // SAFETY: the memory was allocated above or for an earlier handle of the kind, whose state is gone; nobody else has it.
    unsafe { (&raw mut (*handle).state).write(MaybeUninit::new(state)) };
    // SAFETY: as above.
    unsafe { &(*handle).seal }.store(seal::<K>(), Relaxed);
    handle.cast()
}

/// What is behind a handle that is open in this process.
///
/// # Safety
///
/// The pointer is NULL, a handle, open or closed, or points to at least 8 readable bytes. No other thread changes or closes what is behind
/// it now.
#[inline(always)]
pub(crate) unsafe fn get<'a, K: Kind>(handle: *const K) -> Result<&'a K::State, Failure> {
    // SAFETY: the caller's word.
    let handle = unsafe { checked(handle) }?;
    // SAFETY: the seal is set while there is a state, and the caller says that nobody changes it.
    Ok(unsafe { (*handle).state.assume_init_ref() })
}

/// The same, to be changed.
///
/// # Safety
///
/// As for `get`, and no other thread uses the handle at all.
#[inline(always)]
pub(crate) unsafe fn get_mut<'a, K: Kind>(handle: *mut K) -> Result<&'a mut K::State, Failure> {
    // SAFETY: the caller's word.
    let handle = unsafe { checked(handle) }?;
    // SAFETY: the seal is set while there is a state, and the caller says that nobody else uses it.
    Ok(unsafe { (*handle).state.assume_init_mut() })
}

/// A pointer to a handle that is open in this process.
///
/// # Safety
///
/// As for `get`.
#[inline(always)]
unsafe fn checked<K: Kind>(handle: *const K) -> Result<*mut Handle<K::State>, Failure> {
    let handle = handle.cast_mut().cast::<Handle<K::State>>();
    if handle.is_null() || !handle.is_aligned() {
        return Err(refused::<K>(None));
    }
    // SAFETY: the caller says that it can be read.
    let found = unsafe { &(*handle).seal }.load(Relaxed);
    if found == seal::<K>() { Ok(handle) } else { Err(refused::<K>(Some(found))) }
}

/// Closes a handle; also one that was inherited by fork. NULL is none and no error.
///
/// # Safety
///
/// As for `get`.
pub(crate) unsafe fn close<K: Kind>(handle: *mut K) -> Result<(), Failure> {
    if handle.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's word.
    match unsafe { checked(handle) } {
        Ok(_) => {}
        Err(failure) if failure.code() == CONDUIT_ERROR_FORKED => {}
        Err(failure) => return Err(failure),
    }
    let shell = handle.cast::<Handle<K::State>>();
    // SAFETY: it is a handle.
    unsafe { &(*shell).seal }.store(0, Relaxed);
    // Also if the state's own end panics.
    let _returned = Returned::<K>(handle);
    // SAFETY: there is a state, and since the seal is gone nobody reads it again.
    unsafe { (*shell).state.assume_init_drop() };
    Ok(())
}

struct Returned<K: Kind>(*mut K);

impl<K: Kind> Drop for Returned<K> {
    fn drop(&mut self) {
        K::pool().with(|pool| pool.push_back(Shell(self.0.cast())));
    }
}

#[cold]
fn refused<K: Kind>(seal: Option<u64>) -> Failure {
    let name = K::NAME;
    match seal {
        Some(seal) if seal >> 32 == K::SEAL >> 32 => Failure::new(
            CONDUIT_ERROR_FORKED,
            format!("{name} belongs to the process that this one was forked from; make one here"),
        ),
        Some(_) => Failure::new(
            CONDUIT_ERROR_INVALID_HANDLE,
            format!("this is not the handle of {name}: it was closed, or is something else"),
        ),
        None => Failure::new(CONDUIT_ERROR_INVALID_HANDLE, format!("the handle of {name} is NULL or no pointer")),
    }
}
