/* Raw regions. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static void made_opened_kept(void) {
    conduit_region *region, *other;
    conduit_region_options options = CONDUIT_REGION_OPTIONS_INIT;
    options.mode = 0600;
    options.group = (uint32_t)getgid();
    options.has_group = true;
    options.takeover_timeout_ns = 1;
    OK(conduit_region_create("counter", 5000, &options, &region));
    CHECK(conduit_region_size(region) == 5000 && same(conduit_region_name(region), "counter"));
    unsigned char *data = conduit_region_data(region);
    CHECK((uintptr_t)data % 4096 == 0);
    for (size_t i = 0; i < 5000; i++) {
        CHECK(data[i] == 0);
    }
    char path[512];
    snprintf(path, sizeof path, "%s/conduit_counter", getenv("CONDUIT_SHM_DIR"));
    struct stat status;
    CHECK(stat(path, &status) == 0 && (status.st_mode & 0777) == 0600);

    FAILS(conduit_region_create("counter", 5000, &options, &other), CONDUIT_ERROR_ALREADY_PUBLISHED, "pid");
    bool exists;
    OK(conduit_region_exists("counter", NULL, &exists));
    CHECK(exists);
    *(int *)(void *)data = 42;
    OK(conduit_region_open("counter", NULL, &other));
    CHECK(conduit_region_size(other) == 5000 && *(int *)conduit_region_data(other) == 42);
    OK(conduit_region_close(region));
    *(int *)conduit_region_data(other) = 43;
    OK(conduit_region_close(other));
    FAILS(conduit_region_create("counter", 5000, NULL, &region), CONDUIT_ERROR_EXISTS, "unlink it first");
    OK(conduit_region_open("counter", NULL, &region));
    CHECK(*(int *)conduit_region_data(region) == 43);
    OK(conduit_region_unlink("counter", NULL));
    FAILS(conduit_region_unlink("counter", NULL), CONDUIT_ERROR_NOT_FOUND, "does not exist");
    FAILS(conduit_region_open("counter", NULL, &other), CONDUIT_ERROR_NOT_FOUND, "does not exist");
    CHECK(*(int *)conduit_region_data(region) == 43);
    OK(conduit_region_close(region));
}

static void no_topics(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_region *region;
    OK(conduit_publisher_create("topic", NULL, &publisher));
    FAILS(conduit_region_open("topic", NULL, &region), CONDUIT_ERROR_WRONG_KIND, "raw region");
    FAILS(conduit_region_unlink("topic", NULL), CONDUIT_ERROR_LIVE, "published by pid");
    OK(conduit_publisher_close(publisher));
    OK(conduit_region_create("raw", 1, NULL, &region));
    FAILS(conduit_subscriber_open("raw", NULL, &subscriber), CONDUIT_ERROR_WRONG_KIND, "not a topic");
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("raw", NULL));
}

static bool three_times(void *context) {
    int *asked = context;
    *asked += 1;
    return *asked < 3;
}

/* Another thread creates the region as soon as the waiting one has asked for the first time: it waits by then. */
static _Atomic int asked_so_far;

static bool count_and_continue(void *context) {
    (void)context;
    asked_so_far++;
    return true;
}

static void *create_when_awaited(void *context) {
    (void)context;
    while (asked_so_far == 0) {
        sched_yield();
    }
    conduit_region *region;
    OK(conduit_region_create("late", 64, NULL, &region));
    OK(conduit_region_close(region));
    return NULL;
}

static void waiting(void) {
    bool exists = true;
    int asked = 0;
    OK(conduit_region_wait_until_exists("late", NULL, CONDUIT_FOREVER, three_times, &asked, &exists));
    CHECK(!exists && asked == 3);
    OK(conduit_region_wait_until_exists("late", NULL, 1000000, NULL, NULL, &exists));
    CHECK(!exists);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, create_when_awaited, NULL) == 0);
    OK(conduit_region_wait_until_exists("late", NULL, CONDUIT_FOREVER, count_and_continue, NULL, &exists));
    CHECK(exists);
    CHECK(pthread_join(thread, NULL) == 0);
    OK(conduit_region_unlink("late", NULL));
}

int main(void) {
    made_opened_kept();
    no_topics();
    waiting();
    return 0;
}
