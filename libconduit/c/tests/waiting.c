/* Wait sets with timers and wakers, and descriptors for other event loops. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND UINT64_C(1000000)
#define SECOND (1000 * MILLISECOND)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static conduit_publisher *create(const char *name) {
    conduit_publisher *publisher;
    OK(conduit_publisher_create(name, NULL, &publisher));
    return publisher;
}

static conduit_subscriber *open_bytes(const char *name) {
    conduit_subscriber *subscriber;
    OK(conduit_subscriber_open(name, NULL, &subscriber));
    return subscriber;
}

/* Receives one message, which must be there. */
static void take(conduit_subscriber *subscriber) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_try_recv(subscriber, &sample));
    OK(conduit_sample_release(&sample));
}

static bool is_ready(const conduit_event *event, uint64_t token) {
    return event->kind == CONDUIT_EVENT_READY && event->token == token && event->missed == 0;
}

static void topics(void) {
    conduit_publisher *a = create("a"), *b = create("b");
    conduit_subscriber *from_a = open_bytes("a"), *from_b = open_bytes("b");
    conduit_wait_set *set;
    conduit_event events[8];
    uint64_t token_a, token_b;
    size_t count = 7;
    OK(conduit_wait_set_create(&set));
    FAILS(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 8, &count), CONDUIT_ERROR_NOTHING_TO_WAIT_FOR, "no subscribers");
    CHECK(count == 0);
    OK(conduit_wait_set_wait(set, MILLISECOND, events, 8, &count));
    CHECK(count == 0);
    OK(conduit_wait_set_add(set, from_a, &token_a));
    OK(conduit_wait_set_add(set, from_b, &token_b));
    CHECK(token_a != 0 && token_b != 0 && token_a != token_b);
    OK(conduit_wait_set_wait(set, 0, events, 8, &count));
    CHECK(count == 0);

    OK(conduit_publisher_send(b, "x", 1));
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 8, &count));
    CHECK(count == 1 && is_ready(&events[0], token_b));
    /* It is ready until it is received. */
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 8, &count));
    CHECK(count == 1 && is_ready(&events[0], token_b));
    take(from_b);
    OK(conduit_wait_set_wait(set, 0, events, 8, &count));
    CHECK(count == 0);

    /* With room for one event, both have their turn. */
    OK(conduit_publisher_send(a, "x", 1));
    OK(conduit_publisher_send(b, "x", 1));
    OK(conduit_wait_set_wait(set, 0, events, 8, &count));
    CHECK(count == 2);
    bool seen_a = false, seen_b = false;
    for (int i = 0; i < 4; i++) {
        OK(conduit_wait_set_wait(set, 0, events, 1, &count));
        CHECK(count == 1);
        seen_a |= is_ready(&events[0], token_a);
        seen_b |= is_ready(&events[0], token_b);
    }
    CHECK(seen_a && seen_b);
    take(from_a);
    take(from_b);

    /* The end of a topic is an event, too; a subscriber that is closed or removed has none. */
    OK(conduit_publisher_close(a));
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 8, &count));
    CHECK(count == 1 && is_ready(&events[0], token_a));
    CHECK(conduit_wait_set_remove(set, token_a) && !conduit_wait_set_remove(set, token_a));
    OK(conduit_wait_set_wait(set, 0, events, 8, &count));
    CHECK(count == 0);
    OK(conduit_publisher_send(b, "x", 1));
    OK(conduit_subscriber_close(from_b));
    FAILS(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 8, &count), CONDUIT_ERROR_NOTHING_TO_WAIT_FOR, "no subscribers");
    CHECK(!conduit_wait_set_remove(set, token_b) && !conduit_wait_set_remove(set, 0));
    OK(conduit_wait_set_close(set));
    OK(conduit_subscriber_close(from_a));
    OK(conduit_publisher_close(b));
}

static void timers(void) {
    conduit_wait_set *set;
    conduit_event events[4];
    uint64_t once, later, tick;
    size_t count;
    OK(conduit_wait_set_create(&set));
    const uint64_t begun = now_ns();
    OK(conduit_wait_set_add_timer(set, 5 * MILLISECOND, &once));
    OK(conduit_wait_set_add_timer(set, CONDUIT_FOREVER, &later));
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    CHECK(count == 1 && events[0].kind == CONDUIT_EVENT_TIMER && events[0].token == once && events[0].missed == 0);
    CHECK(now_ns() - begun >= 5 * MILLISECOND);
    CHECK(!conduit_wait_set_remove(set, once) && conduit_wait_set_remove(set, later));
    OK(conduit_wait_set_wait(set, MILLISECOND, events, 4, &count));
    CHECK(count == 0);

    OK(conduit_wait_set_add_interval(set, MILLISECOND, &tick));
    usleep(10000);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    CHECK(count == 1 && events[0].token == tick && events[0].missed >= 8);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    CHECK(count == 1 && events[0].token == tick);
    CHECK(conduit_wait_set_remove(set, tick));

    /* Timers that do not fit are reported by the next waits, once each, unless they are removed. */
    uint64_t tokens[4], found = 0;
    for (int i = 0; i < 4; i++) {
        OK(conduit_wait_set_add_timer(set, 0, &tokens[i]));
    }
    OK(conduit_wait_set_wait(set, 0, events, 1, &count));
    CHECK(count == 1 && events[0].token == tokens[0]);
    (void)conduit_wait_set_remove(set, tokens[2]);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 1, &count));
    CHECK(count == 1 && events[0].token == tokens[1]);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    found = events[0].token;
    CHECK(count == 1 && found == tokens[3]);
    OK(conduit_wait_set_wait(set, 0, events, 4, &count));
    CHECK(count == 0);
    OK(conduit_wait_set_close(set));
}

static void *wake(void *waker) {
    usleep(5000);
    OK(conduit_waker_wake(waker));
    return NULL;
}

static void wakers(void) {
    conduit_wait_set *set;
    conduit_waker *waker, *another;
    conduit_event events[4];
    uint64_t timer;
    size_t count;
    pthread_t thread;
    OK(conduit_wait_set_create(&set));
    OK(conduit_wait_set_waker(set, &waker));
    OK(conduit_wait_set_waker(set, &another));
    CHECK(pthread_create(&thread, NULL, wake, waker) == 0);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    CHECK(count == 1 && events[0].kind == CONDUIT_EVENT_WOKEN && events[0].token == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    /* Before a wait, and often: it is one event of the next. */
    OK(conduit_waker_wake(waker));
    OK(conduit_waker_wake(another));
    OK(conduit_wait_set_add_timer(set, 0, &timer));
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 1, &count));
    CHECK(count == 1 && events[0].kind == CONDUIT_EVENT_WOKEN);
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 4, &count));
    CHECK(count == 1 && events[0].kind == CONDUIT_EVENT_TIMER);
    OK(conduit_wait_set_wait(set, 0, events, 4, &count));
    CHECK(count == 0);
    OK(conduit_waker_close(another));
    OK(conduit_wait_set_close(set));
    OK(conduit_waker_wake(waker));
    OK(conduit_waker_close(waker));
}

static short polled(int descriptor, int timeout_ms) {
    struct pollfd waiting = {.fd = descriptor, .events = POLLIN};
    CHECK(poll(&waiting, 1, timeout_ms) >= 0);
    return waiting.revents;
}

static void descriptors(void) {
    conduit_publisher *publisher = create("fd");
    conduit_subscriber *subscriber = open_bytes("fd");
    int descriptor = 7, again;
    OK(conduit_subscriber_ready_fd(subscriber, &descriptor));
    OK(conduit_subscriber_ready_fd(subscriber, &again));
    CHECK(descriptor > 2 && again == descriptor);
    CHECK(polled(descriptor, 0) == 0);
    for (int i = 0; i < 3; i++) {
        OK(conduit_publisher_send(publisher, "x", 1));
        OK(conduit_publisher_send(publisher, "y", 1));
        CHECK(polled(descriptor, 60000) == POLLIN);
        take(subscriber);
        CHECK(polled(descriptor, 0) == POLLIN);
        take(subscriber);
        CHECK(polled(descriptor, 0) == 0);
    }
    OK(conduit_publisher_close(publisher));
    CHECK(polled(descriptor, 60000) == POLLIN);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    FAILS(conduit_subscriber_try_recv(subscriber, &sample), CONDUIT_ERROR_PUBLISHER_CLOSED, "closed");
    CHECK(polled(descriptor, 0) == POLLIN);
    OK(conduit_subscriber_close(subscriber));
    /* The thread that slept for it may be the last to use it. */
    const uint64_t deadline = now_ns() + 60000 * MILLISECOND;
    while (polled(descriptor, 0) != POLLNVAL) {
        CHECK(now_ns() < deadline);
    }
}

static void misuse(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    conduit_publisher *publisher = create("misuse");
    conduit_subscriber *subscriber = open_bytes("misuse");
    conduit_wait_set *set;
    conduit_waker *waker;
    conduit_event events[2];
    uint64_t token = 7;
    size_t count = 7;
    int descriptor = 7;
    FAILS(conduit_wait_set_create(NULL), invalid, "`set` is NULL");
    OK(conduit_wait_set_create(&set));
    FAILS(conduit_wait_set_add(NULL, subscriber, &token), handle, "wait set is NULL");
    CHECK(token == 0);
    FAILS(conduit_wait_set_add(set, NULL, &token), handle, "subscriber is NULL");
    FAILS(conduit_wait_set_add(set, (conduit_subscriber *)publisher, &token), handle, "not the handle of a subscriber");
    FAILS(conduit_wait_set_add(set, subscriber, NULL), invalid, "`token` is NULL");
    FAILS(conduit_wait_set_add_timer(NULL, 1, &token), handle, "wait set is NULL");
    FAILS(conduit_wait_set_add_timer(set, 1, NULL), invalid, "`token` is NULL");
    FAILS(conduit_wait_set_add_interval(NULL, 1, &token), handle, "wait set is NULL");
    FAILS(conduit_wait_set_add_interval(set, 0, &token), invalid, "period");
    FAILS(conduit_wait_set_add_interval(set, 1, NULL), invalid, "`token` is NULL");
    SAYS(conduit_wait_set_remove(NULL, 1), false, "wait set is NULL");
    OK(conduit_wait_set_add(set, subscriber, &token));
    FAILS(conduit_wait_set_wait(NULL, 0, events, 2, &count), handle, "wait set is NULL");
    CHECK(count == 0);
    FAILS(conduit_wait_set_wait(set, 0, NULL, 2, &count), invalid, "`events` is NULL");
    FAILS(conduit_wait_set_wait(set, 0, (void *)((char *)events + 1), 1, &count), invalid, "`events` is not aligned");
    FAILS(conduit_wait_set_wait(set, 0, events, SIZE_MAX, &count), invalid, "no array has");
    FAILS(conduit_wait_set_wait(set, 0, events, 0, &count), invalid, "`capacity` is 0");
    FAILS(conduit_wait_set_wait(set, 0, events, 2, NULL), invalid, "`count` is NULL");
    FAILS(conduit_wait_set_waker(NULL, &waker), handle, "wait set is NULL");
    CHECK(waker == NULL);
    FAILS(conduit_wait_set_waker(set, NULL), invalid, "`waker` is NULL");
    FAILS(conduit_waker_wake(NULL), handle, "waker is NULL");
    FAILS(conduit_waker_wake((conduit_waker *)set), handle, "not the handle of a waker");
    FAILS(conduit_subscriber_ready_fd(NULL, &descriptor), handle, "subscriber is NULL");
    CHECK(descriptor == -1);
    FAILS(conduit_subscriber_ready_fd(subscriber, NULL), invalid, "`descriptor` is NULL");
    OK(conduit_wait_set_waker(set, &waker));
    pid_t child = fork();
    if (child == 0) {
        FAILS(conduit_wait_set_wait(set, 0, events, 2, &count), CONDUIT_ERROR_FORKED, "forked");
        FAILS(conduit_wait_set_add(set, subscriber, &token), CONDUIT_ERROR_FORKED, "forked");
        FAILS(conduit_waker_wake(waker), CONDUIT_ERROR_FORKED, "forked");
        FAILS(conduit_subscriber_ready_fd(subscriber, &descriptor), CONDUIT_ERROR_FORKED, "forked");
        OK(conduit_waker_close(waker));
        OK(conduit_wait_set_close(set));
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_publisher_close(publisher));
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(conduit_waker_close(waker));
    FAILS(conduit_waker_wake(waker), handle, "it was closed");
    OK(conduit_wait_set_close(set));
    FAILS(conduit_wait_set_close(set), handle, "it was closed");
    OK(conduit_wait_set_close(NULL));
    OK(conduit_waker_close(NULL));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

/* A set and a descriptor notice that the publisher was killed. */
static void publisher_killed(void) {
    int ends[2];
    char ready;
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        create("killed");
        CHECK(write(ends[1], "x", 1) == 1);
        pause();
    }
    CHECK(read(ends[0], &ready, 1) == 1);
    conduit_subscriber *waiting = open_bytes("killed"), *polling = open_bytes("killed");
    conduit_wait_set *set;
    conduit_event event;
    uint64_t token;
    size_t count;
    int descriptor, status;
    OK(conduit_wait_set_create(&set));
    OK(conduit_wait_set_add(set, waiting, &token));
    OK(conduit_subscriber_ready_fd(polling, &descriptor));
    OK(conduit_wait_set_wait(set, 0, &event, 1, &count));
    CHECK(count == 0 && polled(descriptor, 0) == 0);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, &event, 1, &count));
    CHECK(count == 1 && is_ready(&event, token));
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    FAILS(conduit_subscriber_try_recv(waiting, &sample), CONDUIT_ERROR_PUBLISHER_DIED, "died");
    CHECK(polled(descriptor, 60000) == POLLIN);
    FAILS(conduit_subscriber_try_recv(polling, &sample), CONDUIT_ERROR_PUBLISHER_DIED, "died");
    OK(conduit_wait_set_close(set));
    OK(conduit_subscriber_close(waiting));
    OK(conduit_subscriber_close(polling));
    OK(conduit_publisher_close(create("killed")));
}

/* Waits for a silence in every way. */
static void deadlines(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.follow = true;
    options.deadline_ns = 20 * MILLISECOND;
    conduit_subscriber *subscriber;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_open("silent", &options, &subscriber));
    FAILS(conduit_subscriber_recv(subscriber, &sample), CONDUIT_ERROR_OVERDUE, "no message on topic \"silent\" for ");
    FAILS(conduit_subscriber_recv_timeout(subscriber, 40 * MILLISECOND, &sample), CONDUIT_ERROR_TIMED_OUT, "silent");
    conduit_publisher *publisher = create("silent");
    conduit_wait_set *set;
    conduit_event event;
    uint64_t token;
    size_t count;
    int descriptor;
    OK(conduit_wait_set_create(&set));
    OK(conduit_wait_set_add(set, subscriber, &token));
    OK(conduit_subscriber_ready_fd(subscriber, &descriptor));
    for (int i = 0; i < 2; i++) {
        OK(conduit_publisher_send(publisher, "x", 1));
        OK(conduit_subscriber_recv(subscriber, &sample));
        OK(conduit_sample_release(&sample));
        OK(conduit_wait_set_wait(set, CONDUIT_FOREVER, &event, 1, &count));
        CHECK(count == 1 && is_ready(&event, token) && polled(descriptor, 60000) == POLLIN);
        FAILS(conduit_subscriber_try_recv(subscriber, &sample), CONDUIT_ERROR_OVERDUE, "longer than the deadline");
        CHECK(conduit_subscriber_try_recv(subscriber, &sample) == CONDUIT_NO_MESSAGE && polled(descriptor, 0) == 0);
    }
    OK(conduit_wait_set_close(set));
    OK(conduit_subscriber_close(subscriber));
    options.deadline_ns = CONDUIT_FOREVER;
    OK(conduit_subscriber_open("silent", &options, &subscriber));
    FAILS(conduit_subscriber_recv_timeout(subscriber, MILLISECOND, &sample), CONDUIT_ERROR_TIMED_OUT, "silent");
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

int main(void) {
    topics();
    deadlines();
    timers();
    wakers();
    descriptors();
    misuse();
    publisher_killed();
    wait_for_threads();
    return 0;
}
