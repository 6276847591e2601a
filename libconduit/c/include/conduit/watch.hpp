// SPDX-License-Identifier: MIT OR Apache-2.0
// Questions to the registry, and watching it. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_WATCH
#define CONDUIT_HPP_WATCH

#include "registry.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace conduit {

/// The kind of what the registry reports. Later versions may add kinds.
enum class Reported : std::int32_t {
    present = CONDUIT_REPORTED_PRESENT,                        ///< The region existed when the watch began.
    subscriber_present = CONDUIT_REPORTED_SUBSCRIBER_PRESENT,  ///< The process was subscribed when it began.
    published = CONDUIT_REPORTED_PUBLISHED,                    ///< A region appeared under the name.
    closed = CONDUIT_REPORTED_CLOSED,              ///< The topic was closed, or a raw region's name removed.
    kept = CONDUIT_REPORTED_KEPT,                  ///< A raw region's creator closed it; it stays.
    died = CONDUIT_REPORTED_DIED,                  ///< The owner died; its region is gone.
    unlinked = CONDUIT_REPORTED_UNLINKED,          ///< The name of a live region was removed, and not by its owner.
    removed = CONDUIT_REPORTED_REMOVED,            ///< The process had the registry remove the region.
    subscribed = CONDUIT_REPORTED_SUBSCRIBED,      ///< A process subscribed.
    unsubscribed = CONDUIT_REPORTED_UNSUBSCRIBED,  ///< A subscriber ended cleanly.
    subscriber_died = CONDUIT_REPORTED_SUBSCRIBER_DIED,  ///< A subscriber died.
    overdue = CONDUIT_REPORTED_OVERDUE,                  ///< The publisher has been silent for longer than it promised.
    resumed = CONDUIT_REPORTED_RESUMED,                  ///< The publisher sends again.
    unknown = CONDUIT_REPORTED_UNKNOWN,                  ///< A kind of a newer registry that this library does not know.
};

/// Something that happened.
struct RegistryEvent {
    Reported kind = Reported::unknown;               ///< What.
    std::string topic;                               ///< To which topic or raw region.
    std::chrono::system_clock::time_point time = {}; ///< When.
    std::string program;       ///< By which process: its command name; empty if it is not known.
    std::uint32_t pid = 0;     ///< Process id; 0 if it is not known.
    std::uint32_t uid = 0;     ///< User id; 0 if the process id is not known.
    std::optional<Death> death; ///< How the process died.
};

/// What a registry says of itself.
struct RegistryInfo {
    std::string version;          ///< Its version.
    std::string shm_dir;          ///< Its shared-memory directory, by the path it was given.
    std::uint32_t pid = 0;        ///< Its process id.
    std::uint32_t uid = 0;        ///< Its user id.
    std::uint64_t topics = 0;     ///< Number of regions.
    std::uint64_t clients = 0;    ///< Number of connections.
    std::uint64_t reaped = 0;     ///< Regions of dead owners that it has removed since it was started.
    std::uint64_t untracked = 0;  ///< Names that it does not track: those beyond what one user may have.
    bool is_supervised = false;   ///< Whether a service manager keeps its clients' connections over a restart.
};

namespace detail {

inline RegistryEvent registry_event(const conduit_reported& from) {
    RegistryEvent event;
    event.kind = static_cast<Reported>(from.kind);
    event.topic = text_or_empty(from.topic);
    event.time = std::chrono::system_clock::time_point(std::chrono::milliseconds(from.time_ms));
    event.program = text_or_empty(from.program);
    event.pid = from.pid;
    event.uid = from.uid;
    if (from.has_death) {
        event.death = death_of(from);
    }
    return event;
}

}  // namespace detail

/**
 * A connection to the registry. A question that the registry does not answer because it ends is repeated once, to
 * the registry that has been started meanwhile; one that is stopped is an IoError after a second.
 *
 * Each function also throws InvalidHandle, Forked, NoRegistry, RegistryError (it refused) and IoError.
 */
class Registry {
public:
    /// An object that is not open.
    Registry() noexcept = default;

    /// Connects to the registry of a domain.
    /// @throws NoRegistry, IoError, InvalidArgument
    [[nodiscard]] static Registry open(const Domain& domain = {}) {
        Registry registry;
        detail::check(registry.open_into(domain));
        return registry;
    }
    static Result<Registry> open(std::nothrow_t, const Domain& domain = {}) noexcept {
        return detail::Access::result<Registry>([&](Registry& registry) { return registry.open_into(domain); });
    }

    /// The registry itself: its version, process and load.
    [[nodiscard]] RegistryInfo status() {
        RegistryInfo info;
        detail::check(status_into(info));
        return info;
    }
    Result<RegistryInfo> status(std::nothrow_t) noexcept {
        return detail::Access::result<RegistryInfo>([&](RegistryInfo& info) { return status_into(info); });
    }

    /// One topic or raw region.
    /// @throws InvalidName, NotFound
    [[nodiscard]] TopicInfo describe(const std::string& name) {
        TopicInfo topic;
        detail::check(describe_into(name, topic));
        return topic;
    }
    Result<TopicInfo> describe(const std::string& name, std::nothrow_t) noexcept {
        return detail::Access::result<TopicInfo>([&](TopicInfo& topic) { return describe_into(name, topic); });
    }

    /// Makes the registry remove an orphan, which may belong to another user. Returns whether it was one.
    /// @throws InvalidName, NotFound
    bool reap(const std::string& name) {
        bool was_orphan = false;
        detail::check(conduit_registry_reap(handle_.get(), detail::text(name).c_str(), &was_orphan));
        return was_orphan;
    }
    Result<bool> reap(const std::string& name, std::nothrow_t) noexcept {
        return detail::Access::result<bool>([&](bool& was_orphan) {
            return conduit_registry_reap(handle_.get(), detail::text(name).c_str(), &was_orphan);
        });
    }

    /// Makes the registry remove a region of this user, or of any for root. One whose owner is alive is refused
    /// unless `force` is set: a live topic is then closed first.
    /// @throws InvalidName, NotFound, TopicIsLive, PermissionDenied (it is another user's)
    void unlink(const std::string& name, bool force = false) {
        detail::check(conduit_registry_unlink(handle_.get(), detail::text(name).c_str(), force));
    }
    Result<void> unlink(const std::string& name, std::nothrow_t, bool force = false) noexcept {
        return detail::Access::result(
            [&] { return conduit_registry_unlink(handle_.get(), detail::text(name).c_str(), force); });
    }

    /// The last 1,000 deaths of owners since the registry was started, oldest first.
    [[nodiscard]] std::vector<RegistryEvent> deaths() {
        std::vector<RegistryEvent> deaths;
        detail::check(deaths_into(deaths));
        return deaths;
    }
    Result<std::vector<RegistryEvent>> deaths(std::nothrow_t) noexcept {
        return detail::Access::result<std::vector<RegistryEvent>>(
            [&](std::vector<RegistryEvent>& deaths) { return deaths_into(deaths); });
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the connection. Does nothing if it is not open. The destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    conduit_error open_into(const Domain& domain) {
        conduit_registry* registry = nullptr;
        const conduit_error code = conduit_registry_open(detail::CDomain(domain).get(), &registry);
        handle_.reset(registry);
        return code;
    }

    conduit_error status_into(RegistryInfo& info) {
        const conduit_registry_info* from = nullptr;
        const conduit_error code = conduit_registry_status(handle_.get(), &from);
        if (code == CONDUIT_OK) {
            info = {detail::text_or_empty(from->version), detail::text_or_empty(from->shm_dir), from->pid, from->uid,
                    from->topics, from->clients, from->reaped, from->untracked, from->is_supervised};
        }
        return code;
    }

    conduit_error describe_into(const std::string& name, TopicInfo& topic) {
        const conduit_topic* from = nullptr;
        const conduit_error code = conduit_registry_describe(handle_.get(), detail::text(name).c_str(), &from);
        if (code == CONDUIT_OK) {
            topic = detail::topic_info(*from);
        }
        return code;
    }

    conduit_error deaths_into(std::vector<RegistryEvent>& deaths) {
        const conduit_reported* const* found = nullptr;
        std::size_t count = 0;
        const conduit_error code = conduit_registry_deaths(handle_.get(), &found, &count);
        deaths.reserve(count);
        for (std::size_t at = 0; at < count; ++at) {
            deaths.push_back(detail::registry_event(*found[at]));
        }
        return code;
    }

    detail::RegistryHandle handle_;
};

/// What to watch.
struct WatchOptions {
    /// Where the registry is.
    Domain domain = {};
    /// A pattern of topic names, as for matches(). Default: all.
    std::optional<std::string> pattern = std::nullopt;
    /// The kinds of events. Default: all.
    std::vector<Reported> kinds = {};
};

/**
 * What happens to topics, as the registry reports it: first those that exist (Reported::present
 * and subscriber_present), then what happens. Nothing is lost or repeated between the two.
 *
 *     auto watch = conduit::Watch::open();
 *     for (;;) std::puts(watch.wait().topic.c_str());
 *
 * For other event loops it has a descriptor. Keep reading: a watch that falls too many events behind is ended.
 *
 * Each function also throws InvalidHandle, Forked, RegistryError (an event that is not understood; there are more
 * after it) and IoError (the registry has ended the watch, or has ended).
 */
class Watch {
public:
    /// An object that is not open.
    Watch() noexcept = default;

    /// Begins to watch.
    /// @throws NoRegistry, RegistryError, IoError, InvalidArgument
    [[nodiscard]] static Watch open(const WatchOptions& options = {}) {
        Watch watch;
        detail::check(watch.open_into(options));
        return watch;
    }
    static Result<Watch> open(std::nothrow_t, const WatchOptions& options = {}) noexcept {
        return detail::Access::result<Watch>([&](Watch& watch) { return watch.open_into(options); });
    }

    /// Lets `stop` end the calls that wait, which then throw Stopped, instead of the one that it had before. No
    /// event is lost.
    void stop(const Stop& stop) { detail::check(conduit_watch_stop(handle_.get(), stop.handle_.get())); }
    Result<void> stop(const Stop& stop, std::nothrow_t) noexcept {
        return detail::Access::result([&] { return conduit_watch_stop(handle_.get(), stop.handle_.get()); });
    }

    /// The next event if it has come; std::nullopt otherwise.
    [[nodiscard]] std::optional<RegistryEvent> take() {
        std::optional<RegistryEvent> event;
        detail::check(take_into(event));
        return event;
    }
    Result<std::optional<RegistryEvent>> take(std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<RegistryEvent>>(
            [&](std::optional<RegistryEvent>& event) { return take_into(event); });
    }

    /// The next event; sleeps until there is one.
    [[nodiscard]] RegistryEvent wait() {
        std::optional<RegistryEvent> event;
        detail::check(wait_into(CONDUIT_FOREVER, event));
        return std::move(*event);
    }

    /// The next event; sleeps until there is one. std::nullopt if the timeout expires first.
    template <class Rep, class Period>
    [[nodiscard]] std::optional<RegistryEvent> wait_for(const std::chrono::duration<Rep, Period>& timeout) {
        std::optional<RegistryEvent> event;
        detail::check(wait_into(detail::nanoseconds(timeout), event));
        return event;
    }
    template <class Rep, class Period>
    Result<std::optional<RegistryEvent>> wait_for(const std::chrono::duration<Rep, Period>& timeout,
                                                  std::nothrow_t) noexcept {
        return detail::Access::result<std::optional<RegistryEvent>>(
            [&](std::optional<RegistryEvent>& event) { return wait_into(detail::nanoseconds(timeout), event); });
    }

    /// A file descriptor that is readable when something has happened. Take until there is nothing before waiting
    /// for it. It belongs to the watch: never read from it or close it.
    [[nodiscard]] int descriptor() const {
        const int descriptor = conduit_watch_fd(handle_.get());
        if (descriptor < 0) {
            detail::raise_last(conduit_last_error());
        }
        return descriptor;
    }

    /// Whether it is open.
    [[nodiscard]] bool is_open() const noexcept { return handle_ != nullptr; }
    /// Whether it is open.
    explicit operator bool() const noexcept { return is_open(); }

    /// Ends the watch. Does nothing if it is not open. The destructor does the same.
    void close() noexcept { handle_.reset(); }

private:
    conduit_error open_into(const WatchOptions& given) {
        const std::optional<std::string> pattern = detail::text(given.pattern);
        std::uint64_t kinds = 0;
        for (const Reported kind : given.kinds) {
            kinds |= std::uint64_t{1} << (static_cast<std::uint32_t>(kind) & 63);
        }
        conduit_watch* watch = nullptr;
        const conduit_error code = conduit_watch_open(detail::CDomain(given.domain).get(),
                                                      pattern ? pattern->c_str() : nullptr, kinds, &watch);
        handle_.reset(watch);
        return code;
    }

    conduit_error take_into(std::optional<RegistryEvent>& event) {
        const conduit_reported* from = nullptr;
        return converted(conduit_watch_try_next(handle_.get(), &from), CONDUIT_NO_MESSAGE, from, event);
    }

    conduit_error wait_into(std::uint64_t timeout_ns, std::optional<RegistryEvent>& event) {
        const conduit_reported* from = nullptr;
        return converted(conduit_watch_next(handle_.get(), timeout_ns, &from), CONDUIT_ERROR_TIMED_OUT, from, event);
    }

    /// `from` is a reference because the call that sets it is an argument, too.
    static conduit_error converted(conduit_error code, conduit_error nothing, const conduit_reported* const& from,
                                   std::optional<RegistryEvent>& event) {
        if (code == CONDUIT_OK) {
            event = detail::registry_event(*from);
        }
        return code == nothing ? CONDUIT_OK : code;
    }

    detail::WatchHandle handle_;
};

/**
 * Whether a topic's name matches a pattern, in which `*` stands for any characters within one segment, `?` for one
 * character, `[a-z]` and `[!a-z]` for one inside or outside of a set, and `**` for any number of whole segments.
 *
 * @throws InvalidName, InvalidArgument (the pattern is not valid)
 */
[[nodiscard]] inline bool matches(const std::string& pattern, const std::string& name) {
    bool matches = false;
    detail::check(conduit_pattern_matches(detail::text(pattern).c_str(), detail::text(name).c_str(), &matches));
    return matches;
}
inline Result<bool> matches(const std::string& pattern, const std::string& name, std::nothrow_t) noexcept {
    return detail::Access::result<bool>([&](bool& matches) {
        return conduit_pattern_matches(detail::text(pattern).c_str(), detail::text(name).c_str(), &matches);
    });
}

}  // namespace conduit

#endif  // CONDUIT_HPP_WATCH
