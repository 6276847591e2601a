//! Guesses which name was meant by one that does not exist.

/// The name that was probably meant: few letters differ, or one is part of the other.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = 1 + wanted.chars().count() / 4;
    let part = |name: &str| wanted.len() >= 3 && name.contains(wanted) || name.len() >= 3 && wanted.contains(name);
    names
        .map(|name| (distance(wanted, name), name))
        .filter(|&(distance, name)| distance <= close_enough || part(name))
        .min()
        .map(|(_, name)| name)
}

/// The Levenshtein distance: how many letters must be inserted, removed or replaced to turn one
/// text into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_is_levenshtein() {
        for (from, to, expected) in
            [("", "", 0), ("", "abc", 3), ("imu", "imu", 0), ("kitten", "sitting", 3), ("lidar", "ldiar", 2)]
        {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
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
