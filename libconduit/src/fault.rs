//! Fault injection: kills this process at a chosen step of the protocol. Only with the feature
//! `fault-injection`, for tests.
//!
//! `CONDUIT_FAULT=PublishReadable:3` raises SIGKILL when that step is reached for the third time.
//! Every step is marked in the sources, at least once, by `fault::point(Step::...)`. The end-to-end
//! tests kill a process at each of [`Step::ALL`] and fail if a step is never reached. Without the
//! feature an injection point compiles to nothing.
#![cfg_attr(not(feature = "fault-injection"), allow(unreachable_pub, reason = "unreachable without the feature"))]

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident,)*) => {
        /// A step at which a process can be killed. The injection point is just after the step.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Step {
            $($(#[$doc])* $step,)*
        }

        #[cfg(feature = "fault-injection")]
        impl Step {
            /// All steps.
            pub const ALL: &[Self] = &[$(Self::$step,)*];
        }
    };
}

steps! {
    /// A region's file exists, without a name.
    CreateMade,
    /// Its memory is reserved.
    CreateReserved,
    /// Its control page is written.
    CreateWritten,
    /// It is marked as Conduit's.
    CreateMarked,
    /// Its owner lock is taken and the memory mapped.
    CreateLocked,
    /// It is registered, if there is a registry.
    CreateRegistered,
    /// It has its name.
    CreateLinked,
    /// A dead owner's file was found under the name, and its lock taken.
    TakeoverLocked,
    /// A dead owner's topic is marked, and its subscribers are woken.
    OrphanMarked,
    /// The dead owner's name is free.
    TakeoverRemoved,
    /// A name was renamed to a private one.
    RemoveRenamed,
    /// The private name refers to the right file.
    RemoveChecked,
    /// The private name is gone.
    RemoveUnlinked,
    /// A private name that a killed remover left is about to be finished.
    RemoveFinishing,
    /// W2: a slot is claimed.
    ClaimTaken,
    /// The message and its header are written.
    PublishWritten,
    /// W4: the position is readable.
    PublishReadable,
    /// W5: the message is counted.
    PublishCounted,
    /// W6: head has moved.
    PublishMoved,
    /// W7: the bits of the sleepers are taken.
    PublishTaken,
    /// W8: the wake word has changed.
    PublishChanged,
    /// The sleepers are awake.
    PublishWoken,
    /// W1: the next slot is claimed, unless a reader holds it.
    PublishClaimed,
    /// The lock of a dead subscriber's record is taken.
    ReclaimLocked,
    /// The slots that it held are released.
    ReclaimCleared,
    /// A publisher is being dropped.
    CloseBegun,
    /// E1: the topic is closed.
    CloseMarked,
    /// The sleepers are woken.
    CloseWoken,
    /// The name of the closed topic is gone.
    CloseRemoved,
    /// The lease is released.
    CloseReleased,
    /// The lock of a free record is taken.
    RecordLocked,
    /// The region is mapped with it.
    RecordMapped,
    /// The record is signed.
    RecordSigned,
    /// The bits of its previous holder are cleared.
    RecordCleared,
    /// The second lock of the record is taken: the subscriber is attached.
    RecordAttached,
    /// The registry knows of it, if there is one.
    RecordRegistered,
    /// R2: the reader's bit is set.
    PinSet,
    /// R3: the position is unchanged.
    PinChecked,
    /// The sample is about to be given back.
    UnpinBegun,
    /// R5: the own bit is cleared.
    UnpinCleared,
    /// S2: the reader's bit is among the sleepers.
    SleepAnnounced,
    /// The lease of a subscriber is released.
    RecordReleased,
    /// The record is cleared; its lock is still held.
    RecordUnsigned,
    /// A raw region is being dropped by its creator.
    KeepBegun,
    /// It is marked as kept.
    KeepMarked,
    /// A raw region's name is about to be removed.
    UnlinkBegun,
}

/// Kills this process if this step was chosen.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn point(_: Step) {}

#[cfg(feature = "fault-injection")]
pub use armed::arm;
#[cfg(feature = "fault-injection")]
pub(crate) use armed::point;

#[cfg(feature = "fault-injection")]
mod armed {
    use std::sync::Once;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::Step;

    const NONE: u32 = u32::MAX;
    static CHOSEN: AtomicU32 = AtomicU32::new(NONE);
    static LEFT: AtomicU32 = AtomicU32::new(0);
    static FROM_ENV: Once = Once::new();

    /// Chooses a step: its name, and which time, as in `CONDUIT_FAULT`.
    ///
    /// # Panics
    ///
    /// If there is no such step.
    pub fn arm(fault: &str) {
        FROM_ENV.call_once(|| ());
        let (name, times) = fault.split_once(':').unwrap_or((fault, "1"));
        let step = Step::ALL.iter().find(|step| format!("{step:?}") == name).expect("a step's name");
        LEFT.store(times.parse().expect("a number of times"), Relaxed);
        CHOSEN.store(*step as u32, Relaxed);
    }

    #[inline]
    pub(crate) fn point(step: Step) {
        if !FROM_ENV.is_completed()
            && let Some(fault) = std::env::var_os("CONDUIT_FAULT")
        {
            arm(fault.to_str().expect("a step's name"));
        }
        FROM_ENV.call_once(|| ());
        if CHOSEN.load(Relaxed) == step as u32 && LEFT.fetch_sub(1, Relaxed) == 1 {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            std::process::abort();
        }
    }
}
