// SPDX-License-Identifier: MIT OR Apache-2.0
// Errors, exceptions and results. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_ERROR
#define CONDUIT_HPP_ERROR

#include "../conduit.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace conduit {

/// The kind of an error. The numbers are those of conduit_error in conduit.h; later versions may add
/// kinds.
enum class ErrorCode : std::int32_t {
    ok = CONDUIT_OK,
    invalid_argument = CONDUIT_ERROR_INVALID_ARGUMENT,
    invalid_handle = CONDUIT_ERROR_INVALID_HANDLE,
    forked = CONDUIT_ERROR_FORKED,
    internal = CONDUIT_ERROR_INTERNAL,
    io = CONDUIT_ERROR_IO,
    busy = CONDUIT_ERROR_BUSY,
    name = CONDUIT_ERROR_NAME,
    not_allowed = CONDUIT_ERROR_NOT_ALLOWED,
    slots = CONDUIT_ERROR_SLOTS,
    size = CONDUIT_ERROR_SIZE,
    no_space = CONDUIT_ERROR_NO_SPACE,
    no_memory = CONDUIT_ERROR_NO_MEMORY,
    file_system = CONDUIT_ERROR_FILE_SYSTEM,
    already_published = CONDUIT_ERROR_ALREADY_PUBLISHED,
    exists = CONDUIT_ERROR_EXISTS,
    foreign_file = CONDUIT_ERROR_FOREIGN_FILE,
    not_removable = CONDUIT_ERROR_NOT_REMOVABLE,
    not_found = CONDUIT_ERROR_NOT_FOUND,
    permission = CONDUIT_ERROR_PERMISSION,
    layout = CONDUIT_ERROR_LAYOUT,
    wrong_kind = CONDUIT_ERROR_WRONG_KIND,
    type_mismatch = CONDUIT_ERROR_TYPE_MISMATCH,
    orphaned = CONDUIT_ERROR_ORPHANED,
    too_many_subscribers = CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS,
    live = CONDUIT_ERROR_LIVE,
    all_slots_held = CONDUIT_ERROR_ALL_SLOTS_HELD,
    message_too_large = CONDUIT_ERROR_MESSAGE_TOO_LARGE,
    wrong_length = CONDUIT_ERROR_WRONG_LENGTH,
    removed = CONDUIT_ERROR_REMOVED,
    unlinked = CONDUIT_ERROR_UNLINKED,
    loan_out = CONDUIT_ERROR_LOAN_OUT,
    no_loan = CONDUIT_ERROR_NO_LOAN,
    publisher_closed = CONDUIT_ERROR_PUBLISHER_CLOSED,
    publisher_died = CONDUIT_ERROR_PUBLISHER_DIED,
    invalid_message = CONDUIT_ERROR_INVALID_MESSAGE,
    no_sample = CONDUIT_ERROR_NO_SAMPLE,
    nothing_to_wait_for = CONDUIT_ERROR_NOTHING_TO_WAIT_FOR,
    not_followed = CONDUIT_ERROR_NOT_FOLLOWED,
    too_many_held = CONDUIT_ERROR_TOO_MANY_HELD,
    stopped = CONDUIT_ERROR_STOPPED,
    overdue = CONDUIT_ERROR_OVERDUE,
    no_registry = CONDUIT_ERROR_NO_REGISTRY,
    registry = CONDUIT_ERROR_REGISTRY,
};

/// What a code means in general, such as "does not exist". A static string.
[[nodiscard]] inline const char* to_string(ErrorCode code) noexcept {
    return conduit_error_string(static_cast<conduit_error>(code));
}

/// The version of the library that the program runs with, such as "0.1.0". A static string.
[[nodiscard]] inline const char* version() noexcept {
    return conduit_version();
}

/// Why a call failed.
struct Failure {
    ErrorCode code = ErrorCode::ok;  ///< The kind of error.
    int system_errno = 0;            ///< The errno if a system call failed, or else 0.
    std::string message;             ///< What happened, to what, and what to do; one line.
};

/// The base of all exceptions that Conduit throws. what() says what happened, to what, and what to do.
class Error : public std::runtime_error {
public:
    explicit Error(const Failure& failure)
        : std::runtime_error(failure.message), code_(failure.code), system_errno_(failure.system_errno) {}

    /// The kind of error.
    [[nodiscard]] ErrorCode code() const noexcept { return code_; }

    /// The errno if a system call failed, or else 0.
    [[nodiscard]] int system_errno() const noexcept { return system_errno_; }

private:
    ErrorCode code_;
    int system_errno_;
};

/// An option is invalid.
struct InvalidArgument : Error { using Error::Error; };
/// The object is not open: it was closed, moved from, or default-constructed.
struct InvalidHandle : Error { using Error::Error; };
/// The loan was published, discarded or moved from, or its publisher was closed.
struct NoLoan : InvalidHandle { using InvalidHandle::InvalidHandle; };
/// The sample was released or moved from, or no message was received.
struct NoSample : InvalidHandle { using InvalidHandle::InvalidHandle; };
/// The object belongs to the process that this one was forked from.
struct Forked : Error { using Error::Error; };
/// A bug in the library; please report the message.
struct Internal : Error { using Error::Error; };
/// A system call failed; system_errno() returns its errno.
struct IoError : Error { using Error::Error; };
/// A function of the object is calling back: use it after that function has returned.
struct Busy : Error { using Error::Error; };
/// The name is not valid: it consists of segments of A-Z a-z 0-9 _ - with / between them, none of
/// which begins with -, at most 200 bytes.
struct InvalidName : Error { using Error::Error; };
/// The registry's rules do not allow this process to publish the topic.
struct NotAllowed : Error { using Error::Error; };
/// The number or the size of the slots is invalid.
struct InvalidSlots : Error { using Error::Error; };
/// The size of the region is invalid.
struct InvalidSize : Error { using Error::Error; };
/// The shared-memory directory has not enough room.
struct NoSpace : Error { using Error::Error; };
/// The memory limit of this process's cgroup does not leave enough memory.
struct NoMemory : Error { using Error::Error; };
/// The shared-memory directory is not on a tmpfs, or its file system does not keep locks.
struct UnsuitableFileSystem : Error { using Error::Error; };
/// A live process publishes the topic, or has the region open that it created; what() says which.
struct AlreadyPublished : Error { using Error::Error; };
/// The region exists already: its creator closed it and its name was kept. Open it, or unlink it first.
struct AlreadyExists : Error { using Error::Error; };
/// The name is taken by a file that Conduit did not create.
struct ForeignFile : Error { using Error::Error; };
/// The region is an orphan that this user has no permission to remove; conduitd would remove it.
struct NotRemovable : Error { using Error::Error; };
/// There is no such topic or region.
struct NotFound : Error { using Error::Error; };
/// The permissions of the region's file do not allow this user to open it.
struct PermissionDenied : Error { using Error::Error; };
/// The region is damaged, or has another version of the layout.
struct LayoutError : Error { using Error::Error; };
/// It is a raw region and not a topic, or the reverse.
struct WrongKind : Error { using Error::Error; };
/// Publisher and subscriber have different message types.
struct TypeMismatch : Error { using Error::Error; };
/// The topic is an orphan: its publisher has died. Open it again when the publisher is back.
struct Orphaned : Error { using Error::Error; };
/// The topic has the largest possible number of subscribers.
struct TooManySubscribers : Error { using Error::Error; };
/// The topic cannot be unlinked while its publisher is alive.
struct TopicIsLive : Error { using Error::Error; };
/// Subscribers hold every slot: drop the message, or try again.
struct AllSlotsHeld : Error { using Error::Error; };
/// The subscriber holds as many samples as it may: release some. The message was not received.
struct TooManyHeld : Error { using Error::Error; };
/// No message has come within the deadline of the subscriber. Once per silence; the next call waits on.
struct Overdue : Error { using Error::Error; };
/// The message does not fit into a slot: create the topic with a larger capacity.
struct MessageTooLarge : Error { using Error::Error; };
/// The length is not valid for the message type.
struct WrongLength : Error { using Error::Error; };
/// Another process removed the topic: close the publisher, and create it again if needed.
struct TopicRemoved : Error { using Error::Error; };
/// Another process unlinked the topic. Thrown once: the next call publishes to the subscribers that
/// have the topic open.
struct TopicUnlinked : Error { using Error::Error; };
/// The publisher has a loan: publish or discard it first.
struct LoanOut : Error { using Error::Error; };
/// There are no more messages, and every message has been received. Open the topic again when its
/// publisher is back.
struct PublisherGone : Error { using Error::Error; };
/// The publisher closed the topic, and every message has been received.
struct PublisherClosed : PublisherGone { using PublisherGone::PublisherGone; };
/// The publisher died, and every message has been received.
struct PublisherDied : PublisherGone { using PublisherGone::PublisherGone; };
/// The length of the message is not valid for its type. It counts as received; the next may be valid.
struct InvalidMessage : Error { using Error::Error; };
/// Nothing can ever end the wait: the wait set has no subscribers, no timers and no wakers.
struct NothingToWaitFor : Error { using Error::Error; };
/// A subscriber that follows cannot subscribe to the publisher that has appeared. It tries again.
struct NotFollowed : Error { using Error::Error; };
/// What waits was stopped: see Stop.
struct Stopped : Error { using Error::Error; };
/// No registry (conduitd) is running.
struct NoRegistry : Error { using Error::Error; };
/// The registry refused the call, or its reply was invalid.
struct RegistryError : Error { using Error::Error; };

namespace detail {

struct Access;

/// Throws the class that belongs to the code of a failure.
[[noreturn, gnu::cold, gnu::noinline]] inline void raise(const Failure& failure) {
#if defined(__cpp_exceptions)
    switch (failure.code) {
        case ErrorCode::invalid_argument: throw InvalidArgument(failure);
        case ErrorCode::invalid_handle: throw InvalidHandle(failure);
        case ErrorCode::forked: throw Forked(failure);
        case ErrorCode::internal: throw Internal(failure);
        case ErrorCode::io: throw IoError(failure);
        case ErrorCode::busy: throw Busy(failure);
        case ErrorCode::name: throw InvalidName(failure);
        case ErrorCode::not_allowed: throw NotAllowed(failure);
        case ErrorCode::slots: throw InvalidSlots(failure);
        case ErrorCode::size: throw InvalidSize(failure);
        case ErrorCode::no_space: throw NoSpace(failure);
        case ErrorCode::no_memory: throw NoMemory(failure);
        case ErrorCode::file_system: throw UnsuitableFileSystem(failure);
        case ErrorCode::already_published: throw AlreadyPublished(failure);
        case ErrorCode::exists: throw AlreadyExists(failure);
        case ErrorCode::foreign_file: throw ForeignFile(failure);
        case ErrorCode::not_removable: throw NotRemovable(failure);
        case ErrorCode::not_found: throw NotFound(failure);
        case ErrorCode::permission: throw PermissionDenied(failure);
        case ErrorCode::layout: throw LayoutError(failure);
        case ErrorCode::wrong_kind: throw WrongKind(failure);
        case ErrorCode::type_mismatch: throw TypeMismatch(failure);
        case ErrorCode::orphaned: throw Orphaned(failure);
        case ErrorCode::too_many_subscribers: throw TooManySubscribers(failure);
        case ErrorCode::live: throw TopicIsLive(failure);
        case ErrorCode::all_slots_held: throw AllSlotsHeld(failure);
        case ErrorCode::message_too_large: throw MessageTooLarge(failure);
        case ErrorCode::wrong_length: throw WrongLength(failure);
        case ErrorCode::removed: throw TopicRemoved(failure);
        case ErrorCode::unlinked: throw TopicUnlinked(failure);
        case ErrorCode::loan_out: throw LoanOut(failure);
        case ErrorCode::no_loan: throw NoLoan(failure);
        case ErrorCode::publisher_closed: throw PublisherClosed(failure);
        case ErrorCode::publisher_died: throw PublisherDied(failure);
        case ErrorCode::invalid_message: throw InvalidMessage(failure);
        case ErrorCode::no_sample: throw NoSample(failure);
        case ErrorCode::nothing_to_wait_for: throw NothingToWaitFor(failure);
        case ErrorCode::not_followed: throw NotFollowed(failure);
        case ErrorCode::too_many_held: throw TooManyHeld(failure);
        case ErrorCode::stopped: throw Stopped(failure);
        case ErrorCode::overdue: throw Overdue(failure);
        case ErrorCode::no_registry: throw NoRegistry(failure);
        case ErrorCode::registry: throw RegistryError(failure);
        case ErrorCode::ok: break;
    }
    // A code of a later version of the library.
    throw Error(failure);
#else
    std::fprintf(stderr, "conduit: %s\n", failure.message.c_str());
    std::abort();
#endif
}

/// The failure of the call that has just returned this code on this thread.
[[gnu::cold, gnu::noinline]] inline Failure failure_of(conduit_error code) {
    // The handle of a C++ object is NULL or open.
    if (code == CONDUIT_ERROR_INVALID_HANDLE) {
        return {ErrorCode::invalid_handle, 0, "the object is not open: it was closed, moved from, or never opened"};
    }
    return {static_cast<ErrorCode>(code), conduit_last_error_errno(), conduit_last_error_message()};
}

[[noreturn, gnu::cold, gnu::noinline]] inline void raise_last(conduit_error code) {
    raise(failure_of(code));
}

[[gnu::cold, gnu::noinline]] inline Failure no_loan() {
    return {ErrorCode::no_loan, 0,
            "there is no loan: it was published, discarded or moved from, or its publisher was closed"};
}

[[gnu::cold, gnu::noinline]] inline Failure no_sample() {
    return {ErrorCode::no_sample, 0, "there is no message: it was released or moved from, or none was received"};
}

inline void check(conduit_error code) {
    if (__builtin_expect(code != CONDUIT_OK, 0)) {
        raise_last(code);
    }
}

}  // namespace detail

/**
 * What a function that does not throw returns: a value, or why there is none.
 *
 *     auto opened = conduit::ShmRegion::open("counter", std::nothrow);
 *     if (opened) use(opened->data());
 *     else std::puts(opened.error().message.c_str());
 */
template <class T>
class [[nodiscard]] Result {
public:
    /// Whether there is a value.
    explicit operator bool() const noexcept { return failure_ == nullptr; }
    /// Whether there is a value.
    [[nodiscard]] bool has_value() const noexcept { return failure_ == nullptr; }

    /// The kind of error; ErrorCode::ok if there is a value.
    [[nodiscard]] ErrorCode code() const noexcept { return failure_ ? failure_->code : ErrorCode::ok; }

    /// Why there is no value. There must be none.
    [[nodiscard]] const Failure& error() const noexcept { return *failure_; }

    /// The value. Throws the error if there is none. A temporary result returns it by value, so that a
    /// range-based loop over it is safe.
    [[nodiscard]] T& value() & { return check(), value_; }
    [[nodiscard]] const T& value() const& { return check(), value_; }
    [[nodiscard]] T value() && { return check(), std::move(value_); }

    /// The value, unchecked: an object that is not open, empty or 0 if there is none.
    T& operator*() & noexcept { return value_; }
    const T& operator*() const& noexcept { return value_; }
    T operator*() && noexcept { return std::move(value_); }
    T* operator->() noexcept { return &value_; }
    const T* operator->() const noexcept { return &value_; }

private:
    friend struct detail::Access;
    Result() = default;

    void check() const {
        if (failure_) {
            detail::raise(*failure_);
        }
    }

    T value_{};
    std::unique_ptr<Failure> failure_;
};

/// What a function that does not throw and has no value returns: whether it succeeded, or why not. A
/// result that was moved from can be assigned to and destroyed.
template <>
class [[nodiscard]] Result<void> {
public:
    /// Whether it succeeded.
    explicit operator bool() const noexcept { return failure_ == nullptr; }
    /// Whether it succeeded.
    [[nodiscard]] bool has_value() const noexcept { return failure_ == nullptr; }

    /// The kind of error; ErrorCode::ok if it succeeded.
    [[nodiscard]] ErrorCode code() const noexcept { return failure_ ? failure_->code : ErrorCode::ok; }

    /// Why it failed. It must have failed.
    [[nodiscard]] const Failure& error() const noexcept { return *failure_; }

    /// Throws the error if it failed.
    void value() const {
        if (failure_) {
            detail::raise(*failure_);
        }
    }

private:
    friend struct detail::Access;
    Result() = default;

    std::unique_ptr<Failure> failure_;
};

namespace detail {

/// Gives the functions below access to private members.
struct Access {
    /// Calls `action(value)`, which returns a code of C, and makes a result of both.
    template <class T, class Action>
    static Result<T> result(Action&& action) noexcept {
        Result<T> result;
        const conduit_error code = action(result.value_);
        if (__builtin_expect(code != CONDUIT_OK, 0)) {
            fail(result, failure_of(code));
        }
        return result;
    }

    template <class Action>
    static Result<void> result(Action&& action) noexcept {
        Result<void> result;
        const conduit_error code = action();
        if (__builtin_expect(code != CONDUIT_OK, 0)) {
            fail(result, failure_of(code));
        }
        return result;
    }

    template <class T>
    static Result<T> failed(Failure&& failure) noexcept {
        Result<T> result;
        fail(result, std::move(failure));
        return result;
    }

    template <class T>
    [[gnu::cold]] static void fail(Result<T>& result, Failure&& failure) {
        result.failure_ = std::make_unique<Failure>(std::move(failure));
    }
};

}  // namespace detail

}  // namespace conduit

#endif  // CONDUIT_HPP_ERROR
