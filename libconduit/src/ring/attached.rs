//! A subscriber's reader: of a writable mapping, where it has a record and can pin slots, or of a
//! read-only one, where it can only copy. The two are different types, so that nothing can write
//! through a read-only mapping.

#[cfg(test)]
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::end::Gone;
use super::memory::Memory;
use super::reader::{Peeked, Reader, ReceiveMode, Received};
use super::sleeper::{Sleep, Sleeper};
use super::slot::mapped::MappedRing;
use crate::mutation::step;
use crate::shm::atomics::AtomicLoad;
use crate::shm::futex::FutexWord;
use crate::shm::map::ReadOnly;
use crate::shm::region_file::RegionFile;
use crate::shm::stop_word::StopWord;

/// Does the same with either form.
macro_rules! either {
    ($form:expr, $it:ident => $then:expr) => {
        match $form {
            Self::Writable($it) => $then,
            Self::ReadOnly($it) => $then,
        }
    };
}

/// Methods of the same name in either form.
macro_rules! delegate {
    ($($(#[$attribute:meta])* $vis:vis fn $name:ident(&self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*) => {$(
        $(#[$attribute])*
        $vis fn $name(&self $(, $argument: $type)*) $(-> $result)? {
            either!(self, it => it.$name($($argument),*))
        }
    )*};
}

/// A reader of a mapped ring.
#[derive(Debug)]
pub(crate) enum AttachedReader {
    Writable(Reader<MappedRing>),
    ReadOnly(Reader<MappedRing<ReadOnly>>),
}

/// A mode that works with either form.
pub(crate) trait AttachedMode: ReceiveMode<MappedRing> + ReceiveMode<MappedRing<ReadOnly>> {
    /// Whether a message that is received holds its slot.
    const HOLDS: bool = <Self as ReceiveMode<MappedRing>>::PINS;
}

impl<T: ReceiveMode<MappedRing> + ReceiveMode<MappedRing<ReadOnly>>> AttachedMode for T {}

impl AttachedReader {
    pub(crate) fn sleeper(&self) -> AttachedSleeper {
        match self {
            Self::Writable(reader) => AttachedSleeper::Writable(reader.sleeper().clone()),
            Self::ReadOnly(reader) => AttachedSleeper::ReadOnly(reader.sleeper().clone()),
        }
    }

    /// See [`MappedRing::is_foreign`].
    #[inline(always)]
    pub(crate) fn is_foreign(&self) -> bool {
        either!(self, reader => reader.memory().is_foreign())
    }

    /// See [`Reader::count_from_first`].
    pub(crate) fn count_from_first(&mut self) {
        either!(self, reader => reader.count_from_first());
    }

    /// See [`Reader::count_received`].
    pub(crate) fn count_received(&mut self) {
        either!(self, reader => reader.count_received());
    }

    /// See [`Reader::peek`].
    pub(crate) fn peek(&mut self) -> Option<Peeked> {
        either!(self, reader => reader.peek())
    }

    /// Says that this reader receives no more messages.
    pub(crate) fn detach(&self) {
        if let Self::Writable(reader) = self {
            step!(detach, reader.memory().unsign());
        }
    }

    delegate! {
        pub(crate) fn lost(&self) -> u64;
        pub(crate) fn skipped(&self) -> u64;
        pub(crate) fn received(&self) -> u64;
        pub(crate) fn has_ended(&self) -> Option<Gone>;
        pub(crate) fn has_news(&self) -> bool;
        pub(crate) fn held(&self) -> u32;
        pub(crate) fn slots(&self) -> u32;
        pub(crate) fn horizon(&self) -> u64;
        pub(crate) fn sleep(&self, timeout: Duration, stop: Option<&StopWord>) -> bool;
        #[inline(always)]
        pub(crate) fn note_progress(&self);
    }

    /// See [`Reader::receive_next`].
    #[inline(always)]
    pub(crate) fn receive_next(&mut self, mode: &mut impl AttachedMode) -> Option<Received> {
        either!(self, reader => reader.receive_next(mode))
    }

    /// See [`Reader::receive_or_end`].
    #[inline]
    pub(crate) fn receive_or_end(
        &mut self,
        mode: &mut impl AttachedMode,
        is_dead: impl FnOnce() -> Option<bool>,
    ) -> Result<Option<Received>, Gone> {
        either!(self, reader => reader.receive_or_end(mode, is_dead))
    }
}

/// Sleeps for an [`AttachedReader`].
#[derive(Clone, Debug)]
pub(crate) enum AttachedSleeper {
    Writable(Sleeper<MappedRing>),
    ReadOnly(Sleeper<MappedRing<ReadOnly>>),
}

impl AttachedSleeper {
    /// See [`MappedRing::is_foreign`].
    pub(crate) fn is_foreign(&self) -> bool {
        either!(self, sleeper => sleeper.memory().is_foreign())
    }

    /// See [`MappedRing::file`].
    pub(crate) fn file(&self) -> &RegionFile {
        either!(self, sleeper => sleeper.memory().file())
    }

    /// The word to sleep on.
    pub(crate) fn wake_word(&self) -> FutexWord<'_> {
        either!(self, sleeper => (&sleeper.memory().consumers().wake).into())
    }

    /// The wake word.
    pub(crate) fn wake(&self) -> u32 {
        either!(self, sleeper => sleeper.memory().consumers().wake.load(Relaxed))
    }

    /// The subscribers of the topic that are about to sleep, one bit per record.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> u64 {
        either!(self, sleeper => sleeper.memory().consumers().waiting.load(Acquire))
    }

    delegate! {
        pub(crate) fn can_be_woken(&self) -> bool;
        pub(crate) fn cursor(&self) -> u64;
        pub(crate) fn stamp_ns(&self, position: u64) -> Option<u64>;
        pub(crate) fn has_ended(&self) -> Option<Gone>;
        #[cfg(test)]
        pub(crate) fn sleep(&self, timeout: Duration, stop: Option<&StopWord>) -> bool;
        pub(crate) fn rouse(&self);
    }
}

impl Sleep for AttachedSleeper {
    delegate! {
        fn enter(&self);
        fn announce(&self) -> u32;
        fn leave(&self);
        fn has_news(&self) -> bool;
    }
}
