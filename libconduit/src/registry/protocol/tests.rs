use super::*;
use crate::model::{
    DeathCertificate, EventKind, Liveness, Process, RegionState, RegistryEvent, RegistryStatus, SubscriberInfo,
    TopicInfo,
};

#[test]
fn errors_cross_the_socket_with_their_fields() {
    let error = RegistryError::AlreadyRegistered { topic: "imu".into(), pid: 7, program: "x".into() };
    let reply: Reply = serde_json::from_slice(&serde_json::to_vec(&Reply::from(error.clone())).unwrap()).unwrap();
    assert_eq!(reply.error.as_deref(), Some("io.conduit.Registry.AlreadyRegistered"));
    assert_eq!(reply.parameters["pid"], 7);
    assert_eq!(reply.into_result().unwrap_err().known(), Some(error));
}

#[test]
fn errors_are_clean_whatever_they_quote() {
    let reason = "cannot remove /dev/shm/a\x7f\u{202e}\n".into();
    let reply = Reply::from(RegistryError::Failed { reason });
    assert_eq!(reply.parameters["reason"], r"cannot remove /dev/shm/a\x7f\u{202e}\x0a");
    assert_eq!(reply.error.as_deref(), Some("io.conduit.Registry.Failed"));
}

#[test]
fn the_description_names_every_method_and_error() {
    for method in ["Register", "Attach", "Release", "List", "Describe", "Reap", "Watch", "Deaths", "Unlink", "Status"] {
        assert!(DESCRIPTION.contains(&format!("method {method}(")), "{method}");
    }
    let errors = [
        "InvalidTopic",
        "TopicNotFound",
        "AlreadyRegistered",
        "NotOwner",
        "NotAllowed",
        "TopicInUse",
        "Failed",
        "LeaseInUse",
        "LimitExceeded",
    ];
    for error in errors {
        assert!(DESCRIPTION.contains(&format!("error {error} (")), "{error}");
    }
}

/// A topic as a later registry may describe it: with a state, a liveness and fields that do not
/// exist yet.
const TOPIC_OF_THE_FUTURE: &str = r#"{
    "name": "imu", "state": "hibernating", "raw": false, "path": "/dev/shm/conduit_imu", "size_bytes": 4096,
    "slots": 16, "slot_bytes": 4096, "type": "u64", "liveness": "heartbeat", "encryption": {"key": 7},
    "publisher": {"pid": 7, "uid": 0, "program": "imu", "container": "x"}, "published": 1,
    "subscribers": [{"pid": 8, "uid": 0, "program": "log", "received": 1, "lost": 0, "held": 0, "lag": 0,
        "asleep": true, "priority": 3}]
}"#;

#[test]
fn an_old_client_reads_a_topic_of_the_future() {
    let list = format!(r#"{{"topics": [{TOPIC_OF_THE_FUTURE}], "next_page": 2}}"#);
    let list: TopicList = serde_json::from_str(&list).unwrap();
    let [topic] = &list.topics[..] else { panic!("{list:?}") };
    assert_eq!(topic.state, RegionState::Unknown("hibernating".into()));
    assert_eq!(topic.state.to_string(), "hibernating");
    assert_eq!(topic.liveness, Some(Liveness::Unknown("heartbeat".into())));
    assert_eq!((topic.publisher.as_ref().unwrap().pid, topic.subscribers[0].pid), (7, 8));
    let again = serde_json::to_value(topic).unwrap();
    assert_eq!((&again["state"], &again["liveness"]), (&"hibernating".into(), &"heartbeat".into()));
}

#[test]
fn an_old_client_reads_an_event_of_the_future() {
    let event = r#"{"event": {"kind": "migrated", "topic": "imu", "time_ms": 5, "host": "b", "death": {"cause": 1}}}"#;
    let reply: Reply =
        serde_json::from_str(&format!(r#"{{"parameters": {event}, "continues": true, "x": 1}}"#)).unwrap();
    assert!(reply.continues);
    let EventReply { event } = serde_json::from_value(reply.into_result().unwrap()).unwrap();
    assert_eq!(event.kind, EventKind::Unknown("migrated".into()));
    assert_eq!(event.death, Some(DeathCertificate::default()));
    assert_eq!(serde_json::to_value(&event).unwrap()["kind"], "migrated");
    let hostile: EventKind = serde_json::from_str(r#""a\u001b[2Jb""#).unwrap();
    assert_eq!(hostile.to_string(), r"a\x1b[2Jb", "no control characters");
}

#[test]
fn an_old_client_reads_an_error_of_the_future() {
    let error = |text: &str| serde_json::from_str::<Reply>(text).unwrap().into_result().unwrap_err();
    let unknown = error(r#"{"error": "io.conduit.Registry.Hibernating", "parameters": {"topic": "imu"}}"#);
    assert_eq!(unknown.known(), None);
    assert_eq!(unknown.to_string(), r#"io.conduit.Registry.Hibernating {"topic":"imu"}"#);
    let grown =
        error(r#"{"error": "io.conduit.Registry.TopicNotFound", "parameters": {"topic": "imu", "near": "im"}}"#);
    assert_eq!(grown.known(), Some(RegistryError::TopicNotFound { topic: "imu".into() }));
}

#[test]
fn a_new_client_reads_what_an_old_registry_leaves_out() {
    let topic = r#"{"name": "imu", "state": "live", "raw": false, "path": "/x", "size_bytes": 1, "subscribers": []}"#;
    let topic: TopicInfo = serde_json::from_str(topic).unwrap();
    assert_eq!((topic.state, topic.slots, topic.publisher), (RegionState::Live, None, None));
}

#[test]
fn a_client_reads_a_registry_that_says_little() {
    let topic: TopicInfo = serde_json::from_str(r#"{"name": "imu", "state": "live"}"#).unwrap();
    assert_eq!(topic, TopicInfo::new("imu", RegionState::Live));
    let process: Process = serde_json::from_str(r#"{"pid": 7}"#).unwrap();
    assert_eq!(process, Process::new(7, 0, ""));
    assert_eq!(serde_json::from_str::<SubscriberInfo>("{}").unwrap(), SubscriberInfo::default());
    assert_eq!(serde_json::from_str::<RegistryStatus>("{}").unwrap(), RegistryStatus::default());
    let event: RegistryEvent = serde_json::from_str(r#"{"kind": "died", "topic": "imu"}"#).unwrap();
    assert_eq!(event, RegistryEvent::new(EventKind::Died, "imu", 0));
}

#[test]
fn names_of_a_registry_are_cleaned_and_cut() {
    let long = "x".repeat(5000);
    let topic = serde_json::json!({"name": "a\nb", "state": "\u{7f}", "type": "\u{202e}", "liveness": long,
        "publisher": {"pid": 7, "program": long}, "subscribers": [{"program": "\u{200b}"}]});
    let topic: TopicInfo = serde_json::from_value(topic).unwrap();
    assert_eq!((topic.name.as_str(), topic.state.as_str()), (r"a\x0ab", r"\x7f"));
    assert_eq!(topic.message_type.as_deref(), Some(r"\u{202e}"));
    assert_eq!(topic.subscribers[0].program, r"\u{200b}");
    let cut = [topic.publisher.unwrap().program, topic.liveness.unwrap().to_string()];
    assert!(cut.iter().all(|name| name.len() < 300 && name.ends_with("x…")), "{cut:?}");
}

#[test]
fn an_old_registry_refuses_calls_of_the_future() {
    let watch = |text: &str| serde_json::from_str::<Watch>(text).map_err(|error| error.to_string());
    assert!(watch(r#"{"kinds": ["died"]}"#).is_ok());
    let error = watch(r#"{"kinds": ["died", "migrated"]}"#).unwrap_err();
    assert!(error.contains("unknown variant `migrated`"), "{error}");
    assert!(watch(r#"{"topic": "imu", "host": "b"}"#).unwrap_err().contains("unknown field `host`"));
}
