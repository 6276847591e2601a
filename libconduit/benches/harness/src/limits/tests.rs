//! Both processes are threads of this one.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn site(directory: &tempfile::TempDir) -> BenchSite {
    BenchSite { directory: directory.path().into(), limits_first: false, second_core: 0 }
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Runs the second process's part in a thread beside the first one's.
fn with_both<R: Send>(
    buffer_words: usize,
    buffers: usize,
    second: impl FnOnce(Rc<LimitsRegion>) -> R + Send,
    first: impl FnOnce(Rc<LimitsRegion>),
) -> R {
    let directory = temporary();
    let region = LimitsRegion::new(&site(&directory), BenchSide::First, buffer_words, buffers).unwrap();
    thread::scope(|scope| {
        let open = || LimitsRegion::new(&site(&directory), BenchSide::Second, buffer_words, buffers).unwrap();
        let other = scope.spawn(move || second(open()));
        first(region);
        other.join().unwrap()
    })
}

/// A thread that fails ends the other one's waiting. On a busy machine every turn may take the time
/// until a polling thread loses its core.
fn deadline() -> impl FnMut() -> Result<()> + Copy {
    let deadline = Instant::now() + Duration::from_secs(120);
    move || if Instant::now() < deadline { Ok(()) } else { Err("the other thread does not answer".into()) }
}

/// The other process is dead.
fn dead() -> Result<()> {
    Err("dead".into())
}

#[test]
fn the_word_comes_back_until_the_end() {
    for wait in [Wait::Poll, Wait::Sleep] {
        let keep = deadline();
        let ended = with_both(
            0,
            0,
            |region| PingPong::new(&region, wait).answer(|| Ok(()), keep),
            |region| {
                let word = PingPong::new(&region, wait);
                (0..1000).for_each(|_| word.serve(keep).unwrap());
                word.end(keep).unwrap();
                assert_eq!(word.word.load(Relaxed), IDLE);
            },
        );
        ended.unwrap();
    }
}

#[test]
fn waiting_for_a_dead_process_ends() {
    let directory = temporary();
    let region = LimitsRegion::new(&site(&directory), BenchSide::First, 8, 1).unwrap();
    for wait in [Wait::Poll, Wait::Sleep] {
        assert!(PingPong::new(&region, wait).serve(dead).is_err(), "{wait:?}");
    }
    let mut stream = LineStream::new(&region);
    (0..WINDOW).for_each(|_| stream.send(false, dead).unwrap());
    assert!(stream.send(false, dead).is_err(), "the window is full");
    assert!(stream.flush(dead).is_err());
    assert!(stream.receive(dead).is_err(), "there is no message after the window");
    let mut relay = Relay::new(&region, Wait::Poll).unwrap();
    assert!(relay.serve(|_| (), |_| Ok(()), dead).is_err());
    assert!(relay.serve(|_| panic!("the word is lost"), |_| Ok(()), || Ok(())).is_err());
}

#[test]
fn a_stream_loses_nothing() {
    let counts = [10_000, 1, WINDOW];
    let keep = deadline();
    let received = with_both(
        0,
        0,
        |region| {
            let mut stream = LineStream::new(&region);
            counts.map(|_| stream.receive(keep).unwrap())
        },
        |region| {
            let mut stream = LineStream::new(&region);
            for count in counts {
                (1..=count).for_each(|message| stream.send(message == count, keep).unwrap());
                stream.flush(keep).unwrap();
            }
        },
    );
    assert_eq!(received, counts);
}

#[test]
fn a_relay_hands_every_buffer_over_whole() {
    const WORDS: usize = 100;
    for wait in [Wait::Poll, Wait::Sleep] {
        let keep = deadline();
        let second = |region| {
            let mut relay = Relay::new(&region, wait).unwrap();
            let work = |words: &[u64], answer: &mut [u64]| {
                assert!(words.len() == WORDS && words.iter().all(|&word| word == words[0]), "{words:?}");
                answer.fill(!words[0]);
                Ok(())
            };
            relay.answer(work, keep).unwrap();
            relay.turn
        };
        let turns = with_both(WORDS, 3, second, |region| {
            let mut relay = Relay::new(&region, wait).unwrap();
            for round in 0..1000 {
                let read = |words: &[u64]| {
                    assert_eq!(words, [!round; WORDS]);
                    Ok(())
                };
                relay.serve(|words| words.fill(round), read, keep).unwrap();
            }
            relay.end(keep).unwrap();
            let sides = [BenchSide::First, BenchSide::Second];
            let mut starts: Vec<_> = (0..3).flat_map(|turn| sides.map(|side| region.buffer(side, turn))).collect();
            starts.sort_unstable();
            starts.dedup();
            assert_eq!(starts.len(), 6, "each process uses all of its buffers");
        });
        assert_eq!(turns, 1000);
    }
}

#[test]
fn a_relay_uses_as_many_buffers_as_it_is_told() {
    let keep = deadline();
    let second = |region| {
        let mut relay = Relay::new(&region, Wait::Poll).unwrap();
        for buffers in [3, 2, 1] {
            relay.use_buffers(buffers);
            let work = |words: &[u64], answer: &mut [u64]| {
                answer[0] = words[0];
                Ok(())
            };
            relay.answer(work, keep).unwrap();
        }
    };
    with_both(1, 3, second, |region| {
        let mut relay = Relay::new(&region, Wait::Poll).unwrap();
        let used = [3, 2, 1].map(|buffers| {
            relay.use_buffers(buffers);
            let mut used = Vec::new();
            for round in 0..12 {
                let fill = |words: &mut [u64]| {
                    used.push(words.as_ptr() as usize);
                    words[0] = round;
                };
                let read = |words: &[u64]| {
                    assert_eq!(words, [round]);
                    Ok(())
                };
                relay.serve(fill, read, keep).unwrap();
            }
            relay.end(keep).unwrap();
            used.sort_unstable();
            used.dedup();
            used.len()
        });
        assert_eq!(used, [3, 2, 1]);
        relay.use_buffers(9);
        assert_eq!(relay.buffers, 3, "there are no more");
    });
}

#[test]
fn receipts_reach_the_first_process() {
    let keep = deadline();
    let directory = temporary();
    let receipts = StreamReceipts::new(&site(&directory), BenchSide::First, "stream").unwrap();
    assert_eq!(receipts.received(), 0);
    thread::scope(|scope| {
        scope.spawn(|| StreamReceipts::new(&site(&directory), BenchSide::Second, "stream").unwrap().acknowledge(7));
        let mut keep = keep;
        while receipts.received() != 7 {
            keep().unwrap();
        }
    });
}

/// Two would have mutable slices of the same buffers.
#[test]
fn a_process_has_one_relay_and_a_region_one_second_process() {
    let directory = temporary();
    let region = LimitsRegion::new(&site(&directory), BenchSide::First, 8, 1).unwrap();
    let open = || LimitsRegion::new(&site(&directory), BenchSide::Second, 8, 1);
    let mut relay = Relay::new(&region, Wait::Poll).unwrap();
    assert!(Relay::new(&region, Wait::Poll).is_err());
    let other = open().unwrap();
    assert!(open().is_err());
    assert!(relay.answer(|_, _| Ok(()), || Ok(())).is_err(), "the first process serves");
    let served = Relay::new(&other, Wait::Poll).unwrap().serve(|_| (), |_| Ok(()), || Ok(()));
    assert!(served.is_err(), "the second one answers");
}

#[test]
fn every_buffer_is_filled_in_turn() {
    let mut memory = PrivateBuffers::new(3, 3);
    let mut turns = || {
        memory.fill();
        (memory.turn, memory.buffers[memory.turn][2], memory.read())
    };
    let byte = 0x0101_0101_0101_0101;
    assert_eq!([turns(), turns(), turns()], [(1, byte, byte), (2, 2 * byte, 2 * byte), (0, 0, 0)]);
}
