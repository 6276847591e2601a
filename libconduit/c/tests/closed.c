/* Started with descriptors 0 to 2 closed, as some service managers do, and printing all the same:
   what it prints must not reach a region or the registry. It can only tell by its exit code. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* As text and at once, so that it would be written where the descriptor's offset is: at the start. */
static void print(void) {
    char text[4096];
    memset(text, 'x', sizeof text);
    for (int number = 0; number <= 2; number++) {
        errno = 0;
        CHECK(write(number, text, sizeof text) == -1 && errno == EBADF);
    }
}

/* No file that the library keeps open can be written, whatever its number. */
static void only_sockets_are_writable(void) {
    for (int number = 3; number < 256; number++) {
        struct stat status;
        if (fstat(number, &status) == 0 && S_ISREG(status.st_mode)) {
            CHECK((fcntl(number, F_GETFL) & O_ACCMODE) == O_RDONLY);
        }
    }
}

int main(void) {
    print();
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    conduit_region *region;
    OK(conduit_publisher_create("scan", NULL, &publisher));
    print();
    OK(conduit_subscriber_open("scan", NULL, &subscriber));
    CHECK(conduit_subscriber_is_zero_copy(subscriber));
    OK(conduit_region_create("map", 4096, NULL, &region));
    print();
    only_sockets_are_writable();

    OK(conduit_publisher_send(publisher, "hello", 6));
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "hello"));
    OK(conduit_sample_release(&sample));
    conduit_subscriber *another;
    OK(conduit_subscriber_open("scan", NULL, &another));
    CHECK(((const char *)conduit_region_data(region))[0] == 0);

    OK(conduit_subscriber_close(another));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    OK(conduit_region_close(region));
    OK(conduit_region_unlink("map", NULL));
    return 0;
}
