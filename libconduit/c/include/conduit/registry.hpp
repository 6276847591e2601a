// SPDX-License-Identifier: MIT OR Apache-2.0
// Listing of topics and raw regions. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_REGISTRY
#define CONDUIT_HPP_REGISTRY

#include "options.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace conduit {

/// The state of a topic or raw region. Later versions may add states.
enum class State : std::int32_t {
    live = CONDUIT_STATE_LIVE,                  ///< Its owner is alive.
    closed = CONDUIT_STATE_CLOSED,              ///< Its publisher has closed it.
    orphaned = CONDUIT_STATE_ORPHANED,          ///< Its owner is dead.
    kept = CONDUIT_STATE_KEPT,                  ///< A raw region that its creator closed: it stays until unlinked.
    unauthorised = CONDUIT_STATE_UNAUTHORISED,  ///< It is live or kept, but the registry's rules do not allow it.
    unlinked = CONDUIT_STATE_UNLINKED,          ///< Its owner is alive, but its name was removed.
    unknown = CONDUIT_STATE_UNKNOWN,            ///< A state of a newer registry that this library does not know.
};

/// A subscriber of a topic.
struct SubscriberInfo {
    std::string program;         ///< Command name.
    std::uint32_t pid = 0;       ///< Process id.
    std::uint32_t uid = 0;       ///< User id.
    std::uint64_t received = 0;  ///< Number of messages received.
    std::uint64_t lost = 0;      ///< Number of messages missed.
    std::uint64_t lag = 0;       ///< Number of slots that it is behind the publisher.
    std::uint32_t held = 0;      ///< Number of samples that it holds.
    bool is_asleep = false;      ///< Whether it is asleep until the next message.
};

/// How a process died, as far as it is known.
struct Death {
    std::optional<int> exit_code;               ///< The code that it exited with.
    std::optional<int> signal;                  ///< The signal that killed it.
    bool core_dumped = false;                   ///< Whether it left a core dump.
    std::optional<std::uint64_t> last_sequence; ///< Sequence number of its last message.
    std::optional<std::chrono::nanoseconds> last_message_age;  ///< How old that was.
    std::vector<SubscriberInfo> subscribers;                   ///< Its subscribers at that time.
};

/// A topic or raw region.
struct TopicInfo {
    std::string name;                ///< Name.
    std::string path;                ///< Path of its file.
    std::string type;                ///< Name of the message type, in brackets for slices; empty for a raw region.
    State state = State::live;       ///< State.
    std::string reason;              ///< Why it is unauthorised, or what has probably removed its name.
    std::string publisher_program;   ///< Command name of the owner; empty if it is not known.
    std::uint32_t publisher_pid = 0; ///< Process id of the owner; 0 if it is not known.
    std::uint32_t publisher_uid = 0; ///< User id of the owner; 0 if the process id is not known.
    std::uint32_t slots = 0;         ///< Number of slots; 0 for a raw region.
    std::uint64_t slot_size = 0;     ///< Size of a slot in bytes, of which 192 are the slot's own; 0 for a raw region.
    std::uint64_t size = 0;          ///< Size of the file in bytes.
    std::uint64_t published = 0;     ///< Number of messages published; 0 for a raw region.
    bool is_raw = false;             ///< Whether it is a raw region.
    /// Time since the last message was published, if there is one and it has a time stamp.
    std::optional<std::chrono::nanoseconds> last_message_age;
    std::optional<double> rate_hz;           ///< Messages per second over the last one to two seconds, if known.
    std::optional<double> bytes_per_second;  ///< Bytes per second over the last one to two seconds, if known.
    std::vector<SubscriberInfo> subscribers; ///< Its subscribers.
    /// How long the publisher has promised to be silent at most, if it has.
    std::optional<std::chrono::nanoseconds> deadline;
    bool is_overdue = false;  ///< Whether it has been silent for longer.
};

/// All topics and raw regions of a domain as they were at one moment, sorted by name.
struct Listing {
    std::vector<TopicInfo> topics;  ///< The topics and raw regions.
    /// Whether it is from the registry. If not, it is what the regions themselves contain: process ids are
    /// those of the processes' own namespaces, and rates are unknown.
    bool is_from_registry = false;

    auto begin() const noexcept { return topics.begin(); }
    auto end() const noexcept { return topics.end(); }
    [[nodiscard]] std::size_t size() const noexcept { return topics.size(); }
    [[nodiscard]] bool empty() const noexcept { return topics.empty(); }

    /// The topic or raw region of a name, valid as long as the listing; NULL if there is none.
    [[nodiscard]] const TopicInfo* find(const std::string& name) const noexcept {
        for (const TopicInfo& topic : topics) {
            if (topic.name == name) {
                return &topic;
            }
        }
        return nullptr;
    }
};

namespace detail {

inline SubscriberInfo subscriber_info(const conduit_subscriber_info& from) {
    SubscriberInfo subscriber;
    subscriber.program = text_or_empty(from.program);
    subscriber.pid = from.pid;
    subscriber.uid = from.uid;
    subscriber.received = from.received;
    subscriber.lost = from.lost;
    subscriber.lag = from.lag;
    subscriber.held = from.held;
    subscriber.is_asleep = from.is_asleep;
    return subscriber;
}

inline Death death_of(const conduit_reported& from) {
    Death death;
    if (from.exit_code >= 0) {
        death.exit_code = from.exit_code;
    }
    if (from.signal > 0) {
        death.signal = from.signal;
    }
    death.core_dumped = from.core_dumped;
    if (from.last_sequence != UINT64_MAX) {
        death.last_sequence = from.last_sequence;
    }
    if (from.last_message_age_ns != UINT64_MAX) {
        death.last_message_age = std::chrono::nanoseconds(from.last_message_age_ns);
    }
    for (std::size_t at = 0; at < from.subscribers; ++at) {
        death.subscribers.push_back(subscriber_info(*from.subscriber_list[at]));
    }
    return death;
}

inline TopicInfo topic_info(const conduit_topic& from) {
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
    if (from.deadline_ns <= static_cast<std::uint64_t>(std::chrono::nanoseconds::max().count())) {
        topic.deadline = std::chrono::nanoseconds(from.deadline_ns);
    }
    topic.is_overdue = from.is_overdue;
    topic.subscribers.reserve(from.subscribers);
    for (std::size_t at = 0; at < from.subscribers; ++at) {
        topic.subscribers.push_back(subscriber_info(*from.subscriber_list[at]));
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
            listing.topics.push_back(topic_info(*conduit_listing_topic(opened, index)));
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
 * Lists all topics and raw regions. It asks the registry, or reads the shared-memory directory if no
 * registry answers. Thread-safe.
 *
 *     for (const auto& topic : conduit::list_topics()) std::puts(topic.name.c_str());
 *
 * @throws IoError, InvalidArgument
 */
[[nodiscard]] inline Listing list_topics(const Domain& domain = {}) {
    Listing listing;
    detail::check(detail::list_into(domain, listing));
    return listing;
}
inline Result<Listing> list_topics(std::nothrow_t, const Domain& domain = {}) noexcept {
    return detail::Access::result<Listing>([&](Listing& listing) { return detail::list_into(domain, listing); });
}

/**
 * Whether a registry (conduitd) is running. Everything works without one; with it, orphans are removed at
 * once. Thread-safe.
 *
 * @throws RegistryError, IoError (such as no reply within a second), InvalidArgument
 */
[[nodiscard]] inline bool registry_is_reachable(const Domain& domain = {}) {
    bool answers = false;
    detail::check(detail::ping(domain, answers));
    return answers;
}
inline Result<bool> registry_is_reachable(std::nothrow_t, const Domain& domain = {}) noexcept {
    return detail::Access::result<bool>([&](bool& answers) { return detail::ping(domain, answers); });
}

}  // namespace conduit

#endif  // CONDUIT_HPP_REGISTRY
