//! Misbehaving clients of the registry.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::protocol::Answer;
use crate::{Outcome, State};

impl State {
    /// Announces files of other processes, each on its own connection.
    pub fn claim(&mut self, topic: &str, dev: u64, first: u64, count: u64) -> Outcome {
        let socket = std::env::var("CONDUIT_SOCKET")?;
        for inode in first..first + count {
            let mut stream = UnixStream::connect(&socket)?;
            let parameters = serde_json::json!({"topic": topic, "dev": dev, "inode": inode});
            let call = serde_json::json!({"method": "io.conduit.Registry.Register", "parameters": parameters});
            stream.write_all(format!("{call}\0").as_bytes())?;
            let _ = stream.read(&mut [0; 256])?;
            self.connections.push(stream);
        }
        Ok(Answer::Done)
    }

    /// Begins a message on each of many connections and completes none.
    pub fn half_open(&mut self, count: usize) -> Outcome {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        let socket = std::env::var("CONDUIT_SOCKET")?;
        for _ in 0..count.min(hard.saturating_sub(50) as usize) {
            let mut stream = UnixStream::connect(&socket)?;
            // The registry may already have closed a refused connection.
            let _ = stream.write_all(b"{\"method\":");
            self.connections.push(stream);
        }
        Ok(Answer::Number(self.connections.len() as u64))
    }
}
