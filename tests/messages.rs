//! Messages through the public API: types, loans, samples, and where a subscriber starts.

use std::time::Duration;

use conduit::zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
use conduit::{CreateError, Kind, LoanError, Message, OpenError, Publisher, RecvError, Start, Subscriber, TypeInfo};

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
fn values_are_sent_as_copies_or_in_place() {
    let world = World::new();
    let domain = world.domain();
    let mut publisher = Publisher::<Point>::builder().domain(&domain).create("point").unwrap();
    let mut subscriber = Subscriber::<Point>::builder().domain(&domain).open("point").unwrap();
    let point = Point { x: 1.0, y: 2.0, z: 3.0 };
    publisher.send(&point).unwrap();
    let mut loan = publisher.loan().unwrap();
    *loan = Point { x: 4.0, ..point };
    loan.publish();
    assert_eq!(*publisher.loan_zeroed().unwrap(), Point { x: 0.0, y: 0.0, z: 0.0 });
    let samples = [subscriber.recv().unwrap(), subscriber.recv().unwrap()];
    assert_eq!((samples[0].x, samples[1].x), (1.0, 4.0));
    assert_eq!(samples.each_ref().map(conduit::Sample::sequence), [0, 1]);
    assert!(samples.iter().all(|sample| sample.is_zero_copy() && sample.age().is_some()));
    // A loan that is not published is never sent.
    assert!(subscriber.try_recv().unwrap().is_none());
}

#[test]
fn slices_may_have_any_length_up_to_the_capacity() {
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
fn a_subscriber_starts_at_the_requested_position() {
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
    // Three messages of four slots are readable, and the message published after the subscribers
    // attached has overwritten the oldest.
    assert_eq!(firsts, [8, 9, 10]);
    assert_eq!(subscribers.each_ref().map(Subscriber::lost), [1, 0, 0]);
    drop(publisher);
    for subscriber in &mut subscribers {
        while subscriber.recv().is_ok() {}
    }
    assert_eq!(subscribers.each_ref().map(Subscriber::received), [3, 2, 1]);
}

#[test]
fn samples_outlive_subscriber_and_topic_and_move_between_threads() {
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
fn time_stamps_are_optional_and_waiting_times_out() {
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
    // The same answer every time.
    for _ in 0..2 {
        assert!(matches!(subscriber.try_recv(), Err(RecvError::PublisherGone { .. })));
    }
}

#[test]
fn types_can_be_given_at_run_time() {
    let world = World::new();
    let domain = world.domain();
    let bytes = |x: f32| Point { x, y: 0.0, z: 0.0 }.as_bytes().to_vec();
    let new = |kind, size| TypeInfo::new("lidar/Point", kind, size, 4).unwrap();
    let value = new(Kind::Value, 12);
    assert_eq!((value, new(Kind::Slice, 12)), (Point::TYPE, <[Point]>::TYPE));

    // A value accepts exactly its own length.
    let builder = || Publisher::<[u8]>::builder().domain(&domain);
    let mut publisher = builder().message_type(value).create("point").unwrap();
    let mut typed = Subscriber::<Point>::builder().domain(&domain).open("point").unwrap();
    let mut untyped = Subscriber::<[u8]>::builder().domain(&domain).message_type(value).open("point").unwrap();
    publisher.send(&bytes(1.0)).unwrap();
    let mut loan = publisher.loan_slice(12).unwrap();
    loan.copy_from_slice(&bytes(2.0));
    loan.publish();
    for len in [0, 11, 24] {
        let refused = LoanError::WrongLength { len, size: 12, exact: true };
        assert_eq!(publisher.send(&[0; 24][..len]), Err(refused));
        assert_eq!(publisher.loan_slice(len).unwrap_err(), refused);
    }
    assert_eq!([(); 2].map(|()| typed.recv().unwrap().x), [1.0, 2.0]);
    assert_eq!([(); 2].map(|()| untyped.recv().unwrap().to_vec()), [bytes(1.0), bytes(2.0)]);
    // A shortened message is invalid for the type, but readable with `any_type`.
    let any = Subscriber::<[u8]>::builder().domain(&domain).message_type(value).any_type(true);
    let mut any = any.open("point").unwrap();
    let mut loan = publisher.loan_slice(12).unwrap();
    loan.truncate(5);
    loan.publish();
    assert!(matches!(typed.recv(), Err(RecvError::Invalid { sequence: 2, .. })));
    let Err(RecvError::Invalid { sequence: 2, expected, .. }) = untyped.recv() else { panic!("5 bytes are no Point") };
    assert_eq!((*expected, any.recv().unwrap().len()), (value, 5));
    assert_eq!((untyped.received(), untyped.lost()), (3, 0));

    // A subscriber of another type gets an error.
    for other in [new(Kind::Slice, 12), new(Kind::Value, 16), TypeInfo::new("lidar/point", Kind::Value, 12, 4).unwrap()]
    {
        let opened = Subscriber::<[u8]>::builder().domain(&domain).message_type(other).open("point");
        let Err(OpenError::TypeMismatch { found, expected, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!((*found, *expected), (value, other));
    }

    // A slice: any number of elements.
    let mut publisher = builder().message_type(new(Kind::Slice, 12)).create("cloud").unwrap();
    let mut subscriber = Subscriber::<[Point]>::builder().domain(&domain).open("cloud").unwrap();
    publisher.send(&[bytes(1.0), bytes(2.0)].concat()).unwrap();
    publisher.send(&[]).unwrap();
    assert_eq!(publisher.send(&[0; 13]), Err(LoanError::WrongLength { len: 13, size: 12, exact: false }));
    assert_eq!([(); 2].map(|()| subscriber.recv().unwrap().len()), [2, 0]);

    // Slots must be large enough for a value, otherwise creation fails.
    let large = TypeInfo::new("large", Kind::Value, 10_000, 8).unwrap();
    assert!(builder().message_type(large).create("large").unwrap().capacity() >= 10_000);
    let refused = builder().message_type(large).slot_size(4096).create("small");
    assert!(matches!(refused, Err(CreateError::SlotTooSmall { need: 10_000, .. })), "{refused:?}");
}
