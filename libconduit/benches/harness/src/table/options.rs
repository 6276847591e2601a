//! The command line.

use std::ffi::OsString;

use lexopt::ValueExt as _;

use crate::{Result, cores};

pub(super) const HELP: &str = "\
Measures Conduit beside the limits of the machine, and beside other libraries, and prints tables in
Markdown.

  [NAME]...             only rows whose names start like this: small, bytes, publish/nobody

      --quick           three short repeats instead of six long ones
      --goals           only rows with a goal, and which goals were met
      --list            print the rows' names
      --repeats N       how often to measure everything [6]
      --time FACTOR     how much longer to measure than usual [1]
      --cores A,B       cores of the two processes [two physical cores]
      --percentiles     print all percentiles as well
      --json            print the results of each repeat as JSON
  -h, --help            print this
";

/// What to measure and what to print.
#[derive(Debug, Default, PartialEq)]
pub(super) struct TableOptions {
    pub(super) names: Vec<String>,
    pub(super) goals: bool,
    pub(super) list: bool,
    pub(super) repeats: usize,
    pub(super) time: f64,
    pub(super) cores: Option<(usize, usize)>,
    pub(super) json: bool,
    pub(super) percentiles: bool,
}

impl TableOptions {
    /// `None` if the caller asks for help.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>> {
        use lexopt::Arg::{Long, Short, Value};
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Self::default();
        let (mut repeats, mut time, mut quick) = (None, None, false);
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(None),
                Long("quick") => quick = true,
                Value(name) => options.names.push(name.string()?),
                Long("goals") => options.goals = true,
                Long("list") => options.list = true,
                Long("repeats") => repeats = Some(parser.value()?.parse()?),
                Long("time") => time = Some(parser.value()?.parse()?),
                Long("cores") => options.cores = Some(parser.value()?.parse_with(cores::parse)?),
                Long("json") => options.json = true,
                Long("percentiles") => options.percentiles = true,
                // Cargo passes it to every benchmark.
                Long("bench") => {}
                other => return Err(other.unexpected().into()),
            }
        }
        options.repeats = repeats.unwrap_or(if quick { 3 } else { 6 });
        options.time = time.unwrap_or(if quick { 0.25 } else { 1.0 });
        if options.repeats == 0 || !(0.001..=1000.0).contains(&options.time) {
            return Err("there is nothing to measure: --repeats 1 and --time 0.001 are the least".into());
        }
        Ok(Some(options))
    }

    pub(super) fn wants(&self, id: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| id.starts_with(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<TableOptions>> {
        TableOptions::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_parsed_and_checked() {
        let options = parse("--bench --quick --goals small/64B cost --repeats 7 --cores 1,0").unwrap().unwrap();
        assert_eq!((options.repeats, options.time, options.cores), (7, 0.25, Some((1, 0))));
        assert!(options.goals && !options.list);
        assert_eq!(
            ["small/64B/inplace", "small/8B/inplace", "cost/start"].map(|id| options.wants(id)),
            [true, false, true]
        );
        assert!(parse("").unwrap().unwrap().wants("anything"));
        assert_eq!(parse("--help").unwrap(), None);
        for wrong in ["--repeats 0", "--time nan", "--time 0", "--cores 1", "--fast", "--only 64B"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
