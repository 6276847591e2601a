// SPDX-License-Identifier: MIT OR Apache-2.0
// Subscribers. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_SUBSCRIBER
#define CONDUIT_HPP_SUBSCRIBER

#include "sample.hpp"

#include <chrono>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>

namespace conduit {

/**
 * A reader of a topic. `T` is the type of its values; `T[]` is for slices of them, and std::byte for
 * raw bytes.
 *
 *     auto subscriber = conduit::Subscriber<Imu>::open("imu");
 *     while (auto imu = subscriber.wait_for(std::chrono::seconds(1))) use(*imu);
 *
 * A subscriber that is asleep costs nothing. It wakes when its publisher closes the topic or dies: within
 * milliseconds if conduitd runs, or else within about a second. Signals do not interrupt it: a program
 * that has to stop waits with a timeout. One thread at a time.
 */
template <class T>
class Subscriber {
    using Type = detail::MessageType<T>;

public:
    /// The type of the values, or of the elements of the slices.
    using value_type = typename Type::Element;

    /// An object that is not open.
    Subscriber() noexcept = default;

    /**
     * Opens a topic for reading.
     *
     * @throws InvalidName, NotFound, PermissionDenied, LayoutError, WrongKind, TypeMismatch, Orphaned,
     *         TooManySubscribers, IoError, InvalidArgument
     */
    [[nodiscard]] static Subscriber open(const std::string& name, const SubscriberOptions& options = {}) {
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
     * Receives the next message, and sleeps until there is one.
     *
     * @throws InvalidHandle, Forked, PublisherClosed and PublisherDied (which are PublisherGone),
     *         InvalidMessage
     */
    [[nodiscard]] Sample<T> wait() {
        Sample<T> sample;
        detail::check(conduit_subscriber_recv(handle_.get(), &sample.raw_));
        return sample;
    }
    Result<Sample<T>> wait(std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>(
            [&](Sample<T>& sample) { return conduit_subscriber_recv(handle_.get(), &sample.raw_); });
    }

    /**
     * Receives the next message if there is one, or else returns an empty sample. Does not allocate unless
     * samples are copied.
     *
     * @throws as wait()
     */
    [[nodiscard]] Sample<T> take() {
        Sample<T> sample;
        detail::check(try_into(sample));
        return sample;
    }
    Result<Sample<T>> take(std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>([&](Sample<T>& sample) { return try_into(sample); });
    }

    /**
     * Receives the next message, and sleeps until there is one. Returns an empty sample if the timeout
     * expires first.
     *
     * @throws as wait()
     */
    template <class Rep, class Period>
    [[nodiscard]] Sample<T> wait_for(const std::chrono::duration<Rep, Period>& timeout) {
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
     * Receives the next message, and sleeps until there is one. Returns an empty sample if `deadline`
     * passes first. For another clock than steady_clock, what counts is the time that is left when the
     * call begins.
     *
     * @throws as wait()
     */
    template <class Clock, class Duration>
    [[nodiscard]] Sample<T> wait_until(const std::chrono::time_point<Clock, Duration>& deadline) {
        return wait_for(left(deadline));
    }
    template <class Clock, class Duration>
    Result<Sample<T>> wait_until(const std::chrono::time_point<Clock, Duration>& deadline, std::nothrow_t) noexcept {
        return wait_for(left(deadline), std::nothrow);
    }

    /// Number of messages received so far.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t received() const { return check(), conduit_subscriber_received(handle_.get()); }

    /// Number of messages missed so far. Together with those received it is the number of messages
    /// published since the start.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t lost() const { return check(), conduit_subscriber_lost(handle_.get()); }

    /// Whether messages are read in place. If not, they are validated copies: copy_samples was set, or this
    /// user may only read the region.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] bool is_zero_copy() const { return check(), conduit_subscriber_is_zero_copy(handle_.get()); }

    /// The topic's name.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::string topic() const { return check(); }

    /// The type of the topic's messages, as its publisher declared it.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] TypeInfo message_type() const {
        conduit_type type = {};
        detail::check(conduit_subscriber_type(handle_.get(), &type));
        return {type.name, static_cast<Kind>(type.kind), type.size, type.align};
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the subscription. Samples that are held stay valid. Does nothing if it is not open. The
    /// destructor does the same.
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
        options.adaptive_spin = given.adaptive_spin;
        options.copy_samples = given.copy_samples;
        // Messages of any type can only be read as bytes.
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

    /// The name, which is not NULL if the subscriber is open in this process.
    const char* check() const {
        const char* topic = conduit_subscriber_topic(handle_.get());
        if (__builtin_expect(topic == nullptr, 0)) {
            detail::raise_last(conduit_last_error());
        }
        return topic;
    }

    detail::SubscriberHandle handle_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_SUBSCRIBER
