//! Both processes are threads of this one.

use std::thread;
use std::time::{Duration, Instant};

use super::*;

fn site(directory: &tempfile::TempDir) -> BenchSite {
    BenchSite { directory: directory.path().into(), limits_first: false }
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
        let other = scope.spawn(|| second(LimitsRegion::new(&site(&directory), BenchSide::Second, 0, 0).unwrap()));
        first(region);
        other.join().unwrap()
    })
}

/// A thread that fails ends the other one's waiting.
fn deadline() -> impl FnMut() -> bool + Copy {
    let deadline = Instant::now() + Duration::from_secs(20);
    move || Instant::now() < deadline
}

#[test]
fn the_word_comes_back_until_the_end() {
    for wait in [Wait::Poll, Wait::Sleep] {
        let keep = deadline();
        let is_ended = with_both(
            0,
            0,
            |region| PingPong::new(&region, wait).answer(|| (), keep),
            |region| {
                let word = PingPong::new(&region, wait);
                assert!((0..1000).all(|_| word.serve(keep)), "{wait:?}");
                assert!(word.end(keep));
                assert_eq!(word.word.load(Relaxed), IDLE);
            },
        );
        assert!(is_ended);
    }
}

#[test]
fn waiting_for_a_dead_process_ends() {
    let directory = temporary();
    let region = LimitsRegion::new(&site(&directory), BenchSide::First, 8, 1).unwrap();
    for wait in [Wait::Poll, Wait::Sleep] {
        assert!(!PingPong::new(&region, wait).serve(|| false), "{wait:?}");
    }
    let mut stream = LineStream::resume(&region, 0);
    assert!((0..WINDOW).all(|_| stream.send(false, || false)));
    assert!(!stream.send(false, || false), "the window is full");
    assert!(!stream.flush(|| false));
    assert_eq!(LineStream::resume(&region, WINDOW).receive(|| false), None);
    let mut relay = Relay::new(&region, Wait::Poll).unwrap();
    assert!(!relay.serve(|_| (), |_| (), || false));
    assert!(!relay.serve(|_| panic!("the word is lost"), |_| (), || false));
}

#[test]
fn a_stream_loses_nothing() {
    let counts = [10_000, 1, WINDOW];
    let keep = deadline();
    let received = with_both(
        0,
        0,
        |region| {
            let mut stream = LineStream::resume(&region, 0);
            counts.map(|_| stream.receive(keep))
        },
        |region| {
            let mut stream = LineStream::resume(&region, 0);
            for count in counts {
                assert!((1..=count).all(|message| stream.send(message == count, keep)));
                assert!(stream.flush(keep));
            }
        },
    );
    assert_eq!(received, counts.map(Some));
}

#[test]
fn a_relay_hands_every_buffer_over_whole() {
    const WORDS: usize = 100;
    for wait in [Wait::Poll, Wait::Sleep] {
        let keep = deadline();
        let second = |region| {
            let mut relay = Relay::new(&region, wait).unwrap();
            let seen = Cell::new(0);
            let read = |words: &[u64]| {
                assert!(words.len() == WORDS && words.iter().all(|&word| word == words[0]), "{words:?}");
                seen.set(words[0]);
            };
            relay.answer(read, |words| words.fill(!seen.get()), keep) && relay.turn == 1000
        };
        let is_done = with_both(WORDS, 3, second, |region| {
            let mut relay = Relay::new(&region, wait).unwrap();
            for round in 0..1000 {
                let read = |words: &[u64]| assert_eq!(words, [!round; WORDS]);
                assert!(relay.serve(|words| words.fill(round), read, keep));
            }
            assert!(relay.end(keep));
            let sides = [BenchSide::First, BenchSide::Second];
            let mut starts: Vec<_> = (0..3).flat_map(|turn| sides.map(|side| region.buffer(side, turn))).collect();
            starts.sort_unstable();
            starts.dedup();
            assert_eq!(starts.len(), 6, "each process uses all of its buffers");
        });
        assert!(is_done);
    }
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
    assert!(!relay.answer(|_| (), |_| (), || false), "the first process serves");
    assert!(!Relay::new(&other, Wait::Poll).unwrap().serve(|_| (), |_| (), || false), "the second one answers");
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
