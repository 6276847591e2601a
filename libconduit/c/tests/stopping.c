/* Calls that wait are stopped: from another thread, by a signal, before and during the wait. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

static conduit_stop *stop;

static conduit_subscriber *open_bytes(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.stop = stop;
    conduit_subscriber *subscriber;
    OK(conduit_subscriber_open("ticks", &options, &subscriber));
    return subscriber;
}

static void ignore(void *context, const conduit_lent_message *message) {
    (void)context;
    (void)message;
}

static void *stop_soon(void *unused) {
    usleep(5000);
    OK(conduit_stop_stop(stop));
    return unused;
}

static void on_signal(int signal) {
    (void)signal;
    (void)conduit_stop_stop(stop);
}

/* Waits in one of several ways. */
static conduit_error wait_in_way(int way, conduit_subscriber *subscriber, conduit_wait_set *set) {
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_event event;
    conduit_copied copied;
    size_t count;
    bool exists;
    char buffer[8];
    switch (way) {
        case 0: return conduit_subscriber_recv(subscriber, &sample);
        case 1: return conduit_subscriber_recv_timeout(subscriber, UINT64_C(60000000000), &sample);
        case 2: return conduit_subscriber_recv_with(subscriber, CONDUIT_FOREVER, ignore, NULL);
        case 3: return conduit_subscriber_recv_batch(subscriber, CONDUIT_FOREVER, 8, ignore, NULL, &count);
        case 6: return conduit_region_wait_until_exists_or_stopped("never", NULL, CONDUIT_FOREVER, stop, &exists);
        case 4: return conduit_subscriber_recv_copy(subscriber, CONDUIT_FOREVER, buffer, sizeof buffer, &copied);
        default: return conduit_wait_set_wait(set, CONDUIT_FOREVER, &event, 1, &count);
    }
}

#define WAYS 7

int main(void) {
    conduit_publisher *publisher;
    OK(conduit_publisher_create("ticks", NULL, &publisher));
    struct sigaction action = {.sa_handler = on_signal};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    for (int way = 0; way < WAYS; way++) {
        for (int by_signal = 0; by_signal < 2; by_signal++) {
            OK(conduit_stop_create(&stop));
            CHECK(!conduit_stop_is_stopped(stop));
            conduit_subscriber *subscriber = open_bytes();
            conduit_wait_set *set;
            OK(conduit_wait_set_create(&set));
            OK(conduit_wait_set_stop(set, stop));
            pthread_t thread;
            if (by_signal) {
                /* This process's own child signals it. */
                const pid_t parent = getpid();
                const pid_t child = fork();
                if (child == 0) {
                    usleep(5000);
                    _exit(kill(parent, SIGUSR1));
                }
                conduit_error found = wait_in_way(way, subscriber, set);
                CHECK(found == CONDUIT_ERROR_STOPPED);
                while (waitpid(child, NULL, 0) != child) {}
            } else {
                CHECK(pthread_create(&thread, NULL, stop_soon, NULL) == 0);
                FAILS(wait_in_way(way, subscriber, set), CONDUIT_ERROR_STOPPED, "was stopped");
                CHECK(pthread_join(thread, NULL) == 0);
            }
            CHECK(conduit_stop_is_stopped(stop));
            /* A message that has arrived is not lost. */
            OK(conduit_publisher_send(publisher, "x", 1));
            FAILS(wait_in_way(way, subscriber, set), CONDUIT_ERROR_STOPPED, "was stopped");
            conduit_sample sample = CONDUIT_SAMPLE_INIT;
            OK(conduit_subscriber_try_recv(subscriber, &sample));
            CHECK(sample.size == 1 && conduit_subscriber_lost(subscriber) == 0);
            OK(conduit_sample_release(&sample));
            OK(conduit_wait_set_close(set));
            OK(conduit_subscriber_close(subscriber));
            OK(conduit_stop_close(stop));
        }
    }

    /* A signal stops without a handler of the program; the second one has its old effect. */
    const int signals[] = {SIGUSR1};
    OK(conduit_stop_on_signals(signals, 1, &stop));
    CHECK(raise(SIGUSR1) == 0 && conduit_stop_is_stopped(stop));
    conduit_stop *earlier = stop;
    OK(conduit_stop_create(&stop));
    CHECK(raise(SIGUSR1) == 0 && conduit_stop_is_stopped(stop));
    OK(conduit_stop_close(stop));
    OK(conduit_stop_close(earlier));
    const int unsuitable[] = {SIGTERM, SIGKILL};
    FAILS(conduit_stop_on_signals(unsuitable, 2, &stop), CONDUIT_ERROR_INVALID_ARGUMENT, "signal 9 cannot stop");
    CHECK(stop == NULL);
    FAILS(conduit_stop_on_signals(NULL, 2, &stop), CONDUIT_ERROR_INVALID_ARGUMENT, "`signals` is NULL");
    OK(conduit_stop_on_signals(NULL, 0, &stop));
    CHECK(raise(SIGTERM) == 0 && conduit_stop_is_stopped(stop));
    OK(conduit_stop_close(stop));

    /* What has a stop keeps it, and a child has one of its own. */
    OK(conduit_stop_create(&stop));
    conduit_subscriber *subscriber = open_bytes();
    const pid_t child = fork();
    if (child == 0) {
        OK(conduit_stop_stop(stop));
        CHECK(conduit_stop_is_stopped(stop));
        OK(conduit_stop_close(stop));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(!conduit_stop_is_stopped(stop));
    OK(conduit_stop_close(stop));
    OK(conduit_publisher_send(publisher, "y", 1));
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &sample));
    OK(conduit_sample_release(&sample));

    /* Misuse. */
    FAILS(conduit_stop_create(NULL), CONDUIT_ERROR_INVALID_ARGUMENT, "`stop` is NULL");
    FAILS(conduit_stop_stop(NULL), CONDUIT_ERROR_INVALID_HANDLE, "a stop");
    FAILS(conduit_stop_stop(stop), CONDUIT_ERROR_INVALID_HANDLE, "a stop");
    SAYS(conduit_stop_is_stopped((const conduit_stop *)subscriber), false, "a stop");
    FAILS(conduit_stop_close(stop), CONDUIT_ERROR_INVALID_HANDLE, "a stop");
    OK(conduit_stop_close(NULL));
    conduit_wait_set *set;
    OK(conduit_wait_set_create(&set));
    FAILS(conduit_wait_set_stop(set, NULL), CONDUIT_ERROR_INVALID_HANDLE, "a stop");
    OK(conduit_wait_set_close(set));
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.stop = stop;
    conduit_subscriber *refused;
    FAILS(conduit_subscriber_open("ticks", &options, &refused), CONDUIT_ERROR_INVALID_HANDLE, "a stop");
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    wait_for_threads();
    return 0;
}
