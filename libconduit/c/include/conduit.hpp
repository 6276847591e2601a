// SPDX-License-Identifier: MIT OR Apache-2.0
/**
 * @file conduit.hpp
 * Conduit for C++17 and later: zero-copy publish/subscribe between the processes of one Linux machine.
 *
 * A message type is any trivially copyable type, and a name for it that every program of every language uses:
 *
 *     // imu.hpp
 *     #include <conduit.hpp>
 *
 *     struct Imu { double gyro[3]; double acceleration[3]; };
 *     CONDUIT_TYPE(Imu, "robot/Imu");
 *
 * One process publishes it:
 *
 *     #include "imu.hpp"
 *     #include <thread>
 *
 *     int main() {
 *         auto publisher = conduit::Publisher<Imu>::create("imu");
 *         for (double t = 0; t < 60; t += 0.01) {
 *             auto loan = publisher.loan();          // a place in shared memory
 *             *loan = Imu{{0, 0, t}, {0, 0, 9.81}};  // written where it will be read
 *             loan.publish();
 *             std::this_thread::sleep_for(std::chrono::milliseconds(10));
 *         }
 *     }
 *
 * and any number of others read it, without a copy:
 *
 *     #include "imu.hpp"
 *     #include <cstdio>
 *
 *     int main() {
 *         auto subscriber = conduit::Subscriber<Imu>::open("imu");
 *         try {
 *             for (;;) {
 *                 auto imu = subscriber.wait();
 *                 std::printf("%f rad/s\n", imu->gyro[2]);
 *             }
 *         } catch (const conduit::PublisherGone& gone) {
 *             std::puts(gone.what());  // the publisher of topic "imu" died; open the topic again when it is back
 *         }
 *     }
 *
 * Each is compiled with `g++ -std=c++17 publisher.cpp $(pkg-config --cflags --libs conduit)`, or in CMake linked with
 * `conduit::conduit` of `find_package(conduit)`.
 *
 * @par Types
 * Publisher<T> and Subscriber<T> send single values: a structure named with CONDUIT_TYPE, a number, a std::array. Publisher<T[]> and
 * Subscriber<T[]> send slices: any number of `T` per message. Publisher<std::byte> is for raw bytes. Publisher and subscriber must
 * agree on the name, size and alignment of the type, which is checked when the topic is opened. In Rust it is a `#[repr(C)]`
 * structure with `#[message(name = "robot/Imu")]`. Rust refuses padding; give it a name (`uint8_t reserved[4]`).
 *
 * @par Errors
 * Calls throw a conduit::Error, whose what() says what happened, to what, and what to do; each kind of error is a class of its own,
 * and what a call can throw is listed with it. Every such call has a form that does not throw: it takes std::nothrow after what it
 * needs and before its options, and returns a Result.
 *
 *     auto opened = conduit::Subscriber<Imu>::open("imu", std::nothrow);
 *     if (!opened) { std::puts(opened.error().message.c_str()); return 1; }
 *     auto subscriber = std::move(*opened);
 *
 * Without exceptions (-fno-exceptions) the forms that would throw print the message and abort.
 *
 * @par Objects
 * ShmRegion, Publisher, Subscriber, Loan and Sample can be moved and not copied. One that was closed, moved from, or made by its
 * default constructor is not open: it can be assigned to and destroyed, and everything else throws InvalidHandle. Destructors close.
 *
 * @par Threads
 * Functions and different objects can be used at the same time. One object may be used by any thread, by one at a time; a publisher
 * and its loan count as one object. Const functions may run at the same time as each other. A sample is an object of its own: it may
 * outlive its subscriber and be destroyed on another thread.
 *
 * @par Fork
 * A child does not inherit the memory of regions and topics: calls throw Forked, and destructors change nothing for the parent.
 * Reading a region or a sample there is an invalid access.
 *
 * Sizes are in bytes unless they count elements, which is then said. Strings are UTF-8.
 */

#ifndef CONDUIT_HPP
#define CONDUIT_HPP

#if !defined(__cplusplus) || __cplusplus < 201703L
#error "conduit.hpp needs C++17 or later: -std=c++17"
#endif

#include "conduit.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace conduit {

// ---------------------------------------------------------------------------------------------------------------- errors

/// What kind of error it is. The numbers are those of conduit_error in conduit.h; later versions may add some.
enum class ErrorCode : int {
    ok = CONDUIT_OK,
    invalid_argument = CONDUIT_ERROR_INVALID_ARGUMENT,
    invalid_handle = CONDUIT_ERROR_INVALID_HANDLE,
    forked = CONDUIT_ERROR_FORKED,
    internal = CONDUIT_ERROR_INTERNAL,
    io = CONDUIT_ERROR_IO,
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
    no_registry = CONDUIT_ERROR_NO_REGISTRY,
    registry = CONDUIT_ERROR_REGISTRY,
};

/// What a code means in general, in a few words: "does not exist". A static string.
inline const char* to_string(ErrorCode code) noexcept {
    return conduit_error_string(static_cast<conduit_error>(code));
}

/// Version of the library that is linked: "0.1.0". A static string.
inline const char* version() noexcept {
    return conduit_version();
}

/// Why a call failed.
struct Failure {
    ErrorCode code = ErrorCode::ok;  ///< What kind of error it is.
    int system_errno = 0;            ///< Its errno, if a system call failed; else 0.
    std::string message;             ///< What happened, to what, and what to do; one line.
};

/// Everything that Conduit throws. what() says what happened, to what, and what to do.
class Error : public std::runtime_error {
public:
    explicit Error(const Failure& failure)
        : std::runtime_error(failure.message), code_(failure.code), system_errno_(failure.system_errno) {}

    /// What kind of error it is.
    ErrorCode code() const noexcept { return code_; }

    /// The errno, if a system call failed; else 0.
    int system_errno() const noexcept { return system_errno_; }

private:
    ErrorCode code_;
    int system_errno_;
};

/// An option is not possible.
struct InvalidArgument : Error { using Error::Error; };
/// The object is not open: it was closed, moved from, or made by its default constructor.
struct InvalidHandle : Error { using Error::Error; };
/// The loan was published, discarded or moved from, or its publisher was closed.
struct NoLoan : InvalidHandle { using InvalidHandle::InvalidHandle; };
/// The sample was released or moved from, or holds no message: nothing came in time.
struct NoSample : InvalidHandle { using InvalidHandle::InvalidHandle; };
/// The object belongs to the process that this one was forked from.
struct Forked : Error { using Error::Error; };
/// An error in the library; please report the message.
struct Internal : Error { using Error::Error; };
/// A system call failed; system_errno() says why.
struct IoError : Error { using Error::Error; };
/// The name is no valid name: segments of A-Z a-z 0-9 _ - with / between them, at most 200 bytes.
struct InvalidName : Error { using Error::Error; };
/// The administrator's rules do not let this process publish the topic.
struct NotAllowed : Error { using Error::Error; };
/// The number or the size of the slots is not possible.
struct InvalidSlots : Error { using Error::Error; };
/// The size of the region is not possible.
struct InvalidSize : Error { using Error::Error; };
/// The shared-memory directory is too full.
struct NoSpace : Error { using Error::Error; };
/// The memory limit of this process's cgroup leaves too little.
struct NoMemory : Error { using Error::Error; };
/// The shared-memory directory is no tmpfs, or keeps no locks.
struct UnsuitableFileSystem : Error { using Error::Error; };
/// A living process publishes the topic, or has created the region; what() says which.
struct AlreadyPublished : Error { using Error::Error; };
/// The region exists: its creator let it go and it was kept. Open it, or unlink it first.
struct AlreadyExists : Error { using Error::Error; };
/// A file that Conduit did not make has the name.
struct ForeignFile : Error { using Error::Error; };
/// The owner is dead, but this user may not remove what it left; conduitd would.
struct NotRemovable : Error { using Error::Error; };
/// There is no such topic or region.
struct NotFound : Error { using Error::Error; };
/// The file's permissions keep this user out.
struct PermissionDenied : Error { using Error::Error; };
/// The file is damaged, or of another version of the layout.
struct LayoutError : Error { using Error::Error; };
/// It is a raw region and not a topic, or the reverse.
struct WrongKind : Error { using Error::Error; };
/// Publisher and subscriber disagree on the type of the messages.
struct TypeMismatch : Error { using Error::Error; };
/// The topic's publisher has died and left it; open it again when it is back.
struct Orphaned : Error { using Error::Error; };
/// The topic has as many subscribers as it can have.
struct TooManySubscribers : Error { using Error::Error; };
/// The region is a topic whose publisher lives: it can not be unlinked.
struct TopicIsLive : Error { using Error::Error; };
/// Every slot is held by a subscriber: drop the message, or try again.
struct AllSlotsHeld : Error { using Error::Error; };
/// The message does not fit a slot: create the topic with a larger capacity.
struct MessageTooLarge : Error { using Error::Error; };
/// The type has no messages of this length.
struct WrongLength : Error { using Error::Error; };
/// The topic was ended from outside: close the publisher, and create it again if that is wanted.
struct TopicRemoved : Error { using Error::Error; };
/// The topic's name was removed from outside. Thrown once: who goes on publishes to the subscribers that are there.
struct TopicUnlinked : Error { using Error::Error; };
/// A loan of this publisher is out: publish or discard it first.
struct LoanOut : Error { using Error::Error; };
/// There will be no more messages, and every one was received. Open the topic again when its publisher is back.
struct PublisherGone : Error { using Error::Error; };
/// The publisher has closed the topic, and every message was received.
struct PublisherClosed : PublisherGone { using PublisherGone::PublisherGone; };
/// The publisher has died, and every message was received.
struct PublisherDied : PublisherGone { using PublisherGone::PublisherGone; };
/// The message's length is none of the type. It counts as received; the next may be valid.
struct InvalidMessage : Error { using Error::Error; };
/// No registry (conduitd) answers.
struct NoRegistry : Error { using Error::Error; };
/// The registry refused, or its answer made no sense.
struct RegistryError : Error { using Error::Error; };

namespace detail {

struct Access;

/// Throws the class of a failure.
[[noreturn, gnu::cold, gnu::noinline]] inline void raise(const Failure& failure) {
#if defined(__cpp_exceptions)
    switch (failure.code) {
        case ErrorCode::invalid_argument: throw InvalidArgument(failure);
        case ErrorCode::invalid_handle: throw InvalidHandle(failure);
        case ErrorCode::forked: throw Forked(failure);
        case ErrorCode::internal: throw Internal(failure);
        case ErrorCode::io: throw IoError(failure);
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

/// What this thread's call, which has just returned the code, says.
[[gnu::cold, gnu::noinline]] inline Failure failure_of(conduit_error code) {
    // Here a handle is NULL or open.
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
 * What a call that does not throw gives: a value, or why there is none.
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
    bool has_value() const noexcept { return failure_ == nullptr; }

    /// The kind of error; ErrorCode::ok if there is a value.
    ErrorCode code() const noexcept { return failure_ ? failure_->code : ErrorCode::ok; }

    /// Why there is no value; there must be none.
    const Failure& error() const noexcept { return *failure_; }

    /// The value. Throws the error if there is none. That of a temporary result is moved out: loops over it are safe.
    T& value() & { return check(), value_; }
    const T& value() const& { return check(), value_; }
    T value() && { return check(), std::move(value_); }

    /// The value. If there is none, it is one that is not open, empty or 0.
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

/// What a call that does not throw and has nothing to give gives: whether it worked, or why not.
template <>
class [[nodiscard]] Result<void> {
public:
    /// Whether it worked.
    explicit operator bool() const noexcept { return failure_ == nullptr; }
    /// Whether it worked.
    bool has_value() const noexcept { return failure_ == nullptr; }

    /// The kind of error; ErrorCode::ok if it worked.
    ErrorCode code() const noexcept { return failure_ ? failure_->code : ErrorCode::ok; }

    /// Why it did not work; it must not have worked.
    const Failure& error() const noexcept { return *failure_; }

    /// Throws the error if it did not work.
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

// ----------------------------------------------------------------------------------------------------------------- types

/// Whether a message is one value or any number of them.
enum class Kind : int {
    value = CONDUIT_VALUE,  ///< One value.
    slice = CONDUIT_SLICE,  ///< Any number of elements, up to the capacity.
};

/// The type of a topic's messages, as its publisher named it.
struct TypeInfo {
    std::string name;         ///< The name, "robot/Imu" for example.
    Kind kind = Kind::value;  ///< One value, or a slice.
    std::size_t size = 0;     ///< Size of the value, or of one element, in bytes.
    std::size_t align = 0;    ///< Its alignment in bytes.
};

/// Stands for a type in the arguments of a function.
template <class T>
struct TypeTag {};

namespace detail {

/// Whether a text can be the name of a type: 1 to 64 bytes without control characters.
template <std::size_t N>
constexpr bool is_type_name(const char (&name)[N]) noexcept {
    if (N < 2 || N > 65) {
        return false;
    }
    for (std::size_t at = 0; at + 1 < N; ++at) {
        const auto byte = static_cast<unsigned char>(name[at]);
        if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

template <class T>
constexpr const char* primitive_name() noexcept {
    if constexpr (std::is_same_v<T, bool>) {
        return "bool";
    } else if constexpr (std::is_same_v<T, std::byte> || std::is_same_v<T, char>) {
        return "u8";
#if defined(__cpp_char8_t)
    } else if constexpr (std::is_same_v<T, char8_t>) {
        return "u8";
#endif
    } else if constexpr (std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>) {
        return nullptr;
    } else if constexpr (std::is_integral_v<T>) {
        switch (sizeof(T)) {
            case 1: return std::is_signed_v<T> ? "i8" : "u8";
            case 2: return std::is_signed_v<T> ? "i16" : "u16";
            case 4: return std::is_signed_v<T> ? "i32" : "u32";
            case 8: return std::is_signed_v<T> ? "i64" : "u64";
            default: return nullptr;
        }
    } else if constexpr (std::is_same_v<T, float>) {
        return "f32";
    } else if constexpr (std::is_same_v<T, double>) {
        return "f64";
    } else {
        return nullptr;
    }
}

template <class>
inline constexpr bool is_missing = true;

}  // namespace detail

/**
 * The name of a message type: `value`.
 *
 * Numbers have the names they have in Rust ("f64", "u8", "bool"), arrays have those of their elements. Give a structure or an
 * enumeration of your own its name with CONDUIT_TYPE. For a type of somebody else's, whose namespace is not yours, specialise this:
 *
 *     template <>
 *     struct conduit::TypeName<theirs::Imu> { static constexpr const char* value = "robot/Imu"; };
 */
template <class T, class = void>
struct TypeName {
    static_assert(!detail::is_missing<T>,
                  "a message type has a name: write CONDUIT_TYPE(Imu, \"robot/Imu\"); after it, in the same namespace");
};

template <class T>
struct TypeName<T, std::enable_if_t<detail::primitive_name<T>() != nullptr>> {
    static constexpr const char* value = detail::primitive_name<T>();
};

template <class T>
struct TypeName<T, std::void_t<decltype(conduit_type_name(TypeTag<T>{}))>> {
    static constexpr const char* value = conduit_type_name(TypeTag<T>{});
};

template <class T, std::size_t N>
struct TypeName<T[N], void> : TypeName<T> {};

template <class T, std::size_t N>
struct TypeName<std::array<T, N>, void> : TypeName<T> {
    static_assert(N != 0, "an array of no elements is no message type");
};

/**
 * Names a message type. At namespace scope, in the namespace of the type, after its definition and before its first use in a topic.
 *
 *     namespace robot {
 *     struct Imu { double gyro[3]; double acceleration[3]; };
 *     CONDUIT_TYPE(Imu, "robot/Imu");
 *     }
 *
 * The name, not that of C++, identifies the type across builds and languages: 1 to 64 bytes of UTF-8 without control characters.
 */
#define CONDUIT_TYPE(TYPE, NAME)                                                                             \
    static_assert(::conduit::detail::is_type_name(NAME),                                                     \
                  "the name of a message type has 1 to 64 bytes without control characters");                \
    [[maybe_unused]] constexpr const char* conduit_type_name(::conduit::TypeTag<TYPE>) noexcept {            \
        return NAME;                                                                                         \
    }                                                                                                        \
    static_assert(true, "takes the semicolon")

namespace detail {

template <class T>
struct Form {
    using Element = T;
    static constexpr bool is_slice = false;
};

template <class T>
struct Form<T[]> {
    using Element = T;
    static constexpr bool is_slice = true;
};

// A topic of single bytes is of use to nobody.
template <>
struct Form<std::byte> : Form<std::byte[]> {};

/// What a topic's template argument means.
template <class T>
struct MessageType : Form<T> {
    using typename Form<T>::Element;

    static_assert(std::is_object_v<Element> && !std::is_const_v<Element> && !std::is_volatile_v<Element>,
                  "a message type is a type of objects, without const and volatile");
    static_assert(std::is_trivially_copyable_v<Element>,
                  "a message type is trivially copyable: other processes see nothing but its bytes");
    static_assert(!std::is_pointer_v<Element> && !std::is_member_pointer_v<Element>,
                  "a pointer means nothing to another process");
    static_assert(alignof(Element) <= 64, "a message type is aligned to at most 64 bytes");

    static conduit_type get() noexcept {
        return {TypeName<Element>::value, Form<T>::is_slice ? CONDUIT_SLICE : CONDUIT_VALUE,
                static_cast<std::uint32_t>(alignof(Element)), sizeof(Element)};
    }

    /// The size of so many elements; if there is no such size, the largest that there is, which no slot has.
    static constexpr std::size_t bytes(std::size_t count) noexcept {
        constexpr std::size_t most = SIZE_MAX / sizeof(Element);
        return (count < most ? count : most) * sizeof(Element);
    }
};

template <class T>
using Element = typename Form<T>::Element;

/// A text for C, where NUL ends it: it becomes a character that no name has.
inline std::string text(const std::string& given) {
    std::string text = given;
    for (auto at = text.find('\0'); at != std::string::npos; at = text.find('\0', at)) {
        text.replace(at, 1, "\xef\xbf\xbd");
    }
    return text;
}

inline std::optional<std::string> text(const std::optional<std::string>& given) {
    return given ? std::optional<std::string>(text(*given)) : std::nullopt;
}

inline std::string text_or_empty(const char* text) {
    return text != nullptr ? std::string(text) : std::string();
}

/// A time span for C: nothing for less than nothing, no limit for more than there is.
template <class Rep, class Period>
std::uint64_t nanoseconds(const std::chrono::duration<Rep, Period>& time) {
    const auto ns = std::chrono::duration<long double, std::nano>(time).count();
    if (!(ns > 0)) {
        return 0;
    }
    return ns < 9.2e18L ? static_cast<std::uint64_t>(std::ceil(ns)) : CONDUIT_FOREVER;
}

}  // namespace detail

// --------------------------------------------------------------------------------------------------------------- options

/**
 * Where regions are and which registry knows them. What is not given is the environment's: $CONDUIT_SHM_DIR, else /dev/shm, and
 * $CONDUIT_SOCKET, else $XDG_RUNTIME_DIR/conduit/registry.sock and /run/conduit/registry.sock.
 */
struct Domain {
    std::optional<std::string> shm_dir = std::nullopt;  ///< The shared-memory directory.
    std::optional<std::string> socket = std::nullopt;   ///< The registry's socket; "" for no registry.
    bool any_file_system = false;                       ///< Accepts a directory that is no tmpfs.
};

/// How a raw region is to be made.
struct RegionOptions {
    /// Where.
    Domain domain = {};
    /// Permission bits of the file, 0640 for example. Without, what the process's umask leaves of 0666.
    std::optional<std::uint32_t> mode = std::nullopt;
    /// Numeric id of the file's group. Without, the process's.
    std::optional<std::uint32_t> group = std::nullopt;
    /// How long to wait for a dying owner of the name; 0 for 250 ms.
    std::chrono::nanoseconds takeover_timeout = {};
};

/// How a topic is to be made.
struct PublisherOptions {
    /// Where.
    Domain domain = {};
    /// Number of slots: a power of two from 2 to 65,536; 0 for 16. It bounds how far a subscriber can fall behind without loss, and
    /// how many samples all of them together can hold.
    std::uint32_t slots = 0;
    /// Length of the largest message in bytes; 0 for 3904 or the size of the type, whichever is more.
    std::size_t capacity = 0;
    /// Size of a slot in bytes, in place of `capacity`: a multiple of 128, of which 192 are the slot's state and header; 0 for what that needs.
    std::size_t slot_size = 0;
    /// Permission bits of the file, 0640 for example. Without, what the process's umask leaves of 0666. Who may only read it can
    /// subscribe all the same, and gets validated copies.
    std::optional<std::uint32_t> mode = std::nullopt;
    /// Numeric id of the file's group. Without, the process's.
    std::optional<std::uint32_t> group = std::nullopt;
    /// How long to wait for a dying owner of the name; 0 for 250 ms.
    std::chrono::nanoseconds takeover_timeout = {};
    /// Whether messages say when they were published, which costs one clock read each.
    bool time_stamps = true;
};

/// Where a subscriber starts.
enum class Start : int {
    next = CONDUIT_START_NEXT,      ///< With the first message published from now on.
    latest = CONDUIT_START_LATEST,  ///< With the newest message that is kept, if there is one.
    oldest = CONDUIT_START_OLDEST,  ///< With the oldest message that is kept, if there is one.
};

/// How a topic is to be read.
struct SubscriberOptions {
    /// Where.
    Domain domain = {};
    /// Where to start.
    Start start = Start::next;
    /// How long to look for a message again and again before going to sleep; std::chrono::nanoseconds::max() never sleeps. A message
    /// that comes meanwhile is there some 100 ns later instead of tens of microseconds, for the price of a processor core.
    std::chrono::nanoseconds spin = {};
    /// Receives validated copies instead of reading in place: for programs that may be stopped at any moment, and then must not keep
    /// a slot from the publisher. A message that is overwritten while it is copied is lost, and counted. A copy is allocated.
    bool copy_samples = false;
    /// For bytes only: accepts messages of any type and length.
    bool any_type = false;
};

namespace detail {

/// A domain as C has it; it points into itself.
class CDomain {
public:
    explicit CDomain(const Domain& domain) : shm_dir_(text(domain.shm_dir)), socket_(text(domain.socket)) {
        domain_.shm_dir = shm_dir_ ? shm_dir_->c_str() : nullptr;
        domain_.socket = socket_ ? socket_->c_str() : nullptr;
        domain_.any_file_system = domain.any_file_system;
    }
    CDomain(const CDomain&) = delete;
    CDomain& operator=(const CDomain&) = delete;

    const conduit_domain* get() const noexcept { return &domain_; }

private:
    std::optional<std::string> shm_dir_;
    std::optional<std::string> socket_;
    conduit_domain domain_ = CONDUIT_DOMAIN_INIT;
};

/// What C makes and frees.
template <class C, conduit_error (*close)(C*)>
struct Closer {
    void operator()(C* handle) const noexcept { close(handle); }
};

using RegionHandle = std::unique_ptr<conduit_region, Closer<conduit_region, conduit_region_close>>;
using SubscriberHandle = std::unique_ptr<conduit_subscriber, Closer<conduit_subscriber, conduit_subscriber_close>>;
using ListingHandle = std::unique_ptr<conduit_listing, Closer<conduit_listing, conduit_listing_close>>;

/// The door to what is private, for the functions below.
struct Access {
    /// Calls `action(value)`, which gives a code of C, and makes a result of both.
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

// --------------------------------------------------------------------------------------------------------------- regions

/**
 * A raw region: named shared memory without a header, the file is exactly the user's bytes.
 *
 *     auto region = conduit::ShmRegion::create("counter", 4096);
 *     *static_cast<int*>(region.data()) = 42;
 *
 *     auto region = conduit::ShmRegion::open("counter");  // in another process
 *     int value = *static_cast<int*>(region.data());      // 42
 *
 * An object that is destroyed unmaps the memory and keeps its name and contents, until unlink() or a reboot. If its creator dies
 * without destroying it, the region is an orphan, which conduitd removes and the next creator takes over.
 */
class ShmRegion {
public:
    /// One that is not open.
    ShmRegion() noexcept = default;
    ShmRegion(ShmRegion&& other) noexcept
        : handle_(std::move(other.handle_)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    ShmRegion& operator=(ShmRegion&& other) noexcept {
        ShmRegion moved(std::move(other));
        std::swap(handle_, moved.handle_);
        std::swap(data_, moved.data_);
        std::swap(size_, moved.size_);
        return *this;
    }

    /**
     * Creates a region of exactly `size` bytes, zeroed and aligned to a page.
     *
     * @throws InvalidName, NotAllowed, InvalidSize, NoSpace, NoMemory, UnsuitableFileSystem, AlreadyPublished (its creator lives and
     *         has it open), AlreadyExists, ForeignFile, NotRemovable, IoError, InvalidArgument
     */
    static ShmRegion create(const std::string& name, std::size_t size, const RegionOptions& options = {}) {
        ShmRegion region;
        detail::check(region.create_into(name, size, options));
        return region;
    }
    static Result<ShmRegion> create(const std::string& name, std::size_t size, std::nothrow_t,
                                    const RegionOptions& options = {}) noexcept {
        return detail::Access::result<ShmRegion>(
            [&](ShmRegion& region) { return region.create_into(name, size, options); });
    }

    /**
     * Opens a region for reading and writing.
     *
     * @throws InvalidName, NotFound, PermissionDenied, WrongKind, IoError, InvalidArgument
     */
    static ShmRegion open(const std::string& name, const Domain& domain = {}) {
        ShmRegion region;
        detail::check(region.open_into(name, domain));
        return region;
    }
    static Result<ShmRegion> open(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<ShmRegion>([&](ShmRegion& region) { return region.open_into(name, domain); });
    }

    /**
     * Whether a region or topic of the name exists.
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    static bool exists(const std::string& name, const Domain& domain = {}) {
        bool exists = false;
        detail::check(look(name, domain, exists));
        return exists;
    }
    static Result<bool> exists(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) { return look(name, domain, exists); });
    }

    /**
     * Sleeps until a region or topic of the name exists, or `keep_waiting` becomes false; returns whether it exists.
     *
     * The flag is what many programs call `running`: true while they are to go on. The region's appearance wakes the call at once,
     * the flag within about 20 ms.
     *
     *     std::atomic<bool> running{true};  // a signal handler sets it to false
     *     if (!conduit::ShmRegion::wait_until_exists("imu", running)) return 0;
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    static bool wait_until_exists(const std::string& name, const std::atomic<bool>& keep_waiting,
                                  const Domain& domain = {}) {
        bool exists = false;
        detail::check(wait(name, CONDUIT_FOREVER, &ask_flag, address_of(keep_waiting), domain, exists));
        return exists;
    }
    static Result<bool> wait_until_exists(const std::string& name, const std::atomic<bool>& keep_waiting,
                                          std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) {
            return wait(name, CONDUIT_FOREVER, &ask_flag, address_of(keep_waiting), domain, exists);
        });
    }

    /**
     * Sleeps until a region or topic of the name exists, or the time is up; returns whether it exists.
     *
     *     if (!conduit::ShmRegion::wait_until_exists_for("imu", std::chrono::seconds(10))) ...
     *
     * @throws InvalidName, IoError, InvalidArgument
     */
    template <class Rep, class Period>
    static bool wait_until_exists_for(const std::string& name, const std::chrono::duration<Rep, Period>& timeout,
                                      const Domain& domain = {}) {
        bool exists = false;
        detail::check(wait(name, detail::nanoseconds(timeout), nullptr, nullptr, domain, exists));
        return exists;
    }
    template <class Rep, class Period>
    static Result<bool> wait_until_exists_for(const std::string& name,
                                              const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t,
                                              const Domain& domain = {}) noexcept {
        return detail::Access::result<bool>([&](bool& exists) {
            return wait(name, detail::nanoseconds(timeout), nullptr, nullptr, domain, exists);
        });
    }

    /**
     * Sleeps until a region or topic of the name exists, or `keep_waiting()`, which is called about every 20 ms on this thread, is
     * false; returns whether it exists.
     *
     * What `keep_waiting` throws ends the wait and is thrown from here, in the form with std::nothrow too.
     *
     * @throws InvalidName, IoError, InvalidArgument, and what `keep_waiting` throws
     */
    static bool wait_until_exists_while(const std::string& name, const std::function<bool()>& keep_waiting,
                                        const Domain& domain = {}) {
        bool exists = false;
        Question question{keep_waiting, nullptr};
        const conduit_error code = wait(name, CONDUIT_FOREVER, &ask_function, &question, domain, exists);
        question.rethrow();
        detail::check(code);
        return exists;
    }
    static Result<bool> wait_until_exists_while(const std::string& name, const std::function<bool()>& keep_waiting,
                                                std::nothrow_t, const Domain& domain = {}) {
        Question question{keep_waiting, nullptr};
        auto result = detail::Access::result<bool>([&](bool& exists) {
            return wait(name, CONDUIT_FOREVER, &ask_function, &question, domain, exists);
        });
        question.rethrow();
        return result;
    }

    /**
     * Removes the name of a region, whoever uses it; its memory stays until the last process has unmapped it. A topic's name is
     * removed only if its publisher is dead.
     *
     * @throws InvalidName, NotFound, TopicIsLive, ForeignFile, IoError, InvalidArgument
     */
    static void unlink(const std::string& name, const Domain& domain = {}) {
        detail::check(conduit_region_unlink(detail::text(name).c_str(), detail::CDomain(domain).get()));
    }
    static Result<void> unlink(const std::string& name, std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result(
            [&] { return conduit_region_unlink(detail::text(name).c_str(), detail::CDomain(domain).get()); });
    }

    /**
     * The first byte, aligned to a page and valid for size() bytes until the object is closed or destroyed; moving it keeps it.
     *
     * Other processes read and write the same memory at any time: what is shared without a lock must be atomic.
     *
     * @throws InvalidHandle
     */
    void* data() { return check(), data_; }
    const void* data() const { return check(), data_; }

    /**
     * Size in bytes, as asked for at its creation.
     *
     * @throws InvalidHandle
     */
    std::size_t size() const { return check(), size_; }

    /**
     * The region's name.
     *
     * @throws InvalidHandle, Forked
     */
    std::string name() const {
        const char* name = conduit_region_name(handle_.get());
        if (name == nullptr) {
            detail::raise_last(conduit_last_error());
        }
        return name;
    }

    /// Whether it is open.
    bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Unmaps the memory and keeps its name and contents. Does nothing if it is not open.
    void close() noexcept { *this = ShmRegion(); }

private:
    /// A function that is asked, and what it threw.
    struct Question {
        const std::function<bool()>& ask;
        std::exception_ptr thrown;

        void rethrow() const {
#if defined(__cpp_exceptions)
            if (thrown) {
                std::rethrow_exception(thrown);
            }
#endif
        }
    };

    static bool ask_flag(void* flag) { return static_cast<const std::atomic<bool>*>(flag)->load(); }

    /// Nothing may be thrown through C.
    static bool ask_function(void* context) {
        auto* question = static_cast<Question*>(context);
#if defined(__cpp_exceptions)
        try {
            return question->ask();
        } catch (...) {
            question->thrown = std::current_exception();
            return false;
        }
#else
        return question->ask();
#endif
    }

    /// C has no const in its context; `ask_flag` only reads.
    static void* address_of(const std::atomic<bool>& flag) noexcept {
        return const_cast<void*>(static_cast<const void*>(&flag));
    }

    static conduit_error look(const std::string& name, const Domain& domain, bool& exists) {
        return conduit_region_exists(detail::text(name).c_str(), detail::CDomain(domain).get(), &exists);
    }

    static conduit_error wait(const std::string& name, std::uint64_t timeout_ns, conduit_keep_waiting keep_waiting,
                              void* context, const Domain& domain, bool& exists) {
        return conduit_region_wait_until_exists(detail::text(name).c_str(), detail::CDomain(domain).get(), timeout_ns,
                                                keep_waiting, context, &exists);
    }

    conduit_error create_into(const std::string& name, std::size_t size, const RegionOptions& given) {
        const detail::CDomain domain(given.domain);
        conduit_region_options options = CONDUIT_REGION_OPTIONS_INIT;
        options.domain = domain.get();
        options.mode = given.mode.value_or(0);
        options.group = given.group.value_or(0);
        options.has_group = given.group.has_value();
        options.takeover_timeout_ns = detail::nanoseconds(given.takeover_timeout);
        conduit_region* region = nullptr;
        const conduit_error code = conduit_region_create(detail::text(name).c_str(), size, &options, &region);
        hold(region);
        return code;
    }

    conduit_error open_into(const std::string& name, const Domain& domain) {
        conduit_region* region = nullptr;
        const conduit_error code =
            conduit_region_open(detail::text(name).c_str(), detail::CDomain(domain).get(), &region);
        hold(region);
        return code;
    }

    void hold(conduit_region* region) {
        if (region != nullptr) {
            handle_.reset(region);
            data_ = conduit_region_data(region);
            size_ = conduit_region_size(region);
        }
    }

    void check() const {
        if (__builtin_expect(handle_ == nullptr, 0)) {
            detail::raise_last(CONDUIT_ERROR_INVALID_HANDLE);
        }
    }

    detail::RegionHandle handle_;
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

// ------------------------------------------------------------------------------------------------------------ publishing

namespace detail {

class LoanCore;

/// A publisher without its type. It and its loan know each other, and each tells the other when it moves or ends.
class PublisherCore {
public:
    PublisherCore() noexcept = default;
    inline PublisherCore(PublisherCore&& other) noexcept;
    inline PublisherCore& operator=(PublisherCore&& other) noexcept;
    ~PublisherCore() { close(); }

    conduit_publisher* handle() const noexcept { return handle_; }

    conduit_error create(const std::string& name, const conduit_type& type, const PublisherOptions& given) {
        const CDomain domain(given.domain);
        conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
        options.domain = domain.get();
        options.message_type = &type;
        options.slots = given.slots;
        options.slot_size = given.slot_size;
        options.capacity = given.capacity;
        options.takeover_timeout_ns = nanoseconds(given.takeover_timeout);
        options.mode = given.mode.value_or(0);
        options.group = given.group.value_or(0);
        options.has_group = given.group.has_value();
        options.no_time_stamps = !given.time_stamps;
        return conduit_publisher_create(text(name).c_str(), &options, &handle_);
    }

    inline void close() noexcept;

private:
    friend class LoanCore;

    conduit_publisher* handle_ = nullptr;
    LoanCore* loan_ = nullptr;
};

/// A loan without its type.
class LoanCore {
public:
    LoanCore() noexcept = default;
    LoanCore(LoanCore&& other) noexcept { take_over(other); }
    LoanCore& operator=(LoanCore&& other) noexcept {
        if (this != &other) {
            discard();
            take_over(other);
        }
        return *this;
    }
    ~LoanCore() { discard(); }

    conduit_error lend(PublisherCore& publisher, std::size_t bytes) {
        void* data = nullptr;
        const conduit_error code = conduit_publisher_loan(publisher.handle_, bytes, &data);
        if (__builtin_expect(code == CONDUIT_OK, 1)) {
            publisher_ = &publisher;
            publisher.loan_ = this;
            data_ = data;
            bytes_ = bytes;
        }
        return code;
    }

    void* data() const noexcept { return data_; }
    std::size_t bytes() const noexcept { return bytes_; }

    conduit_error publish() { return conduit_publisher_publish(end()); }

    void discard() noexcept {
        if (data_ != nullptr) {
            conduit_publisher_discard(end());
        }
    }

    conduit_error truncate(std::size_t bytes) {
        const conduit_error code = conduit_publisher_truncate(publisher_->handle_, bytes);
        if (code == CONDUIT_OK) {
            bytes_ = bytes;
        }
        return code;
    }

private:
    friend class PublisherCore;

    /// Forgets the publisher; returns its handle.
    conduit_publisher* end() noexcept {
        conduit_publisher* handle = publisher_->handle_;
        publisher_->loan_ = nullptr;
        publisher_ = nullptr;
        data_ = nullptr;
        bytes_ = 0;
        return handle;
    }

    void take_over(LoanCore& other) noexcept {
        publisher_ = std::exchange(other.publisher_, nullptr);
        data_ = std::exchange(other.data_, nullptr);
        bytes_ = std::exchange(other.bytes_, 0);
        if (publisher_ != nullptr) {
            publisher_->loan_ = this;
        }
    }

    PublisherCore* publisher_ = nullptr;
    void* data_ = nullptr;
    std::size_t bytes_ = 0;
};

inline PublisherCore::PublisherCore(PublisherCore&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), loan_(std::exchange(other.loan_, nullptr)) {
    if (loan_ != nullptr) {
        loan_->publisher_ = this;
    }
}

inline PublisherCore& PublisherCore::operator=(PublisherCore&& other) noexcept {
    if (this != &other) {
        close();
        handle_ = std::exchange(other.handle_, nullptr);
        loan_ = std::exchange(other.loan_, nullptr);
        if (loan_ != nullptr) {
            loan_->publisher_ = this;
        }
    }
    return *this;
}

inline void PublisherCore::close() noexcept {
    if (loan_ != nullptr) {
        loan_->discard();
    }
    if (handle_ != nullptr) {
        conduit_publisher_close(std::exchange(handle_, nullptr));
    }
}

/// The elements of something that can be sent as a slice of `Element`, if it is that.
template <class Element, class Range>
const Element* elements(const Range& range) {
    using Given = std::remove_cv_t<std::remove_pointer_t<decltype(std::data(range))>>;
    static_assert(!(std::is_array_v<Range> && std::is_same_v<Given, char>),
                  "the NUL at the end of a literal would be sent; make a std::string_view of it");
    static_assert(std::is_same_v<Given, Element> || (std::is_same_v<Element, std::byte> && sizeof(Given) == 1 &&
                                                     std::is_trivially_copyable_v<Given>),
                  "the elements are not those of the topic");
    return reinterpret_cast<const Element*>(std::data(range));
}

template <class Range>
using IfRange = std::void_t<decltype(std::data(std::declval<const Range&>())),
                            decltype(std::size(std::declval<const Range&>()))>;

}  // namespace detail

template <class T>
class Publisher;

/**
 * A place in shared memory for the next message of a publisher, whose it is alone until it is published.
 *
 * Its contents are unspecified until they are written. One that is destroyed without publish() is given back unseen. It follows its
 * publisher when that is moved, and ends with it. It is empty once it is published, discarded or moved from; all but publish(),
 * discard(), moving and asking whether it is empty is then an error.
 */
template <class T>
class Loan {
public:
    /// The type of the value, or of the elements of the slice.
    using value_type = detail::Element<T>;

    /// An empty one.
    Loan() noexcept = default;

    /// Whether it is not empty.
    explicit operator bool() const noexcept { return core_.data() != nullptr; }

    /**
     * The value.
     *
     * @throws NoLoan
     */
    value_type& operator*() {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return *data();
    }
    /**
     * Its members.
     *
     * @throws NoLoan
     */
    value_type* operator->() {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return data();
    }

    /**
     * The value, or the first element. Aligned to 64 bytes.
     *
     * @throws NoLoan
     */
    value_type* data() {
        if (__builtin_expect(core_.data() == nullptr, 0)) {
            detail::raise(detail::no_loan());
        }
        return static_cast<value_type*>(core_.data());
    }

    /// Number of elements; 1 for a value, 0 if it is empty.
    std::size_t size() const noexcept { return core_.bytes() / sizeof(value_type); }
    /// Size in bytes; 0 if it is empty.
    std::size_t size_bytes() const noexcept { return core_.bytes(); }

    /// An element; the index is not checked.
    /// @throws NoLoan
    value_type& operator[](std::size_t index) { return data()[index]; }
    /// @throws NoLoan
    value_type* begin() { return data(); }
    /// @throws NoLoan
    value_type* end() { return data() + size(); }

#if defined(__cpp_lib_span)
    /// The elements; one for a value.
    /// @throws NoLoan
    std::span<value_type> span() { return {data(), size()}; }
#endif

    /**
     * Shortens the slice to its first `count` elements.
     *
     * @throws NoLoan, MessageTooLarge (it is shorter), Forked; the loan then stays as it was
     */
    void truncate(std::size_t count) {
        static_assert(detail::Form<T>::is_slice, "a value has one size");
        data();
        detail::check(core_.truncate(detail::MessageType<T>::bytes(count)));
    }
    Result<void> truncate(std::size_t count, std::nothrow_t) noexcept {
        static_assert(detail::Form<T>::is_slice, "a value has one size");
        if (!*this) {
            return detail::Access::failed<void>(detail::no_loan());
        }
        return detail::Access::result([&] { return core_.truncate(detail::MessageType<T>::bytes(count)); });
    }

    /**
     * Publishes the message. Its memory is not to be used any more.
     *
     * @throws NoLoan, Forked
     */
    void publish() {
        if (__builtin_expect(!*this, 0)) {
            detail::raise(detail::no_loan());
        }
        detail::check(core_.publish());
    }
    Result<void> publish(std::nothrow_t) noexcept {
        if (__builtin_expect(!*this, 0)) {
            return detail::Access::failed<void>(detail::no_loan());
        }
        return detail::Access::result([&] { return core_.publish(); });
    }

    /// Gives the place back unseen. Does nothing if it is empty.
    void discard() noexcept { core_.discard(); }

private:
    friend class Publisher<T>;

    detail::LoanCore core_;
};

/**
 * The one process that writes a topic. `T` is the type of its values; `T[]` makes slices of them, std::byte raw bytes.
 *
 *     auto imu = conduit::Publisher<Imu>::create("imu");
 *     imu.send(Imu{...});
 *
 *     auto scans = conduit::Publisher<Point[]>::create("lidar", {.capacity = 100'000 * sizeof(Point)});  // C++20
 *     auto loan = scans.loan(100'000);
 *     for (Point& point : loan) point = ...;
 *     loan.publish();
 *
 *     auto log = conduit::Publisher<std::byte>::create("log");
 *     log.send(std::string_view("ready"));
 *
 * Publishing never blocks, never allocates if it succeeds, and makes no system call unless a subscriber sleeps. One thread at a time.
 */
template <class T>
class Publisher {
    using Type = detail::MessageType<T>;

public:
    /// The type of the values, or of the elements of the slices.
    using value_type = typename Type::Element;

    /// One that is not open.
    Publisher() noexcept = default;

    /**
     * Creates a topic. A name that a dead publisher left is taken over.
     *
     * @throws InvalidName, NotAllowed, InvalidSlots, MessageTooLarge (the type does not fit the slots), NoSpace, NoMemory,
     *         UnsuitableFileSystem, AlreadyPublished, AlreadyExists (a raw region has the name), ForeignFile, NotRemovable, IoError,
     *         InvalidArgument
     */
    static Publisher create(const std::string& name, const PublisherOptions& options = {}) {
        Publisher publisher;
        detail::check(publisher.core_.create(name, Type::get(), options));
        return publisher;
    }
    static Result<Publisher> create(const std::string& name, std::nothrow_t,
                                    const PublisherOptions& options = {}) noexcept {
        return detail::Access::result<Publisher>(
            [&](Publisher& publisher) { return publisher.core_.create(name, Type::get(), options); });
    }

    /**
     * Sends a copy of a value.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, TopicRemoved, TopicUnlinked (once)
     */
    void send(const value_type& message) {
        static_assert(!Type::is_slice, "send a slice by its elements: send(data, count), or send(vector)");
        detail::check(conduit_publisher_send(core_.handle(), std::addressof(message), sizeof(value_type)));
    }
    Result<void> send(const value_type& message, std::nothrow_t) noexcept {
        static_assert(!Type::is_slice, "send a slice by its elements: send(data, count), or send(vector)");
        return detail::Access::result(
            [&] { return conduit_publisher_send(core_.handle(), std::addressof(message), sizeof(value_type)); });
    }

    /**
     * Sends a copy of a slice of `count` elements.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, MessageTooLarge, TopicRemoved, TopicUnlinked (once), InvalidArgument (NULL)
     */
    void send(const value_type* elements, std::size_t count) {
        static_assert(Type::is_slice, "a value has no count: this publisher is for single values");
        detail::check(conduit_publisher_send(core_.handle(), elements, Type::bytes(count)));
    }
    Result<void> send(const value_type* elements, std::size_t count, std::nothrow_t) noexcept {
        static_assert(Type::is_slice, "a value has no count: this publisher is for single values");
        return detail::Access::result(
            [&] { return conduit_publisher_send(core_.handle(), elements, Type::bytes(count)); });
    }

    /// The same for a std::vector, std::array, std::span or the like; for raw bytes also of char, as in std::string_view.
    template <class Range, class = detail::IfRange<Range>, class = std::enable_if_t<detail::Form<T>::is_slice, Range>>
    void send(const Range& elements) {
        send(detail::elements<value_type>(elements), std::size(elements));
    }
    template <class Range, class = detail::IfRange<Range>, class = std::enable_if_t<detail::Form<T>::is_slice, Range>>
    Result<void> send(const Range& elements, std::nothrow_t) noexcept {
        return send(detail::elements<value_type>(elements), std::size(elements), std::nothrow);
    }

    /**
     * Lends the place of the next message, to be written there. One loan can be out at a time.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, TopicRemoved, TopicUnlinked (once)
     */
    Loan<T> loan() {
        static_assert(!Type::is_slice, "how many elements: loan(count)");
        Loan<T> loan;
        detail::check(loan.core_.lend(core_, sizeof(value_type)));
        return loan;
    }
    Result<Loan<T>> loan(std::nothrow_t) noexcept {
        static_assert(!Type::is_slice, "how many elements: loan(count, std::nothrow)");
        return detail::Access::result<Loan<T>>(
            [&](Loan<T>& loan) { return loan.core_.lend(core_, sizeof(value_type)); });
    }

    /**
     * The same for a slice of `count` elements.
     *
     * @throws InvalidHandle, Forked, LoanOut, AllSlotsHeld, MessageTooLarge, TopicRemoved, TopicUnlinked (once)
     */
    Loan<T> loan(std::size_t count) {
        static_assert(Type::is_slice, "a value has no count: loan()");
        Loan<T> loan;
        detail::check(loan.core_.lend(core_, Type::bytes(count)));
        return loan;
    }
    Result<Loan<T>> loan(std::size_t count, std::nothrow_t) noexcept {
        static_assert(Type::is_slice, "a value has no count: loan(std::nothrow)");
        return detail::Access::result<Loan<T>>(
            [&](Loan<T>& loan) { return loan.core_.lend(core_, Type::bytes(count)); });
    }

    /**
     * Number of subscribers that live now. Costs some system calls: meant for flow control and reports, not for every message.
     *
     * @throws InvalidHandle, Forked, LoanOut
     */
    std::size_t subscribers() {
        std::size_t count = 0;
        detail::check(conduit_publisher_subscribers(core_.handle(), &count));
        return count;
    }
    Result<std::size_t> subscribers(std::nothrow_t) noexcept {
        return detail::Access::result<std::size_t>(
            [&](std::size_t& count) { return conduit_publisher_subscribers(core_.handle(), &count); });
    }

    /// Messages published so far, which is the sequence number of the next.
    /// @throws InvalidHandle, Forked
    std::uint64_t published() const { return check(), conduit_publisher_published(core_.handle()); }

    /// Largest message in bytes.
    /// @throws InvalidHandle, Forked
    std::size_t capacity() const { return check(), conduit_publisher_capacity(core_.handle()); }

    /// Number of slots.
    /// @throws InvalidHandle, Forked
    std::uint32_t slots() const { return check(), conduit_publisher_slots(core_.handle()); }

    /// The topic's name.
    /// @throws InvalidHandle, Forked
    std::string topic() const { return check(); }

    /// Whether it is open.
    bool is_open() const noexcept { return core_.handle() != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /**
     * Closes the topic: its name is removed, a loan that is out is discarded, and subscribers are told PublisherClosed once they have
     * received what is left; what they hold stays valid. Does nothing if it is not open. The destructor does the same.
     */
    void close() noexcept { core_.close(); }

private:
    /// The name: it is there if the publisher is open in this process.
    const char* check() const {
        const char* topic = conduit_publisher_topic(core_.handle());
        if (__builtin_expect(topic == nullptr, 0)) {
            detail::raise_last(conduit_last_error());
        }
        return topic;
    }

    detail::PublisherCore core_;
};

// ----------------------------------------------------------------------------------------------------------- subscribing

template <class T>
class Subscriber;

/**
 * A message as a subscriber holds it, or none. While it is held its place in shared memory is not overwritten: hold it as long as it
 * is needed, and not longer.
 *
 * It may outlive the subscriber and the topic, and be destroyed on any thread. It is empty if nothing came in time, and once it is
 * released or moved from; reading it is then an error.
 */
template <class T>
class Sample {
public:
    /// The type of the value, or of the elements of the slice.
    using value_type = detail::Element<T>;

    /// An empty one.
    Sample() noexcept = default;
    Sample(Sample&& other) noexcept { take_over(other); }
    Sample& operator=(Sample&& other) noexcept {
        if (this != &other) {
            release();
            take_over(other);
        }
        return *this;
    }
    ~Sample() { release(); }

    /// Whether there is a message.
    explicit operator bool() const noexcept { return raw_.data != nullptr; }
    /// Whether there is a message.
    bool has_value() const noexcept { return raw_.data != nullptr; }

    /**
     * The value.
     *
     * @throws NoSample
     */
    const value_type& operator*() const {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return *data();
    }
    /**
     * Its members.
     *
     * @throws NoSample
     */
    const value_type* operator->() const {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return data();
    }

    /**
     * The value, or the first element. Aligned to 64 bytes.
     *
     * @throws NoSample
     */
    const value_type* data() const { return static_cast<const value_type*>(held().data); }

    /// Number of elements; 1 for a value, 0 if it is empty.
    std::size_t size() const noexcept { return size_bytes() / sizeof(value_type); }
    /// Size in bytes; 0 if it is empty.
    std::size_t size_bytes() const noexcept { return has_value() ? raw_.size : 0; }

    /// An element; the index is not checked.
    /// @throws NoSample
    const value_type& operator[](std::size_t index) const { return data()[index]; }
    /// @throws NoSample
    const value_type* begin() const { return data(); }
    /// @throws NoSample
    const value_type* end() const { return data() + size(); }

#if defined(__cpp_lib_span)
    /// The elements; one for a value.
    /// @throws NoSample
    std::span<const value_type> span() const { return {data(), size()}; }
#endif

    /// The message's number, from 0 at the topic's creation and without gaps at the publisher.
    /// @throws NoSample
    std::uint64_t sequence() const { return held().sequence; }

    /// How many messages the subscriber missed between the one before and this one.
    /// @throws NoSample
    std::uint64_t lost() const { return held().lost; }

    /// When it was published; nothing if the publisher has time stamps off.
    /// @throws NoSample
    std::optional<std::chrono::steady_clock::time_point> published_at() const {
        if (held().stamp_ns == 0) {
            return std::nullopt;
        }
        // On Linux the clock of both is CLOCK_MONOTONIC.
        return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(held().stamp_ns));
    }

    /// Time since it was published; nothing if the publisher has time stamps off.
    /// @throws NoSample
    std::optional<std::chrono::nanoseconds> age() const {
        const auto published = published_at();
        if (!published) {
            return std::nullopt;
        }
        return std::chrono::steady_clock::now() - *published;
    }

    /// Gives the place back: the message is not to be read any more. Does nothing if it is empty. The destructor does the same.
    void release() noexcept {
        if (raw_.data != nullptr) {
            conduit_sample_release(&raw_);
            raw_.data = nullptr;
        }
    }

private:
    friend class Subscriber<T>;

    const conduit_sample& held() const {
        if (__builtin_expect(raw_.data == nullptr, 0)) {
            detail::raise(detail::no_sample());
        }
        return raw_;
    }

    void take_over(Sample& other) noexcept {
        if (other.has_value()) {
            raw_ = other.raw_;
            other.raw_ = CONDUIT_SAMPLE_INIT;
        }
    }

    conduit_sample raw_ = CONDUIT_SAMPLE_INIT;
};

/**
 * A reader of a topic. `T` is the type of its values; `T[]` are slices of them, std::byte raw bytes.
 *
 *     auto subscriber = conduit::Subscriber<Imu>::open("imu");
 *     while (auto imu = subscriber.wait_for(std::chrono::seconds(1))) use(*imu);
 *
 * A sleeping subscriber costs nothing, and wakes when its publisher ends or dies: within milliseconds if conduitd runs, within about
 * a second if not. Signals do not end a wait: who wants to be stopped waits with a timeout. One thread at a time.
 */
template <class T>
class Subscriber {
    using Type = detail::MessageType<T>;

public:
    /// The type of the values, or of the elements of the slices.
    using value_type = typename Type::Element;

    /// One that is not open.
    Subscriber() noexcept = default;

    /**
     * Opens a topic.
     *
     * @throws InvalidName, NotFound, PermissionDenied, LayoutError, WrongKind, TypeMismatch, Orphaned, TooManySubscribers, IoError,
     *         InvalidArgument
     */
    static Subscriber open(const std::string& name, const SubscriberOptions& options = {}) {
        Subscriber subscriber;
        detail::check(subscriber.open_into(name, options));
        return subscriber;
    }
    static Result<Subscriber> open(const std::string& name, std::nothrow_t,
                                   const SubscriberOptions& options = {}) noexcept {
        return detail::Access::result<Subscriber>(
            [&](Subscriber& subscriber) { return subscriber.open_into(name, options); });
    }

    /**
     * The next message, once there is one.
     *
     * @throws InvalidHandle, Forked, PublisherClosed and PublisherDied (which are PublisherGone), InvalidMessage
     */
    Sample<T> wait() {
        Sample<T> sample;
        detail::check(conduit_subscriber_recv(handle_.get(), &sample.raw_));
        return sample;
    }
    Result<Sample<T>> wait(std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>(
            [&](Sample<T>& sample) { return conduit_subscriber_recv(handle_.get(), &sample.raw_); });
    }

    /**
     * The next message, if there is one now; else an empty sample. Does not allocate, if messages are read in place.
     *
     * @throws as wait()
     */
    Sample<T> take() {
        Sample<T> sample;
        detail::check(try_into(sample));
        return sample;
    }
    Result<Sample<T>> take(std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>([&](Sample<T>& sample) { return try_into(sample); });
    }

    /**
     * The next message, once there is one; an empty sample if the time is up first.
     *
     * @throws as wait()
     */
    template <class Rep, class Period>
    Sample<T> wait_for(const std::chrono::duration<Rep, Period>& timeout) {
        Sample<T> sample;
        detail::check(wait_into(sample, detail::nanoseconds(timeout)));
        return sample;
    }
    template <class Rep, class Period>
    Result<Sample<T>> wait_for(const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>(
            [&](Sample<T>& sample) { return wait_into(sample, detail::nanoseconds(timeout)); });
    }

    /**
     * The next message, once there is one; an empty sample if it is `deadline` first. Of a clock other than steady_clock, the time
     * that is left when the call begins counts.
     *
     * @throws as wait()
     */
    template <class Clock, class Duration>
    Sample<T> wait_until(const std::chrono::time_point<Clock, Duration>& deadline) {
        return wait_for(left(deadline));
    }
    template <class Clock, class Duration>
    Result<Sample<T>> wait_until(const std::chrono::time_point<Clock, Duration>& deadline, std::nothrow_t) noexcept {
        return wait_for(left(deadline), std::nothrow);
    }

    /// Messages received so far.
    /// @throws InvalidHandle, Forked
    std::uint64_t received() const { return check(), conduit_subscriber_received(handle_.get()); }

    /// Messages missed so far; with those received it adds up to what was published since the start.
    /// @throws InvalidHandle, Forked
    std::uint64_t lost() const { return check(), conduit_subscriber_lost(handle_.get()); }

    /// Whether messages are read in place. If not, they are validated copies: this user may only read the region, or wanted them.
    /// @throws InvalidHandle, Forked
    bool is_zero_copy() const { return check(), conduit_subscriber_is_zero_copy(handle_.get()); }

    /// The topic's name.
    /// @throws InvalidHandle, Forked
    std::string topic() const { return check(); }

    /// The type of the topic's messages, as the publisher named it.
    /// @throws InvalidHandle, Forked
    TypeInfo message_type() const {
        conduit_type type = {};
        detail::check(conduit_subscriber_type(handle_.get(), &type));
        return {type.name, static_cast<Kind>(type.kind), type.size, type.align};
    }

    /// Whether it is open.
    bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the subscription. Samples that are held stay valid. Does nothing if it is not open. The destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    conduit_error open_into(const std::string& name, const SubscriberOptions& given) {
        const detail::CDomain domain(given.domain);
        const conduit_type type = Type::get();
        conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
        options.domain = domain.get();
        options.message_type = &type;
        options.start = static_cast<conduit_start>(given.start);
        options.spin_ns = detail::nanoseconds(given.spin);
        options.copy_samples = given.copy_samples;
        // Of another type, only its bytes can be read.
        options.any_type = given.any_type && std::is_same_v<value_type, std::byte>;
        conduit_subscriber* subscriber = nullptr;
        const conduit_error code = conduit_subscriber_open(detail::text(name).c_str(), &options, &subscriber);
        handle_.reset(subscriber);
        return code;
    }

    conduit_error try_into(Sample<T>& sample) {
        const conduit_error code = conduit_subscriber_try_recv(handle_.get(), &sample.raw_);
        return code == CONDUIT_NO_MESSAGE ? CONDUIT_OK : code;
    }

    conduit_error wait_into(Sample<T>& sample, std::uint64_t timeout_ns) {
        const conduit_error code = conduit_subscriber_recv_timeout(handle_.get(), timeout_ns, &sample.raw_);
        return code == CONDUIT_ERROR_TIMED_OUT ? CONDUIT_OK : code;
    }

    template <class Clock, class Duration>
    static auto left(const std::chrono::time_point<Clock, Duration>& deadline) {
        const auto now = Clock::now();
        using Left = decltype(deadline - now);
        return deadline > now ? deadline - now : Left::zero();
    }

    /// The name: it is there if the subscriber is open in this process.
    const char* check() const {
        const char* topic = conduit_subscriber_topic(handle_.get());
        if (__builtin_expect(topic == nullptr, 0)) {
            detail::raise_last(conduit_last_error());
        }
        return topic;
    }

    detail::SubscriberHandle handle_;
};

// -------------------------------------------------------------------------------------------------------------- registry

/// Whether somebody stands behind a topic or raw region.
enum class State : int {
    live = CONDUIT_STATE_LIVE,                  ///< Its owner lives.
    closed = CONDUIT_STATE_CLOSED,              ///< Its publisher has closed it.
    orphaned = CONDUIT_STATE_ORPHANED,          ///< Its owner is dead.
    kept = CONDUIT_STATE_KEPT,                  ///< A raw region whose creator let it go: it stays.
    unauthorised = CONDUIT_STATE_UNAUTHORISED,  ///< It is live or kept, and the registry's rules do not allow it.
    unlinked = CONDUIT_STATE_UNLINKED,          ///< Its owner lives, and somebody has removed its name.
    unknown = CONDUIT_STATE_UNKNOWN,            ///< A newer registry reports a state that this library does not know.
};

/// One subscriber of a topic.
struct SubscriberInfo {
    std::string program;         ///< Command name.
    std::uint32_t pid = 0;       ///< Process id.
    std::uint32_t uid = 0;       ///< User id.
    std::uint64_t received = 0;  ///< Messages received.
    std::uint64_t lost = 0;      ///< Messages missed.
    std::uint64_t lag = 0;       ///< Slots between the publisher's next and this subscriber's.
    std::uint32_t held = 0;      ///< Samples held now.
    bool is_asleep = false;      ///< Whether it sleeps until the next message.
};

/// A topic or raw region.
struct TopicInfo {
    std::string name;                ///< Its name.
    std::string path;                ///< Where its file is.
    std::string type;                ///< Name of the messages' type, in brackets for a slice; empty for a raw region.
    State state = State::live;       ///< Whether somebody stands behind it.
    std::string reason;              ///< Why it is unauthorised, or who has probably removed its name; empty in other states.
    std::string publisher_program;   ///< Command name of its owner; empty if it is not known.
    std::uint32_t publisher_pid = 0; ///< Process id of its owner; 0 if it is not known.
    std::uint32_t publisher_uid = 0; ///< User id of its owner, if the process id is known.
    std::uint32_t slots = 0;         ///< Number of slots; 0 for a raw region.
    std::uint64_t slot_size = 0;     ///< Size of a slot in bytes, 192 of which are its state and header; 0 for a raw region.
    std::uint64_t size = 0;          ///< Size of its file in bytes.
    std::uint64_t published = 0;     ///< Messages published; 0 for a raw region.
    bool is_raw = false;             ///< Whether it is a raw region.
    std::optional<std::chrono::nanoseconds> last_message_age;  ///< Time since the last message, if there is one with a time stamp.
    std::optional<double> rate_hz;           ///< Messages per second, over the last one to two seconds, if it is known.
    std::optional<double> bytes_per_second;  ///< Bytes of messages per second, likewise.
    std::vector<SubscriberInfo> subscribers; ///< Its subscribers.
};

/// All topics and raw regions as they were at one moment, sorted by name.
struct Listing {
    std::vector<TopicInfo> topics;  ///< The topics and raw regions.
    /// Whether the registry answered. If not, this is what the regions themselves say: process ids are those of the processes' own
    /// namespaces, and rates are not known.
    bool is_from_registry = false;

    auto begin() const noexcept { return topics.begin(); }
    auto end() const noexcept { return topics.end(); }
    std::size_t size() const noexcept { return topics.size(); }
    bool empty() const noexcept { return topics.empty(); }

    /// The topic or raw region of a name; NULL if there is none.
    const TopicInfo* find(const std::string& name) const noexcept {
        for (const TopicInfo& topic : topics) {
            if (topic.name == name) {
                return &topic;
            }
        }
        return nullptr;
    }
};

namespace detail {

inline TopicInfo topic_info(const conduit_listing* listing, std::size_t index) {
    const conduit_topic& from = *conduit_listing_topic(listing, index);
    TopicInfo topic;
    topic.name = text_or_empty(from.name);
    topic.path = text_or_empty(from.path);
    topic.type = text_or_empty(from.type_name);
    topic.state = static_cast<State>(from.state);
    topic.reason = text_or_empty(from.reason);
    topic.publisher_program = text_or_empty(from.publisher_program);
    topic.publisher_pid = from.publisher_pid;
    topic.publisher_uid = from.publisher_uid;
    topic.slots = from.slots;
    topic.slot_size = from.slot_size;
    topic.size = from.size;
    topic.published = from.published;
    topic.is_raw = from.is_raw;
    if (from.last_message_age_ns != UINT64_MAX) {
        topic.last_message_age = std::chrono::nanoseconds(from.last_message_age_ns);
    }
    if (from.rate_hz >= 0) {
        topic.rate_hz = from.rate_hz;
    }
    if (from.bytes_per_second >= 0) {
        topic.bytes_per_second = from.bytes_per_second;
    }
    for (std::size_t at = 0; at < from.subscribers; ++at) {
        const conduit_subscriber_info& one = *conduit_listing_subscriber(listing, index, at);
        SubscriberInfo subscriber;
        subscriber.program = text_or_empty(one.program);
        subscriber.pid = one.pid;
        subscriber.uid = one.uid;
        subscriber.received = one.received;
        subscriber.lost = one.lost;
        subscriber.lag = one.lag;
        subscriber.held = one.held;
        subscriber.is_asleep = one.is_asleep;
        topic.subscribers.push_back(std::move(subscriber));
    }
    return topic;
}

inline conduit_error list_into(const Domain& domain, Listing& listing) {
    conduit_listing* opened = nullptr;
    const conduit_error code = conduit_listing_open(CDomain(domain).get(), &opened);
    const ListingHandle handle(opened);
    if (code == CONDUIT_OK) {
        listing.is_from_registry = conduit_listing_is_from_registry(opened);
        const std::size_t count = conduit_listing_count(opened);
        listing.topics.reserve(count);
        for (std::size_t index = 0; index < count; ++index) {
            listing.topics.push_back(topic_info(opened, index));
        }
    }
    return code;
}

inline conduit_error ping(const Domain& domain, bool& answers) {
    const conduit_error code = conduit_registry_ping(CDomain(domain).get());
    answers = code == CONDUIT_OK;
    return code == CONDUIT_ERROR_NO_REGISTRY ? CONDUIT_OK : code;
}

}  // namespace detail

/**
 * Lists all topics and raw regions. Asks the registry, or reads the shared-memory directory if none answers.
 *
 *     for (const auto& topic : conduit::list_topics()) std::puts(topic.name.c_str());
 *
 * @throws IoError, InvalidArgument
 */
inline Listing list_topics(const Domain& domain = {}) {
    Listing listing;
    detail::check(detail::list_into(domain, listing));
    return listing;
}
inline Result<Listing> list_topics(std::nothrow_t, const Domain& domain = {}) noexcept {
    return detail::Access::result<Listing>([&](Listing& listing) { return detail::list_into(domain, listing); });
}

/**
 * Whether a registry (conduitd) answers. Everything works without one; with it, what dead processes leave is removed at once.
 *
 * @throws RegistryError, IoError (it does not answer within 5 s, for one), InvalidArgument
 */
inline bool registry_is_reachable(const Domain& domain = {}) {
    bool answers = false;
    detail::check(detail::ping(domain, answers));
    return answers;
}
inline Result<bool> registry_is_reachable(std::nothrow_t, const Domain& domain = {}) noexcept {
    return detail::Access::result<bool>([&](bool& answers) { return detail::ping(domain, answers); });
}

}  // namespace conduit

#endif  // CONDUIT_HPP
