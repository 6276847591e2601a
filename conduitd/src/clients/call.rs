//! A call as a client sent it: by Varlink's letter, and as strict as systemd's own services.

use std::cell::Cell;
use std::fmt;

use conduit::internal::foreign_text::clean_name;
use conduit::registry::RegistryError;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A message that is a call.
#[derive(Debug, PartialEq)]
pub(crate) struct IncomingCall {
    pub(crate) method: String,
    /// An object, or null if there are none.
    pub(crate) parameters: Value,
    /// The client wants no reply.
    pub(crate) oneway: bool,
    /// The client accepts many replies.
    pub(crate) more: bool,
    /// The client wants to speak another protocol after the reply.
    pub(crate) upgrade: bool,
}

impl IncomingCall {
    /// Parses a message. The error names the first member that is missing, unknown, of another type
    /// or there twice; a message that is no object lacks its method.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, RegistryError> {
        let mut members = match parse_unique(message)? {
            Value::Object(members) => members,
            _ => return Err(invalid("method")),
        };
        let Some(Value::String(method)) = members.remove("method") else { return Err(invalid("method")) };
        let parameters = members.remove("parameters").unwrap_or_default();
        if !parameters.is_object() && !parameters.is_null() {
            return Err(invalid("parameters"));
        }
        let oneway = take_flag(&mut members, "oneway")?;
        let more = take_flag(&mut members, "more")?;
        let upgrade = take_flag(&mut members, "upgrade")?;
        if let Some(unknown) = members.keys().next() {
            return Err(invalid(unknown));
        }
        if oneway && more {
            // None and many at once.
            return Err(invalid("more"));
        }
        Ok(Self { method, parameters, oneway, more, upgrade })
    }
}

fn take_flag(members: &mut Map<String, Value>, name: &str) -> Result<bool, RegistryError> {
    match members.remove(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(invalid(name)),
    }
}

/// The error about a member of a call or of its parameters.
pub(crate) fn invalid(name: &str) -> RegistryError {
    RegistryError::InvalidParameter { parameter: clean_name(name) }
}

/// Parses JSON in which no object has two members of one name: clients and daemon could otherwise
/// understand different things.
fn parse_unique(message: &[u8]) -> Result<Value, RegistryError> {
    let twice = Cell::default();
    let mut deserializer = serde_json::Deserializer::from_slice(message);
    let value = UniqueMembers(&twice).deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    value.map_err(|_| invalid(twice.take().as_deref().unwrap_or("method")))
}

/// Deserialises any value; remembers the name of a member that is there twice.
#[derive(Clone, Copy)]
struct UniqueMembers<'a>(&'a Cell<Option<String>>);

impl<'de> DeserializeSeed<'de> for UniqueMembers<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueMembers<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = elements.next_element_seed(self)? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if values.contains_key(&name) {
                self.0.set(Some(name));
                return Err(A::Error::custom("two members of one name"));
            }
            values.insert(name, members.next_value_seed(self)?);
        }
        Ok(values.into())
    }
}

/// The parameters of a call, of which each is taken once.
pub(crate) struct Parameters(Map<String, Value>);

impl Parameters {
    pub(crate) fn of(parameters: Value) -> Result<Self, RegistryError> {
        match parameters {
            Value::Null => Ok(Self(Map::new())),
            Value::Object(members) => Ok(Self(members)),
            _ => Err(invalid("parameters")),
        }
    }

    pub(crate) fn required<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<T, RegistryError> {
        self.optional(name)?.ok_or_else(|| invalid(name))
    }

    /// A parameter that may be left out, or be null.
    pub(crate) fn optional<T: for<'de> Deserialize<'de>>(&mut self, name: &str) -> Result<Option<T>, RegistryError> {
        let value = self.0.remove(name).unwrap_or_default();
        serde_json::from_value(value).map_err(|_| invalid(name))
    }

    /// Checks that nothing else was passed: to ignore it would be to do something else than was
    /// asked for.
    pub(crate) fn end(self) -> Result<(), RegistryError> {
        self.0.keys().next().map_or(Ok(()), |unknown| Err(invalid(unknown)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(message: &str) -> Result<IncomingCall, String> {
        IncomingCall::parse(message.as_bytes()).map_err(|error| match error {
            RegistryError::InvalidParameter { parameter } => parameter,
            error => panic!("{error}"),
        })
    }

    #[test]
    fn a_call_has_a_method_and_may_have_parameters_and_flags() {
        let call = |oneway, more, upgrade, parameters| {
            Ok(IncomingCall { method: "a.B".into(), parameters, oneway, more, upgrade })
        };
        let none = Value::Null;
        assert_eq!(parse(r#"{"method": "a.B"}"#), call(false, false, false, none.clone()));
        assert_eq!(parse(r#" {"parameters": null, "method": "a.B"} "#), call(false, false, false, none.clone()));
        assert_eq!(parse(r#"{"method": "a.B", "oneway": true}"#), call(true, false, false, none.clone()));
        assert_eq!(
            parse(r#"{"method": "a.B", "more": true, "oneway": false}"#),
            call(false, true, false, none.clone())
        );
        assert_eq!(parse(r#"{"method": "a.B", "upgrade": true}"#), call(false, false, true, none));
        let parameters = json!({"x": [1, -2, 1.5, null, true, "s", {"y": {}}]});
        assert_eq!(
            parse(&json!({"method": "a.B", "parameters": parameters}).to_string()),
            call(false, false, false, parameters)
        );
    }

    #[test]
    fn anything_else_is_invalid_and_the_member_is_named() {
        for (message, member) in [
            ("", "method"),
            ("{", "method"),
            ("7", "method"),
            (r#"["a.B"]"#, "method"),
            (r#"["a.B", {}, false, false]"#, "method"),
            (r#"{"method": "a.B"} {}"#, "method"),
            ("{}", "method"),
            (r#"{"method": 1}"#, "method"),
            (r#"{"method": null}"#, "method"),
            (r#"{"method": "a.B", "parameters": []}"#, "parameters"),
            (r#"{"method": "a.B", "parameters": "x"}"#, "parameters"),
            (r#"{"method": "a.B", "oneway": 1}"#, "oneway"),
            (r#"{"method": "a.B", "more": null}"#, "more"),
            (r#"{"method": "a.B", "upgrade": "yes"}"#, "upgrade"),
            (r#"{"method": "a.B", "oneway": true, "more": true}"#, "more"),
            (r#"{"method": "a.B", "mor": true}"#, "mor"),
            (r#"{"method": "a.B", "a\u001bb": true}"#, r"a\x1bb"),
            (r#"{"method": "a.B", "method": "a.C"}"#, "method"),
            (r#"{"method": "a.B", "more": false, "more": true}"#, "more"),
            (r#"{"method": "a.B", "parameters": {"topic": "a", "topic": "b"}}"#, "topic"),
            (r#"{"method": "a.B", "parameters": {"x": [{"y": 1, "y": 1}]}}"#, "y"),
        ] {
            assert_eq!(parse(message), Err(member.into()), "{message}");
        }
        assert!(parse(&"[".repeat(60_000)).is_err(), "deep nesting");
        assert!(parse(&format!(r#"{{"method": "a.B", "{}": 1}}"#, "x".repeat(60_000))).is_err_and(|it| it.len() < 999));
    }

    #[test]
    fn parameters_are_taken_by_their_names() {
        let mut parameters = Parameters::of(json!({"topic": "a", "dev": 7, "record": null, "more": 1})).unwrap();
        assert_eq!(parameters.required::<String>("topic"), Ok("a".into()));
        assert_eq!(parameters.required::<u64>("dev"), Ok(7));
        assert_eq!(parameters.optional::<u32>("record"), Ok(None));
        assert_eq!(parameters.optional::<u32>("mode"), Ok(None));
        assert_eq!(parameters.required::<u64>("inode"), Err(invalid("inode")));
        assert_eq!(parameters.end(), Err(invalid("more")));
        for (name, value) in [("dev", json!(-1)), ("dev", json!(1.0)), ("dev", json!("1")), ("dev", json!([1]))] {
            assert_eq!(Parameters::of(json!({ name: value })).unwrap().required::<u64>(name), Err(invalid(name)));
        }
    }
}
