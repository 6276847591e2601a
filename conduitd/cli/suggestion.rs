//! Guesses which name was meant by one that does not exist.

use strsim::levenshtein;

/// The name that was probably meant: few letters differ, or one is part of the other.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = 1 + wanted.chars().count() / 4;
    let part = |name: &str| wanted.len() >= 3 && name.contains(wanted) || name.len() >= 3 && wanted.contains(name);
    names
        .map(|name| (levenshtein(wanted, name), name))
        .filter(|&(distance, name)| distance <= close_enough || part(name))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_levenshtein() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("imu", "imu", 0), ("kitten", "sitting", 3), ("lidar", "ldiar", 2)]
        {
            assert_eq!(levenshtein(from, to), expected, "{from} {to}");
            assert_eq!(levenshtein(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn a_misspelt_name_finds_the_nearest() {
        let names = ["camera/front", "camera/rear", "imu", "lidar"];
        let find = |wanted| nearest(wanted, names.into_iter());
        assert_eq!(find("camera/frnt"), Some("camera/front"));
        assert_eq!(find("liadr"), Some("lidar"));
        assert_eq!(find("rear"), Some("camera/rear"));
        assert_eq!(find("imu2"), Some("imu"));
        assert_eq!(find("odometry"), None);
        assert_eq!(find("x"), None);
    }
}
