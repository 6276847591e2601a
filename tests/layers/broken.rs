//! Each rule is shown to fail, on small sources written for it.

use crate::check;
use crate::rules::Rules;
use crate::sources::Sources;

const RULES: &str = "
crate a/lib.rs
    lib
    top left right
    verbs
    low
    apart verbs
    only verbs/demo uses daemon

unsafe
    a/low
limits
    file 20
    function 5
    comment 40
names in
    a/
shared names
    Args
";

/// The violations in files given by path and text. Files that no `mod` declares belong to no crate.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    check(&Sources::new(files), &Rules::parse(RULES))
}

/// The single violation.
#[track_caller]
fn violation(files: &[(&str, &str)]) -> String {
    let mut found = violations(files);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn imports_that_run_downward_are_no_violation() {
    let lib = "mod low; mod top; mod left; mod right; pub use top::Top; #[cfg(test)] mod checks;";
    let top = "use crate::low::Low; pub struct Top(Low); impl Top { pub fn f() { crate::left::f() } }";
    let checks = "use crate::top::Top; fn f() { unsafe {} }";
    let files = [
        ("a/lib.rs", lib),
        ("a/top.rs", top),
        ("a/left.rs", "pub fn f() { crate::right::g(); std::mem::drop(1) }"),
        ("a/right.rs", "pub fn g() {}"),
        ("a/low.rs", "pub struct Low; fn f() { unsafe {} } #[cfg(test)] mod tests { use crate::top::Top; }"),
        ("a/checks.rs", checks),
    ];
    assert_eq!(violations(&files), [""; 0]);
}

#[test]
fn a_use_line_that_runs_upward() {
    let files =
        [("a/lib.rs", "mod low; mod top;"), ("a/top.rs", "pub struct Top;"), ("a/low.rs", "\nuse crate::{top::Top};")];
    assert_eq!(violation(&files), "a/low.rs:2: upward: `crate::top::Top`: top is above low");
}

#[test]
fn a_path_in_a_body_that_runs_upward() {
    let files =
        [("a/lib.rs", "mod low; mod top;"), ("a/top.rs", ""), ("a/low.rs", "fn f() {\n    super::top::g();\n}")];
    assert_eq!(violation(&files), "a/low.rs:2: upward: `super::top::g`: top is above low");
}

#[test]
fn a_path_in_a_macro_that_runs_upward() {
    let files = [
        ("a/lib.rs", "mod low; mod top;"),
        ("a/top.rs", ""),
        ("a/low.rs", "fn f() { println!(\"\", crate::top::X); }"),
    ];
    assert!(violation(&files).contains("upward: `crate::top::X`"));
}

#[test]
fn an_import_by_way_of_a_re_export_that_runs_upward() {
    let files = [
        ("a/lib.rs", "mod low; mod top; pub use top::Top;"),
        ("a/top.rs", "pub struct Top;"),
        ("a/low.rs", "use crate::Top;"),
    ];
    assert!(violation(&files).contains("`crate::Top`: top is above low"));
}

#[test]
fn a_submodule_of_a_lower_layer_that_imports_upward() {
    let files = [
        ("a/lib.rs", "mod low; mod top;"),
        ("a/top/mod.rs", "pub use inner::Top; mod inner;"),
        ("a/top/inner.rs", "pub struct Top;"),
        ("a/low/mod.rs", "mod deep;"),
        ("a/low/deep.rs", "use crate::top; fn f(_: top::Top) {}"),
    ];
    let found = violations(&files);
    assert!(found[0].contains("`crate::top`: top is above low/deep"), "{found:?}");
    assert!(found[1].contains("`top::Top`: top/inner is above low/deep"), "{found:?}");
}

#[test]
fn a_module_in_no_layer() {
    let files = [("a/lib.rs", "mod stray;"), ("a/stray.rs", "")];
    assert_eq!(violation(&files), "a/stray.rs:1: module stray is in no layer of the rules");
}

#[test]
fn modules_of_one_layer_that_import_each_other() {
    let files = [
        ("a/lib.rs", "mod top; mod left; mod right;"),
        ("a/top.rs", "use crate::left::f;"),
        ("a/left.rs", "use crate::right::g; pub fn f() {}"),
        ("a/right.rs", "pub fn g() {} fn h() { crate::top::x() }"),
    ];
    let found = violations(&files);
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], "a/left.rs:1: cycle: `crate::right::g`: left imports right, in {left, right, top}");
}

#[test]
fn a_module_and_its_parent_that_import_each_other() {
    let files = [
        ("a/lib.rs", "mod low;"),
        ("a/low/mod.rs", "mod deep; use deep::f; pub struct Low; fn g() { f() }"),
        ("a/low/deep.rs", "pub fn f() { super::Low; }"),
    ];
    assert_eq!(violations(&files).len(), 2);
}

#[test]
fn a_verb_that_imports_another() {
    let files = [
        ("a/lib.rs", "mod verbs;"),
        ("a/verbs/mod.rs", "mod list; mod info;"),
        ("a/verbs/list.rs", "pub fn f() {}"),
        ("a/verbs/info.rs", "use super::list::f;"),
    ];
    assert_eq!(violation(&files), "a/verbs/info.rs:1: apart: `super::list::f`: verbs/info imports verbs/list");
}

#[test]
fn a_crate_in_a_module_that_may_not_use_it() {
    let files = [
        ("a/lib.rs", "mod verbs;"),
        ("a/verbs/mod.rs", "mod demo; mod info;"),
        ("a/verbs/demo.rs", "use daemon::run;"),
        ("a/verbs/info.rs", "fn f() { daemon::run() }"),
    ];
    let expected = "a/verbs/info.rs:1: crate: `daemon::run`: only verbs/demo uses the crate daemon";
    assert_eq!(violation(&files), expected);
}

#[test]
fn unsafe_code_outside_its_places() {
    for code in ["fn f() { unsafe { g() } }", "unsafe fn f() {}", "unsafe impl Send for X {}", "m! { unsafe { g() } }"]
    {
        assert_eq!(violation(&[("a/lib.rs", code)]), "a/lib.rs:1: unsafe code does not belong here", "{code}");
    }
}

#[test]
fn a_long_file() {
    assert_eq!(violation(&[("a/lib.rs", &"\n".repeat(21))]), "a/lib.rs:1: file: 21 lines, 20 at most");
    assert_eq!(violations(&[("a/lib.rs", &"\n".repeat(20)), ("a/tests/x.rs", &"\n".repeat(99))]), [""; 0]);
}

#[test]
fn a_long_comment() {
    // The margin counts, characters do, and bytes do not.
    let fits = format!("fn f() {{}}\n    // {}", "\u{e9}".repeat(33));
    let is_long = format!("{fits}x");
    for path in ["a/lib.rs", "a/tests/x.rs"] {
        assert_eq!(violations(&[(path, &fits)]), [""; 0]);
        assert_eq!(violation(&[(path, &is_long)]), format!("{path}:2: comment: 41 columns, 40 at most"));
    }
    let long = "x".repeat(40);
    let others = format!("//! https://{long}\n//! | {long} |\nconst X: &str = \"// {long}\"; // {long}");
    assert_eq!(violations(&[("a/lib.rs", &others)]), [""; 0]);
}

#[test]
fn a_long_function() {
    let body = "\n".repeat(5);
    for (before, after) in [("", ""), ("impl X {", "}"), ("trait X {", "}"), ("mod x {", "}"), ("fn g() {", "}")] {
        let code = format!("{before}/// Not counted.\n#[inline]\nfn f() {{{body}}}{after}");
        let found = violations(&[("a/lib.rs", &code)]);
        assert!(found.contains(&"a/lib.rs:3: function: f has 6 lines, 5 at most".to_owned()), "{found:?}");
    }
    let code = format!("#[cfg(test)] mod tests {{ fn f() {{{body}}} }}\n#[test] fn g() {{{body}}}");
    assert_eq!(violations(&[("a/lib.rs", &code)]), [""; 0]);
}

#[test]
fn types_that_share_a_name() {
    let files = [("a/lib.rs", "mod low; struct State; struct Args;"), ("a/low.rs", "enum State {} struct Args;")];
    assert_eq!(violations(&[files[0], ("b/low.rs", files[1].1)]), [""; 0]);
    let found = violations(&files);
    assert_eq!(found[0], "a/lib.rs:1: name: another type is called State: a/low.rs:1");
    assert_eq!(found.len(), 2);
}
