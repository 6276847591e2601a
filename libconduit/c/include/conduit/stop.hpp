// SPDX-License-Identifier: MIT OR Apache-2.0
// Ending calls that wait. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_STOP
#define CONDUIT_HPP_STOP

#include "error.hpp"

#include <csignal>
#include <initializer_list>
#include <memory>
#include <new>

namespace conduit {

class ShmRegion;
class WaitSet;
class Watch;
namespace detail {
template <class T>
class CSubscriberOptions;
}  // namespace detail

/**
 * Ends calls that wait, from another thread or on a signal.
 *
 *     auto stop = conduit::Stop::create();
 *     conduit::SubscriberOptions options;
 *     options.stop = stop;
 *     auto subscriber = conduit::Subscriber<Imu>::open("imu", options);
 *     try {
 *         for (;;) use(subscriber.wait());
 *     } catch (const conduit::Stopped&) {}  // after stop.stop() in another thread
 *
 * A program that ends on SIGTERM or Ctrl-C has `auto stop = conduit::Stop::on_signals();`.
 *
 * Copies are the same stop. What waits is given it in advance: SubscriberOptions::stop, WaitSet::stop(),
 * Watch::stop(), ShmRegion::wait_until_exists(). Once it is stopped, which is for good, each call of theirs that waits throws Stopped at once, also one that begins
 * later. Nothing is lost: functions that do not wait, such as Subscriber::take(), receive what has arrived.
 *
 * All functions may be called by any number of threads at the same time. A forked child has a stop of its own:
 * stopping one does not stop the other.
 */
class Stop {
public:
    /// An object that is not open: it stops nothing.
    Stop() noexcept = default;

    /// Creates a stop.
    [[nodiscard]] static Stop create() {
        Stop stop;
        detail::check(stop.create_into());
        return stop;
    }
    static Result<Stop> create(std::nothrow_t) noexcept {
        return detail::Access::result<Stop>([](Stop& stop) { return stop.create_into(); });
    }

    /**
     * Creates a stop that each of these signals stops.
     *
     * The first one stops it. A further one, when it is stopped already, finds the action that the signal had
     * before, which usually ends the process; so does one that comes when nothing has the stop any more. A signal
     * that was ignored stays ignored. Nothing polls, and no thread is started.
     *
     * @throws InvalidArgument (a signal that cannot be handled, or that an instruction raises)
     */
    [[nodiscard]] static Stop on_signals(std::initializer_list<int> signals = {SIGTERM, SIGINT}) {
        Stop stop;
        detail::check(stop.on_signals_into(signals));
        return stop;
    }
    static Result<Stop> on_signals(std::nothrow_t, std::initializer_list<int> signals = {SIGTERM, SIGINT}) noexcept {
        return detail::Access::result<Stop>([&](Stop& stop) { return stop.on_signals_into(signals); });
    }

    /// Ends all calls that wait and have this stop, for good. Stopping again changes nothing. Never blocks, and
    /// may be called by a signal handler if it is open.
    /// @throws InvalidHandle
    void stop() const { detail::check(conduit_stop_stop(handle_.get())); }

    /// Whether it was stopped; false if it is not open.
    [[nodiscard]] bool is_stopped() const noexcept { return conduit_stop_is_stopped(handle_.get()); }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

private:
    friend class ShmRegion;
    friend class WaitSet;
    friend class Watch;
    template <class T>
    friend class detail::CSubscriberOptions;

    conduit_error create_into() {
        conduit_stop* made = nullptr;
        const conduit_error code = conduit_stop_create(&made);
        hold(made);
        return code;
    }

    conduit_error on_signals_into(std::initializer_list<int> signals) {
        conduit_stop* made = nullptr;
        const conduit_error code = conduit_stop_on_signals(signals.begin(), signals.size(), &made);
        hold(made);
        return code;
    }

    void hold(conduit_stop* made) {
        handle_.reset(made, [](conduit_stop* handle) { conduit_stop_close(handle); });
    }

    std::shared_ptr<conduit_stop> handle_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_STOP
