// SPDX-License-Identifier: MIT OR Apache-2.0
// Subscribers to all topics that match a pattern. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_PATTERN_SUBSCRIBER
#define CONDUIT_HPP_PATTERN_SUBSCRIBER

#include "subscriber.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace conduit {

/// A message of one of many topics, or none.
template <class T>
struct TopicSample {
    std::string topic = {};  ///< The topic.
    Sample<T> sample = {};   ///< The message; empty if there is none.

    /// Whether there is a message.
    explicit operator bool() const noexcept { return sample.has_value(); }
};

/// A message, or a change of a topic.
template <class T>
struct PatternEvent {
    /// What happens to the topics of a pattern. Later versions may add kinds.
    enum class Kind : std::int32_t {
        message = CONDUIT_PATTERN_MESSAGE,      ///< A message: `sample`.
        connected = CONDUIT_PATTERN_CONNECTED,  ///< A topic has appeared, or has another publisher.
        lost = CONDUIT_PATTERN_LOST,            ///< A publisher is gone, and its last message was received.
        not_followed = CONDUIT_PATTERN_NOT_FOLLOWED,  ///< A topic is passed over: `reason`.
        overdue = CONDUIT_PATTERN_OVERDUE,            ///< No message has come within the deadline: `silence`.
        resumed = CONDUIT_PATTERN_RESUMED,            ///< After overdue, there are messages again: `silence`.
    };

    Kind kind = Kind::message;            ///< What.
    std::string topic = {};               ///< Of which topic.
    Sample<T> sample = {};                ///< The message; empty for other kinds.
    std::uint32_t epoch = 0;              ///< Of a message: which of the topic's publishers has sent it, from 1.
    std::string program = {};             ///< Of connected: the publisher's command name.
    std::uint32_t pid = 0;                ///< Of connected: the publisher's process id.
    std::uint32_t uid = 0;                ///< Of connected: the publisher's user id.
    bool died = false;                    ///< Of lost: whether the publisher died; if not, it closed the topic.
    bool has_death = false;               ///< Of lost: whether how it died is known.
    bool core_dumped = false;             ///< Of lost: whether it left a core dump.
    std::optional<int> exit_code = {};    ///< Of lost: the code that it exited with, if that is known.
    std::optional<int> signal = {};       ///< Of lost: the signal that killed it, if one did and that is known.
    std::string reason = {};              ///< Of not_followed: why.
    std::chrono::nanoseconds silence = {};  ///< Of overdue and resumed: how long there was no message.
};

/// A topic that a pattern subscriber has found.
struct MatchedTopic {
    std::string topic = {};                         ///< The topic.
    bool is_connected = false;                      ///< Whether its messages are received.
    std::uint32_t epoch = 0;                        ///< How many publishers it has had.
    std::uint64_t received = 0;                     ///< Messages received, of all its publishers.
    std::uint64_t lost = 0;                         ///< Messages missed, of all its publishers.
    std::optional<std::string> refusal = {};        ///< Why its messages are not received, if that is so.
};

/**
 * A reader of all topics that match a pattern (see matches()), as they come and go. `T` as for Subscriber.
 *
 *     auto transforms = conduit::PatternSubscriber<Transform>::open("**");
 *     for (;;) {
 *         auto message = transforms.wait();
 *         use(message.topic, *message.sample);
 *     }
 *
 * Among the messages that can be received, the one with the oldest time stamp is received first; a topic that has
 * none is not waited for. From topics that appear later than the subscriber every message is received. A pattern that
 * matches nothing waits; a topic of another type, or one that cannot be opened, is an event, once. Each topic has a
 * mapping and two descriptors; there are 4,096 at most. A message wakes two threads. One thread at a time.
 */
template <class T>
class PatternSubscriber {
public:
    /// The type of the values, or of the elements of the slices.
    using value_type = typename detail::MessageType<T>::Element;

    /// An object that is not open.
    PatternSubscriber() noexcept = default;

    /**
     * Subscribes to all topics whose names match. The options are for each topic; `follow` is implied.
     *
     * @throws InvalidArgument (also for a pattern that is not valid), IoError
     */
    [[nodiscard]] static PatternSubscriber open(const std::string& pattern, const SubscriberOptions& options = {}) {
        PatternSubscriber subscriber;
        detail::check(subscriber.open_into(pattern, options));
        return subscriber;
    }
    static Result<PatternSubscriber> open(const std::string& pattern, std::nothrow_t,
                                          const SubscriberOptions& options = {}) noexcept {
        return detail::Access::result<PatternSubscriber>(
            [&](PatternSubscriber& subscriber) { return subscriber.open_into(pattern, options); });
    }

    /**
     * Receives the next message of any topic, and sleeps until there is one.
     *
     * After TooManyHeld and InvalidMessage, which concern one topic, the next call continues with the others.
     *
     * @throws InvalidHandle, Forked, InvalidMessage, TooManyHeld, NotFollowed (a thread could not be started)
     */
    [[nodiscard]] TopicSample<T> wait() {
        TopicSample<T> message;
        detail::check(wait_into(message, CONDUIT_FOREVER));
        return message;
    }
    Result<TopicSample<T>> wait(std::nothrow_t) noexcept {
        return detail::Access::result<TopicSample<T>>(
            [&](TopicSample<T>& message) { return wait_into(message, CONDUIT_FOREVER); });
    }

    /// Receives the next message of any topic, and sleeps until there is one. Returns an empty one if the timeout
    /// expires first.
    /// @throws as wait()
    template <class Rep, class Period>
    [[nodiscard]] TopicSample<T> wait_for(const std::chrono::duration<Rep, Period>& timeout) {
        TopicSample<T> message;
        detail::check(wait_into(message, detail::nanoseconds(timeout)));
        return message;
    }
    template <class Rep, class Period>
    Result<TopicSample<T>> wait_for(const std::chrono::duration<Rep, Period>& timeout, std::nothrow_t) noexcept {
        return detail::Access::result<TopicSample<T>>(
            [&](TopicSample<T>& message) { return wait_into(message, detail::nanoseconds(timeout)); });
    }

    /// Receives the next message of any topic if there is one, or else returns an empty one.
    /// @throws as wait()
    [[nodiscard]] TopicSample<T> take() {
        TopicSample<T> message;
        detail::check(take_into(message));
        return message;
    }
    Result<TopicSample<T>> take(std::nothrow_t) noexcept {
        return detail::Access::result<TopicSample<T>>(
            [&](TopicSample<T>& message) { return take_into(message); });
    }

    /**
     * Receives the next message, or learns of the next change of a topic, and sleeps until there is one. A topic's
     * changes are reported in order with its messages. When a publisher has died, this asks the registry how, for
     * 100 ms at most.
     *
     * @throws as wait()
     */
    [[nodiscard]] PatternEvent<T> wait_event() {
        std::optional<PatternEvent<T>> event;
        detail::check(wait_event_into(event, CONDUIT_FOREVER));
        return std::move(*event);
    }

    /// Receives the next message or change, and sleeps until there is one. std::nullopt if the timeout expires first.
    /// @throws as wait()
    template <class Rep, class Period>
    [[nodiscard]] std::optional<PatternEvent<T>> wait_event_for(const std::chrono::duration<Rep, Period>& timeout) {
        std::optional<PatternEvent<T>> event;
        detail::check(wait_event_into(event, detail::nanoseconds(timeout)));
        return event;
    }
    template <class Rep, class Period>
    Result<std::optional<PatternEvent<T>>> wait_event_for(const std::chrono::duration<Rep, Period>& timeout,
                                                          std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<PatternEvent<T>>>([&](std::optional<PatternEvent<T>>& event) {
            return wait_event_into(event, detail::nanoseconds(timeout));
        });
    }

    /// Receives the next message or change if there is one; std::nullopt otherwise.
    /// @throws as wait()
    [[nodiscard]] std::optional<PatternEvent<T>> take_event() {
        std::optional<PatternEvent<T>> event;
        detail::check(take_event_into(event));
        return event;
    }
    Result<std::optional<PatternEvent<T>>> take_event(std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<PatternEvent<T>>>(
            [&](std::optional<PatternEvent<T>>& event) { return take_event_into(event); });
    }

    /// Number of messages received so far, from all topics.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::uint64_t received() const {
        return check(), conduit_pattern_subscriber_received(handle_.get());
    }

    /// The pattern.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::string pattern() const { return check(); }

    /// What is known of each topic that was found, in the order of their names.
    /// @throws InvalidHandle, Forked
    [[nodiscard]] std::vector<MatchedTopic> sources() {
        std::vector<MatchedTopic> sources;
        detail::check(sources_into(sources));
        return sources;
    }
    Result<std::vector<MatchedTopic>> sources(std::nothrow_t) noexcept {
        return detail::Access::result<std::vector<MatchedTopic>>(
            [&](std::vector<MatchedTopic>& sources) { return sources_into(sources); });
    }

    /**
     * A file descriptor that is readable while there is something to receive; see Subscriber::ready_fd(). It stays
     * readable until take() or take_event() has found nothing.
     *
     * @throws InvalidHandle, Forked, IoError
     */
    [[nodiscard]] int ready_fd() {
        int descriptor = -1;
        detail::check(conduit_pattern_subscriber_ready_fd(handle_.get(), &descriptor));
        return descriptor;
    }
    Result<int> ready_fd(std::nothrow_t) noexcept {
        return detail::Access::result<int>(
            [&](int& descriptor) { return conduit_pattern_subscriber_ready_fd(handle_.get(), &descriptor); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the subscription. Samples that are held stay valid. Does nothing if it is not open. The destructor does
    /// the same.
    void close() noexcept { handle_.reset(); }

private:
    friend class WaitSet;

    conduit_error open_into(const std::string& pattern, const SubscriberOptions& given) {
        const detail::CSubscriberOptions<T> options(given);
        conduit_pattern_subscriber* subscriber = nullptr;
        const conduit_error code =
            conduit_pattern_subscriber_open(detail::text(pattern).c_str(), options.get(), &subscriber);
        handle_.reset(subscriber);
        return code;
    }

    static conduit_error received(conduit_error code, conduit_error nothing, const char* const& topic,
                                  TopicSample<T>& message) {
        if (code == CONDUIT_OK) {
            message.topic = topic;
        }
        return code == nothing ? CONDUIT_OK : code;
    }

    conduit_error wait_into(TopicSample<T>& message, std::uint64_t timeout_ns) {
        const char* topic = nullptr;
        return received(
            conduit_pattern_subscriber_recv(handle_.get(), timeout_ns, &message.sample.raw_, &topic),
            CONDUIT_ERROR_TIMED_OUT, topic, message);
    }

    conduit_error take_into(TopicSample<T>& message) {
        const char* topic = nullptr;
        return received(
            conduit_pattern_subscriber_try_recv(handle_.get(), &message.sample.raw_, &topic),
            CONDUIT_NO_MESSAGE, topic, message);
    }

    static conduit_error reported(conduit_error code, conduit_error nothing, const conduit_pattern_event* const& from,
                                  PatternEvent<T>& made, std::optional<PatternEvent<T>>& event) {
        if (code == CONDUIT_OK) {
            made.kind = static_cast<typename PatternEvent<T>::Kind>(from->kind);
            made.topic = from->topic;
            made.epoch = from->epoch;
            made.program = from->program == nullptr ? "" : from->program;
            made.pid = from->pid;
            made.uid = from->uid;
            made.died = from->died;
            made.has_death = from->has_death;
            made.core_dumped = from->core_dumped;
            if (from->exit_code >= 0) {
                made.exit_code = from->exit_code;
            }
            if (from->signal != 0) {
                made.signal = from->signal;
            }
            made.silence = std::chrono::nanoseconds(from->silence_ns);
            made.reason = from->reason == nullptr ? "" : from->reason;
            event = std::move(made);
        }
        return code == nothing ? CONDUIT_OK : code;
    }

    conduit_error wait_event_into(std::optional<PatternEvent<T>>& event, std::uint64_t timeout_ns) {
        PatternEvent<T> made;
        const conduit_pattern_event* from = nullptr;
        return reported(conduit_pattern_subscriber_recv_event(handle_.get(), timeout_ns,
                                                              &made.sample.raw_, &from),
                        CONDUIT_ERROR_TIMED_OUT, from, made, event);
    }

    conduit_error take_event_into(std::optional<PatternEvent<T>>& event) {
        PatternEvent<T> made;
        const conduit_pattern_event* from = nullptr;
        return reported(
            conduit_pattern_subscriber_try_recv_event(handle_.get(), &made.sample.raw_, &from),
            CONDUIT_NO_MESSAGE, from, made, event);
    }

    conduit_error sources_into(std::vector<MatchedTopic>& sources) {
        std::size_t count = 0;
        const conduit_error code = conduit_pattern_subscriber_sources(handle_.get(), &count);
        for (std::size_t at = 0; at < count; ++at) {
            const conduit_matched_topic* from = conduit_pattern_subscriber_source(handle_.get(), at);
            MatchedTopic source;
            source.topic = from->topic;
            source.is_connected = from->is_connected;
            source.epoch = from->epoch;
            source.received = from->received;
            source.lost = from->lost;
            if (from->refusal != nullptr) {
                source.refusal = from->refusal;
            }
            sources.push_back(std::move(source));
        }
        return code;
    }

    const char* check() const {
        const char* pattern = conduit_pattern_subscriber_pattern(handle_.get());
        if (__builtin_expect(pattern == nullptr, 0)) {
            detail::raise_last(conduit_last_error());
        }
        return pattern;
    }

    detail::PatternSubscriberHandle handle_;
};

}  // namespace conduit

#endif  // CONDUIT_HPP_PATTERN_SUBSCRIBER
