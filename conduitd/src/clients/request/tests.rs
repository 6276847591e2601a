use serde_json::json;

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
        ("Watch", json!({"kinds": ["died", "migrated"]})),
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
fn an_invalid_parameter_is_named() {
    for (method, parameters, name) in [
        ("Register", json!({"topic": "a", "dev": 1}), "inode"),
        ("Register", json!({"topic": "a", "dev": 1, "inode": -2}), "inode"),
        ("Register", json!({"topic": "a", "dev": 1, "inode": 2, "mode": 1.5}), "mode"),
        ("Attach", json!({"topic": "a", "dev": 1, "inode": 2, "pid": 3}), "pid"),
        ("Describe", json!({}), "topic"),
        ("Describe", json!({"topic": null}), "topic"),
        ("Describe", json!([]), "parameters"),
        ("Unlink", json!({"topic": "a", "force": "yes"}), "force"),
        ("Watch", json!({"kinds": "died"}), "kinds"),
        ("Watch", json!({"kinds": ["nothing"]}), "kinds"),
        ("List", json!({"verbose": true}), "verbose"),
    ] {
        assert_eq!(registry(method, parameters.clone()), Err(invalid(name)), "{method} {parameters}");
    }
    // Null is as good as nothing where nothing is allowed.
    let described = registry("Unlink", json!({"topic": "a/b", "force": null}));
    assert_eq!(described, Ok(Request::Unlink { topic: topic(), force: false }));
    let all = registry("Watch", json!({"topic": null, "kinds": null}));
    assert_eq!(all, Ok(Request::Watch(EventFilter::default())));
    let deaths = EventFilter::new(None, Some(vec![EventKind::Died])).unwrap();
    assert_eq!(registry("Watch", json!({"kinds": vec!["died"; 1000]})), Ok(Request::Watch(deaths)), "each once");
}

#[test]
fn a_bad_topic_is_reported_with_at_most_a_name_of_it() {
    let long = "a".repeat(5000);
    for method in ["Describe", "Reap", "Unlink"] {
        let Err(RegistryError::InvalidTopic { topic, .. }) = registry(method, json!({ "topic": long })) else {
            panic!("{method} has accepted the name");
        };
        assert_eq!(topic.chars().count(), TopicName::MAX_LEN);
    }
    let parsed = registry("Watch", json!({"topic": "a//b"}));
    assert!(matches!(parsed, Err(RegistryError::InvalidTopic { .. })), "a pattern: {parsed:?}");
    for method in ["Register", "Attach"] {
        let parsed = registry(method, json!({"topic": "a//b", "dev": 1, "inode": 2}));
        assert!(matches!(parsed, Err(RegistryError::InvalidTopic { .. })), "{method}: {parsed:?}");
    }
}

#[test]
fn unknown_methods_and_interfaces_are_distinguished() {
    let error = |method: &str| Request::parse(method, Value::Null).unwrap_err();
    // As it was called, like systemd's services.
    for method in
        ["io.conduit.Registry.Nothing", "io.conduit.Registry.register", "org.varlink.service.Nothing", "List", ""]
    {
        assert_eq!(error(method), RegistryError::MethodNotFound { method: method.into() });
    }
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
