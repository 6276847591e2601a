use proptest::prelude::*;

use super::*;

const ANY: FileFacts = FileFacts { gid: None, mode: None };

fn policy(text: &str) -> Policy {
    Policy::parse(text).unwrap()
}

fn topic(name: &str) -> TopicName {
    name.parse().unwrap()
}

fn error_of(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    std::fs::write(&path, text).unwrap();
    let error = Policy::load(&path).unwrap_err().to_string();
    error.strip_prefix(&format!("{}:", directory.path().join("p.toml").display())).unwrap().to_owned()
}

#[test]
fn without_rules_every_user_may_publish() {
    assert_eq!(policy("").may_publish(&topic("a"), 7, &[]), Ok(()));
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(
        r#"
        [[rule]]
        topics = ["camera/front"]
        users = [1000]
        [[rule]]
        name = "cameras"
        topics = ["lidar", "camera/**"]
        users = ["root"]
        groups = [44]
        [[rule]]
        topics = ["closed"]
        users = []
        [[rule]]
        topics = ["open"]
        "#,
    );
    assert_eq!(policy.len(), 4);
    let refused =
        |name: &str, uid, gids: &[u32]| policy.may_publish(&topic(name), uid, gids).err().map(|it| it.to_string());
    assert_eq!(refused("camera/front", 1000, &[]), None);
    assert_eq!(refused("camera/front", 0, &[44]).unwrap(), "rule 1: only user 1000 may publish it");
    assert_eq!(refused("camera/rear", 0, &[]), None);
    assert_eq!(refused("lidar", 1, &[2, 44]), None);
    let expected = "rule \"cameras\": only user root and group 44 may publish it";
    assert_eq!(refused("camera/rear", 1, &[2]).unwrap(), expected);
    assert_eq!(refused("closed", 0, &[]).unwrap(), "rule 3: nobody may publish it");
    assert_eq!(refused("open", 5, &[]), None);
    assert_eq!(refused("other", 5, &[]), None);
}

#[test]
fn a_file_must_have_its_mode_and_group() {
    let policy = policy(
        "[[rule]]\ntopics = ['a']\nmode = '0640'\ngroup = 44\n[[rule]]\ntopics = ['b']\ngroups = [44]\nmode = 0o600",
    );
    let judge = |name: &str, gid, mode| {
        let file = FileFacts { gid: Some(gid), mode: Some(mode) };
        policy.judge(&topic(name), 7, None, file).err().map(|refusal| refusal.to_string())
    };
    assert_eq!(judge("a", 44, 0o640), None);
    assert_eq!(judge("a", 44, 0o644).unwrap(), "rule 1: its file must have mode 0640, not 0644");
    assert_eq!(judge("a", 45, 0o640).unwrap(), "rule 1: its file must have group 44, not group 45");
    assert_eq!(judge("b", 44, 0o600), None, "its owner must be in the group to give the file to it");
    assert!(judge("b", 45, 0o600).unwrap().ends_with("only group 44 may publish it"));
    assert_eq!(policy.judge(&topic("b"), 7, Some(&[44]), ANY), Ok(()), "unknown attributes are not checked");
}

#[test]
fn errors_have_their_line_and_column() {
    let rule = |line: &str| format!("# rules\n[[rule]]\ntopics = ['a']\n{line}\n");
    for (text, expected) in [
        ("rule = 1".to_owned(), "1:8: invalid type: integer `1`, expected a sequence"),
        ("[[rules]]\n".into(), "1:3: unknown field `rules`, expected `rule`"),
        (
            rule("user = 'x'"),
            "4:1: unknown field `user`, expected one of `name`, `topics`, `users`, `groups`, `mode`, `group`",
        ),
        (rule("users = ['nobody-at-all']"), "4:10: there is no user \"nobody-at-all\""),
        (rule("users = [0, -1]"), "4:9: expected a name in quotes or a number"),
        (rule("groups = ['no-such-group']"), "4:11: there is no group \"no-such-group\""),
        (rule("group = 'no-such-group'"), "4:9: there is no group \"no-such-group\""),
        (rule("mode = '0888'"), "4:8: this is not a mode: use \"0640\" or 0o640, up to 0777"),
        (rule("mode = 640000"), "4:8: this is not a mode: use \"0640\" or 0o640, up to 0777"),
        (rule("mode = 0o440"), "4:8: a region's owner must be able to read and write: use 0640"),
        (rule("mode = true"), "4:8: expected a mode like \"0640\" or 0o640"),
        (
            "[[rule]]\n topics = [ 'e', 'a/[b']".into(),
            "2:18: pattern \"a/[b\" is invalid at byte 2: `[` has no `]`; write `[a-z]`",
        ),
        ("[[rule]]\ntopics = []".into(), "1:1: rule 1 is for no topics"),
        ("[[rule]]\nname = 'x'".into(), "1:1: missing field `topics`"),
        (rule("name = 'x'") + &rule("name = 'x'"), "8:8: there is already a rule \"x\""),
    ] {
        assert_eq!(error_of(&text), expected, "{text}");
    }
    assert!(error_of("[[rule]\n").starts_with("1:8: "), "{}", error_of("[[rule]\n"));
}

proptest! {
    #[test]
    fn any_text_gives_a_policy_or_an_error(
        lines in prop::collection::vec(prop_oneof![
            Just("[[rule]]".to_owned()),
            Just("topics = ['a/**', \"b\"]".to_owned()),
            "(name|users|groups|mode|group|topics) = .{0,12}",
            ".{0,20}",
        ], 0..8),
    ) {
        let text = lines.join("\n");
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.at <= text.len() && !error.what.is_empty());
        }
    }
}
