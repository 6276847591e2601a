// SPDX-License-Identifier: MIT OR Apache-2.0
// Options, and the handles of C. A part of conduit.hpp: include that.

#ifndef CONDUIT_HPP_OPTIONS
#define CONDUIT_HPP_OPTIONS

#include "error.hpp"
#include "stop.hpp"
#include "type.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace conduit {

/**
 * Where regions are, and which registry knows them. For members that are not set the environment
 * decides: the directory is $CONDUIT_SHM_DIR, or else /dev/shm; the socket is $CONDUIT_SOCKET, or
 * else $XDG_RUNTIME_DIR/conduit/registry.sock, or else /run/conduit/registry.sock.
 */
struct Domain {
    std::optional<std::string> shm_dir = std::nullopt;  ///< The shared-memory directory.
    std::optional<std::string> socket = std::nullopt;   ///< The registry's socket; "" for no registry.
    bool any_file_system = false;                       ///< Whether to accept a directory that is not on a tmpfs.
};

/// How to create a raw region.
struct RegionOptions {
    /// Where to create it.
    Domain domain = {};
    /// Permission bits of the file, such as 0640. Default: 0666 without the bits of the umask.
    std::optional<std::uint32_t> mode = std::nullopt;
    /// Numeric id of the file's group. Default: the group of the process.
    std::optional<std::uint32_t> group = std::nullopt;
    /// How long to wait for a dying owner of the name. Default: 250 ms.
    std::chrono::nanoseconds takeover_timeout = {};
};

/// How to create a topic. A member that is 0 has its default.
struct PublisherOptions {
    /// Where to create it.
    Domain domain = {};
    /// Number of slots: 2 to 65,536, fastest if a power of two. Default: 16. It limits how far a subscriber
    /// can fall behind without loss, and how many samples all of them can hold.
    std::uint32_t slots = 0;
    /// Length of the largest message in bytes. Default: 3904, or the size of the type if that is larger.
    std::size_t capacity = 0;
    /// Instead of `capacity`: the size of a slot in bytes, a multiple of 128; 192 bytes of it are the
    /// slot's own.
    std::size_t slot_size = 0;
    /// Permission bits of the file, such as 0640. Default: 0666 without the bits of the umask. Users who
    /// may only read the file can subscribe, and receive validated copies.
    std::optional<std::uint32_t> mode = std::nullopt;
    /// Numeric id of the file's group. Default: the group of the process.
    std::optional<std::uint32_t> group = std::nullopt;
    /// How long to wait for a dying owner of the name. Default: 250 ms.
    std::chrono::nanoseconds takeover_timeout = {};
    /// Whether messages have time stamps, for which the clock is read once per message.
    bool time_stamps = true;
    /// How many subscribers can be attached at a time: up to 1,024. Default: 60, which is also the number
    /// of those that can hold samples in place; more than that must copy.
    std::uint32_t max_subscribers = 0;
    /// How many messages are kept at least, once every subscriber has received them, for those that open
    /// the topic later with Start::last or Start::oldest: up to one fewer than the topic has slots, which is
    /// also what a topic of small messages keeps. Default: 1.
    std::uint32_t retain = 0;
    /// What the bytes of the messages mean, of a slice those of an element, for tools that show them: JSON as
    /// conduit.h has it.
    std::optional<std::string> shape = std::nullopt;
    /// Whether to enter all of the region's memory into the process's page tables at once. Otherwise it
    /// takes page faults in the middle of the work.
    bool prefault = true;
    /// How long the publisher promises to be silent at most. The registry reports a topic that has been
    /// silent for longer as Reported::overdue, and when it has resumed; `conduit list` shows it. It looks
    /// every 10 ms at most. Default: no promise.
    std::chrono::nanoseconds deadline = {};
};

/// Where a subscriber starts.
enum class Start : std::int32_t {
    next = CONDUIT_START_NEXT,      ///< With the first message that is published after it is opened.
    latest = CONDUIT_START_LATEST,  ///< With the newest message that the topic still has, if any.
    oldest = CONDUIT_START_OLDEST,  ///< With the oldest message that the topic still has, if any.
    /// With the oldest of as many of the newest messages as `last` says, or of as many as the topic has.
    last = CONDUIT_START_LAST,
};

/// How to read a topic.
struct SubscriberOptions {
    /// Where to look for the topic.
    Domain domain = {};
    /// Where to start.
    Start start = Start::next;
    /// With how many messages to start, if `start` is Start::last.
    std::uint32_t last = 0;
    /// How many samples may be held at once; 0 for half of the topic's slots. Receiving another one throws
    /// TooManyHeld, and the message stays where it is. Copies do not count.
    std::uint32_t max_held = 0;
    /// How long to poll for a message before going to sleep; std::chrono::nanoseconds::max() never
    /// sleeps. A message that arrives while the subscriber polls is received some 100 ns later instead of
    /// tens of microseconds, at the price of a busy processor core.
    std::chrono::nanoseconds spin = {};
    /// Whether to receive validated copies instead of reading in place. For programs that may be stopped
    /// at any moment and must not hold a slot then. A message that is overwritten while it is copied
    /// counts as lost. Each copy is allocated.
    bool copy_samples = false;
    /// For std::byte only: whether to accept messages of any type and length.
    bool any_type = false;
    /// Whether to poll for as long as a wake-up takes, while messages come faster than that, and otherwise
    /// not at all; `spin` is ignored. The subscriber measures both as it waits.
    bool adaptive_spin = false;
    /// What ends the calls that wait, which then throw Stopped; by default nothing does.
    Stop stop = {};
    /// Whether to follow the topic: opening it does not wait for a publisher, and the subscriber connects to
    /// the next publisher when one has gone. PublisherGone is not thrown then; a
    /// publisher with another type is a TypeMismatch, once.
    bool follow = false;
    /// Whether to enter all of the region's memory into the process's page tables at once. Otherwise it
    /// takes page faults in the middle of the work.
    bool prefault = true;
    /// How long no message may come: then the call that finds none throws Overdue, once per silence, and
    /// the next one waits on. Calls that sleep, wait sets and descriptors wake for it. Measured from the
    /// time stamp of the last message. Default, and with std::chrono::nanoseconds::max(): any time.
    std::chrono::nanoseconds deadline = {};
};

namespace detail {

/// A domain for C, with the strings it points to.
class CDomain {
public:
    explicit CDomain(const Domain& domain) : shm_dir_(text(domain.shm_dir)), socket_(text(domain.socket)) {
        domain_.shm_dir = shm_dir_ ? shm_dir_->c_str() : nullptr;
        domain_.socket = socket_ ? socket_->c_str() : nullptr;
        domain_.any_file_system = domain.any_file_system;
    }
    CDomain(const CDomain&) = delete;
    CDomain& operator=(const CDomain&) = delete;

    [[nodiscard]] const conduit_domain* get() const noexcept { return &domain_; }

private:
    std::optional<std::string> shm_dir_;
    std::optional<std::string> socket_;
    conduit_domain domain_ = CONDUIT_DOMAIN_INIT;
};

/// Closes a handle of C.
template <class C, conduit_error (*close)(C*)>
struct Closer {
    void operator()(C* handle) const noexcept { close(handle); }
};

using RegionHandle = std::unique_ptr<conduit_region, Closer<conduit_region, conduit_region_close>>;
using PatternSubscriberHandle =
    std::unique_ptr<conduit_pattern_subscriber, Closer<conduit_pattern_subscriber, conduit_pattern_subscriber_close>>;
using SubscriberHandle = std::unique_ptr<conduit_subscriber, Closer<conduit_subscriber, conduit_subscriber_close>>;
using WaitSetHandle = std::unique_ptr<conduit_wait_set, Closer<conduit_wait_set, conduit_wait_set_close>>;
using WakerHandle = std::unique_ptr<conduit_waker, Closer<conduit_waker, conduit_waker_close>>;
using InspectionHandle = std::unique_ptr<conduit_inspection, Closer<conduit_inspection, conduit_inspection_close>>;
using RegistryHandle = std::unique_ptr<conduit_registry, Closer<conduit_registry, conduit_registry_close>>;
using WatchHandle = std::unique_ptr<conduit_watch, Closer<conduit_watch, conduit_watch_close>>;
using ListingHandle = std::unique_ptr<conduit_listing, Closer<conduit_listing, conduit_listing_close>>;

}  // namespace detail

}  // namespace conduit

#endif  // CONDUIT_HPP_OPTIONS
