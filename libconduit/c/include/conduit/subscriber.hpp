// SPDX-License-Identifier: MIT OR Apache-2.0
// Subscribers. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_SUBSCRIBER
#define CONDUIT_HPP_SUBSCRIBER

#include "sample.hpp"
#include "topic_event.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>

namespace conduit {

class WaitSet;

namespace detail {

/// The options of a subscriber to messages of a type, as C takes them.
template <class T>
class CSubscriberOptions {
public:
    explicit CSubscriberOptions(const SubscriberOptions& given)
        : domain_(given.domain), type_(MessageType<T>::get()) {
        options_.domain = domain_.get();
        options_.message_type = &type_;
        options_.start = static_cast<conduit_start>(given.start);
        options_.last = given.last;
        options_.max_held = given.max_held;
        options_.deadline_ns = nanoseconds(given.deadline);
        options_.no_prefault = !given.prefault;
        options_.follow = given.follow;
        options_.stop = given.stop.handle_.get();
        options_.spin_ns = nanoseconds(given.spin);
        options_.adaptive_spin = given.adaptive_spin;
        options_.copy_samples = given.copy_samples;
        // Messages of any type can only be read as bytes.
        options_.any_type = given.any_type && std::is_same_v<typename MessageType<T>::Element, std::byte>;
    }
    CSubscriberOptions(const CSubscriberOptions&) = delete;
    CSubscriberOptions& operator=(const CSubscriberOptions&) = delete;

    [[nodiscard]] const conduit_subscriber_options* get() const noexcept { return &options_; }

private:
    CDomain domain_;
    conduit_type type_;
    conduit_subscriber_options options_ = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
};

}  // namespace detail

/**
 * A reader of a topic. `T` is the type of its values; `T[]` is for slices of them, and std::byte for
 * raw bytes.
 *
 *     auto subscriber = conduit::Subscriber<Imu>::open("imu");
 *     while (auto imu = subscriber.wait_for(std::chrono::seconds(1))) use(*imu);
 *
 * A subscriber that is asleep costs nothing. It wakes when its publisher closes the topic or dies: within
 * milliseconds if conduitd runs, or else within about a second. Signals do not interrupt it: a program
 * that has to stop gives it a Stop in its options. One thread at a time.
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
     *         InvalidMessage, Stopped
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
        return wait_for(detail::left(deadline));
    }
    template <class Clock, class Duration>
    Result<Sample<T>> wait_until(const std::chrono::time_point<Clock, Duration>& deadline, std::nothrow_t) noexcept {
        return wait_for(detail::left(deadline), std::nothrow);
    }

    /**
     * Receives the newest message, and skips those before it. Returns an empty sample if there is none that is
     * newer than the last one received.
     *
     * For loops with a rhythm of their own that act on the present state. Messages that are passed over count
     * as skipped() and not as lost(). However far behind the subscriber is, this takes about as long as take().
     *
     * @throws as wait()
     */
    [[nodiscard]] Sample<T> latest() {
        Sample<T> sample;
        detail::check(latest_into(sample));
        return sample;
    }
    Result<Sample<T>> latest(std::nothrow_t) noexcept {
        return detail::Access::result<Sample<T>>([&](Sample<T>& sample) { return latest_into(sample); });
    }

    /**
     * Receives the next message, or learns of the next change of the topic, if there is one.
     *
     * Changes are those of the publisher, if the subscriber follows its topic, and silences, if it has a deadline.
     * Changes of the publisher are reported in order with
     * the messages, unless functions that receive only messages have passed them over. When a publisher has died,
     * the registry is asked how, for up to 100 ms.
     *
     * @throws as wait(), and TypeMismatch and NotFollowed, after which the subscriber waits for another publisher
     */
    [[nodiscard]] std::optional<TopicEvent<T>> take_event() {
        std::optional<TopicEvent<T>> event;
        detail::check(take_event_into(event));
        return event;
    }
    Result<std::optional<TopicEvent<T>>> take_event(std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<TopicEvent<T>>>(
            [&](std::optional<TopicEvent<T>>& event) { return take_event_into(event); });
    }

    /**
     * Receives the next message or change of the publisher, and sleeps until there is one; see take_event().
     *
     *     for (;;) {
     *         const auto event = camera.wait_event();
     *         using Kind = decltype(event.kind);
     *         if (event.kind == Kind::sample) show(*event.sample);
     *         else if (event.kind == Kind::lost) std::puts(event.died ? "it died" : "no images for now");
     *     }
     *
     * @throws as take_event()
     */
    [[nodiscard]] TopicEvent<T> wait_event() {
        std::optional<TopicEvent<T>> event;
        detail::check(wait_event_into(CONDUIT_FOREVER, event));
        return std::move(*event);
    }
    Result<TopicEvent<T>> wait_event(std::nothrow_t) noexcept {
        return detail::Access::result<TopicEvent<T>>([&](TopicEvent<T>& event) {
            std::optional<TopicEvent<T>> found;
            const conduit_error code = wait_event_into(CONDUIT_FOREVER, found);
            if (found) {
                event = std::move(*found);
            }
            return code;
        });
    }

    /// Receives the next message or change of the publisher, and sleeps until there is one; std::nullopt if the
    /// timeout expires first.
    /// @throws as take_event()
    template <class Rep, class Period>
    [[nodiscard]] std::optional<TopicEvent<T>> wait_event_for(const std::chrono::duration<Rep, Period>& timeout) {
        std::optional<TopicEvent<T>> event;
        detail::check(wait_event_into(detail::nanoseconds(timeout), event));
        return event;
    }
    template <class Rep, class Period>
    Result<std::optional<TopicEvent<T>>> wait_event_for(const std::chrono::duration<Rep, Period>& timeout,
                                                        std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<TopicEvent<T>>>([&](std::optional<TopicEvent<T>>& event) {
            return wait_event_into(detail::nanoseconds(timeout), event);
        });
    }

    /**
     * Receives a copy of the next message if there is one, or else returns an empty one. For values of up to a
     * few hundred bytes this is faster than take(): nothing is written that the publisher has to read. A message
     * that is overwritten while it is copied counts as lost. Never allocates.
     *
     * @throws as wait()
     */
    [[nodiscard]] Copied<T> take_copy() {
        Copied<T> copied;
        detail::check(copy_into(copied));
        return copied;
    }
    Result<Copied<T>> take_copy(std::nothrow_t) noexcept {
        return detail::Access::result<Copied<T>>([&](Copied<T>& copied) { return copy_into(copied); });
    }

    /// Receives a copy of the next message, and sleeps until there is one.
    /// @throws as wait()
    [[nodiscard]] Copied<T> wait_copy() {
        Copied<T> copied;
        detail::check(copy_within(copied, CONDUIT_FOREVER));
        return copied;
    }
    Result<Copied<T>> wait_copy(std::nothrow_t) noexcept {
        return detail::Access::result<Copied<T>>(
            [&](Copied<T>& copied) { return copy_within(copied, CONDUIT_FOREVER); });
    }

    /// Receives a copy of the next message, and sleeps until there is one. Returns an empty one if the timeout
    /// expires first.
    /// @throws as wait()
    template <class Rep, class Period>
    [[nodiscard]] Copied<T> wait_copy_for(const std::chrono::duration<Rep, Period>& timeout) {
        Copied<T> copied;
        detail::check(copy_within(copied, detail::nanoseconds(timeout)));
        return copied;
    }
    template <class Rep, class Period>
    Result<Copied<T>> wait_copy_for(const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t) noexcept {
        return detail::Access::result<Copied<T>>(
            [&](Copied<T>& copied) { return copy_within(copied, detail::nanoseconds(timeout)); });
    }

    /// Receives a copy of the newest message, and skips those before it; see latest() and take_copy().
    /// @throws as wait()
    [[nodiscard]] Copied<T> latest_copy() {
        Copied<T> copied;
        detail::check(latest_copy_into(copied));
        return copied;
    }
    Result<Copied<T>> latest_copy(std::nothrow_t) noexcept {
        return detail::Access::result<Copied<T>>([&](Copied<T>& copied) { return latest_copy_into(copied); });
    }

    /**
     * Copies the next message of a slice to `elements`, which has room for `capacity`, if there is one, or else
     * returns an empty one. What is copied is faster to receive than take() for messages of up to a few hundred
     * bytes, and nothing is allocated.
     *
     *     std::array<float, 1024> samples;
     *     if (auto audio = subscriber.take_copy(samples.data(), samples.size())) play(audio.data(), audio.size());
     *
     * @throws as wait(), and MessageTooLarge (longer than the room for it; it counts as received)
     */
    [[nodiscard]] CopiedSlice<T> take_copy(value_type* elements, std::size_t capacity) {
        CopiedSlice<T> copied;
        detail::check(copy_slice(copied, elements, capacity, &conduit_subscriber_try_recv_copy));
        return copied;
    }
    Result<CopiedSlice<T>> take_copy(value_type* elements, std::size_t capacity, std::nothrow_t) noexcept {
        return detail::Access::result<CopiedSlice<T>>([&](CopiedSlice<T>& copied) {
            return copy_slice(copied, elements, capacity, &conduit_subscriber_try_recv_copy);
        });
    }

    /// As take_copy(elements, capacity), but sleeps until there is a message.
    /// @throws as take_copy(elements, capacity)
    [[nodiscard]] CopiedSlice<T> wait_copy(value_type* elements, std::size_t capacity) {
        CopiedSlice<T> copied;
        detail::check(copy_slice(copied, elements, capacity, Within{CONDUIT_FOREVER}));
        return copied;
    }
    Result<CopiedSlice<T>> wait_copy(value_type* elements, std::size_t capacity, std::nothrow_t) noexcept {
        return detail::Access::result<CopiedSlice<T>>([&](CopiedSlice<T>& copied) {
            return copy_slice(copied, elements, capacity, Within{CONDUIT_FOREVER});
        });
    }

    /// As take_copy(elements, capacity), but sleeps until there is a message. Returns an empty one if the timeout
    /// expires first.
    /// @throws as take_copy(elements, capacity)
    template <class Rep, class Period>
    [[nodiscard]] CopiedSlice<T> wait_copy_for(const std::chrono::duration<Rep, Period>& timeout,
                                               value_type* elements, std::size_t capacity) {
        CopiedSlice<T> copied;
        detail::check(copy_slice(copied, elements, capacity, Within{detail::nanoseconds(timeout)}));
        return copied;
    }
    template <class Rep, class Period>
    Result<CopiedSlice<T>> wait_copy_for(const std::chrono::duration<Rep, Period>& timeout, value_type* elements,
                                         std::size_t capacity, std::nothrow_t) noexcept {
        return detail::Access::result<CopiedSlice<T>>([&](CopiedSlice<T>& copied) {
            return copy_slice(copied, elements, capacity, Within{detail::nanoseconds(timeout)});
        });
    }

    /// As take_copy(elements, capacity), for the newest message; those before it are skipped, as by latest().
    /// @throws as take_copy(elements, capacity)
    [[nodiscard]] CopiedSlice<T> latest_copy(value_type* elements, std::size_t capacity) {
        CopiedSlice<T> copied;
        detail::check(copy_slice(copied, elements, capacity, &conduit_subscriber_latest_copy));
        return copied;
    }
    Result<CopiedSlice<T>> latest_copy(value_type* elements, std::size_t capacity, std::nothrow_t) noexcept {
        return detail::Access::result<CopiedSlice<T>>([&](CopiedSlice<T>& copied) {
            return copy_slice(copied, elements, capacity, &conduit_subscriber_latest_copy);
        });
    }

    /**
     * Passes the next message to `read` if there is one. Returns whether there was.
     *
     *     subscriber.take_with([&](const auto& imu) { sum += imu->gyro[2]; });
     *
     * The message is held only while `read`, which takes a `const Borrowed<T>&`, runs: there is nothing to
     * release, and it costs less than take(). `read` may use every object but this one, which is Busy. If it
     * throws, the message is received and released, and the exception is passed on, also in the form with
     * std::nothrow, which therefore is not noexcept. Does not allocate unless samples are copied.
     *
     * @throws as wait() and what `read` throws; Busy
     */
    template <class Read>
    bool take_with(Read&& read) {
        bool lent = false;
        detail::check(lend_next(read, lent));
        return lent;
    }
    template <class Read>
    Result<bool> take_with(Read&& read, std::nothrow_t) {
        bool lent = false;
        return result(lend_next(read, lent), lent);
    }

    /// Passes the next message to `read`, and sleeps until there is one; see take_with().
    /// @throws as take_with()
    template <class Read>
    void wait_with(Read&& read) {
        bool lent = false;
        detail::check(lend_within(CONDUIT_FOREVER, read, lent));
    }
    template <class Read>
    Result<void> wait_with(Read&& read, std::nothrow_t) {
        bool lent = false;
        const conduit_error code = lend_within(CONDUIT_FOREVER, read, lent);
        return detail::Access::result([code] { return code; });
    }

    /// Passes the next message to `read`, and sleeps until there is one. Returns false if the timeout expires
    /// first; see take_with().
    /// @throws as take_with()
    template <class Rep, class Period, class Read>
    bool wait_with_for(const std::chrono::duration<Rep, Period>& timeout, Read&& read) {
        bool lent = false;
        detail::check(lend_within(detail::nanoseconds(timeout), read, lent));
        return lent;
    }
    template <class Rep, class Period, class Read>
    Result<bool> wait_with_for(const std::chrono::duration<Rep, Period>& timeout, Read&& read, std::nothrow_t) {
        bool lent = false;
        return result(lend_within(detail::nanoseconds(timeout), read, lent), lent);
    }

    /**
     * Passes up to `max` messages that have arrived to `each`, one after the other. Returns their number.
     *
     *     while (subscriber.take_batch(64, [&](const auto& tick) { sum += *tick; }) > 0) {}
     *
     * For high rates: the subscriber publishes its own progress once per batch, and holds each message only
     * while `each` runs; see take_with(). If `each` throws, the rest of the batch is received without it.
     *
     * @throws as take_with(); an invalid message ends the batch after those before it
     */
    template <class Each>
    std::size_t take_batch(std::size_t max, Each&& each) {
        std::size_t count = 0;
        detail::check(lend_batch(max, each, count));
        return count;
    }
    template <class Each>
    Result<std::size_t> take_batch(std::size_t max, Each&& each, std::nothrow_t) {
        std::size_t count = 0;
        return result(lend_batch(max, each, count), count);
    }

    /// As take_batch(), but sleeps until there is a message.
    /// @throws as take_with()
    template <class Each>
    std::size_t wait_batch(std::size_t max, Each&& each) {
        std::size_t count = 0;
        detail::check(lend_batch_within(CONDUIT_FOREVER, max, each, count));
        return count;
    }
    template <class Each>
    Result<std::size_t> wait_batch(std::size_t max, Each&& each, std::nothrow_t) {
        std::size_t count = 0;
        return result(lend_batch_within(CONDUIT_FOREVER, max, each, count), count);
    }

    /// As take_batch(), but sleeps until there is a message. Returns 0 if the timeout expires first.
    /// @throws as take_with()
    template <class Rep, class Period, class Each>
    std::size_t wait_batch_for(const std::chrono::duration<Rep, Period>& timeout, std::size_t max, Each&& each) {
        std::size_t count = 0;
        detail::check(lend_batch_within(detail::nanoseconds(timeout), max, each, count));
        return count;
    }
    template <class Rep, class Period, class Each>
    Result<std::size_t> wait_batch_for(const std::chrono::duration<Rep, Period>& timeout, std::size_t max,
                                       Each&& each, std::nothrow_t) {
        std::size_t count = 0;
        return result(lend_batch_within(detail::nanoseconds(timeout), max, each, count), count);
    }

    /// Number of messages received so far.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t received() const { return check(), conduit_subscriber_received(handle_.get()); }

    /// Number of messages missed so far. Together with those received and those skipped it is the number of
    /// messages published since the start.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t lost() const { return check(), conduit_subscriber_lost(handle_.get()); }

    /// Number of messages that latest() and latest_copy() have passed over so far.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t skipped() const { return check(), conduit_subscriber_skipped(handle_.get()); }

    /// Whether messages are read in place. If not, they are validated copies: copy_samples was set, or this
    /// user may only read the region.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] bool is_zero_copy() const { return check(), conduit_subscriber_is_zero_copy(handle_.get()); }

    /// Which of its publishers the subscriber has or, if it has none, had: 1 for the first, and one more for each
    /// other one; 0 before the first one. Without `follow` there is one, the first. Sequence numbers begin anew
    /// with each.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint32_t epoch() const { return check(), conduit_subscriber_epoch(handle_.get()); }

    /// Whether there is a publisher, as far as the subscriber knows: it notices a change when it receives.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] bool is_connected() const { return check(), conduit_subscriber_is_connected(handle_.get()); }

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

    /**
     * A file descriptor that is readable while there is something to receive, for poll(2), epoll(7) and event
     * loops of other libraries. Every call returns the same one.
     *
     * It belongs to the subscriber, which closes it: never read from it, write to it or close it. It is
     * readable while a message waits, and for good once the topic has ended. The functions that receive clear
     * it when they have received the last message or found none; an edge-triggered loop (EPOLLET) takes until
     * there is none. Rarely, it is readable and there is no message.
     *
     * @throws InvalidHandle, Forked, IoError (too many open files, or a thread could not be started)
     */
    [[nodiscard]] int ready_fd() {
        int descriptor = -1;
        detail::check(conduit_subscriber_ready_fd(handle_.get(), &descriptor));
        return descriptor;
    }
    Result<int> ready_fd(std::nothrow_t) noexcept {
        return detail::Access::result<int>(
            [&](int& descriptor) { return conduit_subscriber_ready_fd(handle_.get(), &descriptor); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the subscription. Samples that are held stay valid. Does nothing if it is not open. The
    /// destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    friend class WaitSet;

    conduit_error open_into(const std::string& name, const SubscriberOptions& given) {
        const detail::CSubscriberOptions<T> options(given);
        conduit_subscriber* subscriber = nullptr;
        const conduit_error code = conduit_subscriber_open(detail::text(name).c_str(), options.get(), &subscriber);
        handle_.reset(subscriber);
        return code;
    }

    conduit_error try_into(Sample<T>& sample) {
        const conduit_error code = conduit_subscriber_try_recv(handle_.get(), &sample.raw_);
        return code == CONDUIT_NO_MESSAGE ? CONDUIT_OK : code;
    }

    conduit_error latest_into(Sample<T>& sample) {
        const conduit_error code = conduit_subscriber_latest(handle_.get(), &sample.raw_);
        return code == CONDUIT_NO_MESSAGE ? CONDUIT_OK : code;
    }

    /// Copies a message as C does it, within a time.
    struct Within {
        std::uint64_t timeout_ns;
        conduit_error operator()(conduit_subscriber* subscriber, void* buffer, std::size_t capacity,
                                 conduit_copied* copied) const {
            return conduit_subscriber_recv_copy(subscriber, timeout_ns, buffer, capacity, copied);
        }
    };

    template <class Receive>
    conduit_error copy_slice(CopiedSlice<T>& copied, value_type* elements, std::size_t capacity,
                             const Receive& receive) {
        static_assert(Type::is_slice, "a value is copied without memory of yours: take_copy()");
        constexpr std::size_t most = PTRDIFF_MAX / sizeof(value_type);
        const std::size_t bytes = (capacity < most ? capacity : most) * sizeof(value_type);
        const conduit_error code = receive(handle_.get(), elements, bytes, &copied.raw_);
        copied.has_value_ = code == CONDUIT_OK;
        copied.elements_ = copied.has_value_ ? elements : nullptr;
        return code == CONDUIT_NO_MESSAGE || code == CONDUIT_ERROR_TIMED_OUT ? CONDUIT_OK : code;
    }

    conduit_error take_event_into(std::optional<TopicEvent<T>>& into) {
        Sample<T> sample;
        const conduit_topic_event* event = nullptr;
        const conduit_error code = conduit_subscriber_try_recv_event(handle_.get(), &sample.raw_, &event);
        return converted(code, CONDUIT_NO_MESSAGE, event, sample, into);
    }

    conduit_error wait_event_into(std::uint64_t timeout_ns, std::optional<TopicEvent<T>>& into) {
        Sample<T> sample;
        const conduit_topic_event* event = nullptr;
        const conduit_error code = conduit_subscriber_recv_event(handle_.get(), timeout_ns, &sample.raw_, &event);
        return converted(code, CONDUIT_ERROR_TIMED_OUT, event, sample, into);
    }

    static conduit_error converted(conduit_error code, conduit_error nothing, const conduit_topic_event* from,
                                   Sample<T>& sample, std::optional<TopicEvent<T>>& into) {
        if (code == CONDUIT_OK) {
            into.emplace();
            into->kind = static_cast<typename TopicEvent<T>::Kind>(from->kind);
            into->sample = std::move(sample);
            into->program = detail::text_or_empty(from->program);
            into->pid = from->pid;
            into->uid = from->uid;
            into->died = from->died;
            into->silence = detail::duration_of(from->silence_ns);
            if (from->death != nullptr) {
                into->death = detail::death_of(*from->death);
            }
        }
        return code == nothing ? CONDUIT_OK : code;
    }

    conduit_error copy_into(Copied<T>& copied) {
        return copied.received(conduit_subscriber_try_recv_copy(handle_.get(), std::addressof(copied.value_),
                                                                sizeof(value_type), &copied.raw_),
                               CONDUIT_NO_MESSAGE);
    }

    conduit_error copy_within(Copied<T>& copied, std::uint64_t timeout_ns) {
        return copied.received(
            conduit_subscriber_recv_copy(handle_.get(), timeout_ns, std::addressof(copied.value_),
                                         sizeof(value_type), &copied.raw_),
            CONDUIT_ERROR_TIMED_OUT);
    }

    conduit_error latest_copy_into(Copied<T>& copied) {
        return copied.received(conduit_subscriber_latest_copy(handle_.get(), std::addressof(copied.value_),
                                                              sizeof(value_type), &copied.raw_),
                               CONDUIT_NO_MESSAGE);
    }

    conduit_error wait_into(Sample<T>& sample, std::uint64_t timeout_ns) {
        const conduit_error code = conduit_subscriber_recv_timeout(handle_.get(), timeout_ns, &sample.raw_);
        return code == CONDUIT_ERROR_TIMED_OUT ? CONDUIT_OK : code;
    }

    /// A function that messages are lent to, and what it threw: no exception may pass through C.
    template <class Read>
    struct Reader {
        Read& read;
        std::exception_ptr thrown = nullptr;

        static void call(void* context, const conduit_lent_message* message) {
            auto* reader = static_cast<Reader*>(context);
            const Borrowed<T> borrowed(*message);
#if defined(__cpp_exceptions)
            if (reader->thrown == nullptr) {
                try {
                    static_cast<void>(reader->read(borrowed));
                } catch (...) {
                    reader->thrown = std::current_exception();
                }
            }
#else
            static_cast<void>(reader->read(borrowed));
#endif
        }

        void rethrow() const {
#if defined(__cpp_exceptions)
            if (__builtin_expect(thrown != nullptr, 0)) {
                std::rethrow_exception(thrown);
            }
#endif
        }
    };

    template <class Read>
    conduit_error lend_next(Read& read, bool& lent) {
        Reader<Read> reader{read};
        const conduit_error code = conduit_subscriber_try_recv_with(handle_.get(), &Reader<Read>::call, &reader);
        reader.rethrow();
        lent = code == CONDUIT_OK;
        return code == CONDUIT_NO_MESSAGE ? CONDUIT_OK : code;
    }

    template <class Read>
    conduit_error lend_within(std::uint64_t timeout_ns, Read& read, bool& lent) {
        Reader<Read> reader{read};
        const conduit_error code =
            conduit_subscriber_recv_with(handle_.get(), timeout_ns, &Reader<Read>::call, &reader);
        reader.rethrow();
        lent = code == CONDUIT_OK;
        return code == CONDUIT_ERROR_TIMED_OUT ? CONDUIT_OK : code;
    }

    template <class Each>
    conduit_error lend_batch(std::size_t max, Each& each, std::size_t& count) {
        Reader<Each> reader{each};
        const conduit_error code =
            conduit_subscriber_try_recv_batch(handle_.get(), max, &Reader<Each>::call, &reader, &count);
        reader.rethrow();
        return code == CONDUIT_NO_MESSAGE ? CONDUIT_OK : code;
    }

    template <class Each>
    conduit_error lend_batch_within(std::uint64_t timeout_ns, std::size_t max, Each& each, std::size_t& count) {
        Reader<Each> reader{each};
        const conduit_error code =
            conduit_subscriber_recv_batch(handle_.get(), timeout_ns, max, &Reader<Each>::call, &reader, &count);
        reader.rethrow();
        return code == CONDUIT_ERROR_TIMED_OUT ? CONDUIT_OK : code;
    }

    /// The value is a reference because the call that sets it is an argument, too.
    template <class V>
    static Result<V> result(conduit_error code, const V& value) noexcept {
        return detail::Access::result<V>([&](V& into) { return into = value, code; });
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
