/* Lists topics and regions without a registry, from the regions themselves. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <stdint.h>
#include <unistd.h>

int main(void) {
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_region *region;
    conduit_listing *listing;
    conduit_domain nobody = CONDUIT_DOMAIN_INIT;
    nobody.socket = "";
    FAILS(conduit_registry_ping(NULL), CONDUIT_ERROR_NO_REGISTRY, "start conduitd");
    FAILS(conduit_registry_ping(&nobody), CONDUIT_ERROR_NO_REGISTRY, "no registry");
    OK(conduit_listing_open(NULL, &listing));
    CHECK(conduit_listing_count(listing) == 0 && !conduit_listing_is_from_registry(listing));
    SAYS(conduit_listing_topic(listing, 0), NULL, "there are 0 topics");
    OK(conduit_listing_close(listing));

    conduit_type type = {"test/Pair", CONDUIT_SLICE, 8, 16};
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.domain = &nobody;
    options.message_type = &type;
    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    reading.domain = &nobody;
    reading.message_type = &type;
    options.deadline_ns = 1;
    OK(conduit_publisher_create("b/topic", &options, &publisher));
    OK(conduit_subscriber_open("b/topic", &reading, &subscriber));
    OK(conduit_region_create("a", 4096, NULL, &region));
    OK(conduit_publisher_send(publisher, (uint64_t[4]){1, 2, 3, 4}, 32));

    OK(conduit_listing_open(&nobody, &listing));
    CHECK(conduit_listing_count(listing) == 2);
    const conduit_topic *raw = conduit_listing_topic(listing, 0);
    CHECK(same(raw->name, "a") && raw->is_raw && raw->type_name == NULL && raw->size == 4096 && raw->slots == 0);
    CHECK(raw->state == CONDUIT_STATE_LIVE && raw->subscribers == 0 && raw->rate_hz < 0 && raw->reason == NULL);
    CHECK(raw->last_message_age_ns == UINT64_MAX && raw->deadline_ns == UINT64_MAX && !raw->is_overdue);
    const conduit_topic *topic = conduit_listing_topic(listing, 1);
    CHECK(same(topic->name, "b/topic") && !topic->is_raw && same(topic->type_name, "[test/Pair]"));
    CHECK(strstr(topic->path, "/conduit_b.topic") && topic->slots == 16 && topic->slot_size == 4096);
    CHECK(topic->size == 69632 && topic->published == 1 && topic->state == CONDUIT_STATE_LIVE);
    CHECK(topic->publisher_pid == (uint32_t)getpid() && topic->publisher_uid == getuid());
    CHECK(strlen(topic->publisher_program) > 0);
    CHECK(topic->last_message_age_ns < 60000000000 && topic->subscribers == 1);
    CHECK(topic->deadline_ns == 1 && topic->is_overdue);
    const conduit_subscriber_info *one = conduit_listing_subscriber(listing, 1, 0);
    CHECK(one->pid == (uint32_t)getpid() && one->received == 0 && one->lost == 0 && one->lag == 1 && one->held == 0);
    CHECK(!one->is_asleep && same(one->program, topic->publisher_program));
    SAYS(conduit_listing_topic(listing, 2), NULL, "there are 2 topics");
    SAYS(conduit_listing_subscriber(listing, 1, 1), NULL, "there are 1 subscribers");
    SAYS(conduit_listing_subscriber(listing, 0, 0), NULL, "there are 0 subscribers");
    SAYS(conduit_listing_subscriber(listing, SIZE_MAX, 0), NULL, "there are 2 topics");
    OK(conduit_region_close(region));
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
    /* A listing does not change. */
    CHECK(same(topic->name, "b/topic") && one->lag == 1);
    OK(conduit_listing_close(listing));
    OK(conduit_region_unlink("a", NULL));
    return 0;
}
