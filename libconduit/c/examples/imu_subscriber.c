/* Prints inertial measurements as they come, until their publisher ends.
 *
 *     cc imu_subscriber.c -o imu_subscriber $(pkg-config --cflags --libs conduit)
 */
#include "imu.h"

#include <stdio.h>
#include <stdlib.h>

#define PATIENCE_NS UINT64_C(10000000000)

static int fail(void) {
    fprintf(stderr, "imu_subscriber: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

int main(void) {
    bool exists;
    if (conduit_region_wait_until_exists(IMU_TOPIC, NULL, PATIENCE_NS, NULL, NULL, &exists) != CONDUIT_OK) {
        return fail();
    }
    conduit_subscriber_options options = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    options.message_type = &imu_type;
    conduit_subscriber *subscriber;
    if (conduit_subscriber_open(IMU_TOPIC, &options, &subscriber) != CONDUIT_OK) {
        return fail();
    }

    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    conduit_error error;
    while ((error = conduit_subscriber_recv(subscriber, &sample)) == CONDUIT_OK) {
        const Imu *imu = sample.data;
        printf("#%-6llu lost %llu  gyro %6.3f %6.3f %6.3f rad/s  acceleration %6.3f %6.3f %6.3f m/s^2\n",
               (unsigned long long)sample.sequence, (unsigned long long)sample.lost, imu->gyro[0], imu->gyro[1],
               imu->gyro[2], imu->acceleration[0], imu->acceleration[1], imu->acceleration[2]);
        fflush(stdout);
        conduit_sample_release(&sample);
    }
    printf("received %llu, lost %llu\n", (unsigned long long)conduit_subscriber_received(subscriber),
           (unsigned long long)conduit_subscriber_lost(subscriber));
    /* That the publisher closed the topic is no error; that it died is one. */
    int status = error == CONDUIT_ERROR_PUBLISHER_CLOSED ? EXIT_SUCCESS : fail();
    conduit_subscriber_close(subscriber);
    return status;
}
