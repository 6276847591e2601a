/* A forked child has its parent's handles and not the memory behind them, however it was forked. */
#define _GNU_SOURCE
#include "check.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t by_fork(void) {
    return fork();
}

/* Runs no handlers of pthread_atfork, as _Fork() does not. */
static pid_t by_clone(void) {
    return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
}

static void handles_fail_in_a_child(pid_t (*forking)(void)) {
    conduit_publisher *publisher, *lending;
    conduit_subscriber *subscriber;
    conduit_region *region;
    conduit_listing *listing;
    conduit_sample sample = CONDUIT_SAMPLE_INIT, other = CONDUIT_SAMPLE_INIT;
    void *data;
    OK(conduit_publisher_create("parent", NULL, &publisher));
    OK(conduit_publisher_create("lending", NULL, &lending));
    OK(conduit_subscriber_open("parent", NULL, &subscriber));
    OK(conduit_region_create("region", 64, NULL, &region));
    OK(conduit_listing_open(NULL, &listing));
    OK(conduit_publisher_send(publisher, "held", 5));
    OK(conduit_subscriber_recv(subscriber, &sample));
    OK(conduit_publisher_loan(lending, 4, &data));

    const conduit_error code = CONDUIT_ERROR_FORKED;
    pid_t child = forking();
    if (child == 0) {
        FAILS(conduit_publisher_send(publisher, "x", 1), code, "forked");
        FAILS(conduit_publisher_loan(publisher, 1, &data), code, "forked");
        FAILS(conduit_publisher_publish(lending), code, "forked");
        FAILS(conduit_publisher_discard(lending), code, "forked");
        SAYS(conduit_publisher_topic(publisher), NULL, "forked");
        SAYS(conduit_publisher_published(publisher), 0, "forked");
        FAILS(conduit_subscriber_recv(subscriber, &other), code, "forked");
        FAILS(conduit_subscriber_try_recv(subscriber, &other), code, "forked");
        SAYS(conduit_region_data(region), NULL, "forked");
        SAYS(conduit_listing_count(listing), 0, "forked");
        OK(conduit_sample_release(&sample));
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_publisher_close(publisher));
        OK(conduit_publisher_close(lending));
        OK(conduit_region_close(region));
        OK(conduit_listing_close(listing));
        FAILS(conduit_publisher_close(publisher), CONDUIT_ERROR_INVALID_HANDLE, "closed");
        /* It can make its own. */
        OK(conduit_subscriber_open("parent", NULL, &subscriber));
        OK(conduit_subscriber_close(subscriber));
        OK(conduit_publisher_create("child", NULL, &publisher));
        OK(conduit_publisher_send(publisher, "x", 1));
        OK(conduit_publisher_close(publisher));
        exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* Nothing has changed for the parent. */
    CHECK(same(sample.data, "held"));
    OK(conduit_sample_release(&sample));
    memcpy(data, "loan", 4);
    OK(conduit_publisher_publish(lending));
    CHECK(conduit_publisher_published(lending) == 1);
    OK(conduit_publisher_send(publisher, "more", 5));
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "more"));
    OK(conduit_sample_release(&sample));
    memset(conduit_region_data(region), 1, 64);
    bool exists;
    OK(conduit_region_exists("parent", NULL, &exists));
    CHECK(exists && conduit_listing_count(listing) == 3);
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("region", NULL));
    OK(conduit_listing_close(listing));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    OK(conduit_publisher_close(lending));
}

int main(void) {
    handles_fail_in_a_child(by_fork);
    handles_fail_in_a_child(by_clone);
    return 0;
}
