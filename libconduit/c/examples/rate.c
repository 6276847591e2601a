/* Prints every half second how many inertial measurements have come, in one thread that waits for
 * messages and for a timer, until SIGTERM or Ctrl-C stops it.
 *
 *     cc rate.c -o rate $(pkg-config --cflags --libs conduit)
 */
#include "imu.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIOD_NS UINT64_C(500000000)
#define BATCH 64

static int fail(void) {
    fprintf(stderr, "rate: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

static void add(void *context, const conduit_lent_message *message) {
    const Imu *imu = message->data;
    *(double *)context += imu->gyro[2];
}

int main(void) {
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &imu_type;
    options.follow = true;
    conduit_subscriber *imu;
    conduit_stop *stop;
    conduit_wait_set *set;
    uint64_t imu_token, tick;
    if (conduit_subscriber_open(IMU_TOPIC, &options, &imu) != CONDUIT_OK ||
        conduit_stop_on_signals(NULL, 0, &stop) != CONDUIT_OK || conduit_wait_set_create(&set) != CONDUIT_OK ||
        conduit_wait_set_stop(set, stop) != CONDUIT_OK || conduit_wait_set_add(set, imu, &imu_token) != CONDUIT_OK ||
        conduit_wait_set_add_interval(set, PERIOD_NS, &tick) != CONDUIT_OK) {
        return fail();
    }

    double turned = 0;
    size_t messages = 0, count;
    conduit_event events[2];
    conduit_error error;
    while ((error = conduit_wait_set_wait(set, CONDUIT_FOREVER, events, 2, &count)) == CONDUIT_OK) {
        for (size_t i = 0; i < count; i++) {
            if (events[i].kind == CONDUIT_EVENT_READY && events[i].token == imu_token) {
                size_t received;
                error = conduit_subscriber_try_recv_batch(imu, BATCH, add, &turned, &received);
                messages += received;
                if (error != CONDUIT_OK && error != CONDUIT_NO_MESSAGE) {
                    fail(); /* It is received from again when it is ready again. */
                }
            } else if (events[i].kind == CONDUIT_EVENT_TIMER && events[i].token == tick) {
                printf("%zu measurements, sum %.3f, %llu periods missed\n", messages, turned,
                       (unsigned long long)events[i].missed);
                fflush(stdout);
                messages = 0;
            }
        }
    }
    int status = error == CONDUIT_ERROR_STOPPED ? EXIT_SUCCESS : fail();
    conduit_wait_set_close(set);
    conduit_stop_close(stop);
    conduit_subscriber_close(imu);
    return status;
}
