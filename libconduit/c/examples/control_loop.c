/* Acts a thousand times a second on the latest measurements, however often they come, until
 * SIGTERM or Ctrl-C stops it.
 *
 *     cc control_loop.c -o control_loop $(pkg-config --cflags --libs conduit)
 */
#include "imu.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIOD_NS UINT64_C(1000000)

static int fail(void) {
    fprintf(stderr, "control_loop: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

/* What a robot would do with it. */
static void actuate(double command) {
    static volatile double commanded;
    commanded = command;
    (void)commanded;
}

int main(void) {
    conduit_stop *stop;
    conduit_wait_set *set;
    uint64_t period;
    if (conduit_stop_on_signals(NULL, 0, &stop) != CONDUIT_OK || conduit_wait_set_create(&set) != CONDUIT_OK ||
        conduit_wait_set_stop(set, stop) != CONDUIT_OK ||
        conduit_wait_set_add_interval(set, PERIOD_NS, &period) != CONDUIT_OK) {
        return fail();
    }
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &imu_type;
    options.follow = true;
    conduit_subscriber *subscriber;
    if (conduit_subscriber_open(IMU_TOPIC, &options, &subscriber) != CONDUIT_OK) {
        return fail();
    }

    double command = 0;
    conduit_event event;
    size_t count;
    conduit_error error;
    /* Until the next period: the timer does not drift. */
    while ((error = conduit_wait_set_wait(set, CONDUIT_FOREVER, &event, 1, &count)) == CONDUIT_OK) {
        Imu imu;
        conduit_copied copied;
        error = conduit_subscriber_latest_copy(subscriber, &imu, sizeof imu, &copied);
        if (error == CONDUIT_OK) {
            command = -imu.gyro[0];
        } else if (error != CONDUIT_NO_MESSAGE) {
            fail(); /* The last command stays. */
        }
        actuate(command);
    }
    if (error != CONDUIT_ERROR_STOPPED) {
        return fail();
    }
    printf("commanded %.3f, used %llu measurements, skipped %llu\n", command,
           (unsigned long long)conduit_subscriber_received(subscriber),
           (unsigned long long)conduit_subscriber_skipped(subscriber));
    conduit_subscriber_close(subscriber);
    conduit_wait_set_close(set);
    conduit_stop_close(stop);
    return EXIT_SUCCESS;
}
