//! Handles: what the pointers that C has point to, and how a wrong one is recognised.
//!
//! A handle begins with a seal: a word that identifies the kind of handle and the process that
//! opened it (by counting forks). The memory of a closed handle is reused for handles of the same
//! kind only, so that its seal can still be read: closing a handle twice is an error, not a crash.

use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use conduit::internal::shm::fork;

use crate::error::ErrorCode::{
    self, CONDUIT_ERROR_BUSY, CONDUIT_ERROR_FORKED, CONDUIT_ERROR_INVALID_HANDLE, CONDUIT_OK,
};
use crate::failure::{self, CallFailure};

/// Differs between the seal of a handle and that of the same handle while it is locked.
const BUSY: u64 = 1 << 63;

/// At least so many closed handles of a kind are kept before one of them is reused.
const KEPT_CLOSED: usize = 64;

/// A kind of handle. The type that implements it is opaque in C.
pub(crate) trait HandleKind {
    /// What an open handle points to.
    type State: 'static;
    /// A word that is unlikely to occur elsewhere in memory; its lower half is 0.
    const SEAL: u64;
    /// The name of the kind in messages, with its article.
    const NAME: &'static str;

    fn pool() -> &'static HandlePool;
}

#[repr(C)]
struct HandleMemory<T> {
    seal: AtomicU64,
    /// Initialised while the seal is set.
    state: MaybeUninit<T>,
}

/// The memory of the closed handles of a kind, the longest closed first.
#[derive(Debug)]
pub(crate) struct HandlePool(Mutex<VecDeque<ClosedHandle>>);

/// A `HandleMemory` from a box, without a state.
#[derive(Debug)]
struct ClosedHandle(*mut ());

// SAFETY: a closed handle has no state, and only the pool has it: any thread may reuse it.
unsafe impl Send for ClosedHandle {}

impl HandlePool {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    /// Other threads cannot fork meanwhile: a child never inherits the lock in its locked state.
    fn with<R>(&self, action: impl FnOnce(&mut VecDeque<ClosedHandle>) -> R) -> R {
        let _no_fork = fork::ForkGuard::new();
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[inline]
fn seal<K: HandleKind>() -> u64 {
    K::SEAL ^ u64::from(fork::generation())
}

/// Opens a handle.
pub(crate) fn open<K: HandleKind>(state: K::State) -> *mut K {
    fork::watched_generation();
    let closed = K::pool().with(|pool| if pool.len() > KEPT_CLOSED { pool.pop_front() } else { None });
    let handle = match closed {
        Some(ClosedHandle(memory)) => memory.cast::<HandleMemory<K::State>>(),
        None => Box::into_raw(Box::new(HandleMemory { seal: AtomicU64::new(0), state: MaybeUninit::uninit() })),
    };
    // SAFETY: the memory comes from a box of this type, and is neither in the pool nor in use.
    unsafe { (&raw mut (*handle).state).write(MaybeUninit::new(state)) };
    // SAFETY: as above. The seal is only accessed atomically, so shared references to it are fine.
    unsafe { &(*handle).seal }.store(seal::<K>(), Relaxed);
    handle.cast()
}

/// The state behind a handle that is open in this process.
///
/// # Safety
///
/// `handle` is NULL, misaligned, was returned by [`open`] for a handle of any kind, or points to 8
/// readable bytes. No other thread changes or closes the handle during `'a`.
#[inline(always)]
pub(crate) unsafe fn state<'a, K: HandleKind>(handle: *const K) -> Result<&'a K::State, CallFailure> {
    // SAFETY: as the caller vouches.
    let handle = unsafe { checked(handle) }?;
    // SAFETY: the seal is set, so the state is initialised; the caller says that it does not
    // change.
    Ok(unsafe { (*handle).state.assume_init_ref() })
}

/// As [`state`], also in a child of the process that opened the handle: for states that are whole
/// in its copy of the memory. Allocates nothing if it succeeds.
///
/// # Safety
///
/// As for [`state`].
pub(crate) unsafe fn inherited<'a, K: HandleKind>(handle: *const K) -> Result<&'a K::State, CallFailure> {
    let memory = handle.cast::<HandleMemory<K::State>>();
    if memory.is_null() || !memory.is_aligned() {
        return Err(refused::<K>(None));
    }
    // SAFETY: not NULL, aligned, and readable as the caller vouches.
    let found = unsafe { &(*memory).seal }.load(Relaxed);
    if found >> 32 != K::SEAL >> 32 {
        return Err(refused::<K>(Some(found)));
    }
    // SAFETY: the seal is one of this kind, set here or in an ancestor, so the state is
    // initialised; the caller says that it does not change.
    Ok(unsafe { (*memory).state.assume_init_ref() })
}

/// As [`state`], to be changed.
///
/// # Safety
///
/// As for [`state`], and no other thread uses the handle at all during `'a`.
#[inline(always)]
pub(crate) unsafe fn state_mut<'a, K: HandleKind>(handle: *mut K) -> Result<&'a mut K::State, CallFailure> {
    // SAFETY: as the caller vouches.
    let handle = unsafe { checked(handle) }?;
    // SAFETY: the seal is set, so the state is initialised; the caller says that it is used here
    // alone.
    Ok(unsafe { (*handle).state.assume_init_mut() })
}

/// The state behind a handle, which is refused to every other call for as long as this lives: also
/// to those that a function of the caller makes while it is called back.
pub(crate) struct Locked<'a, K: HandleKind> {
    state: &'a mut K::State,
    seal: &'a AtomicU64,
    /// The seal to restore, which another process's would be if a callback forks.
    open: u64,
}

/// As [`state_mut`], for functions that call back.
///
/// # Safety
///
/// As for [`state_mut`].
#[inline(always)]
pub(crate) unsafe fn lock<'a, K: HandleKind>(handle: *mut K) -> Result<Locked<'a, K>, CallFailure> {
    // SAFETY: as the caller vouches.
    let memory = unsafe { checked(handle) }?;
    // SAFETY: as for the state below. Shared references to the seal are fine.
    let seal = unsafe { &(*memory).seal };
    // SAFETY: the seal is set, so the state is initialised; the caller says that it is used here
    // alone, and calls of the same thread find another seal.
    let state = unsafe { (*memory).state.assume_init_mut() };
    let open = seal.load(Relaxed);
    seal.store(open ^ BUSY, Relaxed);
    Ok(Locked { state, seal, open })
}

impl<K: HandleKind> Drop for Locked<'_, K> {
    #[inline(always)]
    fn drop(&mut self) {
        self.seal.store(self.open, Relaxed);
    }
}

impl<K: HandleKind> Deref for Locked<'_, K> {
    type Target = K::State;

    #[inline(always)]
    fn deref(&self) -> &K::State {
        self.state
    }
}

impl<K: HandleKind> DerefMut for Locked<'_, K> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut K::State {
        self.state
    }
}

/// The body of a function that returns a property of a handle: `otherwise` if it fails.
///
/// # Safety
///
/// As for [`state`], during the call.
#[inline(always)]
pub(crate) unsafe fn property<K: HandleKind, T>(
    handle: *const K,
    otherwise: T,
    read: impl FnOnce(&K::State) -> T,
) -> T {
    // SAFETY: as the caller vouches.
    failure::get(otherwise, || Ok(read(unsafe { state(handle) }?)))
}

/// The body of a function that closes a handle, which may be inherited by fork. NULL is accepted.
///
/// # Safety
///
/// As for [`state_mut`], during the call.
pub(crate) unsafe fn close<K: HandleKind>(handle: *mut K) -> ErrorCode {
    failure::call(|| {
        if handle.is_null() {
            return Ok(CONDUIT_OK);
        }
        // SAFETY: as the caller vouches.
        match unsafe { checked(handle) } {
            Err(failure) if failure.code() != CONDUIT_ERROR_FORKED => return Err(failure),
            _ => {}
        }
        let memory = handle.cast::<HandleMemory<K::State>>();
        // SAFETY: its seal is one of this kind, set here or in an ancestor, so it is from `open`.
        unsafe { &(*memory).seal }.store(0, Relaxed);
        // Also if the destructor of the state panics.
        let _returned = ReturnToPool::<K>(handle);
        // SAFETY: the seal was set, so the state is initialised; now that it is not, no call uses
        // it again.
        unsafe { (*memory).state.assume_init_drop() };
        Ok(CONDUIT_OK)
    })
}

/// A pointer to a handle that is open in this process.
///
/// # Safety
///
/// As for [`state`], during the call.
#[inline(always)]
unsafe fn checked<K: HandleKind>(handle: *const K) -> Result<*mut HandleMemory<K::State>, CallFailure> {
    let memory = handle.cast_mut().cast::<HandleMemory<K::State>>();
    if memory.is_null() || !memory.is_aligned() {
        return Err(refused::<K>(None));
    }
    // SAFETY: not NULL, aligned, and readable as the caller vouches: handles are never freed.
    let found = unsafe { &(*memory).seal }.load(Relaxed);
    if found == seal::<K>() { Ok(memory) } else { Err(refused::<K>(Some(found))) }
}

struct ReturnToPool<K: HandleKind>(*mut K);

impl<K: HandleKind> Drop for ReturnToPool<K> {
    fn drop(&mut self) {
        K::pool().with(|pool| pool.push_back(ClosedHandle(self.0.cast())));
    }
}

#[cold]
fn refused<K: HandleKind>(seal: Option<u64>) -> CallFailure {
    let name = K::NAME;
    match seal {
        Some(seal) if seal >> 32 == K::SEAL >> 32 => CallFailure::new(
            CONDUIT_ERROR_FORKED,
            format!("the handle of {name} belongs to the process that this one was forked from; open one here"),
        ),
        Some(seal) if (seal ^ BUSY) >> 32 == K::SEAL >> 32 => CallFailure::new(
            CONDUIT_ERROR_BUSY,
            format!("the handle of {name} is in use: one of its functions is calling back; use it after that returns"),
        ),
        Some(_) => CallFailure::new(
            CONDUIT_ERROR_INVALID_HANDLE,
            format!("this is not the handle of {name}: it was closed, or it is something else"),
        ),
        None => CallFailure::new(CONDUIT_ERROR_INVALID_HANDLE, format!("the handle of {name} is NULL or misaligned")),
    }
}
