//! A connection to the registry without the library.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use super::World;
use super::wait::DEADLINE;

/// A connection that sends and receives raw messages.
pub struct Raw(pub UnixStream);

impl Raw {
    pub fn connect(world: &World) -> Self {
        let stream = UnixStream::connect(world.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    pub fn reply(&mut self) -> Value {
        let mut message = Vec::new();
        let mut byte = [0];
        while self.0.read(&mut byte).unwrap() == 1 && byte != [0] {
            message.push(byte[0]);
        }
        serde_json::from_slice(&message).unwrap()
    }

    /// Returns `None` if the registry has already disconnected.
    pub fn try_call(&mut self, method: &str, parameters: &Value) -> Option<Value> {
        let call = json!({"method": method, "parameters": parameters}).to_string() + "\0";
        self.0.write_all(call.as_bytes()).ok().map(|()| self.reply())
    }

    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.send(&[json!({"method": method, "parameters": parameters}).to_string().as_bytes(), b"\0"].concat());
        self.reply()
    }

    /// All replies until the registry disconnects.
    pub fn replies(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
            .split(|byte| *byte == 0)
            .filter(|it| !it.is_empty())
            .map(|it| serde_json::from_slice(it).unwrap())
            .collect()
    }

    pub fn is_hung_up(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0) | Err(_))
    }
}
