//! What a program sees of messages: types, loans, samples, where a subscriber starts.

use std::time::Duration;

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{Message, Publisher, RecvError, Start, Subscriber};

use crate::harness::World;

#[derive(Clone, Copy, Debug, PartialEq, Message, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[message(name = "lidar/Point")]
#[zerocopy(crate = "conduit::zerocopy")]
#[repr(C)]
struct Point {
    x: f32,
    y: f32,
    z: f32,
}

#[test]
fn structures_are_sent_copied_or_in_place() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<Point>::builder().domain(&domain).create("point").unwrap();
    let mut subscriber = Subscriber::<Point>::builder().domain(&domain).open("point").unwrap();
    let point = Point { x: 1.0, y: 2.0, z: 3.0 };
    publisher.send(&point).unwrap();
    let mut loan = publisher.loan().unwrap();
    *loan = Point { x: 4.0, ..point };
    loan.publish();
    let zeroed = publisher.loan_zeroed().unwrap();
    assert_eq!(*zeroed, Point { x: 0.0, y: 0.0, z: 0.0 });
    drop(zeroed);
    let samples = [subscriber.recv().unwrap(), subscriber.recv().unwrap()];
    assert_eq!((samples[0].x, samples[1].x), (1.0, 4.0));
    assert_eq!(samples.each_ref().map(conduit::Sample::sequence), [0, 1]);
    assert!(samples.iter().all(|sample| sample.is_zero_copy() && sample.age().is_some()));
    // What was lent and not published was never sent.
    assert!(subscriber.try_recv().unwrap().is_none());
}

#[test]
fn slices_have_any_length_up_to_the_slots() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<[Point]>::builder().domain(&domain).capacity(1200).create("cloud").unwrap();
    let mut subscriber = Subscriber::<[Point]>::builder().domain(&domain).open("cloud").unwrap();
    let point = |x| Point { x, y: 0.0, z: 0.0 };
    publisher.send(&[]).unwrap();
    publisher.send(&[point(1.0), point(2.0)]).unwrap();
    let mut loan = publisher.loan_slice(100).unwrap();
    loan.fill(point(3.0));
    loan.truncate(70);
    loan.truncate(80);
    loan.publish();
    let samples = [(); 3].map(|()| subscriber.recv().unwrap());
    assert_eq!(samples.each_ref().map(|sample| sample.len()), [0, 2, 70]);
    assert_eq!(samples[2][69], point(3.0));
}

#[test]
fn a_subscriber_starts_where_it_is_told() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<u64>::builder().domain(&domain).slots(4).create("ticks").unwrap();
    for number in 0..10 {
        publisher.send(&number).unwrap();
    }
    let open = |start| Subscriber::<u64>::builder().domain(&domain).start(start).open("ticks").unwrap();
    let mut subscribers = [Start::Oldest, Start::Latest, Start::Next].map(open);
    publisher.send(&10).unwrap();
    let firsts = subscribers.each_mut().map(|subscriber| *subscriber.recv().unwrap());
    // The message after the subscribers came has overwritten the oldest one.
    assert_eq!(firsts, [7, 9, 10]);
    assert_eq!(subscribers.each_ref().map(Subscriber::lost), [1, 0, 0]);
    drop(publisher);
    for subscriber in &mut subscribers {
        while subscriber.recv().is_ok() {}
    }
    assert_eq!(subscribers.each_ref().map(Subscriber::received), [4, 2, 1]);
}

#[test]
fn samples_outlive_their_subscriber_and_their_topic_and_travel() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<[u8]>::builder().domain(&domain).slots(4).create("scan").unwrap();
    let mut subscriber = Subscriber::<[u8]>::builder().domain(&domain).open("scan").unwrap();
    publisher.send(&[7; 1000]).unwrap();
    let sample = subscriber.recv().unwrap();
    drop(subscriber);
    for _ in 0..20 {
        publisher.send(&[8; 1000]).unwrap();
    }
    drop(publisher);
    std::thread::spawn(move || assert_eq!(sample[..], [7; 1000])).join().unwrap();
    world.wait_until_empty();
}

#[test]
fn time_stamps_can_be_left_out_and_waiting_can_end() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<u8>::builder().domain(&domain).time_stamps(false).create("plain").unwrap();
    let mut subscriber = Subscriber::<u8>::builder().domain(&domain).open("plain").unwrap();
    publisher.send(&1).unwrap();
    assert_eq!(subscriber.recv().unwrap().stamp_ns(), None);
    let timeout = Duration::from_millis(5);
    let error = subscriber.recv_timeout(timeout).unwrap_err();
    assert!(matches!(error, RecvError::TimedOut { timeout: waited, .. } if waited == timeout), "{error}");
    drop(publisher);
    // It says so as often as it is asked.
    for _ in 0..2 {
        assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
    }
}
