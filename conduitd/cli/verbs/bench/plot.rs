//! Distributions as lines of text: columns of equal width on a logarithmic scale, as high as they
//! have measurements.

const DECADES: usize = 6;
const COLUMNS_PER_DECADE: usize = 9;
const COLUMNS: usize = DECADES * COLUMNS_PER_DECADE;
/// Where the axis begins.
const FIRST_NS: f64 = 10.0;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The numbers of the axis and its ticks, indented by so many columns.
pub(super) fn axis(indent: usize) -> [String; 2] {
    let labels = ["10 ns", "100 ns", "1 us", "10 us", "100 us", "1 ms", "10 ms"];
    let numbers: String = labels.iter().map(|label| format!("{label:<COLUMNS_PER_DECADE$}")).collect();
    let ticks = format!("{}|", format!("|{}", "-".repeat(COLUMNS_PER_DECADE - 1)).repeat(DECADES));
    [numbers, ticks].map(|line| format!("{}{}", " ".repeat(indent), line.trim_end()))
}

/// A line below the axis. The fullest column is the highest; even a single measurement is visible.
/// Measurements outside of the axis count in the first or the last column.
pub(super) fn line(steps: impl Iterator<Item = (f64, u64)>) -> String {
    let mut counts = [0; COLUMNS];
    for (ns, count) in steps {
        // The conversion saturates: a duration below the axis is in column 0.
        let column = ((ns / FIRST_NS).log10() * COLUMNS_PER_DECADE as f64) as usize;
        counts[column.min(COLUMNS - 1)] += count;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let column = |count: u64| match (count * HEIGHTS.len() as u64).div_ceil(most) {
        0 => ' ',
        height => HEIGHTS[height as usize - 1],
    };
    counts.into_iter().map(column).collect::<String>().trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_logarithmic() {
        let at = |ns: f64| line([(ns, 1)].into_iter()).chars().count() - 1;
        assert_eq!([10.0, 100.0, 1e3, 1e4, 9.99e6].map(at), [0, 9, 18, 27, 53]);
        assert_eq!([13.0, 20.0, 50.0].map(at), [1, 2, 6], "within a decade");
        assert_eq!([0.0, 1.0, 1e7, 1e12].map(at), [0, 0, 53, 53], "outside");
    }

    #[test]
    fn heights_are_shares_of_the_highest_and_one_is_visible() {
        let steps = [(10.0, 800), (12.0, 200), (13.0, 500), (1000.0, 1)];
        assert_eq!(line(steps.into_iter()), format!("█▄{}▁", " ".repeat(16)));
        assert_eq!(line([].into_iter()), "");
    }

    #[test]
    fn the_axis_stands_above_the_columns() {
        let [numbers, ticks] = axis(3);
        for (number, column) in [("10 ns", 0), ("1 us", 18), ("10 ms", 54)] {
            assert_eq!((numbers.find(number), ticks.as_bytes()[3 + column]), (Some(3 + column), b'|'));
        }
        assert!(ticks.len() == 3 + 55 && numbers.len() <= 80, "{ticks}");
    }
}
