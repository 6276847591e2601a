// SPDX-License-Identifier: MIT OR Apache-2.0
// Samples that a subscriber holds. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_SAMPLE
#define CONDUIT_HPP_SAMPLE

#include "options.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>

#if defined(__has_include)
#if __has_include(<version>)
#include <version>
#endif
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

namespace conduit {

template <class T>
class Subscriber;
template <class T>
class PatternSubscriber;

namespace detail {

/// The time of a stamp; 0 is none.
inline std::optional<std::chrono::steady_clock::time_point> published_at(std::uint64_t stamp_ns) noexcept {
    if (stamp_ns == 0) {
        return std::nullopt;
    }
    // On Linux both clocks are CLOCK_MONOTONIC.
    return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(stamp_ns));
}

inline std::optional<std::chrono::nanoseconds> age(std::uint64_t stamp_ns) noexcept {
    const auto published = published_at(stamp_ns);
    if (!published) {
        return std::nullopt;
    }
    return std::chrono::steady_clock::now() - *published;
}

}  // namespace detail

/**
 * A message that a subscriber holds, or none. Its slot is not overwritten meanwhile: hold it no longer
 * than necessary.
 *
 * It may outlive the subscriber and the topic, and be destroyed on any thread. It is empty if no message
 * was received in time, and after it was released or moved from: reading it then throws NoSample.
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
    [[nodiscard]] bool has_value() const noexcept { return raw_.data != nullptr; }

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
     * The value, or the first element. Aligned to 64 bytes, a value of up to 32 bytes to 32.
     *
     * @throws NoSample
     */
    [[nodiscard]] const value_type* data() const { return static_cast<const value_type*>(held().data); }

    /// Number of elements; 1 for a value, 0 if it is empty.
    [[nodiscard]] std::size_t size() const noexcept { return size_bytes() / sizeof(value_type); }
    /// Size in bytes; 0 if it is empty.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return has_value() ? raw_.size : 0; }

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
    [[nodiscard]] std::span<const value_type> span() const { return {data(), size()}; }
#endif

    /// Sequence number of the message: the first of a topic has 0.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t sequence() const { return held().sequence; }

    /// Number of messages that the subscriber missed between the previous one and this one.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t lost() const { return held().lost; }

    /// When it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> published_at() const {
        return detail::published_at(held().stamp_ns);
    }

    /// Time since it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::nanoseconds> age() const {
        return detail::age(held().stamp_ns);
    }

    /// Releases the slot: the message must not be read any more. Does nothing if it is empty. The
    /// destructor does the same.
    void release() noexcept {
        if (raw_.data != nullptr) {
            conduit_sample_release(&raw_);
            raw_.data = nullptr;
        }
    }

private:
    friend class PatternSubscriber<T>;
    friend class Subscriber<T>;

    [[nodiscard]] const conduit_sample& held() const {
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
 * A value that was copied out of its slot, or none: no other process can see or change it, and it holds
 * nothing. Its functions are those of a Sample; reading an empty one throws NoSample.
 */
template <class T>
class Copied {
public:
    /// The type of the value.
    using value_type = detail::Element<T>;
    static_assert(!detail::Form<T>::is_slice, "a slice is copied to memory of yours: take_copy(elements, capacity)");
    static_assert(std::is_default_constructible_v<value_type>, "a value is copied into a default-constructed one");

    /// An empty one.
    Copied() noexcept = default;

    /// Whether there is a message.
    explicit operator bool() const noexcept { return has_value_; }
    /// Whether there is a message.
    [[nodiscard]] bool has_value() const noexcept { return has_value_; }

    /// The value.
    /// @throws NoSample
    const value_type& operator*() const { return check(), value_; }
    /// Its members.
    /// @throws NoSample
    const value_type* operator->() const { return check(), std::addressof(value_); }

    /// Sequence number of the message: the first of a topic has 0.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t sequence() const { return check(), raw_.sequence; }
    /// Number of messages that the subscriber missed between the previous one and this one.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t lost() const { return check(), raw_.lost; }
    /// When it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> published_at() const {
        return check(), detail::published_at(raw_.stamp_ns);
    }
    /// Time since it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::nanoseconds> age() const { return check(), detail::age(raw_.stamp_ns); }

private:
    friend class Subscriber<T>;

    /// Notes how a call ended; it may end with `nothing`.
    conduit_error received(conduit_error code, conduit_error nothing) noexcept {
        has_value_ = code == CONDUIT_OK;
        return code == nothing ? CONDUIT_OK : code;
    }

    void check() const {
        if (__builtin_expect(!has_value_, 0)) {
            detail::raise(detail::no_sample());
        }
    }

    value_type value_{};
    conduit_copied raw_{};
    bool has_value_ = false;
};

/**
 * The elements of a slice that were copied to memory of the caller, or none. It refers to that memory. Reading what
 * is known of the message of an empty one throws NoSample.
 */
template <class T>
class CopiedSlice {
public:
    /// The type of the elements.
    using value_type = detail::Element<T>;

    /// An empty one.
    CopiedSlice() noexcept = default;

    /// Whether there is a message, which may have no elements.
    explicit operator bool() const noexcept { return has_value_; }
    /// Whether there is a message, which may have no elements.
    [[nodiscard]] bool has_value() const noexcept { return has_value_; }

    /// The first element.
    [[nodiscard]] value_type* data() const noexcept { return elements_; }
    /// Number of elements; 0 if it is empty.
    [[nodiscard]] std::size_t size() const noexcept { return raw_.size / sizeof(value_type); }
    /// An element; the index is not checked.
    value_type& operator[](std::size_t index) const noexcept { return elements_[index]; }
    value_type* begin() const noexcept { return elements_; }
    value_type* end() const noexcept { return elements_ + size(); }

    /// Sequence number of the message: the first of a topic has 0.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t sequence() const { return check(), raw_.sequence; }
    /// Number of messages that the subscriber missed between the previous one and this one.
    /// @throws NoSample
    [[nodiscard]] std::uint64_t lost() const { return check(), raw_.lost; }
    /// When it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> published_at() const {
        return check(), detail::published_at(raw_.stamp_ns);
    }
    /// Time since it was published; std::nullopt if the publisher has time stamps turned off.
    /// @throws NoSample
    [[nodiscard]] std::optional<std::chrono::nanoseconds> age() const { return check(), detail::age(raw_.stamp_ns); }

private:
    friend class Subscriber<T>;

    void check() const {
        if (__builtin_expect(!has_value_, 0)) {
            detail::raise(detail::no_sample());
        }
    }

    value_type* elements_ = nullptr;
    conduit_copied raw_{};
    bool has_value_ = false;
};

/**
 * A message that is lent to a function, until that returns.
 *
 * It cannot be copied, and what it refers to must not be used later. Its functions are those of a Sample.
 */
template <class T>
class Borrowed {
public:
    /// The type of the value, or of the elements of the slice.
    using value_type = detail::Element<T>;

    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;

    /// The value.
    const value_type& operator*() const noexcept {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return *data();
    }
    /// Its members.
    const value_type* operator->() const noexcept {
        static_assert(!detail::Form<T>::is_slice, "a slice has elements: use data(), [], span() or a loop over it");
        return data();
    }

    /// The value, or the first element.
    [[nodiscard]] const value_type* data() const noexcept { return static_cast<const value_type*>(raw_.data); }
    /// Number of elements; 1 for a value.
    [[nodiscard]] std::size_t size() const noexcept { return raw_.size / sizeof(value_type); }
    /// Size in bytes.
    [[nodiscard]] std::size_t size_bytes() const noexcept { return raw_.size; }

    /// An element; the index is not checked.
    const value_type& operator[](std::size_t index) const noexcept { return data()[index]; }
    const value_type* begin() const noexcept { return data(); }
    const value_type* end() const noexcept { return data() + size(); }

#if defined(__cpp_lib_span)
    /// The elements; one for a value.
    [[nodiscard]] std::span<const value_type> span() const noexcept { return {data(), size()}; }
#endif

    /// Sequence number of the message: the first of a topic has 0.
    [[nodiscard]] std::uint64_t sequence() const noexcept { return raw_.sequence; }
    /// Number of messages that the subscriber missed between the previous one and this one.
    [[nodiscard]] std::uint64_t lost() const noexcept { return raw_.lost; }
    /// When it was published; std::nullopt if the publisher has time stamps turned off.
    [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> published_at() const noexcept {
        return detail::published_at(raw_.stamp_ns);
    }
    /// Time since it was published; std::nullopt if the publisher has time stamps turned off.
    [[nodiscard]] std::optional<std::chrono::nanoseconds> age() const noexcept {
        return detail::age(raw_.stamp_ns);
    }

private:
    friend class Subscriber<T>;
    explicit Borrowed(const conduit_lent_message& raw) noexcept : raw_(raw) {}

    const conduit_lent_message& raw_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_SAMPLE
