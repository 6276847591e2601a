//! A registry that says whatever a test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use serde_json::Value;

use super::World;

impl World {
    /// Answers at the registry's socket, for as long as the test runs: `answer` gives the replies
    /// to a method, by its name without the interface. Without a reply the connection is closed.
    pub fn fake_registry(&self, answer: impl Fn(&str) -> Vec<Value> + Send + Sync + 'static) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || serve(stream, &*answer));
            }
        });
    }
}

fn serve(mut stream: UnixStream, answer: &dyn Fn(&str) -> Vec<Value>) -> Option<()> {
    let mut calls = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut call = Vec::new();
        calls.read_until(0, &mut call).ok().filter(|_| call.pop() == Some(0))?;
        let call: Value = serde_json::from_slice(&call).unwrap();
        let method = call["method"].as_str().unwrap().rsplit('.').next().unwrap();
        let replies = answer(method);
        for reply in &replies {
            stream.write_all(format!("{reply}\0").as_bytes()).ok()?;
        }
        if replies.is_empty() {
            return None;
        }
    }
}
