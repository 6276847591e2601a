use super::*;

#[test]
fn errors_cross_the_socket_with_their_fields() {
    let error = RegistryError::AlreadyRegistered { topic: "imu".into(), pid: 7, program: "x".into() };
    let reply: Reply = serde_json::from_slice(&serde_json::to_vec(&Reply::from(error.clone())).unwrap()).unwrap();
    assert_eq!(reply.error.as_deref(), Some("io.conduit.Registry.AlreadyRegistered"));
    assert_eq!(reply.parameters["pid"], 7);
    assert_eq!(reply.into_result().unwrap_err().known(), Some(error));
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
