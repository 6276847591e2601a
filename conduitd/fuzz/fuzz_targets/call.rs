#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| conduitd::fuzzing::call(data));
