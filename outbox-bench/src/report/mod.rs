//! What was measured, as a table, as JSON and as charts.

mod chart;
mod table;

use crate::bench::Bench;
use crate::database::Statement;
use crate::machine::Machine;
use crate::stats::Spread;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// What one scenario found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) title: String,
    /// How it was measured.
    pub(crate) method: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) curves: Vec<Curve>,
    /// What the axes of the curves are.
    pub(crate) axes: Option<(String, String)>,
    pub(crate) statements: Vec<Statement>,
    /// How many of the machine's cores others used meanwhile: a disturbance.
    pub(crate) others_cores: Option<f64>,
}

/// One thing that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: String,
    /// `None`: it could not be measured here.
    pub(crate) measured: Option<Spread>,
    pub(crate) baseline: Option<(String, Spread)>,
    /// Only beside a baseline does it mean something, even where that could not be measured.
    pub(crate) is_relative: bool,
    /// To the baseline, median to median.
    pub(crate) ratio: Option<f64>,
    /// For the ratio when it is relative, and for the median otherwise.
    pub(crate) target: Option<Target>,
    pub(crate) is_met: Option<bool>,
}

/// What a value is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// Something over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Curve {
    pub(crate) what: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A section with where it was measured: what is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    machine: Machine,
    events: u64,
    repeat: usize,
    section: Section,
}

impl Target {
    /// 1 when it is just met, more when it is met with something to spare.
    fn score(self, value: f64) -> f64 {
        match self {
            Self::AtLeast(least) => value / least,
            Self::AtMost(most) => most / value,
        }
    }

    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &str, measured: Option<Spread>) -> Self {
        Self {
            what: what.into(),
            unit: unit.to_owned(),
            measured,
            baseline: None,
            is_relative: false,
            ratio: None,
            target: None,
            is_met: None,
        }
    }

    pub(crate) fn against(mut self, what: impl Into<String>, baseline: Option<Spread>) -> Self {
        self.baseline = baseline.map(|baseline| (what.into(), baseline));
        self.is_relative = true;
        let both = self.measured.zip(baseline);
        self.ratio = both.map(|(measured, baseline)| measured.median / baseline.median);
        self
    }

    pub(crate) fn at_least(self, target: f64) -> Self {
        self.with(Target::AtLeast(target))
    }

    pub(crate) fn at_most(self, target: f64) -> Self {
        self.with(Target::AtMost(target))
    }

    /// To be called last.
    fn with(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.is_met = self.value().map(|value| target.is_met(value));
        self
    }

    /// What the target is for.
    fn value(&self) -> Option<f64> {
        if self.is_relative {
            return self.ratio;
        }
        Some(self.measured?.median)
    }

    fn score(&self) -> Option<f64> {
        Some(self.target?.score(self.value()?))
    }
}

impl Section {
    pub(crate) fn new(name: &str, title: &str, method: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            method: method.into(),
            rows: Vec::new(),
            curves: Vec::new(),
            axes: None,
            statements: Vec::new(),
            others_cores: None,
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn curves(&mut self, x: &str, y: &str, curves: Vec<Curve>) {
        self.axes = Some((x.to_owned(), y.to_owned()));
        self.curves = curves;
    }
}

/// Shows a section on the terminal.
pub(crate) fn show(section: &Section) -> String {
    format!(
        "\n{}\n{}\n{}\n",
        section.title,
        section.method,
        table::terminal(section)
    )
}

/// Writes a section as JSON and as charts, and renews the overview of all sections.
pub(crate) fn write(bench: &Bench, machine: &Machine, section: &Section) -> anyhow::Result<()> {
    let folder = bench.output();
    fs::create_dir_all(&folder)?;
    let record = Record {
        machine: machine.clone(),
        events: bench.run.events,
        repeat: bench.run.repeat,
        section: section.clone(),
    };
    let file = |ending: &str| folder.join(format!("{}.{ending}", section.name));
    fs::write(file("json"), serde_json::to_string_pretty(&record)? + "\n")?;
    let chart = match &section.axes {
        Some((x, y)) => chart::lines(&section.title, x, y, &section.curves),
        None => chart::bars(&section.title, &section.rows),
    };
    fs::write(file("svg"), chart)?;
    overview(&folder)
}

/// The rows that have a target, each named with its section.
fn with_targets(sections: &[&Section]) -> Vec<Row> {
    let rows = sections
        .iter()
        .flat_map(|section| section.rows.iter().map(|row| (&section.name, row)));
    rows.filter(|(_, row)| row.target.is_some())
        .map(|(section, row)| {
            let mut row = row.clone();
            row.what = format!("{section}: {}", row.what);
            row
        })
        .collect()
}

fn disturbance(section: &Section) -> String {
    section.others_cores.map_or_else(String::new, |cores| {
        // What is read a moment later may come to a little less than nothing.
        format!("other programs used {:.2} cores meanwhile", cores.max(0.0))
    })
}

/// All sections that were ever written there, the targets first.
fn overview(folder: &Path) -> anyhow::Result<()> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            records.push(serde_json::from_str::<Record>(&fs::read_to_string(path)?)?);
        }
    }
    let order = |name: &str| crate::scenarios::position(name);
    records.sort_by_key(|record| order(&record.section.name));
    let sections: Vec<&Section> = records.iter().map(|record| &record.section).collect();
    fs::write(folder.join("targets.svg"), chart::targets(&sections))?;
    let mut text = format!("# Results\n\n{}\n", table::targets(&sections));
    for Record {
        machine,
        events,
        repeat,
        section,
    } in &records
    {
        text += &format!(
            "\n## {}\n\n{}\n\n{}\n\n`--events {events} --repeat {repeat}`, {machine}; {}\n",
            section.title,
            section.method,
            table::markdown(section),
            disturbance(section),
        );
    }
    fs::write(folder.join("results.md"), text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_for_the_ratio_where_there_is_one() {
        let spread = |value| Spread::of([value]);
        let rate = Row::new("rate", "events/s", spread(90.0)).against("bare", spread(100.0));
        assert_eq!(rate.clone().at_least(0.8).is_met, Some(true));
        assert_eq!(rate.at_least(1.0).is_met, Some(false));
        let time = Row::new("p50", "ms", spread(4.0)).at_most(3.0);
        assert_eq!((time.is_met, time.score()), (Some(false), Some(0.75)));
        assert_eq!(Row::new("memory", "MiB", None).at_most(80.0).is_met, None);
        let alone = Row::new("rate", "events/s", spread(90.0)).against("a peer", None);
        assert_eq!(alone.at_least(2.5).is_met, None);
    }
}
