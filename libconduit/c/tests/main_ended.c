/* The main thread has ended by pthread_exit; another thread uses the library. */
#define _DEFAULT_SOURCE
#include "check.h"

#include <pthread.h>
#include <unistd.h>

static pthread_t main_thread;

static void *publish_and_subscribe(void *nothing) {
    (void)nothing;
    CHECK(pthread_join(main_thread, NULL) == 0);
    conduit_publisher *publisher;
    conduit_subscriber *subscriber;
    OK(conduit_publisher_create("scan", NULL, &publisher));
    OK(conduit_subscriber_open("scan", NULL, &subscriber));
    CHECK(conduit_subscriber_is_zero_copy(subscriber));
    OK(conduit_publisher_send(publisher, "hello", 6));
    conduit_sample sample = CONDUIT_SAMPLE_INIT;
    OK(conduit_subscriber_recv(subscriber, &sample));
    CHECK(same(sample.data, "hello"));
    OK(conduit_sample_release(&sample));
    OK(conduit_subscriber_close(subscriber));
    OK(conduit_publisher_close(publisher));
    exit(0);
}

int main(void) {
    pthread_t thread;
    main_thread = pthread_self();
    CHECK(pthread_create(&thread, NULL, publish_and_subscribe, NULL) == 0);
    pthread_exit(NULL);
}
