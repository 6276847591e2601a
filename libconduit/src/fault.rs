//! Kills this process at a chosen step of the protocol: for tests, and only with the feature `fault-injection`.
//!
//! `CONDUIT_FAULT=PublishReadable:3` is a SIGKILL when that step is reached for the third time. Every step stands once or
//! more in the sources as `fault::point(Step::...)`; the end-to-end tests kill a process at each of [`Step::ALL`] and fail
//! if one is never reached. Without the feature a point is nothing.
#![cfg_attr(not(feature = "fault-injection"), allow(unreachable_pub, reason = "nobody reaches it without the feature"))]

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident,)*) => {
        /// A step at which a process can be made to die. The points lie just behind what their names say.
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
    /// It is marked as ours.
    CreateMarked,
    /// Its owner lock is taken and the memory mapped.
    CreateLocked,
    /// The registry knows of it, if there is one.
    CreateRegistered,
    /// It has its name.
    CreateLinked,
    /// A dead owner's file was met under the name, and its lock taken.
    TakeoverLocked,
    /// A dead owner's subscribers are told.
    OrphanMarked,
    /// The dead owner's name is free.
    TakeoverRemoved,
    /// A name was changed to a private one.
    RemoveRenamed,
    /// The private name stands for the right file.
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
    /// W7: the sleepers are taken off the list.
    PublishTaken,
    /// W8: the wake word has changed.
    PublishChanged,
    /// The sleepers are awake.
    PublishWoken,
    /// W1: the next slot is claimed, if nobody holds it.
    PublishClaimed,
    /// The lock of a dead subscriber's record is taken.
    ReclaimLocked,
    /// What it held is free.
    ReclaimCleared,
    /// A publisher is being dropped.
    CloseBegun,
    /// E1: the topic is closed.
    CloseMarked,
    /// The sleepers know.
    CloseWoken,
    /// The name of the closed topic is gone.
    CloseRemoved,
    /// The registry knows.
    CloseReleased,
    /// The lock of a free record is taken.
    RecordLocked,
    /// The region is mapped with it.
    RecordMapped,
    /// The record is signed.
    RecordSigned,
    /// What its last holder left is cleared.
    RecordCleared,
    /// The registry knows of the subscriber, if there is one.
    RecordAttached,
    /// R2: the own bit is set.
    PinSet,
    /// R3: the position is still the same.
    PinChecked,
    /// The sample is about to be given back.
    UnpinBegun,
    /// R5: the own bit is cleared.
    UnpinCleared,
    /// S2: the own bit is on the list of sleepers.
    SleepAnnounced,
    /// The registry knows that a subscriber leaves.
    RecordReleased,
    /// The record is signed off; its lock is still held.
    RecordUnsigned,
    /// A raw region is being dropped by its creator.
    KeepBegun,
    /// It is marked as kept.
    KeepMarked,
    /// A raw region's name is about to be removed.
    UnlinkBegun,
}

/// Dies here if this step was chosen.
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
