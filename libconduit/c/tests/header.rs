//! The checked-in header matches the crate.
#![allow(missing_docs, reason = "a test")]

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = package.join("include/conduit.h");
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap();
    let mut made = Vec::new();
    // It follows the modules.
    let builder = cbindgen::Builder::new().with_config(config).with_src(package.join("src/lib.rs"));
    builder.generate().unwrap().write(&mut made);
    let made = String::from_utf8(made).unwrap();
    if std::env::var_os("CONDUIT_WRITE_HEADER").is_some() {
        std::fs::write(&header, &made).unwrap();
    }
    let found = std::fs::read_to_string(&header).unwrap_or_default();
    let differs = || found.lines().zip(made.lines()).position(|(found, made)| found != made).map(|line| line + 1);
    assert!(
        found == made,
        "{} is stale (line {:?}); write it with CONDUIT_WRITE_HEADER=1 cargo test -p conduit-c --test header",
        header.display(),
        differs()
    );
}
