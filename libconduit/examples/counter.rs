//! One integer in a raw region, written by one process and read by another.
//!
//!     cargo run --example counter -- write
//!     cargo run --example counter -- read
//!     cargo run --example counter -- unlink
#![allow(unsafe_code)]

use std::error::Error;
use std::io::{Write, stderr, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use conduit::ShmRegion;

const NAME: &str = "counter";
const SIZE_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.join(" ").as_str() {
        "write" => write(),
        "read" => read(),
        "unlink" => ShmRegion::unlink(NAME).map_err(Into::into),
        _ => {
            let _ = writeln!(stderr(), "usage: counter write|read|unlink");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = outcome {
        let _ = writeln!(stderr(), "counter: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn write() -> Result<(), Box<dyn Error>> {
    let region = ShmRegion::create(NAME, SIZE_BYTES)?;
    counter(&region)?.store(42, Ordering::Relaxed);
    writeln!(stdout(), "stored 42 in region \"{NAME}\"")?;
    // Dropped, the region is kept: it outlives this process until it is unlinked.
    Ok(())
}

fn read() -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + PATIENCE;
    if !ShmRegion::wait_until_exists_for(NAME, PATIENCE)? {
        return Err(format!("no region \"{NAME}\" within {PATIENCE:?}; run `counter write`").into());
    }
    let region = ShmRegion::open(NAME)?;
    // A region appears zeroed: started first, this process can be here before the integer is.
    while counter(&region)?.load(Ordering::Relaxed) == 0 {
        if Instant::now() >= deadline {
            return Err(format!("nothing was stored in region \"{NAME}\" within {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    writeln!(stdout(), "{}", counter(&region)?.load(Ordering::Relaxed))?;
    Ok(())
}

fn counter(region: &ShmRegion) -> Result<&AtomicI32, Box<dyn Error>> {
    if region.size() != SIZE_BYTES {
        return Err(format!("region \"{NAME}\" has {} bytes, not {SIZE_BYTES}", region.size()).into());
    }
    // SAFETY: the region starts on a page, is large enough, lives as long as the reference, and
    // every process that uses this name touches these bytes only as an AtomicI32.
    Ok(unsafe { &*region.data().cast::<AtomicI32>() })
}
