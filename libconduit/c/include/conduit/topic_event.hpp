// SPDX-License-Identifier: MIT OR Apache-2.0
// What a subscriber that follows its topic receives. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_TOPIC_EVENT
#define CONDUIT_HPP_TOPIC_EVENT

#include "registry.hpp"
#include "sample.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace conduit {

namespace detail {

/// A duration from C, which may be longer than C++ can say.
inline std::chrono::nanoseconds duration_of(std::uint64_t ns) noexcept {
    return ns > INT64_MAX ? std::chrono::nanoseconds::max() : std::chrono::nanoseconds(ns);
}

}  // namespace detail

/// A message, or a change of the topic.
template <class T>
struct TopicEvent {
    /// The kind of an event. Later versions may add kinds: ignore those that are not known.
    enum class Kind : std::int32_t {
        sample = CONDUIT_TOPIC_SAMPLE,        ///< A message.
        connected = CONDUIT_TOPIC_CONNECTED,  ///< The subscriber has a publisher now, whose messages follow.
        lost = CONDUIT_TOPIC_LOST,            ///< The publisher is gone, and all its messages were received.
        overdue = CONDUIT_TOPIC_OVERDUE,      ///< No message has come within the subscriber's deadline.
        resumed = CONDUIT_TOPIC_RESUMED,      ///< Messages come again after a silence that was reported.
    };

    Kind kind = Kind::sample;    ///< What.
    Sample<T> sample;            ///< The message; empty for other kinds.
    std::string program;         ///< Kind::connected: the publisher's command name.
    std::uint32_t pid = 0;       ///< Kind::connected: its process id, as it says itself.
    std::uint32_t uid = 0;       ///< Kind::connected: its user id.
    bool died = false;           ///< Kind::lost: whether the publisher died. If not, it closed the topic.
    std::optional<Death> death;  ///< Kind::lost: how it died, if the registry knows.
    /// Kind::overdue, Kind::resumed: how long there has been no message.
    std::chrono::nanoseconds silence = {};
};

}  // namespace conduit

#endif  // CONDUIT_HPP_TOPIC_EVENT
