/* Threads that are cancelled (pthread_cancel) in functions of the library: the call returns, and the thread ends at its
   next cancellation point. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static atomic_int returned;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *receive(void *subscriber) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "late"));
    OK(conduit_sample_release(&sample));
    atomic_store(&returned, 1);
    pthread_testcancel();
    CHECK(false); /* It goes on. */
    return NULL;
}

/* Sleeps in recv when it is cancelled, and sleeps on until there is a message. */
static void cancel_a_sleeper(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("slept/on", NULL, &publisher));
    OK(conduit_subscriber_open("slept/on", NULL, &subscriber));
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, receive, subscriber) == 0);
    usleep(50000);
    CHECK(pthread_cancel(thread) == 0);
    /* Longer than the interval in which a sleeper looks after its lease. */
    usleep(1200000);
    CHECK(atomic_load(&returned) == 0);
    OK(conduit_publisher_send(publisher, "late", 5));
    void *result;
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(atomic_load(&returned) == 1);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_publisher_send(publisher, "next", 5));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "next") && sample.lost == 0);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static bool once(void *context) {
    return (*(int *)context)++ < 1;
}

static void use_regions(void) {
    conduit_region *region, *other;
    bool exists;
    int asked = 0;
    OK(conduit_region_create("raw", 4096, NULL, &region));
    OK(conduit_region_open("raw", NULL, &other));
    OK(conduit_region_exists("raw", NULL, &exists));
    OK(conduit_region_wait_until_exists("absent", NULL, 100000000, once, &asked, &exists));
    CHECK(asked == 2 && !exists);
    OK(conduit_region_close(other));
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("raw", NULL));
}

static void use_topics(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_sample samples[16];
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    size_t count;
    void *data;
    options.slots = 4;
    OK(conduit_publisher_create("used", &options, &publisher));
    CHECK(conduit_publisher_create("used", NULL, &(conduit_publisher *){NULL}) == CONDUIT_ERROR_ALREADY_PUBLISHED);
    conduit_subscriber_options share = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    /* More than there are: then it is the publisher that refuses. */
    share.max_held = 5;
    OK(conduit_subscriber_open("used", &share, &subscriber));
    OK(conduit_publisher_subscribers(publisher, &count));
    OK(conduit_publisher_loan(publisher, 8, &data));
    OK(conduit_publisher_truncate(publisher, 4));
    OK(conduit_publisher_discard(publisher));
    OK(conduit_publisher_loan(publisher, 8, &data));
    OK(conduit_publisher_publish(publisher));
    /* As many slots as can be held: then the publisher looks for dead holders. */
    int held = 0;
    conduit_error error;
    for (;;) {
        samples[held] = (conduit_sample)CONDUIT_SAMPLE_INIT;
        error = conduit_subscriber_try_recv(subscriber, &samples[held]);
        held += error == CONDUIT_OK;
        if (error == CONDUIT_NO_MESSAGE && (error = conduit_publisher_send(publisher, "x", 2)) != CONDUIT_OK) {
            break;
        }
    }
    CHECK(error == CONDUIT_ERROR_ALL_SLOTS_HELD);
    while (held > 1) {
        OK(conduit_sample_release(&samples[--held]));
    }
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    /* The last use of the mapping. */
    OK(conduit_sample_release(&samples[0]));
}

/* Messages for longer than the interval in which leases are renewed, with a sleeper to wake. */
static void renew_leases(conduit_publisher *publisher, conduit_subscriber *subscriber) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    double end = seconds() + 1.2;
    while (seconds() < end) {
        OK(conduit_publisher_send(publisher, "on", 3));
        OK(conduit_subscriber_recv_timeout(subscriber, CONDUIT_FOREVER, &sample));
        OK(conduit_sample_release(&sample));
        CHECK(conduit_subscriber_try_recv(subscriber, &sample) == CONDUIT_NO_MESSAGE);
        CHECK(conduit_subscriber_recv_timeout(subscriber, 1000000, &sample) == CONDUIT_ERROR_TIMED_OUT);
    }
}

static void *be_woken(void *nothing) {
    (void)nothing;
    conduit_subscriber *subscriber;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_open("renewed", NULL, &subscriber));
    atomic_store(&returned, 2);
    while (conduit_subscriber_recv(subscriber, &sample) == CONDUIT_OK) {
        OK(conduit_sample_release(&sample));
    }
    OK(conduit_subscriber_close(subscriber));
    return NULL;
}

/* Every function, while a cancellation is pending: the first cancellation point in one of them would act on it. */
static void *use_everything(void *nothing) {
    (void)nothing;
    CHECK(pthread_cancel(pthread_self()) == 0);
    use_regions();
    use_topics();
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_listing *listing;
    OK(conduit_publisher_create("renewed", NULL, &publisher));
    OK(conduit_subscriber_open("renewed", NULL, &subscriber));
    OK(conduit_listing_open(NULL, &listing));
    OK(conduit_listing_close(listing));
    conduit_error answer = conduit_registry_ping(NULL);
    CHECK(answer == CONDUIT_OK || answer == CONDUIT_ERROR_NO_REGISTRY);
    pthread_t sleeper;
    CHECK(pthread_create(&sleeper, NULL, be_woken, NULL) == 0);
    while (atomic_load(&returned) != 2) {
        sched_yield();
    }
    renew_leases(publisher, subscriber);
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    int state;
    atomic_store(&returned, 3);
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state) == 0);
    CHECK(state == PTHREAD_CANCEL_ENABLE);
    CHECK(pthread_join(sleeper, NULL) == 0);
    /* A thread that has disabled it finds it disabled. */
    use_regions();
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0);
    CHECK(state == PTHREAD_CANCEL_DISABLE);
    pthread_testcancel();
    CHECK(false); /* It goes on. */
    return NULL;
}

int main(void) {
    cancel_a_sleeper();
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, use_everything, NULL) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(atomic_load(&returned) == 3);
    return 0;
}
