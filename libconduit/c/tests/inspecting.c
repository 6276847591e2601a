/* Looks at regions from outside: counters, shapes and the headers of messages. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    double gyro[3];
    uint32_t status;
    float rest[3];
} Imu;

static const conduit_type imu_type = {"test/Imu", CONDUIT_VALUE, _Alignof(Imu), sizeof(Imu)};
static const char *const imu_shape =
    "{\"type\": {\"struct\": {\"size\": 40, \"fields\": ["
    "{\"name\": \"gyro\", \"offset\": 0, \"type\": \"f64\", \"count\": 3},"
    "{\"name\": \"status\", \"offset\": 24, \"type\": \"u32\"},"
    "{\"name\": \"rest\", \"offset\": 28, \"type\": {\"struct\": {\"size\": 4, \"fields\": ["
    "{\"name\": \"x\", \"offset\": 0, \"type\": \"f32\"}]}}, \"count\": 3}]}}}";

static conduit_publisher *create_imu(void) {
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &imu_type;
    options.shape = imu_shape;
    options.slots = 8;
    options.mode = 0640;
    conduit_publisher *publisher;
    OK(conduit_publisher_create("imu", &options, &publisher));
    return publisher;
}

static void shapes(const conduit_inspection *inspection) {
    const conduit_shape *shape;
    OK(conduit_inspection_shape(inspection, &shape));
    CHECK(shape->element == CONDUIT_ELEMENT_STRUCT && !shape->is_array && shape->count == 1);
    CHECK(shape->size == 40 && shape->element_size == 40 && shape->field_count == 3);
    CHECK(same(shape->text, "{gyro f64[3], status u32, rest {x f32}[3]}"));
    const conduit_field *gyro = shape->fields[0], *status = shape->fields[1], *rest = shape->fields[2];
    CHECK(same(gyro->name, "gyro") && gyro->offset == 0 && gyro->shape->element == CONDUIT_ELEMENT_F64);
    CHECK(gyro->shape->is_array && gyro->shape->count == 3 && gyro->shape->element_size == 8 && gyro->shape->size == 24);
    CHECK(gyro->shape->field_count == 0 && gyro->shape->fields == NULL);
    CHECK(same(status->name, "status") && status->offset == 24 && status->shape->element == CONDUIT_ELEMENT_U32);
    CHECK(same(rest->name, "rest") && rest->shape->field_count == 1 && rest->shape->count == 3 && rest->shape->size == 12);
    CHECK(same(rest->shape->fields[0]->name, "x") && rest->shape->fields[0]->shape->element == CONDUIT_ELEMENT_F32);
}

static void topics(void) {
    conduit_publisher *publisher = create_imu();
    conduit_subscriber_options reading = CONDUIT_SUBSCRIBER_OPTIONS_INIT;
    reading.message_type = &imu_type;
    conduit_subscriber *subscriber;
    conduit_inspection *inspection;
    conduit_type type;
    conduit_access access;
    const conduit_topic *topic;
    OK(conduit_subscriber_open("imu", &reading, &subscriber));
    OK(conduit_inspection_open("imu", NULL, &inspection));
    OK(conduit_inspection_type(inspection, &type));
    CHECK(same(type.name, "test/Imu") && type.kind == CONDUIT_VALUE && type.size == 40 && type.align == 8);
    shapes(inspection);
    OK(conduit_inspection_access(inspection, &access));
    CHECK(access.uid == getuid() && access.mode == 0640);

    Imu imu = {{1, 2, 3}, 4, {0}};
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->published == 0 && topic->state == CONDUIT_STATE_LIVE && topic->subscribers == 1 && !topic->is_raw);
    const conduit_subscriber_info *one = topic->subscriber_list[0];
    CHECK(one->pid == (uint32_t)getpid() && one->received == 0 && one->lag == 0);
    for (int i = 0; i < 12; i++) {
        OK(conduit_publisher_send(publisher, &imu, sizeof imu));
    }
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->published == 12 && topic->subscriber_list[0]->lag == 12 && same(topic->name, "imu"));

    /* The headers of what is kept, in two parts, and then what is new. */
    conduit_message_header headers[16];
    uint64_t position = 0;
    size_t count;
    OK(conduit_inspection_messages(inspection, &position, headers, 3, &count));
    CHECK(count == 3 && headers[0].sequence >= 4 && headers[0].size == 40 && headers[0].stamp_ns != 0);
    CHECK(position == headers[2].sequence + 1);
    const uint64_t first = headers[0].sequence;
    OK(conduit_inspection_messages(inspection, &position, headers, 16, &count));
    CHECK(count == 12 - first - 3 && headers[0].sequence == first + 3 && position == 12);
    OK(conduit_inspection_messages(inspection, &position, headers, 16, &count));
    CHECK(count == 0 && position == 12);
    OK(conduit_publisher_send(publisher, &imu, sizeof imu));
    OK(conduit_inspection_messages(inspection, &position, headers, 16, &count));
    CHECK(count == 1 && headers[0].sequence == 12 && position == 13);
    position = UINT64_MAX;
    OK(conduit_inspection_messages(inspection, &position, headers, 16, &count));
    CHECK(count == 0 && position == 13);
    position = 0;
    OK(conduit_inspection_messages(inspection, &position, NULL, 0, &count));
    CHECK(count == 0);

    /* A region that has lost its name can be looked at still. */
    OK(conduit_publisher_close(publisher));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->state == CONDUIT_STATE_CLOSED && topic->published == 13 && topic->subscribers == 0);
    OK(conduit_inspection_close(inspection));
}

static void others(void) {
    conduit_region *region;
    conduit_publisher *publisher;
    conduit_inspection *inspection;
    conduit_type type;
    const conduit_topic *topic;
    const conduit_shape *shape;
    conduit_message_header header;
    uint64_t position = 0;
    size_t count = 7;
    OK(conduit_region_create("raw", 4096, NULL, &region));
    OK(conduit_inspection_open("raw", NULL, &inspection));
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->is_raw && topic->size == 4096 && topic->subscribers == 0 && topic->type_name == NULL);
    OK(conduit_inspection_shape(inspection, &shape));
    CHECK(shape == NULL);
    FAILS(conduit_inspection_type(inspection, &type), CONDUIT_ERROR_WRONG_KIND, "raw region");
    CHECK(type.name == NULL);
    FAILS(conduit_inspection_messages(inspection, &position, &header, 1, &count), CONDUIT_ERROR_WRONG_KIND, "raw region");
    CHECK(count == 0);
    OK(conduit_inspection_close(inspection));
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("raw", NULL));
    /* Bytes are bytes; a type without a shape has none. */
    OK(conduit_publisher_create("bytes", NULL, &publisher));
    OK(conduit_inspection_open("bytes", NULL, &inspection));
    OK(conduit_inspection_shape(inspection, &shape));
    CHECK(shape->element == CONDUIT_ELEMENT_U8 && shape->size == 1 && same(shape->text, "u8"));
    OK(conduit_inspection_close(inspection));
    OK(conduit_publisher_close(publisher));
}

static void owner_killed(void) {
    int ends[2], status;
    char ready;
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        create_imu();
        CHECK(write(ends[1], "x", 1) == 1);
        pause();
    }
    CHECK(read(ends[0], &ready, 1) == 1);
    conduit_inspection *inspection;
    const conduit_topic *topic;
    OK(conduit_inspection_open("imu", NULL, &inspection));
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->state == CONDUIT_STATE_LIVE && topic->publisher_pid == (uint32_t)child);
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    OK(conduit_inspection_describe(inspection, &topic));
    CHECK(topic->state == CONDUIT_STATE_ORPHANED);
    OK(conduit_inspection_close(inspection));
    OK(conduit_publisher_close(create_imu()));
}

static void misuse(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT, handle = CONDUIT_ERROR_INVALID_HANDLE;
    conduit_publisher *publisher;
    conduit_inspection *inspection;
    const conduit_topic *topic = NULL;
    const conduit_shape *shape;
    conduit_type type;
    conduit_access access;
    conduit_message_header header;
    uint64_t position = 0;
    size_t count;
    conduit_publisher_options options = CONDUIT_PUBLISHER_OPTIONS_INIT;
    options.message_type = &imu_type;
    options.shape = "{";
    FAILS(conduit_publisher_create("shape", &options, &publisher), invalid, "the shape is not valid");
    options.shape = "{\"type\": \"f64\"}";
    FAILS(conduit_publisher_create("shape", &options, &publisher), invalid, "the shape has 8 bytes, the message type 40");
    options.shape = "{\"type\": {\"struct\": {\"size\": 40, \"fields\": [{\"name\": \"x\", \"offset\": 39, \"type\": \"f64\"}]}}}";
    FAILS(conduit_publisher_create("shape", &options, &publisher), invalid, "contradicts itself");

    FAILS(conduit_inspection_open(NULL, NULL, &inspection), invalid, "`name` is NULL");
    FAILS(conduit_inspection_open("a b", NULL, &inspection), CONDUIT_ERROR_NAME, "byte 1");
    FAILS(conduit_inspection_open("nothing", NULL, &inspection), CONDUIT_ERROR_NOT_FOUND, "does not exist");
    CHECK(inspection == NULL);
    publisher = create_imu();
    FAILS(conduit_inspection_open("imu", NULL, NULL), invalid, "`inspection` is NULL");
    FAILS(conduit_inspection_describe(NULL, &topic), handle, "inspection is NULL");
    FAILS(conduit_inspection_type(NULL, &type), handle, "inspection is NULL");
    FAILS(conduit_inspection_shape(NULL, &shape), handle, "inspection is NULL");
    FAILS(conduit_inspection_messages(NULL, &position, &header, 1, &count), handle, "inspection is NULL");
    FAILS(conduit_inspection_access(NULL, &access), handle, "inspection is NULL");
    OK(conduit_inspection_open("imu", NULL, &inspection));
    FAILS(conduit_inspection_describe(inspection, NULL), invalid, "`topic` is NULL");
    FAILS(conduit_inspection_type(inspection, NULL), invalid, "`message_type` is NULL");
    FAILS(conduit_inspection_shape(inspection, NULL), invalid, "`shape` is NULL");
    FAILS(conduit_inspection_messages(inspection, NULL, &header, 1, &count), invalid, "`position` is NULL");
    FAILS(conduit_inspection_messages(inspection, &position, NULL, 1, &count), invalid, "`headers` is NULL");
    FAILS(conduit_inspection_messages(inspection, &position, &header, 1, NULL), invalid, "`count` is NULL");
    FAILS(conduit_inspection_access(inspection, NULL), invalid, "`access` is NULL");
    FAILS(conduit_inspection_close((conduit_inspection *)publisher), handle, "not the handle of an inspection");
    pid_t child = fork();
    if (child == 0) {
        FAILS(conduit_inspection_describe(inspection, &topic), CONDUIT_ERROR_FORKED, "forked");
        OK(conduit_inspection_close(inspection));
        OK(conduit_publisher_close(publisher));
        _exit(0);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    OK(conduit_inspection_close(inspection));
    FAILS(conduit_inspection_close(inspection), handle, "it was closed");
    OK(conduit_inspection_close(NULL));
    OK(conduit_publisher_close(publisher));
}

static void patterns(void) {
    const conduit_error invalid = CONDUIT_ERROR_INVALID_ARGUMENT;
    bool matches = true;
    OK(conduit_pattern_matches("camera/*", "lidar", &matches));
    CHECK(!matches);
    OK(conduit_pattern_matches("camera/*", "camera/front", &matches));
    CHECK(matches);
    OK(conduit_pattern_matches("camera/*", "camera/front/raw", &matches));
    CHECK(!matches);
    OK(conduit_pattern_matches("**/raw", "camera/front/raw", &matches));
    CHECK(matches);
    FAILS(conduit_pattern_matches("camera//raw", "a", &matches), invalid, "byte 7");
    CHECK(!matches);
    FAILS(conduit_pattern_matches(NULL, "a", &matches), invalid, "`pattern` is NULL");
    FAILS(conduit_pattern_matches("a", NULL, &matches), invalid, "`name` is NULL");
    FAILS(conduit_pattern_matches("a", "a b", &matches), CONDUIT_ERROR_NAME, "byte 1");
    FAILS(conduit_pattern_matches("a", "a", NULL), invalid, "`matches` is NULL");
}

int main(void) {
    topics();
    others();
    owner_killed();
    misuse();
    patterns();
    return 0;
}
