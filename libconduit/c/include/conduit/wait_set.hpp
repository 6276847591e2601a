// SPDX-License-Identifier: MIT OR Apache-2.0
// Waiting for many topics and for timers. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_WAIT_SET
#define CONDUIT_HPP_WAIT_SET

#include "pattern_subscriber.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>

namespace conduit {

/// A subscriber or timer of a wait set. Unique within a process; Token{} is that of nothing.
enum class Token : std::uint64_t {};

/// What a wait set reports.
struct Event {
    /// The kind of an event. Later versions may add kinds.
    enum class Kind : std::int32_t {
        ready = CONDUIT_EVENT_READY,  ///< A subscriber has something to receive: a message, or the end of its topic.
        timer = CONDUIT_EVENT_TIMER,  ///< A timer expired.
        woken = CONDUIT_EVENT_WOKEN,  ///< A waker was used, once or several times.
    };

    Kind kind = Kind::ready;   ///< What happened.
    Token token = {};          ///< The subscriber or timer; Token{} for a waker.
    std::uint64_t missed = 0;  ///< Of a timer: how many earlier expirations the event stands for, too.

    /// Whether this subscriber has something to receive.
    [[nodiscard]] bool is_ready(Token subscriber) const noexcept {
        return kind == Kind::ready && token == subscriber;
    }
    /// Whether this timer expired.
    [[nodiscard]] bool is_timer(Token timer) const noexcept { return kind == Kind::timer && token == timer; }
    /// Whether a waker was used.
    [[nodiscard]] bool is_woken() const noexcept { return kind == Kind::woken; }
};

/// The events that ended a wait; none if it timed out.
class Events {
public:
    /// How many there are at most; those that do not fit are reported by the next wait.
    static constexpr std::size_t capacity = 64;

    [[nodiscard]] const Event* begin() const noexcept { return events_.data(); }
    [[nodiscard]] const Event* end() const noexcept { return events_.data() + size_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    /// An event; the index is not checked.
    const Event& operator[](std::size_t index) const noexcept { return events_[index]; }

private:
    friend class WaitSet;

    std::array<Event, capacity> events_{};
    std::size_t size_ = 0;
};

/**
 * Ends the waits of a wait set from another thread. It may outlive the set. wake() may be called by any
 * number of threads at the same time, also during a wait.
 */
class Waker {
public:
    /// An object that is not open.
    Waker() noexcept = default;

    /// Makes the current wait of the set, or else its next one, report an event that is_woken(). Never blocks.
    /// @throws InvalidHandle, Forked
    void wake() const { detail::check(conduit_waker_wake(handle_.get())); }
    Result<void> wake(std::nothrow_t) const noexcept {
        return detail::Access::result([&] { return conduit_waker_wake(handle_.get()); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

private:
    friend class WaitSet;

    detail::WakerHandle handle_;
};

/**
 * Subscribers and timers that one thread waits for at once.
 *
 *     auto set = conduit::WaitSet::create();
 *     const auto imu_token = set.add(imu);
 *     const auto tick = set.add_interval(10ms);
 *     for (;;) {
 *         for (const conduit::Event& event : set.wait()) {
 *             if (event.is_ready(imu_token)) {
 *                 if (auto sample = imu.take()) use(*sample);
 *             } else if (event.is_timer(tick)) {
 *                 control();
 *             }
 *         }
 *     }
 *
 * A subscriber is ready for as long as it has something to receive: a program may take one message per
 * event, and removes a subscriber whose topic has ended. Every wait reports all that are ready, in turn.
 * Rarely, a subscriber is ready and take() returns nothing.
 *
 * A set does not own its subscribers: both may be destroyed in any order, and a subscriber that is closed
 * leaves the set. It follows a subscriber that is moved. Signals do not end a wait: use a stop. One thread
 * at a time.
 */
class WaitSet {
public:
    /// An object that is not open.
    WaitSet() noexcept = default;

    /// Creates an empty set.
    [[nodiscard]] static WaitSet create() {
        WaitSet set;
        detail::check(set.create_into());
        return set;
    }
    static Result<WaitSet> create(std::nothrow_t) noexcept {
        return detail::Access::result<WaitSet>([](WaitSet& set) { return set.create_into(); });
    }

    /**
     * Adds a subscriber, until it is closed or removed. Returns what its events have.
     *
     * @throws InvalidHandle, Forked
     */
    template <class T>
    Token add(const Subscriber<T>& subscriber) {
        Token token{};
        detail::check(add_into(subscriber, token));
        return token;
    }
    template <class T>
    Result<Token> add(const Subscriber<T>& subscriber, std::nothrow_t) noexcept {
        return detail::Access::result<Token>([&](Token& token) { return add_into(subscriber, token); });
    }

    /**
     * Adds a subscriber to all topics that match a pattern, until it is closed or removed. Returns what its events
     * have. It is ready until its take() or take_event() has found nothing.
     *
     * @throws InvalidHandle, Forked
     */
    template <class T>
    Token add(const PatternSubscriber<T>& subscriber) {
        Token token{};
        detail::check(add_into(subscriber, token));
        return token;
    }
    template <class T>
    Result<Token> add(const PatternSubscriber<T>& subscriber, std::nothrow_t) noexcept {
        return detail::Access::result<Token>([&](Token& token) { return add_into(subscriber, token); });
    }

    /**
     * Adds a timer that expires once, `after` from now, and then leaves the set.
     *
     * @throws InvalidHandle, Forked
     */
    template <class Rep, class Period>
    Token add_timer(const std::chrono::duration<Rep, Period>& after) {
        Token token{};
        detail::check(add_timer_into(detail::nanoseconds(after), token));
        return token;
    }
    template <class Rep, class Period>
    Result<Token> add_timer(const std::chrono::duration<Rep, Period>& after, std::nothrow_t) noexcept {
        return detail::Access::result<Token>(
            [&](Token& token) { return add_timer_into(detail::nanoseconds(after), token); });
    }

    /**
     * Adds a timer that expires every `period`, first a period from now. It does not drift, however late its
     * events are handled. Expirations that pass before the next wait are reported as one event, which counts
     * them.
     *
     * @throws InvalidHandle, Forked, InvalidArgument (a period of 0)
     */
    template <class Rep, class Period>
    Token add_interval(const std::chrono::duration<Rep, Period>& period) {
        Token token{};
        detail::check(add_interval_into(detail::nanoseconds(period), token));
        return token;
    }
    template <class Rep, class Period>
    Result<Token> add_interval(const std::chrono::duration<Rep, Period>& period, std::nothrow_t) noexcept {
        return detail::Access::result<Token>(
            [&](Token& token) { return add_interval_into(detail::nanoseconds(period), token); });
    }

    /**
     * Lets `stop` end the waits of this set, which then throw Stopped, instead of the one that it had before.
     *
     * @throws InvalidHandle (of the set or the stop), Forked
     */
    void stop(const Stop& stop) { detail::check(conduit_wait_set_stop(handle_.get(), stop.handle_.get())); }
    Result<void> stop(const Stop& stop, std::nothrow_t) noexcept {
        return detail::Access::result([&] { return conduit_wait_set_stop(handle_.get(), stop.handle_.get()); });
    }

    /// Removes a subscriber or timer. Returns whether it was in the set; false if the set is not open.
    bool remove(Token token) noexcept {
        return conduit_wait_set_remove(handle_.get(), static_cast<std::uint64_t>(token));
    }

    /**
     * Sleeps until there is an event.
     *
     * @throws InvalidHandle, Forked, NothingToWaitFor (the set has no subscribers, timers, wakers or stop),
     *         Stopped, IoError (it needs a thread, which could not be started)
     */
    [[nodiscard]] Events wait() {
        Events events;
        detail::check(wait_into(CONDUIT_FOREVER, events));
        return events;
    }
    Result<Events> wait(std::nothrow_t) noexcept {
        return detail::Access::result<Events>([&](Events& events) { return wait_into(CONDUIT_FOREVER, events); });
    }

    /**
     * Sleeps until there is an event. Returns none if the timeout expires first; 0 does not sleep.
     *
     * @throws as wait(), but an empty set sleeps
     */
    template <class Rep, class Period>
    [[nodiscard]] Events wait_for(const std::chrono::duration<Rep, Period>& timeout) {
        Events events;
        detail::check(wait_into(detail::nanoseconds(timeout), events));
        return events;
    }
    template <class Rep, class Period>
    Result<Events> wait_for(const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t) noexcept {
        return detail::Access::result<Events>(
            [&](Events& events) { return wait_into(detail::nanoseconds(timeout), events); });
    }

    /**
     * Sleeps until there is an event. Returns none if `deadline` passes first. For another clock than
     * steady_clock, what counts is the time that is left when the call begins.
     *
     * @throws as wait_for()
     */
    template <class Clock, class Duration>
    [[nodiscard]] Events wait_until(const std::chrono::time_point<Clock, Duration>& deadline) {
        return wait_for(detail::left(deadline));
    }
    template <class Clock, class Duration>
    Result<Events> wait_until(const std::chrono::time_point<Clock, Duration>& deadline, std::nothrow_t) noexcept {
        return wait_for(detail::left(deadline), std::nothrow);
    }

    /**
     * Makes a waker, which ends the waits of this set from other threads.
     *
     * @throws InvalidHandle, Forked
     */
    [[nodiscard]] Waker waker() {
        Waker waker;
        detail::check(waker_into(waker));
        return waker;
    }
    Result<Waker> waker(std::nothrow_t) noexcept {
        return detail::Access::result<Waker>([&](Waker& waker) { return waker_into(waker); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Frees the set; its subscribers stay open. Does nothing if it is not open. The destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    conduit_error create_into() {
        conduit_wait_set* set = nullptr;
        const conduit_error code = conduit_wait_set_create(&set);
        handle_.reset(set);
        return code;
    }

    template <class T>
    conduit_error add_into(const Subscriber<T>& subscriber, Token& token) {
        return with_token(token, [&](std::uint64_t* number) {
            return conduit_wait_set_add(handle_.get(), subscriber.handle_.get(), number);
        });
    }

    template <class T>
    conduit_error add_into(const PatternSubscriber<T>& subscriber, Token& token) {
        return with_token(token, [&](std::uint64_t* number) {
            return conduit_wait_set_add_all(handle_.get(), subscriber.handle_.get(), number);
        });
    }

    conduit_error add_timer_into(std::uint64_t after_ns, Token& token) {
        return with_token(token, [&](std::uint64_t* number) {
            return conduit_wait_set_add_timer(handle_.get(), after_ns, number);
        });
    }

    conduit_error add_interval_into(std::uint64_t period_ns, Token& token) {
        return with_token(token, [&](std::uint64_t* number) {
            return conduit_wait_set_add_interval(handle_.get(), period_ns, number);
        });
    }

    template <class Add>
    static conduit_error with_token(Token& token, Add&& add) {
        std::uint64_t number = 0;
        const conduit_error code = add(&number);
        token = static_cast<Token>(number);
        return code;
    }

    conduit_error wait_into(std::uint64_t timeout_ns, Events& events) {
        conduit_event found[Events::capacity];
        const conduit_error code =
            conduit_wait_set_wait(handle_.get(), timeout_ns, found, Events::capacity, &events.size_);
        for (std::size_t at = 0; at < events.size_; ++at) {
            events.events_[at] = {static_cast<Event::Kind>(found[at].kind), static_cast<Token>(found[at].token),
                                  found[at].missed};
        }
        return code;
    }

    conduit_error waker_into(Waker& waker) {
        conduit_waker* made = nullptr;
        const conduit_error code = conduit_wait_set_waker(handle_.get(), &made);
        waker.handle_.reset(made);
        return code;
    }

    detail::WaitSetHandle handle_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_WAIT_SET
