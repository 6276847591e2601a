//! What sends and receives without allocating memory.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use conduit::{Domain, Publisher, Subscriber};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts.
struct Counting;

// SAFETY: the system's allocator does everything.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs an action, and returns how often it allocated.
fn allocations(action: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    action();
    ALLOCATIONS.get() - before
}

#[test]
fn neither_the_next_nor_the_latest_message_allocates() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let domain = Domain::new(directory.path()).without_registry();
    let mut publisher = Publisher::<[u64; 16]>::builder().domain(&domain).create("scan").unwrap();
    let mut subscriber = Subscriber::<[u64; 16]>::builder().domain(&domain).open("scan").unwrap();
    let mut round = |number: u64| {
        for _ in 0..number % 40 {
            publisher.send(&[0; 16]).unwrap();
        }
        publisher.send(&[number; 16]).unwrap();
        assert_eq!(*subscriber.latest().unwrap().unwrap(), [number; 16]);
        assert!(subscriber.latest().unwrap().is_none());
        publisher.send_batch(&[[number; 16]; 5]).unwrap();
        assert_eq!(*subscriber.latest_copy().unwrap().unwrap(), [number; 16]);
        assert!(subscriber.latest_copy().unwrap().is_none());
        publisher.send_batch(&[[number; 16]; 4]).unwrap();
        assert_eq!(*subscriber.try_recv().unwrap().unwrap(), [number; 16]);
        assert_eq!(*subscriber.try_recv_copy().unwrap().unwrap(), [number; 16]);
        assert_eq!(subscriber.try_recv_with(|it| it[0]).unwrap(), Some(number));
        assert_eq!(subscriber.try_recv_batch(9, |it| assert_eq!(*it, [number; 16])).unwrap(), 1);
    };
    assert_eq!(allocations(|| (0..200).for_each(&mut round)), 0);
}
