/* One integer in a raw region, counted up by one process and watched by another.
 *
 *     cc counter.c -o counter $(pkg-config --cflags --libs conduit)
 *     counter count
 *     counter watch
 *     counter unlink
 */
#define _DEFAULT_SOURCE
#include <conduit.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME "counter"
#define SIZE_BYTES 4096
#define PATIENCE_NS UINT64_C(10000000000)

static int fail(void) {
    fprintf(stderr, "counter: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static int count(void) {
    conduit_region *region;
    if (conduit_region_create(NAME, SIZE_BYTES, NULL, &region) != CONDUIT_OK) {
        return fail();
    }
    /* Other processes read it at any time, so it must be atomic. */
    atomic_int *counter = conduit_region_data(region);
    for (;;) {
        atomic_fetch_add(counter, 1);
        sleep_ms(10);
    }
}

/* Whether the process that created the region is alive. */
static bool is_alive(void) {
    conduit_listing *listing;
    bool alive = false;
    if (conduit_listing_open(NULL, &listing) == CONDUIT_OK) {
        for (size_t i = 0; i < conduit_listing_count(listing); i++) {
            const conduit_topic *topic = conduit_listing_topic(listing, i);
            alive |= strcmp(topic->name, NAME) == 0 && topic->state == CONDUIT_STATE_LIVE;
        }
        conduit_listing_close(listing);
    }
    return alive;
}

static int watch(void) {
    bool exists;
    conduit_region *region;
    if (conduit_region_wait_until_exists(NAME, NULL, PATIENCE_NS, NULL, NULL, &exists) != CONDUIT_OK ||
        conduit_region_open(NAME, NULL, &region) != CONDUIT_OK) {
        return fail();
    }
    const atomic_int *counter = conduit_region_data(region);
    int last = -1;
    for (int unchanged = 0; unchanged < 10 || is_alive(); unchanged++) {
        int value = atomic_load(counter);
        if (value != last) {
            printf("%d\n", value);
            fflush(stdout);
            last = value;
            unchanged = 0;
        }
        sleep_ms(20);
    }
    printf("no process counts any more; the last value is %d\n", last);
    conduit_region_close(region);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "count") == 0) {
        return count();
    }
    if (argc == 2 && strcmp(argv[1], "watch") == 0) {
        return watch();
    }
    if (argc == 2 && strcmp(argv[1], "unlink") == 0) {
        return conduit_region_unlink(NAME, NULL) == CONDUIT_OK ? EXIT_SUCCESS : fail();
    }
    fprintf(stderr, "usage: counter count|watch|unlink\n");
    return 2;
}
