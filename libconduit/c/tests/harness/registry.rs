//! A registry that the tests play.
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOPICS: &str = include_str!("../topics.json");
const STATUS: &str = r#"{"version":"1","pid":17,"uid":3,"shm_dir":"/","dev":1,"inode":1,"supervised":true,
    "topics":5,"clients":6,"reaped":7,"untracked":8}"#;
const DEATH: &str = r#"{"kind":"died","topic":"camera/front","time_ms":1700000000123,
    "process":{"pid":42,"uid":9,"program":"driver"},
    "death":{"signal":11,"core_dumped":true,"last_sequence":77,"last_message_age_ns":88,
        "subscribers":[{"pid":43,"uid":8,"program":"planner","lost":2}]}}"#;
const PRESENT: &str = r#"{"kind":"present","topic":"camera/front","process":{"pid":42,"uid":9,"program":"driver"}}"#;

/// A registry that answers every call, and accepts nearly all.
pub(crate) fn serve(listener: UnixListener, clients: Arc<Mutex<Vec<UnixStream>>>) {
    for client in listener.incoming() {
        let client = client.unwrap();
        clients.lock().unwrap().push(client.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut calls = BufReader::new(client.try_clone().unwrap());
            let mut call = Vec::new();
            while calls.read_until(0, &mut call).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&call);
                if text.contains(".Watch") {
                    let _ = report(&client, &text);
                    // The registry ends.
                    let _ = client.shutdown(std::net::Shutdown::Both);
                    return;
                }
                let _ = (&client).write_all(format!("{}\0", reply(&text)).as_bytes());
                call.clear();
            }
        });
    }
}

fn reply(call: &str) -> String {
    let topics: serde_json::Value = serde_json::from_str(TOPICS).unwrap();
    let parameters = match call {
        _ if call.contains("nothing") => {
            return r#"{"error":"io.conduit.Registry.TopicNotFound","parameters":{"topic":"nothing"}}"#.into();
        }
        _ if call.contains(".Unlink") && call.contains("\"force\":false") => {
            return r#"{"error":"io.conduit.Registry.TopicInUse","parameters":{"topic":"imu","owner":"x (42)"}}"#
                .into();
        }
        _ if call.contains(".List") => TOPICS.into(),
        _ if call.contains(".Status") => STATUS.into(),
        _ if call.contains(".Describe") => format!("{{\"topic\":{}}}", topics["topics"][0]),
        _ if call.contains(".Reap") => "{\"reaped\":true}".into(),
        _ if call.contains(".Deaths") => format!("{{\"deaths\":[{PRESENT},{DEATH}]}}"),
        _ => "{}".to_owned(),
    };
    format!("{{\"parameters\":{parameters}}}")
}

/// Two events at once, one later in two parts, and one that nobody understands.
fn report(mut client: &UnixStream, call: &str) -> std::io::Result<()> {
    let event = |event: &str| format!("{{\"continues\":true,\"parameters\":{{\"event\":{event}}}}}\0");
    assert!(call.contains("\"topic\":\"camera/**\"") && call.contains("\"kinds\":[\"present\",\"died\"]"), "{call}");
    client.write_all((event(PRESENT) + &event(DEATH)).as_bytes())?;
    std::thread::sleep(Duration::from_millis(100));
    let late = event(r#"{"kind":"hibernated","topic":"camera/front"}"#);
    let (one, other) = late.as_bytes().split_at(30);
    client.write_all(one)?;
    std::thread::sleep(Duration::from_millis(50));
    client.write_all(other)?;
    client.write_all(event("7").as_bytes())?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}
