//! Watchers receive a snapshot, then the events that they asked for, without gaps or repeats; a
//! slow watcher does not affect others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use conduit::Publisher;
use conduit::registry::{EventKind, Watch};
use serde_json::json;

use crate::harness::{Raw, World, wait_until};

fn publish(world: &World, topic: &str) -> Publisher<[u8]> {
    Publisher::builder().domain(&world.domain()).create(topic).unwrap()
}

#[test]
fn watchers_filter_by_topic_and_kind() {
    let world = World::with_daemon();
    let _present = [publish(&world, "camera/front"), publish(&world, "lidar")];
    let watch = |topic: Option<&str>, kinds: Option<&[EventKind]>| {
        let wanted = Watch::new(topic.map(Into::into), kinds.map(<[_]>::to_vec));
        world
            .client()
            .watch_matching(&wanted)
            .unwrap()
            .map(|event| event.unwrap())
            .map(|event| (event.kind, event.topic))
    };
    let mut cameras = watch(Some("camera/*"), None);
    let mut ends = watch(None, Some(&[EventKind::Closed]));
    let mut ends_of_cameras = watch(Some("camera/**"), Some(&[EventKind::Closed, EventKind::Died]));
    drop(publish(&world, "imu"));
    drop(publish(&world, "camera/a/b"));
    drop(publish(&world, "camera/rear"));
    let event = |kind, topic: &str| Some((kind, topic.to_owned()));
    assert_eq!(cameras.next(), event(EventKind::Present, "camera/front"));
    assert_eq!(cameras.next(), event(EventKind::Published, "camera/rear"));
    assert_eq!(cameras.next(), event(EventKind::Closed, "camera/rear"));
    assert_eq!(ends.next(), event(EventKind::Closed, "imu"));
    assert_eq!(ends.next(), event(EventKind::Closed, "camera/a/b"));
    assert_eq!(ends_of_cameras.next(), event(EventKind::Closed, "camera/a/b"));
    assert_eq!(ends_of_cameras.next(), event(EventKind::Closed, "camera/rear"));

    let mut raw = Raw::connect(&world);
    let refused = raw.call("io.conduit.Registry.Watch", &json!({"topic": "a["}));
    assert_eq!(refused["error"], "io.conduit.Registry.InvalidTopic");
    assert!(refused["parameters"]["reason"].as_str().unwrap().contains("at byte 1"), "{refused}");
    let refused = raw.call("io.conduit.Registry.Watch", &json!({"kinds": ["nothing"]}));
    assert_eq!(refused["error"], "org.varlink.service.InvalidParameter");
    assert_eq!(refused["parameters"]["parameter"], "kinds", "{refused}");
}

#[test]
fn events_continue_the_snapshot_without_gap_or_repeat() {
    let world = World::with_daemon();
    std::thread::scope(|scope| {
        // Topics are created and closed while watchers start.
        let mut churns = Vec::new();
        for number in 0..3 {
            let world = &world;
            churns.push(scope.spawn(move || {
                let name = format!("churn/{number}");
                for _ in 0..200 {
                    drop(publish(world, &name));
                }
            }));
        }
        let mut watchers = Vec::new();
        while churns.iter().any(|churn| !churn.is_finished()) {
            let events = world.client().watch().unwrap();
            watchers.push(scope.spawn(move || {
                let mut known = BTreeSet::new();
                for (count, event) in events.enumerate() {
                    let event = event.unwrap();
                    let fits = match event.kind {
                        EventKind::Present | EventKind::Published if event.topic == "end" => return count,
                        EventKind::Present | EventKind::Published => known.insert(event.topic.clone()),
                        EventKind::Closed => known.remove(&event.topic),
                        _ => false,
                    };
                    assert!(fits, "event {count} does not fit those before: {event:?}, known: {known:?}");
                }
                panic!("the watch has ended");
            }));
            if watchers.len() > 30 {
                break;
            }
        }
        for churn in churns {
            churn.join().unwrap();
        }
        let _end = publish(&world, "end");
        assert!(watchers.len() > 3);
        let longest = watchers.into_iter().map(|watcher| watcher.join().unwrap()).max();
        assert!(longest > Some(100), "{longest:?}");
    });
}

#[test]
fn a_watcher_that_does_not_read_is_disconnected_with_the_reason() {
    let mut world = World::new();
    world.daemon_arguments = vec!["--max-queued-events", "50"];
    world.start_daemon();
    let wanted = Watch::new(None, Some(vec![EventKind::Closed]));
    let reader = world.client().watch_matching(&wanted).unwrap();
    let mut lazy = Raw::connect(&world);
    let call = json!({"method": "io.conduit.Registry.Watch", "parameters": {"kinds": ["closed"]}, "more": true});
    lazy.send(format!("{call}\0").as_bytes());
    let count = 1500;
    let counted = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&counted);
    std::thread::spawn(move || reader.take_while(Result::is_ok).for_each(|_| _ = counting.fetch_add(1, Relaxed)));
    for _ in 0..count {
        drop(publish(&world, "churn"));
    }
    wait_until("a watcher that reads to get every event", || counted.load(Relaxed) == count);
    world.wait_until_logged("a watcher that does not read its events is disconnected");
    let mut replies = lazy.replies();
    let reason = replies.pop().unwrap();
    assert_eq!(reason["error"], "io.conduit.Registry.LimitExceeded", "{reason}");
    assert_eq!(reason["parameters"], json!({"what": "unread events", "limit": 50}));
    assert!(replies.len() >= 50 && replies.len() < count, "{}", replies.len());
    assert!(replies.iter().all(|reply| reply["parameters"]["event"]["kind"] == "closed"));
}
