/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/**
 * Conduit: zero-copy publish/subscribe between the processes of one Linux machine. The C interface (C11).
 *
 *     conduit_publisher *publisher;
 *     if (conduit_publisher_create("imu", NULL, &publisher) != CONDUIT_OK) {
 *         fprintf(stderr, "%s\n", conduit_last_error_message());
 *         return 1;
 *     }
 *     conduit_publisher_send(publisher, &imu, sizeof imu);
 *     conduit_publisher_close(publisher);
 *
 *     conduit_subscriber *subscriber;  // in another process
 *     conduit_sample sample = CONDUIT_SAMPLE_INIT;
 *     if (conduit_subscriber_open("imu", NULL, &subscriber) != CONDUIT_OK) ...
 *     while (conduit_subscriber_recv(subscriber, &sample) == CONDUIT_OK) {
 *         use(sample.data, sample.size);  // in place
 *         conduit_sample_release(&sample);
 *     }
 *
 * Names. A topic or region has a name of segments of A-Z a-z 0-9 _ - with / between them, at most 200 bytes.
 *
 * Errors. Calls return CONDUIT_OK (0) or another conduit_error; those that return what they find return NULL, 0 or false if they
 * fail. Why a call failed is then said by conduit_last_error_message() of the same thread; calls that succeed leave that alone. The
 * errors of a function are listed without CONDUIT_ERROR_. INTERNAL, which is not listed, can come from every function, is an error in
 * the library, and leaves everything as closable as it was. No call throws, unwinds or sets a signal handler.
 *
 * Handles. conduit_region, conduit_publisher, conduit_subscriber and conduit_listing are made by a call and closed by another, once.
 * Closing NULL does nothing. What the library can tell, it does: NULL, a handle of another kind, a handle that is closed (its memory is
 * not given back; it is only used again for a new handle of the same kind, when 64 others have been closed after it) are
 * CONDUIT_ERROR_INVALID_HANDLE. A pointer that never was a handle, and a handle that was closed so long ago that the library has made
 * another one of it, it can not tell.
 *
 * Threads. Functions without a handle, and functions on different handles, can be called at the same time. A handle may be used by any
 * thread, by one at a time; functions that take it const may run at the same time as each other. Samples may be released on any thread.
 *
 * Fork. A child does not inherit the memory of regions and topics. There its handles are CONDUIT_ERROR_FORKED in every call but close
 * and release, which free them and change nothing for the parent; reading a sample or a region is an invalid access.
 *
 * Strings are UTF-8. Times are nanoseconds. Strings and structures that are passed in are read during the call only.
 *
 * Made by cbindgen from libconduit/c; do not edit.
 */

#ifndef CONDUIT_H
#define CONDUIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CONDUIT_NODISCARD __attribute__((warn_unused_result))
#else
#define CONDUIT_NODISCARD
#endif

/** Options of which each has its default. */
#define CONDUIT_DOMAIN_INIT {sizeof(conduit_domain), NULL, NULL, false, {0}}
#define CONDUIT_REGION_OPTIONS_INIT {sizeof(conduit_region_options), NULL, 0, 0, 0, false, {0}}
#define CONDUIT_PUBLISHER_OPTIONS_INIT {sizeof(conduit_publisher_options), NULL, NULL, 0, 0, 0, 0, 0, 0, false, false, {0}}
#define CONDUIT_SUBSCRIBER_OPTIONS_INIT {sizeof(conduit_subscriber_options), NULL, NULL, 0, CONDUIT_START_NEXT, false, false, {0}}
/** A structure that holds no sample. */
#define CONDUIT_SAMPLE_INIT {NULL, 0, 0, 0, 0, {0}}

/**
 * Major version of the library that this header belongs to.
 */
#define CONDUIT_VERSION_MAJOR 0

/**
 * Minor version of the library that this header belongs to.
 */
#define CONDUIT_VERSION_MINOR 1

/**
 * Patch version of the library that this header belongs to.
 */
#define CONDUIT_VERSION_PATCH 0

/**
 * In place of a time: no limit.
 */
#define CONDUIT_FOREVER UINT64_MAX

/**
 * What a call says. The numbers never change; later versions may add some.
 */
typedef enum conduit_error {
    /**
     * It worked.
     */
    CONDUIT_OK = 0,
    /**
     * There is no message yet. No failure: it leaves the thread's message alone.
     */
    CONDUIT_NO_MESSAGE = 1,
    /**
     * An argument is NULL, or options are not initialised or not possible.
     */
    CONDUIT_ERROR_INVALID_ARGUMENT = 10,
    /**
     * The handle is of another kind, has been closed, or never was one.
     */
    CONDUIT_ERROR_INVALID_HANDLE = 11,
    /**
     * The handle belongs to the process that this one was forked from.
     */
    CONDUIT_ERROR_FORKED = 12,
    /**
     * An error in the library. Close the handle; please report the message.
     */
    CONDUIT_ERROR_INTERNAL = 13,
    /**
     * A system call failed; conduit_last_error_errno() says why.
     */
    CONDUIT_ERROR_IO = 14,
    /**
     * The name is no valid name of a topic or region.
     */
    CONDUIT_ERROR_NAME = 20,
    /**
     * The administrator's rules do not let this process publish the topic.
     */
    CONDUIT_ERROR_NOT_ALLOWED = 21,
    /**
     * The number or the size of the slots is not possible.
     */
    CONDUIT_ERROR_SLOTS = 22,
    /**
     * The size of the region is not possible.
     */
    CONDUIT_ERROR_SIZE = 23,
    /**
     * The shared-memory directory is too full.
     */
    CONDUIT_ERROR_NO_SPACE = 24,
    /**
     * The memory limit of this process's cgroup leaves too little.
     */
    CONDUIT_ERROR_NO_MEMORY = 25,
    /**
     * The shared-memory directory is no tmpfs, or keeps no locks.
     */
    CONDUIT_ERROR_FILE_SYSTEM = 26,
    /**
     * A living process publishes the topic, or has created the region.
     */
    CONDUIT_ERROR_ALREADY_PUBLISHED = 27,
    /**
     * The region exists: its creator let it go and it was kept.
     */
    CONDUIT_ERROR_EXISTS = 28,
    /**
     * A file that Conduit did not make has the name.
     */
    CONDUIT_ERROR_FOREIGN_FILE = 29,
    /**
     * The owner is dead, but this user may not remove what it left.
     */
    CONDUIT_ERROR_NOT_REMOVABLE = 30,
    /**
     * There is no such topic or region.
     */
    CONDUIT_ERROR_NOT_FOUND = 40,
    /**
     * The file's permissions keep this user out.
     */
    CONDUIT_ERROR_PERMISSION = 41,
    /**
     * The file is damaged, or of another version of the layout.
     */
    CONDUIT_ERROR_LAYOUT = 42,
    /**
     * It is a raw region and not a topic, or the reverse.
     */
    CONDUIT_ERROR_WRONG_KIND = 43,
    /**
     * Publisher and subscriber disagree on the type of the messages.
     */
    CONDUIT_ERROR_TYPE_MISMATCH = 44,
    /**
     * The topic's publisher has died and left it.
     */
    CONDUIT_ERROR_ORPHANED = 45,
    /**
     * The topic has as many subscribers as it can have.
     */
    CONDUIT_ERROR_TOO_MANY_SUBSCRIBERS = 46,
    /**
     * The region is a topic whose publisher lives.
     */
    CONDUIT_ERROR_LIVE = 47,
    /**
     * Every slot is held by a subscriber.
     */
    CONDUIT_ERROR_ALL_SLOTS_HELD = 60,
    /**
     * The message does not fit a slot.
     */
    CONDUIT_ERROR_MESSAGE_TOO_LARGE = 61,
    /**
     * The topic's type has no messages of this length.
     */
    CONDUIT_ERROR_WRONG_LENGTH = 62,
    /**
     * The topic was ended from outside: close the publisher.
     */
    CONDUIT_ERROR_REMOVED = 63,
    /**
     * The topic's name was removed from outside; said once.
     */
    CONDUIT_ERROR_UNLINKED = 64,
    /**
     * A loan of this publisher is out: publish or discard it first.
     */
    CONDUIT_ERROR_LOAN_OUT = 65,
    /**
     * No loan of this publisher is out.
     */
    CONDUIT_ERROR_NO_LOAN = 66,
    /**
     * The publisher has closed the topic, and every message was received.
     */
    CONDUIT_ERROR_PUBLISHER_CLOSED = 80,
    /**
     * The publisher has died, and every message was received.
     */
    CONDUIT_ERROR_PUBLISHER_DIED = 81,
    /**
     * The time was up.
     */
    CONDUIT_ERROR_TIMED_OUT = 82,
    /**
     * The message's length is none of the type. It counts as received.
     */
    CONDUIT_ERROR_INVALID_MESSAGE = 83,
    /**
     * The structure still holds a sample: release it first.
     */
    CONDUIT_ERROR_SAMPLE_HELD = 84,
    /**
     * The structure holds no sample, or not any more.
     */
    CONDUIT_ERROR_NO_SAMPLE = 85,
    /**
     * No registry (conduitd) answers.
     */
    CONDUIT_ERROR_NO_REGISTRY = 100,
    /**
     * The registry refused, or its answer made no sense.
     */
    CONDUIT_ERROR_REGISTRY = 101,
} conduit_error;

/**
 * Whether somebody stands behind a region.
 */
typedef enum conduit_state {
    /**
     * Its owner lives.
     */
    CONDUIT_STATE_LIVE = 0,
    /**
     * Its publisher has closed it.
     */
    CONDUIT_STATE_CLOSED = 1,
    /**
     * Its owner is dead.
     */
    CONDUIT_STATE_ORPHANED = 2,
    /**
     * A raw region whose creator let it go: it stays.
     */
    CONDUIT_STATE_KEPT = 3,
    /**
     * Its owner lives, or it is kept, and the registry's rules do not allow it.
     */
    CONDUIT_STATE_UNAUTHORISED = 4,
    /**
     * Its owner lives, and somebody has removed its name: who has it open goes on, nobody else can find it.
     */
    CONDUIT_STATE_UNLINKED = 5,
    /**
     * A state that a newer registry reports and this library does not know.
     */
    CONDUIT_STATE_UNKNOWN = 6,
} conduit_state;

/**
 * Whether a message is one value or any number of them.
 */
typedef enum conduit_kind {
    /**
     * One value: every message has the size of the type.
     */
    CONDUIT_VALUE = 0,
    /**
     * A slice: the length of a message is any multiple of the size of an element, 0 too.
     */
    CONDUIT_SLICE = 1,
} conduit_kind;

/**
 * Where a subscriber starts.
 */
typedef enum conduit_start {
    /**
     * With the first message published from now on.
     */
    CONDUIT_START_NEXT = 0,
    /**
     * With the newest message that is kept, if there is one.
     */
    CONDUIT_START_LATEST = 1,
    /**
     * With the oldest message that is kept, if there is one.
     */
    CONDUIT_START_OLDEST = 2,
} conduit_start;

/**
 * All topics and raw regions, as they were at one moment.
 */
typedef struct conduit_listing conduit_listing;

/**
 * The one process that writes a topic.
 */
typedef struct conduit_publisher conduit_publisher;

/**
 * A raw region: named shared memory without a header.
 */
typedef struct conduit_region conduit_region;

/**
 * A reader of a topic.
 */
typedef struct conduit_subscriber conduit_subscriber;

/**
 * Where regions are and which registry knows them. NULL in place of a domain, and of its members, is the environment's:
 * $CONDUIT_SHM_DIR, else /dev/shm, and $CONDUIT_SOCKET, else $XDG_RUNTIME_DIR/conduit/registry.sock and
 * /run/conduit/registry.sock.
 *
 * Begin with CONDUIT_DOMAIN_INIT. The library copies what it needs.
 */
typedef struct conduit_domain {
    /**
     * sizeof(conduit_domain), as CONDUIT_DOMAIN_INIT sets it.
     */
    size_t struct_size;
    /**
     * The shared-memory directory; NULL for the environment's.
     */
    const char *shm_dir;
    /**
     * The registry's socket; NULL for the environment's, "" for no registry.
     */
    const char *socket;
    /**
     * Accepts a directory that is no tmpfs.
     */
    bool any_file_system;
    /**
     * 0.
     */
    uint8_t reserved[7];
} conduit_domain;

/**
 * The type of a topic's messages. Publisher and subscriber must agree on all of it.
 *
 * The name identifies the type across builds and languages: "robot/Imu". It has 1 to 64 bytes of UTF-8 without control characters.
 * In Rust the same type is a #[repr(C)] structure with #[message(name = "robot/Imu")].
 */
typedef struct conduit_type {
    /**
     * The name. Input: read during the call only. Output: valid as the function says.
     */
    const char *name;
    /**
     * Whether messages are values or slices of them.
     */
    conduit_kind kind;
    /**
     * Alignment in bytes: a power of two, at most 64. Messages always begin at a multiple of 64.
     */
    uint32_t align;
    /**
     * Size of the value, or of one element of the slice, in bytes: a multiple of the alignment, not 0.
     */
    size_t size;
} conduit_type;

/**
 * How a topic is to be made. Begin with CONDUIT_PUBLISHER_OPTIONS_INIT; a member that is 0 has its default.
 */
typedef struct conduit_publisher_options {
    /**
     * sizeof(conduit_publisher_options), as CONDUIT_PUBLISHER_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Where; NULL for the environment's.
     */
    const struct conduit_domain *domain;
    /**
     * Type of the messages; NULL for bytes.
     */
    const struct conduit_type *message_type;
    /**
     * Number of slots: a power of two from 2 to 65,536; 0 for 16. It bounds how far a subscriber can fall behind without loss,
     * and how many samples all of them together can hold.
     */
    uint64_t slots;
    /**
     * Size of a slot in bytes: a multiple of 128, of which 192 are the slot's state and header; 0 for what `capacity` needs.
     */
    uint64_t slot_size;
    /**
     * Length of the largest message in bytes, if `slot_size` is 0; 0 for 3904 or the size of the type, whichever is more.
     */
    uint64_t capacity;
    /**
     * How long to wait for a dying owner of the name, in nanoseconds; 0 for 250 ms.
     */
    uint64_t takeover_timeout_ns;
    /**
     * Permission bits of the region's file, 0640 for example; 0 for what the process's umask leaves of 0666. Who may only read it can
     * subscribe all the same, and gets validated copies.
     */
    uint32_t mode;
    /**
     * Numeric id of the file's group, if has_group is set.
     */
    uint32_t group;
    /**
     * Whether group is to be set.
     */
    bool has_group;
    /**
     * Publishes without time stamps, which saves one clock read per message.
     */
    bool no_time_stamps;
    /**
     * 0.
     */
    uint8_t reserved[6];
} conduit_publisher_options;

/**
 * How a raw region is to be made. Begin with CONDUIT_REGION_OPTIONS_INIT; a member that is 0 has its default.
 */
typedef struct conduit_region_options {
    /**
     * sizeof(conduit_region_options), as CONDUIT_REGION_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Where; NULL for the environment's.
     */
    const struct conduit_domain *domain;
    /**
     * Permission bits of the file, 0640 for example; 0 for what the process's umask leaves of 0666.
     */
    uint32_t mode;
    /**
     * Numeric id of the file's group, if has_group is set.
     */
    uint32_t group;
    /**
     * How long to wait for a dying owner of the name, in nanoseconds; 0 for 250 ms.
     */
    uint64_t takeover_timeout_ns;
    /**
     * Whether group is to be set.
     */
    bool has_group;
    /**
     * 0.
     */
    uint8_t reserved[7];
} conduit_region_options;

/**
 * Says whether to go on waiting. It is called on the thread that waits, about every 20 ms, with the context given. A C++ exception or
 * a longjmp() out of it ends the process.
 */
typedef bool (*conduit_keep_waiting)(void *context);

/**
 * A topic or raw region. Later versions may add members at the end.
 */
typedef struct conduit_topic {
    /**
     * Its name.
     */
    const char *name;
    /**
     * Where its file is.
     */
    const char *path;
    /**
     * Name of the messages' type, in brackets for a slice; NULL for a raw region.
     */
    const char *type_name;
    /**
     * Why it is unauthorised, or who has probably removed its name; NULL in other states.
     */
    const char *reason;
    /**
     * Command name of its owner; NULL if it is not known.
     */
    const char *publisher_program;
    /**
     * Process id of its owner; 0 if it is not known.
     */
    uint32_t publisher_pid;
    /**
     * User id of its owner, if the process id is known.
     */
    uint32_t publisher_uid;
    /**
     * Whether somebody stands behind it.
     */
    enum conduit_state state;
    /**
     * Number of slots; 0 for a raw region.
     */
    uint32_t slots;
    /**
     * Size of a slot in bytes, 192 of which are its state and header; 0 for a raw region.
     */
    uint64_t slot_size;
    /**
     * Size of its file in bytes.
     */
    uint64_t size;
    /**
     * Messages published; 0 for a raw region.
     */
    uint64_t published;
    /**
     * Time since the last message was published, in nanoseconds; UINT64_MAX if there was none or it has no time stamp.
     */
    uint64_t last_message_age_ns;
    /**
     * Messages per second, over the last one to two seconds; negative if it is not known.
     */
    double rate_hz;
    /**
     * Bytes of messages per second, likewise.
     */
    double bytes_per_second;
    /**
     * Number of subscribers.
     */
    size_t subscribers;
    /**
     * Whether it is a raw region.
     */
    bool is_raw;
} conduit_topic;

/**
 * One subscriber of a topic. Later versions may add members at the end.
 */
typedef struct conduit_subscriber_info {
    /**
     * Command name.
     */
    const char *program;
    /**
     * Process id.
     */
    uint32_t pid;
    /**
     * User id.
     */
    uint32_t uid;
    /**
     * Messages received.
     */
    uint64_t received;
    /**
     * Messages missed.
     */
    uint64_t lost;
    /**
     * Slots between the publisher's next and this subscriber's.
     */
    uint64_t lag;
    /**
     * Samples held now.
     */
    uint32_t held;
    /**
     * Whether it sleeps until the next message.
     */
    bool is_asleep;
} conduit_subscriber_info;

/**
 * How a topic is to be read. Begin with CONDUIT_SUBSCRIBER_OPTIONS_INIT; a member that is 0 has its default.
 */
typedef struct conduit_subscriber_options {
    /**
     * sizeof(conduit_subscriber_options), as CONDUIT_SUBSCRIBER_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Where; NULL for the environment's.
     */
    const struct conduit_domain *domain;
    /**
     * The type that the messages must have; NULL for bytes.
     */
    const struct conduit_type *message_type;
    /**
     * How long to look for a message again and again before going to sleep, in nanoseconds; CONDUIT_FOREVER never sleeps. A message
     * that comes meanwhile is there some 100 ns later instead of tens of microseconds, for the price of a processor core.
     */
    uint64_t spin_ns;
    /**
     * Where to start; by default with the next message to be published.
     */
    conduit_start start;
    /**
     * Receives validated copies instead of reading in place: for programs that may be stopped at any moment, and then must not keep a
     * slot from the publisher. A message that is overwritten while it is copied is lost, and counted. A copy is allocated.
     */
    bool copy_samples;
    /**
     * Accepts messages of any type and length; `message_type` is ignored.
     */
    bool any_type;
    /**
     * 0.
     */
    uint8_t reserved[2];
} conduit_subscriber_options;

/**
 * A message as a subscriber holds it. While it is held its slot is not overwritten.
 *
 * Begin with CONDUIT_SAMPLE_INIT, receive into it, and release it. It may outlive the subscriber and the topic, be released on
 * another thread, and be moved by assignment if the old copy is forgotten (set to CONDUIT_SAMPLE_INIT): two copies of it must not
 * both be released.
 */
typedef struct conduit_sample {
    /**
     * The message, aligned to 64 bytes; it must not be written.
     */
    const void *data;
    /**
     * Length of the message in bytes.
     */
    size_t size;
    /**
     * The message's number, from 0 at the topic's creation and without gaps at the publisher.
     */
    uint64_t sequence;
    /**
     * How many messages this subscriber missed between the one before and this one.
     */
    uint64_t lost;
    /**
     * When it was published: CLOCK_MONOTONIC in nanoseconds; 0 if the publisher has time stamps off.
     */
    uint64_t stamp_ns;
    /**
     * The library's own.
     */
    uint64_t reserved[16];
} conduit_sample;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the library that is linked: "0.1.0". A static string. Thread-safe.
 */
const char *conduit_version(void);

/**
 * The name of a code, as it is written in C: "CONDUIT_ERROR_NAME".
 *
 * Returns a static string; "CONDUIT_ERROR_UNKNOWN" for a number that is no code. Thread-safe.
 */
const char *conduit_error_name(conduit_error error);

/**
 * What a code means in general, in a few words: "not a valid name".
 *
 * What happened, to what, and what to do is said by conduit_last_error_message(). Returns a static string; "unknown error" for a
 * number that is no code. Thread-safe.
 */
const char *conduit_error_string(conduit_error error);

/**
 * The code of this thread's last failing call, for those that return what they find; CONDUIT_OK if no call has failed.
 *
 * Calls that succeed leave it alone. Thread-safe: every thread has its own.
 */
enum conduit_error conduit_last_error(void);

/**
 * The message of this thread's last failing call: what happened, to what, what to do; UTF-8, one line.
 *
 * Valid until the next failing call of this thread, or its end. Calls that succeed leave it alone. Empty if no call has failed.
 * Never NULL. Thread-safe: every thread has its own.
 */
const char *conduit_last_error_message(void);

/**
 * The errno of this thread's last failing call; 0 if it did not fail for the kernel's sake, or no call has failed.
 *
 * Thread-safe: every thread has its own.
 */
int conduit_last_error_errno(void);

/**
 * Creates a topic. A name that a dead publisher left is taken over.
 *
 * `options` may be NULL: 16 slots for messages of up to 3904 bytes. The handle in `*publisher` is the caller's, to be closed with
 * conduit_publisher_close(); NULL on failure.
 *
 * Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SLOTS, MESSAGE_TOO_LARGE (the type does not fit the slots), NO_SPACE, NO_MEMORY,
 * FILE_SYSTEM, ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE, NOT_REMOVABLE, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_publisher_create(const char *name,
                                            const struct conduit_publisher_options *options,
                                            struct conduit_publisher **publisher);

/**
 * Sends a copy of `size` bytes. `data` may be NULL if `size` is 0.
 *
 * Never blocks, never allocates if it succeeds, and makes no system call unless a subscriber sleeps.
 *
 * Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT, ALL_SLOTS_HELD, MESSAGE_TOO_LARGE, WRONG_LENGTH, REMOVED, UNLINKED (once:
 * who goes on publishes to the subscribers that are there). One thread at a time.
 */
enum conduit_error conduit_publisher_send(struct conduit_publisher *publisher,
                                          const void *data,
                                          size_t size);

/**
 * Lends a slot to write a message of `size` bytes in place: `*data` points to as many bytes, aligned to 64, whose contents are
 * unspecified. NULL on failure.
 *
 * The memory is the caller's until conduit_publisher_publish() or conduit_publisher_discard(); one loan can be out at a time.
 *
 * Errors: as for conduit_publisher_send(). One thread at a time.
 */
enum conduit_error conduit_publisher_loan(struct conduit_publisher *publisher,
                                          size_t size,
                                          void **data);

/**
 * Shortens the message that is being written to its first `size` bytes.
 *
 * Errors: INVALID_HANDLE, FORKED, NO_LOAN, MESSAGE_TOO_LARGE (the loan is smaller), WRONG_LENGTH. On an error the loan stays as it
 * was. One thread at a time.
 */
enum conduit_error conduit_publisher_truncate(struct conduit_publisher *publisher,
                                              size_t size);

/**
 * Publishes the message that was written into the loan. Its memory is not the caller's any more.
 *
 * Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
 */
enum conduit_error conduit_publisher_publish(struct conduit_publisher *publisher);

/**
 * Gives the loan back unseen. Its memory is not the caller's any more.
 *
 * Errors: INVALID_HANDLE, FORKED, NO_LOAN. One thread at a time.
 */
enum conduit_error conduit_publisher_discard(struct conduit_publisher *publisher);

/**
 * Messages published so far, which is the sequence number of the next; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
 */
uint64_t conduit_publisher_published(const struct conduit_publisher *publisher);

/**
 * Largest message in bytes; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
 */
size_t conduit_publisher_capacity(const struct conduit_publisher *publisher);

/**
 * Number of slots; 0, with INVALID_HANDLE or FORKED, if there is no publisher.
 */
uint32_t conduit_publisher_slots(const struct conduit_publisher *publisher);

/**
 * The topic's name, valid until the publisher is closed; NULL, with INVALID_HANDLE or FORKED, if there is no publisher.
 */
const char *conduit_publisher_topic(const struct conduit_publisher *publisher);

/**
 * Counts in `*count` the subscribers that live now; 0 on failure. Costs some system calls: meant for flow control and reports, not for
 * every message.
 *
 * Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, LOAN_OUT. One thread at a time.
 */
enum conduit_error conduit_publisher_subscribers(struct conduit_publisher *publisher,
                                                 size_t *count);

/**
 * Closes the topic: a loan that is out is discarded, the region's name is removed, and sleeping subscribers wake with
 * CONDUIT_ERROR_PUBLISHER_CLOSED once they have received what is left. What they hold stays valid. NULL is no error. In a forked child it
 * only frees the child's handle.
 *
 * Errors: INVALID_HANDLE. One thread at a time.
 */
enum conduit_error conduit_publisher_close(struct conduit_publisher *publisher);

/**
 * Creates a region of exactly `size` bytes, zeroed and aligned to a page.
 *
 * `options` may be NULL. The handle in `*region` is the caller's, to be closed with conduit_region_close(); NULL on failure. If this
 * process dies without closing it, the region is an orphan, which conduitd removes and the next creator takes over.
 *
 * Errors: INVALID_ARGUMENT, NAME, NOT_ALLOWED, SIZE, NO_SPACE, NO_MEMORY, FILE_SYSTEM, ALREADY_PUBLISHED, EXISTS, FOREIGN_FILE,
 * NOT_REMOVABLE, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_region_create(const char *name,
                                         size_t size,
                                         const struct conduit_region_options *options,
                                         struct conduit_region **region);

/**
 * Opens a region for reading and writing.
 *
 * `domain` may be NULL. The handle in `*region` is the caller's, to be closed with conduit_region_close(); NULL on failure.
 *
 * Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, WRONG_KIND, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_region_open(const char *name,
                                       const struct conduit_domain *domain,
                                       struct conduit_region **region);

/**
 * Says in `*exists` whether a region or topic of the name exists; false on failure. `domain` may be NULL.
 *
 * Errors: INVALID_ARGUMENT, NAME, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_region_exists(const char *name,
                                         const struct conduit_domain *domain,
                                         bool *exists);

/**
 * Sleeps until a region or topic of the name exists, or `keep_waiting` says no, or the time is up.
 *
 * Says in `*exists` whether it exists; false on failure. Its appearance wakes the call at once. `domain` and `keep_waiting` may be
 * NULL; `timeout_ns` is CONDUIT_FOREVER for no limit.
 *
 * Errors: INVALID_ARGUMENT, NAME, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_region_wait_until_exists(const char *name,
                                                    const struct conduit_domain *domain,
                                                    uint64_t timeout_ns,
                                                    conduit_keep_waiting keep_waiting,
                                                    void *context,
                                                    bool *exists);

/**
 * Removes the name of a raw region, whoever uses it; its memory stays until the last process has unmapped it. A topic's name is
 * removed only if its publisher is dead. `domain` may be NULL.
 *
 * Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, LIVE, FOREIGN_FILE, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_region_unlink(const char *name,
                                         const struct conduit_domain *domain);

/**
 * The first byte of the region, aligned to a page and valid for conduit_region_size() bytes until the region is closed.
 *
 * Other processes read and write the same memory at any time: what is shared without a lock must be atomic. A forked child does
 * not have the memory. NULL, with INVALID_HANDLE or FORKED, if there is no such region in this process.
 */
void *conduit_region_data(const struct conduit_region *region);

/**
 * Size of the region in bytes, as asked for at its creation; 0, with INVALID_HANDLE or FORKED, if there is no such region.
 */
size_t conduit_region_size(const struct conduit_region *region);

/**
 * The region's name, valid until the region is closed; NULL, with INVALID_HANDLE or FORKED, if there is no such region.
 */
const char *conduit_region_name(const struct conduit_region *region);

/**
 * Unmaps the region and keeps its name and contents, until conduit_region_unlink() or a reboot. NULL is no error. In a forked child it
 * only frees the child's handle.
 *
 * Errors: INVALID_HANDLE.
 */
enum conduit_error conduit_region_close(struct conduit_region *region);

/**
 * Asks the registry of a domain whether it is there. `domain` may be NULL.
 *
 * Errors: INVALID_ARGUMENT, NO_REGISTRY, REGISTRY, IO (it does not answer within 5 s, for one). Thread-safe.
 */
CONDUIT_NODISCARD enum conduit_error conduit_registry_ping(const struct conduit_domain *domain);

/**
 * Lists all topics and raw regions of a domain, sorted by name.
 *
 * Asks the registry, or reads the shared-memory directory if none answers. `domain` may be NULL. The handle in `*listing` is the
 * caller's, to be closed with conduit_listing_close(); NULL on failure.
 *
 * Errors: INVALID_ARGUMENT, IO. Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_listing_open(const struct conduit_domain *domain,
                                        struct conduit_listing **listing);

/**
 * Whether the registry answered. If not, the listing is what the regions themselves say: process ids are those of the processes' own
 * namespaces. False, with INVALID_HANDLE, if there is no listing.
 */
bool conduit_listing_is_from_registry(const struct conduit_listing *listing);

/**
 * Number of topics and raw regions in a listing; 0, with INVALID_HANDLE, if there is no listing.
 */
size_t conduit_listing_count(const struct conduit_listing *listing);

/**
 * One topic or raw region of a listing, valid until the listing is closed. NULL, with INVALID_ARGUMENT or INVALID_HANDLE, if there is
 * none of this index (from 0).
 */
const struct conduit_topic *conduit_listing_topic(const struct conduit_listing *listing,
                                                  size_t index);

/**
 * One subscriber of a topic of a listing, valid until the listing is closed. NULL, with INVALID_ARGUMENT or INVALID_HANDLE, if there is
 * none of this index (from 0).
 */
const struct conduit_subscriber_info *conduit_listing_subscriber(const struct conduit_listing *listing,
                                                                 size_t topic,
                                                                 size_t index);

/**
 * Frees a listing and everything in it. NULL is no error.
 *
 * Errors: INVALID_HANDLE.
 */
enum conduit_error conduit_listing_close(struct conduit_listing *listing);

/**
 * Opens a topic.
 *
 * `options` may be NULL: bytes, from the next message on. The handle in `*subscriber` is the caller's, to be closed with
 * conduit_subscriber_close(); NULL on failure.
 *
 * Errors: INVALID_ARGUMENT, NAME, NOT_FOUND, PERMISSION, LAYOUT, WRONG_KIND, TYPE_MISMATCH, ORPHANED, TOO_MANY_SUBSCRIBERS, IO.
 * Thread-safe.
 */
CONDUIT_NODISCARD
enum conduit_error conduit_subscriber_open(const char *name,
                                           const struct conduit_subscriber_options *options,
                                           struct conduit_subscriber **subscriber);

/**
 * Receives the next message, sleeping until there is one. Signals do not end the wait: who wants to be stopped waits with a timeout.
 *
 * On success `*sample` holds the message, to be released with conduit_sample_release(); on failure it holds none. It must be
 * initialised.
 *
 * Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED, SAMPLE_HELD, PUBLISHER_CLOSED, PUBLISHER_DIED, INVALID_MESSAGE. One thread at a time.
 */
enum conduit_error conduit_subscriber_recv(struct conduit_subscriber *subscriber,
                                           struct conduit_sample *sample);

/**
 * Receives the next message, sleeping until there is one or `timeout_ns` nanoseconds are over; CONDUIT_FOREVER is no limit. Signals do
 * not end the wait.
 *
 * Errors: as for conduit_subscriber_recv(), and TIMED_OUT. One thread at a time.
 */
enum conduit_error conduit_subscriber_recv_timeout(struct conduit_subscriber *subscriber,
                                                   uint64_t timeout_ns,
                                                   struct conduit_sample *sample);

/**
 * Receives the next message if there is one, else returns CONDUIT_NO_MESSAGE. Does not allocate, if samples are read in place.
 *
 * Errors: as for conduit_subscriber_recv(). One thread at a time.
 */
enum conduit_error conduit_subscriber_try_recv(struct conduit_subscriber *subscriber,
                                               struct conduit_sample *sample);

/**
 * Releases a sample: its data is not to be read any more, and the structure can be received into again. NULL is no error.
 *
 * Errors: NO_SAMPLE (it was released before, or never held). Thread-safe for different samples.
 */
enum conduit_error conduit_sample_release(struct conduit_sample *sample);

/**
 * Messages received so far; 0, with INVALID_HANDLE or FORKED, if there is no subscriber.
 */
uint64_t conduit_subscriber_received(const struct conduit_subscriber *subscriber);

/**
 * Messages missed so far; with those received it adds up to what was published since the start. 0, with INVALID_HANDLE or FORKED, if there
 * is no subscriber.
 */
uint64_t conduit_subscriber_lost(const struct conduit_subscriber *subscriber);

/**
 * Whether messages are read in place. If not, they are validated copies: this user may only read the region, or wanted them. False,
 * with INVALID_HANDLE or FORKED, if there is no subscriber.
 */
bool conduit_subscriber_is_zero_copy(const struct conduit_subscriber *subscriber);

/**
 * The topic's name, valid until the subscriber is closed; NULL, with INVALID_HANDLE or FORKED, if there is no subscriber.
 */
const char *conduit_subscriber_topic(const struct conduit_subscriber *subscriber);

/**
 * The type of the topic's messages, as the publisher named it. Its name is valid until the subscriber is closed.
 *
 * Errors: INVALID_ARGUMENT, INVALID_HANDLE, FORKED; `*message_type` is then all zeros.
 */
enum conduit_error conduit_subscriber_type(const struct conduit_subscriber *subscriber,
                                           struct conduit_type *message_type);

/**
 * Ends the subscription. Samples that are held stay valid. NULL is no error. In a forked child it only frees the child's handle.
 *
 * Errors: INVALID_HANDLE. One thread at a time.
 */
enum conduit_error conduit_subscriber_close(struct conduit_subscriber *subscriber);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CONDUIT_H */
