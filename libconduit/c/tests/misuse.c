/* Each kind of misuse is an error that says what is wrong, and changes nothing else. */
#include "check.h"

#include <errno.h>
#include <stdint.h>

static conduit_publisher *publisher;
static conduit_subscriber *subscriber;
static conduit_region *region;
static conduit_listing *listing;

static void null_arguments(void) {
    bool exists = true;
    size_t count = 7;
    void *data = &count;
    conduit_type type;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;

    FAILS(conduit_region_create(NULL, 1, NULL, &region), invalid, "`name` is NULL");
    CHECK(region == NULL);
    FAILS(conduit_region_create("a", 1, NULL, NULL), invalid, "`region` is NULL");
    FAILS(conduit_region_open(NULL, NULL, &region), invalid, "`name` is NULL");
    FAILS(conduit_region_open("a", NULL, NULL), invalid, "`region` is NULL");
    FAILS(conduit_region_exists(NULL, NULL, &exists), invalid, "`name` is NULL");
    CHECK(!exists);
    FAILS(conduit_region_exists("a", NULL, NULL), invalid, "`exists` is NULL");
    FAILS(conduit_region_wait_until_exists(NULL, NULL, 0, NULL, NULL, &exists), invalid, "`name` is NULL");
    FAILS(conduit_region_wait_until_exists("a", NULL, 0, NULL, NULL, NULL), invalid, "`exists` is NULL");
    FAILS(conduit_region_unlink(NULL, NULL), invalid, "`name` is NULL");
    SAYS(conduit_region_data(NULL), NULL, "region is NULL");
    SAYS(conduit_region_size(NULL), 0, "region is NULL");
    SAYS(conduit_region_name(NULL), NULL, "region is NULL");
    OK(conduit_region_close(NULL));

    FAILS(conduit_publisher_create(NULL, NULL, &publisher), invalid, "`name` is NULL");
    FAILS(conduit_publisher_create("a", NULL, NULL), invalid, "`publisher` is NULL");
    FAILS(conduit_publisher_send(NULL, "x", 1), handle, "publisher is NULL");
    FAILS(conduit_publisher_loan(NULL, 1, &data), handle, "publisher is NULL");
    CHECK(data == NULL);
    FAILS(conduit_publisher_truncate(NULL, 1), handle, "publisher is NULL");
    FAILS(conduit_publisher_publish(NULL), handle, "publisher is NULL");
    FAILS(conduit_publisher_discard(NULL), handle, "publisher is NULL");
    SAYS(conduit_publisher_published(NULL), 0, "publisher is NULL");
    SAYS(conduit_publisher_capacity(NULL), 0, "publisher is NULL");
    SAYS(conduit_publisher_slots(NULL), 0, "publisher is NULL");
    SAYS(conduit_publisher_topic(NULL), NULL, "publisher is NULL");
    FAILS(conduit_publisher_subscribers(NULL, &count), handle, "publisher is NULL");
    CHECK(count == 0);
    OK(conduit_publisher_close(NULL));

    FAILS(conduit_subscriber_open(NULL, NULL, &subscriber), invalid, "`name` is NULL");
    FAILS(conduit_subscriber_open("a", NULL, NULL), invalid, "`subscriber` is NULL");
    FAILS(conduit_subscriber_recv(NULL, &sample), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_recv_timeout(NULL, 0, &sample), handle, "subscriber is NULL");
    FAILS(conduit_subscriber_try_recv(NULL, &sample), handle, "subscriber is NULL");
    SAYS(conduit_subscriber_received(NULL), 0, "subscriber is NULL");
    SAYS(conduit_subscriber_lost(NULL), 0, "subscriber is NULL");
    SAYS(conduit_subscriber_is_zero_copy(NULL), false, "subscriber is NULL");
    SAYS(conduit_subscriber_topic(NULL), NULL, "subscriber is NULL");
    FAILS(conduit_subscriber_type(NULL, &type), handle, "subscriber is NULL");
    CHECK(type.name == NULL && type.size == 0);
    OK(conduit_subscriber_close(NULL));
    OK(conduit_sample_release(NULL));

    FAILS(conduit_listing_open(NULL, NULL), invalid, "`listing` is NULL");
    SAYS(conduit_listing_count(NULL), 0, "listing is NULL");
    SAYS(conduit_listing_is_from_registry(NULL), false, "listing is NULL");
    SAYS(conduit_listing_topic(NULL, 0), NULL, "listing is NULL");
    SAYS(conduit_listing_subscriber(NULL, 0, 0), NULL, "listing is NULL");
    OK(conduit_listing_close(NULL));

    OK(conduit_publisher_create("a", NULL, &publisher));
    OK(conduit_subscriber_open("a", NULL, &subscriber));
    FAILS(conduit_publisher_send(publisher, NULL, 1), invalid, "`data` is NULL");
    FAILS(conduit_publisher_send(publisher, "x", SIZE_MAX), invalid, "bytes");
    FAILS(conduit_publisher_loan(publisher, 1, NULL), invalid, "`data` is NULL");
    FAILS(conduit_publisher_publish(publisher), CONDUIT_ERROR_NO_LOAN, "no loan");
    FAILS(conduit_publisher_subscribers(publisher, NULL), invalid, "`count` is NULL");
    FAILS(conduit_subscriber_try_recv(subscriber, NULL), invalid, "`sample` is NULL");
    FAILS(conduit_subscriber_type(subscriber, NULL), invalid, "`message_type` is NULL");
    OK(conduit_publisher_send(publisher, NULL, 0));
    OK(conduit_subscriber_try_recv(subscriber, &sample));
    CHECK(sample.size == 0 && sample.sequence == 0 && sample.data != NULL);
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static void wrong_handles(void) {
    OK(conduit_publisher_create("wrong", NULL, &publisher));
    OK(conduit_subscriber_open("wrong", NULL, &subscriber));
    OK(conduit_region_create("raw", 64, NULL, &region));
    OK(conduit_listing_open(NULL, &listing));
    const conduit_error code = CONDUIT_ERROR_INVALID_HANDLE;
    void *handles[] = {publisher, subscriber, region, listing};
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    for (size_t i = 0; i < 4; i++) {
        if (i != 0) {
            FAILS(conduit_publisher_send(handles[i], "x", 1), code, "not the handle of a publisher");
            FAILS(conduit_publisher_close(handles[i]), code, "not the handle of a publisher");
        }
        if (i != 1) {
            FAILS(conduit_subscriber_try_recv(handles[i], &sample), code, "not the handle of a subscriber");
            FAILS(conduit_subscriber_close(handles[i]), code, "not the handle of a subscriber");
        }
        if (i != 2) {
            SAYS(conduit_region_data(handles[i]), NULL, "not the handle of a region");
            FAILS(conduit_region_close(handles[i]), code, "not the handle of a region");
        }
        if (i != 3) {
            SAYS(conduit_listing_count(handles[i]), 0, "not the handle of a listing");
            FAILS(conduit_listing_close(handles[i]), code, "not the handle of a listing");
        }
    }
    uint64_t words[2] = {0, 0};
    FAILS(conduit_publisher_publish((conduit_publisher *)words), code, "not the handle of a publisher");
    FAILS(conduit_publisher_publish((conduit_publisher *)((char *)words + 1)), code, "misaligned");
    /* All are as they were. */
    OK(conduit_publisher_send(publisher, "x", 1));
    OK(conduit_subscriber_try_recv(subscriber, &sample));
    OK(conduit_sample_release(&sample));
    CHECK(conduit_region_size(region) == 64 && conduit_listing_count(listing) == 2);
}

static void closed_handles(void) {
    const conduit_error code = CONDUIT_ERROR_INVALID_HANDLE;
    void *data;
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("raw", NULL));
    OK(conduit_listing_close(listing));
    /* Later handles of the kind do not take their places at once. */
    conduit_publisher *others[60];
    for (size_t i = 0; i < 60; i++) {
        char name[32];
        snprintf(name, sizeof name, "other-%zu", i);
        OK(conduit_publisher_create(name, NULL, &others[i]));
        CHECK(others[i] != publisher);
    }
    FAILS(conduit_publisher_close(publisher), code, "it was closed");
    FAILS(conduit_publisher_send(publisher, "x", 1), code, "it was closed");
    FAILS(conduit_publisher_loan(publisher, 1, &data), code, "it was closed");
    SAYS(conduit_publisher_topic(publisher), NULL, "it was closed");
    FAILS(conduit_subscriber_close(subscriber), code, "it was closed");
    FAILS(conduit_subscriber_recv(subscriber, &sample), code, "it was closed");
    FAILS(conduit_region_close(region), code, "it was closed");
    SAYS(conduit_region_data(region), NULL, "it was closed");
    FAILS(conduit_listing_close(listing), code, "it was closed");
    SAYS(conduit_listing_topic(listing, 0), NULL, "it was closed");
    for (size_t i = 0; i < 60; i++) {
        OK(conduit_publisher_close(others[i]));
    }
    /* The memory of closed handles is used again: this does not grow. */
    for (int i = 0; i < 500; i++) {
        OK(conduit_publisher_create("again", NULL, &publisher));
        OK(conduit_publisher_close(publisher));
    }
    FAILS(conduit_publisher_close(publisher), code, "it was closed");
}

static void options(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT;
    conduit_publisher_options with = {0};
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "CONDUIT_PUBLISHER_OPTIONS_INIT");
    with = (conduit_publisher_options)CONDUIT_PUBLISHER_OPTIONS_INIT;
    with.slots = 1;
    FAILS(conduit_publisher_create("a", &with, &publisher), CONDUIT_ERROR_SLOTS, "cannot have 1 slots");
    with.slots = 4;
    with.slot_size = 100;
    FAILS(conduit_publisher_create("a", &with, &publisher), CONDUIT_ERROR_SLOTS, "100");
    with.capacity = 100;
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "exclude each other");
    /* A size that no structure of options has was never initialised. */
    memset(&with, 0x55, sizeof with);
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "CONDUIT_PUBLISHER_OPTIONS_INIT");

    /* A program that was compiled with a later version of the header. */
    struct {
        conduit_publisher_options known;
        uint64_t later;
    } later = {.known = CONDUIT_PUBLISHER_OPTIONS_INIT};
    later.known.struct_size = sizeof later;
    later.known.slots = 8;
    OK(conduit_publisher_create("a", &later.known, &publisher));
    CHECK(conduit_publisher_slots(publisher) == 8 && conduit_publisher_capacity(publisher) == 3904);
    OK(conduit_publisher_close(publisher));
    later.later = 1;
    FAILS(conduit_publisher_create("a", &later.known, &publisher), invalid, "use members");
    /* And with an earlier one. */
    later.known.struct_size = offsetof(conduit_publisher_options, slots);
    OK(conduit_publisher_create("a", &later.known, &publisher));
    CHECK(conduit_publisher_slots(publisher) == 16);
    OK(conduit_publisher_close(publisher));

    conduit_domain domain = {0};
    FAILS(conduit_registry_ping(&domain), invalid, "CONDUIT_DOMAIN_INIT");
    domain = (conduit_domain)CONDUIT_DOMAIN_INIT;
    domain.shm_dir = "";
    FAILS(conduit_registry_ping(&domain), invalid, "\"\"");
    domain.shm_dir = "/nowhere";
    FAILS(conduit_region_create("a", 1, &(conduit_region_options){.struct_size = sizeof(conduit_region_options), .domain = &domain}, &region),
          CONDUIT_ERROR_IO, "/nowhere");
    CHECK(conduit_last_error_errno() == ENOENT);

    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    memset(&reading.start, 7, sizeof reading.start);
    FAILS(conduit_subscriber_open("a", &reading, &subscriber), invalid, "not a start");

    conduit_type type = {NULL, CONDUIT_VALUE, 8, 8};
    with = (conduit_publisher_options)CONDUIT_PUBLISHER_OPTIONS_INIT;
    with.message_type = &type;
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "name of the message type is NULL");
    type.name = "a\nb";
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "1 to 64 bytes");
    type.name = "\xff";
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "UTF-8");
    type.name = "a";
    type.size = 12;
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "12");
    type.align = 3;
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "power of two");
    memset(&type.kind, 7, sizeof type.kind);
    FAILS(conduit_publisher_create("a", &with, &publisher), invalid, "not a kind");
    type = (conduit_type){"a", CONDUIT_VALUE, 8, 8000};
    with.slot_size = 4096;
    FAILS(conduit_publisher_create("a", &with, &publisher), CONDUIT_ERROR_MESSAGE_TOO_LARGE, "8000");
}

/* A pointer that is not aligned, as into a packed structure or a buffer of bytes. */
static void misaligned(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT;
    static _Alignas(64) char bytes[256];
    char *odd = bytes + 1;
    FAILS(conduit_publisher_create("odd", NULL, (void *)odd), invalid, "`publisher` is not aligned to 8 bytes");
    FAILS(conduit_region_open("odd", NULL, (void *)odd), invalid, "`region` is not aligned to 8 bytes");
    FAILS(conduit_listing_open(NULL, (void *)odd), invalid, "`listing` is not aligned to 8 bytes");
    CHECK(bytes[1] == 0 && bytes[8] == 0);

    /* Arguments that are only read need no alignment. */
    conduit_publisher_options with = CONDUIT_PUBLISHER_OPTIONS_INIT;
    conduit_type type = {"odd", CONDUIT_SLICE, 1, 1};
    conduit_domain domain = CONDUIT_DOMAIN_INIT;
    char odd_type[1 + sizeof type], odd_domain[1 + sizeof domain], odd_options[1 + sizeof with];
    memcpy(odd_type + 1, &type, sizeof type);
    memcpy(odd_domain + 1, &domain, sizeof domain);
    with.message_type = (void *)(odd_type + 1);
    with.domain = (void *)(odd_domain + 1);
    memcpy(odd_options + 1, &with, sizeof with);
    OK(conduit_publisher_create("odd", (void *)(odd_options + 1), &publisher));
    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    reading.message_type = &type;
    OK(conduit_subscriber_open("odd", &reading, &subscriber));

    FAILS(conduit_publisher_subscribers(publisher, (void *)odd), invalid, "`count` is not aligned to 8 bytes");
    FAILS(conduit_publisher_loan(publisher, 1, (void *)odd), invalid, "`data` is not aligned to 8 bytes");
    FAILS(conduit_subscriber_try_recv(subscriber, (void *)odd), invalid, "`sample` is not aligned to 8 bytes");
    FAILS(conduit_subscriber_recv(subscriber, (void *)odd), invalid, "`sample` is not aligned to 8 bytes");
    FAILS(conduit_subscriber_type(subscriber, (void *)odd), invalid, "`message_type` is not aligned to 8 bytes");
    FAILS(conduit_sample_release((void *)odd), invalid, "`sample` is not aligned to 8 bytes");
    FAILS(conduit_subscriber_close((void *)odd), CONDUIT_ERROR_INVALID_HANDLE, "misaligned");
    /* Nothing is published or lost by it. */
    OK(conduit_publisher_send(publisher, "x", 1));
    CHECK(conduit_publisher_published(publisher) == 1 && conduit_subscriber_received(subscriber) == 0);
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
}

static void names(void) {
    const conduit_error code = CONDUIT_ERROR_NAME;
    FAILS(conduit_region_create("", 1, NULL, &region), code, "empty");
    FAILS(conduit_publisher_create("a//b", NULL, &publisher), code, "byte 2");
    FAILS(conduit_subscriber_open("a b", NULL, &subscriber), code, "byte 1");
    FAILS(conduit_region_unlink("\xff\xfe", NULL), code, "byte 0");
    FAILS(conduit_region_create("size", 0, NULL, &region), CONDUIT_ERROR_SIZE, "0 bytes");
}

static void messages(void) {
    /* No failure yet in this thread; success changes nothing. */
    CHECK(same(conduit_last_error_message(), "") && conduit_last_error_errno() == 0);
    FAILS(conduit_region_unlink("nothing", NULL), CONDUIT_ERROR_NOT_FOUND, "does not exist");
    const char *message = conduit_last_error_message();
    bool exists;
    OK(conduit_region_exists("nothing", NULL, &exists));
    CHECK(conduit_last_error_message() == message && strstr(message, "does not exist"));

    CHECK(same(conduit_error_name(CONDUIT_ERROR_TYPE_MISMATCH), "CONDUIT_ERROR_TYPE_MISMATCH"));
    CHECK(same(conduit_error_string(CONDUIT_OK), "success"));
    conduit_error unknown;
    memset(&unknown, 0x55, sizeof unknown);
    CHECK(same(conduit_error_name(unknown), "CONDUIT_ERROR_UNKNOWN"));
    CHECK(same(conduit_error_string(unknown), "unknown error"));
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", CONDUIT_VERSION_MAJOR, CONDUIT_VERSION_MINOR, CONDUIT_VERSION_PATCH);
    CHECK(same(conduit_version(), version));
}

int main(void) {
    messages();
    null_arguments();
    wrong_handles();
    closed_handles();
    options();
    misaligned();
    names();
    return 0;
}
