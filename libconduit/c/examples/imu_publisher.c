/* Publishes inertial measurements, 100 per second, until it is interrupted.
 *
 *     cc imu_publisher.c -o imu_publisher $(pkg-config --cflags --libs conduit) -lm
 */
#define _DEFAULT_SOURCE
#include "imu.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PERIOD_NS 10000000L

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

static int fail(void) {
    fprintf(stderr, "imu_publisher: %s\n", conduit_last_error_message());
    return EXIT_FAILURE;
}

static Imu measure(double time_s) {
    Imu imu = {{0.1 * sin(time_s), 0.1 * cos(time_s), 0.01}, {0.2 * cos(time_s), 0.2 * sin(time_s), 9.81}};
    return imu;
}

int main(void) {
    signal(SIGINT, interrupt);
    signal(SIGTERM, interrupt);
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &imu_type;
    conduit_publisher *publisher;
    if (conduit_publisher_create(IMU_TOPIC, &options, &publisher) != CONDUIT_OK) {
        return fail();
    }

    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    size_t subscribers = 0;
    for (unsigned long i = 0; !interrupted; i++) {
        void *data;
        conduit_error error = conduit_publisher_loan(publisher, sizeof(Imu), &data);
        if (error == CONDUIT_OK) {
            *(Imu *)data = measure((double)i * 0.01);
            error = conduit_publisher_publish(publisher);
        }
        if (error != CONDUIT_OK) {
            fail(); /* Subscribers hold every slot: this measurement is lost. */
        }

        size_t now = 0;
        if (i % 10 == 0 && conduit_publisher_subscribers(publisher, &now) == CONDUIT_OK && now != subscribers) {
            printf("%zu subscribers\n", now);
            fflush(stdout);
            subscribers = now;
        }
        next.tv_nsec += PERIOD_NS;
        if (next.tv_nsec >= 1000000000L) {
            next.tv_nsec -= 1000000000L;
            next.tv_sec += 1;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    printf("published %llu\n", (unsigned long long)conduit_publisher_published(publisher));
    conduit_publisher_close(publisher);
    return EXIT_SUCCESS;
}
