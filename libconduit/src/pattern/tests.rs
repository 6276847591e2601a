use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn matches(glob: &str, topic: &str) -> bool {
    TopicPattern::new(glob).unwrap().matches(&topic.parse().unwrap())
}

#[test]
fn one_star_stays_within_a_segment_and_two_cross_segments() {
    for (glob, yes, no) in [
        ("imu", &["imu"][..], &["imu2", "a/imu", "imu/a", "IMU"][..]),
        ("*", &["imu"], &["a/b"]),
        ("cam*/*t", &["camera/front", "cam/t"], &["camera", "camera/front/left", "camera/frontx", "x/t"]),
        ("camera/**", &["camera/front", "camera/a/b/c"], &["camera", "cameras/front", "a/camera/b"]),
        ("**", &["imu", "a/b/c"], &[]),
        ("**/raw", &["raw", "a/raw", "a/b/raw", "raw/raw"], &["a/raw/b", "xraw"]),
        ("a/**/z", &["a/z", "a/b/z", "a/z/z", "a/z/b/z"], &["a", "a/b", "z/a"]),
        ("a/**/m/**/z", &["a/m/z", "a/m/m/z", "a/x/m/y/z", "a/z/m/z"], &["a/z", "a/m/z/m"]),
        ("**/**", &["a", "a/b"], &[]),
        ("**/a/*", &["a/b", "a/a/a", "x/a/b"], &["a", "a/b/c"]),
        ("lidar[0-3]", &["lidar0", "lidar3"], &["lidar4", "lidar", "lidar01"]),
        ("lidar[!0-3]/?", &["lidar4/a"], &["lidar3/a", "lidar4/ab", "lidar4"]),
    ] {
        for topic in yes {
            assert!(matches(glob, topic), "{glob} matches {topic}");
        }
        for topic in no {
            assert!(!matches(glob, topic), "{glob} does not match {topic}");
        }
    }
}

#[test]
fn errors_name_the_defect_and_its_offset() {
    let whole = "`**` stands for whole segments; write `a/**/b`, or `*` within a segment";
    let empty = "empty segment; write `a/b`, without leading, trailing or double `/`";
    let unclosed = "`[` has no `]`; write `[a-z]`";
    let nothing = "`[]` matches no character; write `[a-z]` or leave it out";
    let hyphen = "no segment of a topic name begins with `-`";
    let character = |character: &str| {
        format!("'{character}' is in no topic name; allowed are A-Z a-z 0-9 _ - / and the wildcards * ** ? [a-z]")
    };
    for (glob, at, reason) in [
        ("", 0, empty),
        ("/a", 0, empty),
        ("a//b", 2, empty),
        ("a/", 2, empty),
        ("a/b**", 3, whole),
        ("a/***", 2, whole),
        ("a/b[0-", 3, unclosed),
        ("a[/]", 1, unclosed),
        ("a[]", 1, nothing),
        ("a/x[!]", 3, nothing),
        ("-", 0, hyphen),
        ("a/-*", 2, hyphen),
        ("a b", 1, &character(" ")),
        ("a/ä", 2, &character("ä")),
        ("a]", 1, &character("]")),
        ("!a", 0, &character("!")),
        ("[*]", 1, &character("*")),
        ("{a,b}", 0, &character("{")),
    ] {
        let error = TopicPattern::new(glob).map(|_| ()).unwrap_err();
        assert_eq!(error, TopicPatternError { pattern: glob.into(), at, reason: reason.into() });
    }
    let error = TopicPattern::new("a//b").unwrap_err();
    assert_eq!(error.to_string(), format!("pattern \"a//b\" is invalid at byte 2: {empty}"));
    let error = TopicPattern::new(&"x".repeat(60_000)).unwrap_err().to_string();
    assert!(error.ends_with("it has 60000 bytes, the limit is 1000") && error.len() < 300, "{error}");
}

#[test]
fn hostile_patterns_match_in_bounded_time() {
    let (sender, receiver) = std::sync::mpsc::channel();
    // A match that never ends cannot be stopped, only abandoned.
    std::thread::spawn(move || {
        for (glob, topic) in [
            (format!("{}b/x", "*a".repeat(90)), format!("{}/x", "a".repeat(190))),
            (format!("{}b", "**/a/".repeat(90)), format!("{}a", "a/".repeat(99))),
            (format!("{}x/*b", "**/*a*a*a/".repeat(20)), format!("{}aaaaaaaaaaaa", "aaaaaa/".repeat(25))),
        ] {
            sender.send(matches(&glob, &topic)).unwrap();
        }
    });
    for _ in 0..3 {
        assert_eq!(receiver.recv_timeout(Duration::from_secs(5)), Ok(false));
    }
}

/// The definition, in exponential time.
fn reference(glob: &[&str], names: &[&str]) -> bool {
    match glob {
        [] => names.is_empty(),
        ["**"] => !names.is_empty(),
        ["**", rest @ ..] => (0..=names.len()).any(|taken| reference(rest, &names[taken..])),
        [one, rest @ ..] => names.split_first().is_some_and(|(name, names)| {
            let letters: Vec<char> = name.chars().collect();
            in_segment(&one.chars().collect::<Vec<_>>(), &letters) && reference(rest, names)
        }),
    }
}

fn in_segment(glob: &[char], name: &[char]) -> bool {
    match glob {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|taken| in_segment(rest, &name[taken..])),
        ['?', rest @ ..] => !name.is_empty() && in_segment(rest, &name[1..]),
        [letter, rest @ ..] => name.first() == Some(letter) && in_segment(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn matches_agree_with_the_definition(
        glob in prop::collection::vec("\\*\\*|[ab*?]{1,4}", 1..6),
        topic in prop::collection::vec("[ab]{1,3}", 1..6),
    ) {
        let (text, topic) = (glob.join("/"), topic.join("/"));
        prop_assume!(TopicPattern::new(&text).is_ok());
        let glob: Vec<&str> = text.split('/').collect();
        let names: Vec<&str> = topic.split('/').collect();
        prop_assert_eq!(matches(&text, &topic), reference(&glob, &names), "{} {}", text, topic);
    }

    #[test]
    fn any_text_is_a_pattern_or_an_error_within_it(text in ".{0,40}|[a/*?\\[\\]!-]{0,12}", topic in "[a/-]{1,9}") {
        match TopicPattern::new(&text) {
            Ok(glob) => {
                prop_assert_eq!(glob.to_string(), text);
                if let Ok(topic) = topic.parse() {
                    glob.matches(&topic);
                }
            }
            Err(error) => prop_assert!(text.is_char_boundary(error.at)),
        }
    }
}
