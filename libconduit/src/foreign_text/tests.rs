use proptest::prelude::*;

use super::*;

#[test]
fn clean_text_is_unchanged() {
    let longest = "é".repeat(MAX_NAME_CHARS);
    for text in ["", "imu", "tmux: server", "(sd-pam)", "äöü ß", "日本語", "e\u{301}", "🦀", r"\x1b", "a…", &longest]
    {
        assert_eq!(clean_name(text), text);
        assert!(is_clean(text), "{text}");
    }
}

#[test]
fn what_controls_or_hides_is_escaped() {
    for (text, expected) in [
        ("\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        ("a\nb\r\tc\0", r"a\x0ab\x0d\x09c\x00"),
        ("a\x7fb", r"a\x7fb"),
        ("\u{9b}2J", r"\u{9b}2J"),
        ("a\u{202e}b\u{202c}", r"a\u{202e}b\u{202c}"),
        ("\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}", r"\u{2066}a\u{2069}\u{200e}\u{200f}\u{61c}"),
        ("a\u{200b}b\u{200d}\u{feff}\u{ad}", r"a\u{200b}b\u{200d}\u{feff}\u{ad}"),
        ("a\u{2028}b\u{2029}c\u{85}", r"a\u{2028}b\u{2029}c\u{85}"),
        ("a\u{e000}b\u{378}\u{ffff}", r"a\u{e000}b\u{378}\u{ffff}"),
        ("a\u{a0}b\u{3000}\u{2800}\u{3164}", r"a\u{a0}b\u{3000}\u{2800}\u{3164}"),
        ("a\u{fe0f}\u{e0101}\u{e0041}", r"a\u{fe0f}\u{e0101}\u{e0041}"),
    ] {
        assert_eq!(clean(text), expected);
        assert!(!is_clean(text), "{text:?}");
    }
}

#[test]
fn bytes_that_are_no_text_are_escaped() {
    assert_eq!(clean(b"\xc3\xa4\xc3"), r"ä\xc3", "the kernel cuts names inside a character");
    assert_eq!(clean(b"\xff\xfe\xed\xa0\x80"), r"\xff\xfe\xed\xa0\x80");
    assert_eq!(clean(b"a \xff b"), r"a \xff b");
}

#[test]
fn spaces_cannot_forge_a_column() {
    assert_eq!(clean("imu  live"), r"imu\x20\x20live");
    assert_eq!(clean(" a b "), r"\x20a b\x20");
    assert_eq!(clean("  "), r"\x20\x20");
}

#[test]
fn marks_cannot_pile_up_or_change_what_stands_before() {
    assert_eq!(clean("\u{301}a"), r"\u{301}a");
    assert_eq!(clean("a \u{301}b"), r"a \u{301}b");
    let piled = format!("a{}", "\u{301}".repeat(1000));
    let name = clean_name(&piled);
    assert!(name.starts_with("a\u{301}\u{301}\u{301}\\u{301}"), "{name}");
    assert_eq!(name.chars().filter(|c| *c == '\u{301}').count(), MAX_MARKS);
}

#[test]
fn a_long_text_is_cut_by_characters_and_by_bytes() {
    let name = clean_name("日".repeat(5000));
    assert_eq!((name.chars().count(), name.ends_with('…')), (MAX_NAME_CHARS, true));
    let name = clean_name("\x1b".repeat(5000));
    assert!(name.chars().count() <= MAX_NAME_CHARS && name.ends_with(r"\x1b…"), "whole escapes only: {name}");
    let text = clean("日".repeat(5000));
    assert!(text.len() <= MAX_BYTES && text.ends_with("日…"));
    assert!(clean("a".repeat(100_000)).len() <= MAX_BYTES);
}

#[test]
fn own_lines_keep_their_layout() {
    assert_eq!(clean_lines("a  b\n  c"), "a  b\n  c");
    assert_eq!(clean_lines("a\x1b[2J\n\u{202e}ä"), "a\\x1b[2J\n\\u{202e}ä");
}

#[test]
fn all_of_a_json_value_is_cleaned() {
    let mut value = serde_json::json!({"a\n": ["\x1b", {"b": "ä\u{202e}"}], "n": 1, "t": "fine"});
    clean_json(&mut value);
    assert_eq!(value, serde_json::json!({r"a\x0a": [r"\x1b", {"b": r"ä\u{202e}"}], "n": 1, "t": "fine"}));
}

#[test]
fn most_json_is_known_to_be_clean_before_it_is_decoded() {
    let is_sure = |json: &str| is_surely_clean_json(json.as_bytes());
    assert!(is_sure(r#"{"topics":[{"name":"a/b","type":"","pid":7,"lost":null,"why":"two words"}],"x":-1.5e3}"#));
    for unsure in [r#"{"a":"\u001b"}"#, "\"ä\"", "\"a\u{7f}\"", r#"" a""#, r#""a ""#, r#""a  b""#, "{\"a\n\":1}"] {
        assert!(!is_sure(&format!("[{unsure}]")), "{unsure}");
    }
    let of_length = |len| format!("[\"{}\"]", "x".repeat(len));
    assert!(is_sure(&of_length(MAX_BYTES - 1)) && !is_sure(&of_length(MAX_BYTES + 1)));
}

proptest! {
    #[test]
    fn json_that_is_surely_clean_stays_as_it_is(texts in prop::collection::vec("[ -~]{0,6}|[a-z ]{4090,4100}|.{0,3}", 0..4)) {
        let mut value = serde_json::json!([texts.clone(), {texts.concat(): 1}]);
        if is_surely_clean_json(value.to_string().as_bytes()) {
            let before = value.clone();
            clean_json(&mut value);
            prop_assert_eq!(value, before);
        }
    }

    #[test]
    fn anything_becomes_one_clean_line(bytes in prop::collection::vec(any::<u8>(), 0..300), text in any::<String>()) {
        for text in [&bytes[..], text.as_bytes()] {
            for cleaned in [clean(text), clean_name(text)] {
                prop_assert!(cleaned.chars().all(is_shown), "{cleaned:?}");
                prop_assert!(!cleaned.contains("  ") && cleaned.trim() == cleaned);
                prop_assert!(cleaned.len() <= MAX_BYTES);
            }
            prop_assert_eq!(clean(clean(text)), clean(text));
            prop_assert_eq!(clean_name(clean_name(text)), clean_name(text));
            prop_assert!(clean_name(text).chars().count() <= MAX_NAME_CHARS);
        }
    }

    #[test]
    fn plain_text_is_clean(text in "[ -~]{0,250}") {
        if is_plain(&text) {
            prop_assert_eq!(clean_name(&text), text.clone());
        }
        prop_assert_eq!(is_clean(&text), clean(&text) == text);
    }
}
