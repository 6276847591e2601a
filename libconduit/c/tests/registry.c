/* A registry that answers and then disappears. The test plays it: it waits for "ready", removes it, and sends a line. */
#include "check.h"

#include <signal.h>
#include <stdint.h>

int main(void) {
    conduit_listing *listing;
    OK(conduit_registry_ping(NULL));
    OK(conduit_listing_open(NULL, &listing));
    CHECK(conduit_listing_is_from_registry(listing) && conduit_listing_count(listing) == 2);
    const conduit_topic *topic = conduit_listing_topic(listing, 0);
    CHECK(same(topic->name, "imu") && topic->state == CONDUIT_STATE_UNAUTHORISED && same(topic->reason, "rule 1"));
    CHECK(same(topic->type_name, "robot/Imu") && topic->publisher_pid == 4242 && topic->publisher_uid == 7);
    CHECK(same(topic->publisher_program, "driver") && topic->rate_hz > 99.5 && topic->bytes_per_second > 4799);
    CHECK(topic->last_message_age_ns == 5 && topic->published == 9 && topic->subscribers == 1);
    const conduit_subscriber_info *one = conduit_listing_subscriber(listing, 0, 0);
    CHECK(one->pid == 43 && one->uid == 8 && same(one->program, "planner") && one->received == 1 && one->lost == 2);
    CHECK(one->held == 3 && one->lag == 4 && one->is_asleep);
    const conduit_topic *raw = conduit_listing_topic(listing, 1);
    CHECK(raw->is_raw && raw->state == CONDUIT_STATE_KEPT && raw->publisher_program == NULL && raw->publisher_pid == 0);
    OK(conduit_listing_close(listing));

    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_region *region;
    OK(conduit_publisher_create("topic", NULL, &publisher));
    OK(conduit_subscriber_open("topic", NULL, &subscriber));
    OK(conduit_region_create("region", 1, NULL, &region));
    puts("ready");
    fflush(stdout);
    CHECK(getchar() == '\n');

    /* By default SIGPIPE kills a C program. */
    CHECK(signal(SIGPIPE, SIG_DFL) == SIG_DFL);
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    FAILS(conduit_subscriber_recv_timeout(subscriber, 700000000, &sample), CONDUIT_ERROR_TIMED_OUT, "topic");
    OK(conduit_publisher_send(publisher, "x", 2));
    OK(conduit_subscriber_recv(subscriber, &sample));
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_region_close(region));
    OK(conduit_publisher_close(publisher));
    FAILS(conduit_registry_ping(NULL), CONDUIT_ERROR_NO_REGISTRY, "start conduitd");
    OK(conduit_region_unlink("region", NULL));
    return 0;
}
