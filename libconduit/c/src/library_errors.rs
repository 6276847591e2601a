//! The code of each error of the library.

use conduit::registry::{ErrorReply, RegistryCallError, RegistryError};
use conduit::{
    CreateError, Gone, LoanError, OpenError, RecvError, TopicNameError, TypeInfoError, UnlinkError, WaitError,
    WaitSetError,
};

use crate::error::ErrorCode::{self, *};
use crate::failure::CallFailure;

impl From<TopicNameError> for CallFailure {
    fn from(error: TopicNameError) -> Self {
        Self::of(CONDUIT_ERROR_NAME, &error)
    }
}

impl From<TypeInfoError> for CallFailure {
    fn from(error: TypeInfoError) -> Self {
        Self::of(CONDUIT_ERROR_INVALID_ARGUMENT, &error)
    }
}

impl From<CreateError> for CallFailure {
    fn from(error: CreateError) -> Self {
        let code = match &error {
            CreateError::Name(_) => CONDUIT_ERROR_NAME,
            CreateError::NotAllowed { .. } => CONDUIT_ERROR_NOT_ALLOWED,
            CreateError::Geometry(_) => CONDUIT_ERROR_SLOTS,
            CreateError::Size { .. } => CONDUIT_ERROR_SIZE,
            CreateError::NoSpace { .. } => CONDUIT_ERROR_NO_SPACE,
            CreateError::NoMemory { .. } => CONDUIT_ERROR_NO_MEMORY,
            CreateError::NotShared { .. } | CreateError::LocksDoNotLast { .. } => CONDUIT_ERROR_FILE_SYSTEM,
            CreateError::AlreadyPublished { .. } => CONDUIT_ERROR_ALREADY_PUBLISHED,
            CreateError::Kept { .. } => CONDUIT_ERROR_EXISTS,
            CreateError::Foreign { .. } => CONDUIT_ERROR_FOREIGN_FILE,
            CreateError::NotRemovable { .. } => CONDUIT_ERROR_NOT_REMOVABLE,
            CreateError::SlotTooSmall { .. } => CONDUIT_ERROR_MESSAGE_TOO_LARGE,
            CreateError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<OpenError> for CallFailure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Name(_) => CONDUIT_ERROR_NAME,
            OpenError::Pattern(_) => CONDUIT_ERROR_INVALID_ARGUMENT,
            OpenError::NotFound { .. } => CONDUIT_ERROR_NOT_FOUND,
            OpenError::Permission { .. } => CONDUIT_ERROR_PERMISSION,
            OpenError::Layout { .. } => CONDUIT_ERROR_LAYOUT,
            OpenError::Kind { .. } => CONDUIT_ERROR_WRONG_KIND,
            OpenError::TypeMismatch { .. } => CONDUIT_ERROR_TYPE_MISMATCH,
            OpenError::Orphaned { .. } => CONDUIT_ERROR_ORPHANED,
            OpenError::TooManySubscribers { .. } => CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS,
            OpenError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<LoanError> for CallFailure {
    #[cold]
    fn from(error: LoanError) -> Self {
        let code = match &error {
            LoanError::AllSlotsHeld { .. } => CONDUIT_ERROR_ALL_SLOTS_HELD,
            LoanError::MessageTooLarge { .. } => CONDUIT_ERROR_MESSAGE_TOO_LARGE,
            LoanError::WrongLength { .. } => CONDUIT_ERROR_WRONG_LENGTH,
            LoanError::Removed => CONDUIT_ERROR_REMOVED,
            LoanError::Unlinked => CONDUIT_ERROR_UNLINKED,
            LoanError::Forked => CONDUIT_ERROR_FORKED,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<RecvError> for CallFailure {
    #[cold]
    fn from(error: RecvError) -> Self {
        let code = match &error {
            RecvError::PublisherGone { how: Gone::Closed, .. } => CONDUIT_ERROR_PUBLISHER_CLOSED,
            RecvError::PublisherGone { how: Gone::Died, .. } => CONDUIT_ERROR_PUBLISHER_DIED,
            RecvError::TimedOut { .. } => CONDUIT_ERROR_TIMED_OUT,
            RecvError::Overdue { .. } => CONDUIT_ERROR_OVERDUE,
            RecvError::Invalid { .. } => CONDUIT_ERROR_INVALID_MESSAGE,
            RecvError::TypeChanged { .. } => CONDUIT_ERROR_TYPE_MISMATCH,
            RecvError::NotFollowed { .. } => CONDUIT_ERROR_NOT_FOLLOWED,
            RecvError::TooLong { .. } => CONDUIT_ERROR_MESSAGE_TOO_LARGE,
            RecvError::Stopped { .. } => CONDUIT_ERROR_STOPPED,
            RecvError::TooManyHeld { .. } => CONDUIT_ERROR_TOO_MANY_HELD,
            RecvError::Forked => CONDUIT_ERROR_FORKED,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<UnlinkError> for CallFailure {
    fn from(error: UnlinkError) -> Self {
        let code = match &error {
            UnlinkError::Name(_) => CONDUIT_ERROR_NAME,
            UnlinkError::NotFound { .. } => CONDUIT_ERROR_NOT_FOUND,
            UnlinkError::Live { .. } => CONDUIT_ERROR_LIVE,
            UnlinkError::Foreign { .. } => CONDUIT_ERROR_FOREIGN_FILE,
            UnlinkError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<WaitError> for CallFailure {
    fn from(error: WaitError) -> Self {
        let code = match &error {
            WaitError::Name(_) => CONDUIT_ERROR_NAME,
            WaitError::Stopped { .. } => CONDUIT_ERROR_STOPPED,
            WaitError::Io { .. } => CONDUIT_ERROR_IO,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<WaitSetError> for CallFailure {
    fn from(error: WaitSetError) -> Self {
        let code = match &error {
            WaitSetError::Empty => CONDUIT_ERROR_NOTHING_TO_WAIT_FOR,
            WaitSetError::Thread { .. } => CONDUIT_ERROR_IO,
            WaitSetError::Stopped => CONDUIT_ERROR_STOPPED,
            WaitSetError::Forked => CONDUIT_ERROR_FORKED,
            _ => CONDUIT_ERROR_INTERNAL,
        };
        Self::of(code, &error)
    }
}

impl From<RegistryCallError> for CallFailure {
    fn from(error: RegistryCallError) -> Self {
        let code = match &error {
            RegistryCallError::Unreachable { .. } => CONDUIT_ERROR_NO_REGISTRY,
            RegistryCallError::Connection(_) => CONDUIT_ERROR_IO,
            RegistryCallError::Stopped => CONDUIT_ERROR_STOPPED,
            RegistryCallError::Refused(reply) => refusal(reply),
            _ => CONDUIT_ERROR_REGISTRY,
        };
        Self::of(code, &error)
    }
}

/// The code of what a registry has refused.
fn refusal(reply: &ErrorReply) -> ErrorCode {
    match reply.known() {
        Some(RegistryError::TopicNotFound { .. }) => CONDUIT_ERROR_NOT_FOUND,
        Some(RegistryError::TopicInUse { .. }) => CONDUIT_ERROR_LIVE,
        Some(RegistryError::NotOwner { .. }) => CONDUIT_ERROR_PERMISSION,
        Some(RegistryError::InvalidTopic { .. }) => CONDUIT_ERROR_NAME,
        _ => CONDUIT_ERROR_REGISTRY,
    }
}
