//! How far goals were met.

use super::entrant::Entrant;
use super::measured::{MeasuredRow, duration, ratio_cell, table};
use super::result::{Footprint, RowResult};
use super::rows::{GROUPS, Goal};

/// What came of a goal.
struct Verdict {
    is_met: bool,
    /// What was wanted, in words.
    wanted: String,
    /// What was found of it, in words.
    found: String,
    /// Whom Conduit was compared with, and how it compares.
    compared: Option<(Entrant, f64)>,
}

impl MeasuredRow<'_> {
    /// Each goal with how far it was met.
    pub(super) fn goals(&self, vendor_id: &str) -> String {
        let goals = self.row.goals.iter().chain(&self.row.earlier_goals);
        let verdicts = goals.filter_map(|goal| self.verdict(*goal, vendor_id));
        let words = verdicts.map(|Verdict { is_met, wanted, found, .. }| {
            format!("{wanted}: {}, {found}", if is_met { "met" } else { "**missed**" })
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// A line of the table of goals for each that can be judged.
    fn goal_cells(&self, goals: &[Goal], vendor_id: &str) -> Vec<Vec<String>> {
        let group = GROUPS.iter().find(|group| self.row.is_of(group)).map_or("", |group| group.work);
        let cells = |Verdict { is_met, wanted, compared, .. }: Verdict| {
            let beside = compared.map(|(entrant, _)| entrant).filter(|entrant| *entrant != Entrant::Limit);
            let beside = beside.map(|entrant| match entrant {
                Entrant::Peer(name) => format!("{name}: {}", self.middle(entrant)),
                _ => self.middle(entrant),
            });
            vec![
                format!("{group}: {}", self.row.title),
                self.middle(Entrant::Limit),
                self.middle(Entrant::Ours),
                ratio_cell(compared.map(|(_, ratio)| ratio)),
                beside.unwrap_or_else(|| "-".into()),
                wanted,
                if is_met { "yes" } else { "**no**" }.into(),
            ]
        };
        goals.iter().filter_map(|goal| self.verdict(*goal, vendor_id)).map(cells).collect()
    }

    /// A median without percentiles, or whatever else was measured.
    fn middle(&self, entrant: Entrant) -> String {
        self.p50(entrant).map_or_else(|| self.cell(entrant), duration)
    }

    /// `None` if whom a goal compares Conduit with was not measured, or if it is another vendor's.
    fn verdict(&self, goal: Goal, vendor_id: &str) -> Option<Verdict> {
        let ratio = |most: f64, to: Entrant, what: &str| {
            let found = self.ratio(to)?;
            // A rate is better if it is higher.
            let is_met = if self.rate(to).is_some() { found >= most } else { found <= most };
            let (wanted, in_words) = (format!("{most}x {what}"), format!("{found:.2}x"));
            Some(Verdict { is_met, wanted, found: in_words, compared: Some((to, found)) })
        };
        let alone = |is_met, wanted, found| Some(Verdict { is_met, wanted, found, compared: None });
        match goal {
            Goal::OfLimit(most) => ratio(most, Entrant::Limit, "the limit"),
            Goal::OfPeer(name, most) => ratio(most, self.peer(name)?, name),
            Goal::OfReference(most, what) => ratio(most, Entrant::Reference, what),
            Goal::AtMost(most) => {
                let (most, p50) = (most.of(vendor_id)?, self.p50(Entrant::Ours)?);
                alone(p50 <= most, duration(most), duration(p50))
            }
            Goal::OverLimit(most) => {
                let most = most.of(vendor_id)?;
                let p50 = |measured: &RowResult, entrant| Some(measured.columns.get(&entrant)?.median);
                let over = self.median(|all| Some(p50(all, Entrant::Ours)? - p50(all, Entrant::Limit)?))?;
                alone(over <= most, format!("{} over the limit", duration(most)), duration(over))
            }
            Goal::AtLeast(least) => {
                let rate = self.rate(Entrant::Ours)?;
                alone(rate >= least, format!("{:.0} M/s", least / 1e6), format!("{:.1} M/s", rate / 1e6))
            }
            Goal::OneFile(bytes) => {
                let found = self.footprint(Entrant::Ours)?;
                let few = found.publisher_descriptors.max(found.subscriber_descriptors) <= 1;
                let goal = Footprint { files: 1, bytes, publisher_descriptors: 1, subscriber_descriptors: 1 };
                alone(found.files <= 1 && found.bytes <= bytes && few, goal.words(), found.words())
            }
            Goal::NothingLost => {
                let lost = self.repeats.iter().filter_map(|measured| measured.lost).max()?;
                alone(lost == 0, "nothing lost".into(), format!("{lost} lost"))
            }
        }
    }
}

/// Adds the tables of goals: those of the present layout of regions, and earlier ones.
pub(super) fn tables(text: &mut String, rows: &[MeasuredRow<'_>], vendor_id: &str) {
    let heads = |work| [work, "limit", "Conduit", "ratio", "peer", "goal", "met"];
    table(text, &heads("work"), rows.iter().flat_map(|row| row.goal_cells(&row.row.goals, vendor_id)));
    let earlier = rows.iter().flat_map(|row| row.goal_cells(&row.row.earlier_goals, vendor_id));
    table(text, &heads("work, of earlier goals"), earlier);
}
