use conduit::registry::EventKind;

use super::*;

fn registry(method: &str, parameters: Value) -> Result<Request, RegistryError> {
    Request::parse(&format!("{INTERFACE}.{method}"), parameters)
}

fn topic() -> TopicName {
    "a/b".parse().unwrap()
}

#[test]
fn every_method_is_parsed() {
    let file = FileId { dev: 1, ino: 2 };
    let announced = FileFacts { mode: Some(0o640), gid: Some(44) };
    let any = FileFacts { mode: None, gid: None };
    let deaths = EventFilter::new(Some("a/*"), Some(vec![EventKind::Died])).unwrap();
    for (method, parameters, expected) in [
        (
            "Register",
            json!({"topic": "a/b", "dev": 1, "inode": 2, "mode": 0o640, "gid": 44}),
            Request::Register { topic: topic(), file, announced },
        ),
        (
            "Register",
            json!({"topic": "a/b", "dev": 1, "inode": 2}),
            Request::Register { topic: topic(), file, announced: any },
        ),
        (
            "Attach",
            json!({"topic": "a/b", "dev": 1, "inode": 2, "record": 3}),
            Request::Attach { topic: topic(), file, record: Some(3) },
        ),
        (
            "Attach",
            json!({"topic": "a/b", "dev": 1, "inode": 2}),
            Request::Attach { topic: topic(), file, record: None },
        ),
        ("Release", json!({}), Request::Release),
        ("Status", json!({}), Request::Status),
        ("List", json!({}), Request::List),
        ("Deaths", Value::Null, Request::Deaths),
        ("Describe", json!({"topic": "a/b"}), Request::Describe { topic: topic() }),
        ("Reap", json!({"topic": "a/b"}), Request::Reap { topic: topic() }),
        ("Unlink", json!({"topic": "a/b"}), Request::Unlink { topic: topic(), force: false }),
        ("Unlink", json!({"topic": "a/b", "force": true}), Request::Unlink { topic: topic(), force: true }),
        ("Watch", json!({}), Request::Watch(EventFilter::default())),
        ("Watch", json!({"topic": "a/*", "kinds": ["died"]}), Request::Watch(deaths)),
    ] {
        assert_eq!(registry(method, parameters), Ok(expected), "{method}");
    }
    assert_eq!(Request::parse("org.varlink.service.GetInfo", json!({})), Ok(Request::GetInfo));
    let expected = Request::GetInterfaceDescription { interface: "x".into() };
    let described = Request::parse("org.varlink.service.GetInterfaceDescription", json!({"interface": "x"}));
    assert_eq!(described, Ok(expected));
}

#[test]
fn bad_unknown_and_missing_parameters_are_invalid() {
    for (method, parameters) in [
        ("Register", json!({"topic": "a"})),
        ("Register", json!({"topic": "a", "dev": 1, "inode": -2})),
        ("Register", json!({"topic": "a", "dev": 1, "inode": 2, "pid": 3})),
        ("Attach", json!({"topic": "a", "dev": "1", "inode": 2})),
        ("Attach", json!({"topic": "a", "dev": 1, "inode": 2, "mode": 3})),
        ("Release", json!({"topic": "a"})),
        ("Status", json!({"verbose": true})),
        ("List", json!({"topic": "a"})),
        ("Deaths", json!([])),
        ("Describe", json!({})),
        ("Describe", json!({"topic": 1})),
        ("Reap", json!({"topic": "a", "force": true})),
        ("Unlink", json!({"force": true})),
        ("Unlink", json!({"topic": "a", "force": 1})),
        ("Watch", json!({"topics": "a"})),
        ("Watch", json!({"topic": "a//b"})),
        ("Watch", json!("a")),
    ] {
        let parsed = registry(method, parameters.clone());
        assert!(matches!(parsed, Err(RegistryError::InvalidParameter { .. })), "{method} {parameters}: {parsed:?}");
    }
    for (method, parameters) in [("GetInfo", json!({"a": 1})), ("GetInterfaceDescription", json!({}))] {
        let parsed = Request::parse(&format!("{SERVICE}.{method}"), parameters);
        assert!(matches!(parsed, Err(RegistryError::InvalidParameter { .. })), "{method}: {parsed:?}");
    }
}

#[test]
fn a_bad_topic_is_reported_with_at_most_a_name_of_it() {
    let long = "a".repeat(5000);
    for method in ["Describe", "Reap", "Unlink"] {
        let Err(RegistryError::InvalidTopic { topic, .. }) = registry(method, json!({ "topic": long })) else {
            panic!("{method} has accepted the name");
        };
        assert_eq!(topic.len(), TopicName::MAX_LEN);
    }
    for method in ["Register", "Attach"] {
        let parsed = registry(method, json!({"topic": "a//b", "dev": 1, "inode": 2}));
        assert!(matches!(parsed, Err(RegistryError::InvalidTopic { .. })), "{method}: {parsed:?}");
    }
}

#[test]
fn unknown_methods_and_interfaces_are_distinguished() {
    let error = |method: &str| Request::parse(method, Value::Null).unwrap_err();
    let unknown_method = |method: &str| RegistryError::MethodNotFound { method: method.into() };
    assert_eq!(error("io.conduit.Registry.Nothing"), unknown_method("Nothing"));
    assert_eq!(error("io.conduit.Registry.register"), unknown_method("register"));
    assert_eq!(error("org.varlink.service.Nothing"), unknown_method("Nothing"));
    assert_eq!(error("List"), unknown_method("List"));
    assert_eq!(error(""), unknown_method(""));
    let expected = RegistryError::InterfaceNotFound { interface: "io.conduit.Other".into() };
    assert_eq!(error("io.conduit.Other.List"), expected);
}

#[test]
fn only_calls_with_an_effect_are_carried_out_unasked() {
    let file = json!({"topic": "a", "dev": 1, "inode": 2});
    let of_topic = json!({"topic": "a"});
    for (method, parameters, has_effect) in [
        ("Register", &file, true),
        ("Attach", &file, true),
        ("Release", &Value::Null, true),
        ("Unlink", &of_topic, true),
        ("Reap", &of_topic, true),
        ("Describe", &of_topic, false),
        ("Status", &Value::Null, false),
        ("List", &Value::Null, false),
        ("Deaths", &Value::Null, false),
        ("Watch", &Value::Null, false),
    ] {
        assert_eq!(registry(method, parameters.clone()).unwrap().has_effect(), has_effect, "{method}");
    }
}
