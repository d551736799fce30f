//! The score: how much a system is a distributed monolith, 0 to 100, and what makes it so.
//!
//! For every flow and dimension the worst severity counts, 0 (fine) over ½ (warning) to 1 (critical); flows weigh as the
//! square root of their traffic, services as the share of requests that pass through them. The score is the weighted mean
//! over the dimensions that were *observed*: what nobody could see is never taken for zero.

mod noise;
mod severity;

use std::collections::BTreeMap;

use couplet_config::{Architecture, FindingThresholds};
use serde::{Deserialize, Serialize};

use crate::coupling::flow::{EachFlow, Flows};
use crate::coupling::hub;
use crate::coupling::interval::Interval;
use crate::coupling::roles::roles;
use crate::graph::{EntryIx, ServiceIx, Snapshot};
use severity::{Measured, Scale};

/// The score of a system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// 0 (modular) to 100 (a distributed monolith); none where no flow has enough requests.
    pub value: Option<f64>,
    /// The central 90 % of the scores of resampled counts.
    pub interval: Option<[f64; 2]>,
    /// What the score is called, where the whole interval lies within one band.
    pub label: Option<String>,
    /// Dimensions that were observed.
    pub observed: usize,
    /// All dimensions, in a fixed order.
    pub dimensions: Vec<DimensionScore>,
    /// What makes the score: the most first.
    pub drivers: Vec<Driver>,
}

/// One dimension of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DimensionScore {
    /// Which.
    pub dimension: Dimension,
    /// 0 to 1; none where it was not observed.
    pub value: Option<f64>,
    /// How much it weighs.
    pub weight: f64,
}

/// What makes a part of a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// In which dimension.
    pub dimension: Dimension,
    /// The rule that reports it, where it is beyond a threshold.
    pub rule: String,
    /// The services.
    pub services: Vec<String>,
    /// The largest severity that it has for any flow, 0 to 1.
    pub severity: f64,
    /// By how many points the score would be lower without it.
    pub points: f64,
}

/// What is looked at. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Chains, many services at once, temporal coupling.
    Temporal,
    /// How failures spread.
    Failure,
    /// Data that several services share.
    Data,
    /// Services that are deployed together.
    Lockstep,
    /// Circles and hubs.
    Structure,
    /// Chattiness and fan-out.
    Chattiness,
}

impl Dimension {
    /// All of them, the weightiest first.
    pub const ALL: [Dimension; 6] = [
        Dimension::Temporal,
        Dimension::Failure,
        Dimension::Data,
        Dimension::Lockstep,
        Dimension::Structure,
        Dimension::Chattiness,
    ];

    /// How much it weighs.
    #[must_use]
    pub fn weight(self) -> f64 {
        match self {
            Dimension::Temporal | Dimension::Failure => 3.0,
            Dimension::Data | Dimension::Lockstep => 2.0,
            Dimension::Structure | Dimension::Chattiness => 1.0,
        }
    }

    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Temporal => "temporal",
            Dimension::Failure => "failure",
            Dimension::Data => "data",
            Dimension::Lockstep => "lockstep",
            Dimension::Structure => "structure",
            Dimension::Chattiness => "chattiness",
        }
    }
}

/// The score of a snapshot.
#[must_use]
pub fn score(snapshot: &Snapshot, thresholds: &FindingThresholds, architecture: &Architecture) -> Score {
    Scorer::new(snapshot, thresholds, architecture).score(&Flows::of(snapshot))
}

/// Scores flows: those of a snapshot, or what a change would make of them.
#[derive(Debug)]
pub struct Scorer<'a> {
    snapshot: &'a Snapshot,
    scale: Scale<'a>,
}

impl<'a> Scorer<'a> {
    /// Scores the flows of a snapshot.
    #[must_use]
    pub fn new(snapshot: &'a Snapshot, thresholds: &'a FindingThresholds, architecture: &Architecture) -> Self {
        Self { snapshot, scale: Scale::new(snapshot, thresholds, roles(snapshot, architecture)) }
    }

    /// The score with its interval and all that makes it.
    #[must_use]
    pub fn score(&self, flows: &dyn EachFlow) -> Score {
        let mut parts = Parts::default();
        let values = self.values(flows, &mut |weight, place, measured| parts.offer(weight, place, measured));
        parts.add_up(&values);
        let value = values.score();
        let interval = value.map(|value| self.interval(flows, value));
        let dimension = |dimension: Dimension| DimensionScore {
            dimension,
            value: values.get(dimension).map(rounded),
            weight: dimension.weight(),
        };
        Score {
            value: value.map(points),
            interval: interval.map(|interval| [points(interval.low), points(interval.high)]),
            label: interval.and_then(label).map(str::to_owned),
            observed: values.observed(),
            dimensions: Dimension::ALL.map(dimension).to_vec(),
            drivers: self.drivers(parts, &values),
        }
    }

    /// The number alone: what comparing many changes needs.
    #[must_use]
    pub fn value(&self, flows: &dyn EachFlow) -> Option<f64> {
        self.values(flows, &mut |_, _, _| {}).score()
    }

    /// The value of every dimension. All that goes into it is told: how much it weighs, of which flow or service, and what.
    fn values(&self, flows: &dyn EachFlow, tell: &mut impl FnMut(f64, Place, Measured<'_>)) -> Values {
        let mut values = Values::default();
        let (mut total, mut failed) = (0.0, 0_u64);
        flows.each(&mut |flow| {
            if self.scale.is_enough(flow) {
                total += (flow.requests as f64).sqrt();
            }
            failed = flow.nodes.iter().fold(failed, |sum, node| sum.saturating_add(node.failures));
        });
        if total == 0.0 {
            return values;
        }
        let failures = self.scale.is_observed(failed);
        for dimension in [Dimension::Temporal, Dimension::Chattiness, Dimension::Structure] {
            values.observe(dimension);
        }
        if failures {
            values.observe(Dimension::Failure);
        }
        let radii = if failures { self.scale.radii(flows) } else { BTreeMap::new() };
        flows.each(&mut |flow| {
            if !self.scale.is_enough(flow) {
                return;
            }
            let weight = (flow.requests as f64).sqrt() / total;
            let mut worst = [0.0_f64; Dimension::ALL.len()];
            self.scale.flow(flow, &radii, &mut |measured| {
                if measured.dimension == Dimension::Failure && !failures {
                    return;
                }
                tell(weight, Place::Flow(flow.entry), measured);
                if let Some(slot) = worst.get_mut(measured.dimension as usize) {
                    *slot = slot.max(measured.severity);
                }
            });
            values.add(weight, worst);
        });
        let shares = hub::shares(flows);
        let through: f64 = shares.values().map(|share| share.flows).sum();
        let mut worst: BTreeMap<ServiceIx, f64> = BTreeMap::new();
        let weight = |service: &ServiceIx| {
            let share = shares.get(service).map_or(0.0, |share| share.flows);
            if through > 0.0 { share / through } else { 0.0 }
        };
        self.scale.structure(flows, &mut |measured| {
            for service in measured.services {
                tell(weight(service), Place::Service(*service), measured);
                let slot = worst.entry(*service).or_default();
                *slot = slot.max(measured.severity);
            }
        });
        for (service, severity) in worst {
            let of = |dimension| if dimension == Dimension::Structure { severity } else { 0.0 };
            values.add(weight(&service), Dimension::ALL.map(of));
        }
        values
    }

    fn interval(&self, flows: &dyn EachFlow, value: f64) -> Interval {
        let resampled =
            (0..noise::times(flows)).scan(noise::Random::default(), |random, _| Some(noise::resampled(flows, random)));
        let mut values: Vec<f64> = resampled.filter_map(|flows| self.value(&flows)).chain([value]).collect();
        values.sort_by(f64::total_cmp);
        let at = |q: f64| values.get(((values.len() - 1) as f64 * q).round() as usize).copied().unwrap_or(value);
        Interval { low: at(0.05).min(value), high: at(0.95).max(value) }
    }

    fn drivers(&self, parts: Parts, values: &Values) -> Vec<Driver> {
        let weights = values.weights();
        let name = |service: &ServiceIx| self.snapshot[*service].name.to_string();
        let mut drivers: Vec<Driver> = parts
            .drivers
            .into_iter()
            .map(|((dimension, rule, services), (severity, lost))| Driver {
                dimension,
                rule: rule.to_owned(),
                services: services.iter().map(name).collect(),
                severity: rounded(severity),
                points: points(100.0 * dimension.weight() * lost / weights.max(1.0)),
            })
            .collect();
        drivers.sort_by(|a, b| {
            b.points
                .total_cmp(&a.points)
                .then(b.severity.total_cmp(&a.severity))
                .then_with(|| a.services.cmp(&b.services))
        });
        drivers.truncate(MOST_DRIVERS);
        drivers
    }
}

/// Drivers that are named.
const MOST_DRIVERS: usize = 50;

/// Where a severity counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Flow(EntryIx),
    Service(ServiceIx),
}

/// The value of every dimension that was observed, 0 to 1 and a little more by rounding.
#[derive(Debug, Default)]
struct Values([Option<f64>; Dimension::ALL.len()]);

impl Values {
    fn observe(&mut self, dimension: Dimension) {
        if let Some(slot) = self.0.get_mut(dimension as usize) {
            slot.get_or_insert_default();
        }
    }

    /// Adds the worst severities of one place.
    fn add(&mut self, weight: f64, worst: [f64; Dimension::ALL.len()]) {
        for (value, worst) in self.0.iter_mut().zip(worst) {
            if let Some(value) = value {
                *value += weight * worst;
            }
        }
    }

    fn get(&self, dimension: Dimension) -> Option<f64> {
        self.0.get(dimension as usize).copied().flatten()
    }

    fn observed(&self) -> usize {
        self.0.iter().flatten().count()
    }

    fn weights(&self) -> f64 {
        self.each().map(|(dimension, _)| dimension.weight()).sum()
    }

    fn score(&self) -> Option<f64> {
        let weights = self.weights();
        let sum: f64 = self.each().map(|(dimension, value)| dimension.weight() * value.min(1.0)).sum();
        (weights > 0.0).then(|| 100.0 * sum / weights)
    }

    fn each(&self) -> impl Iterator<Item = (Dimension, f64)> {
        Dimension::ALL.into_iter().filter_map(|dimension| Some((dimension, self.get(dimension)?)))
    }
}

type DriverKey = (Dimension, &'static str, Vec<ServiceIx>);

/// What makes a score, while it is put together.
#[derive(Debug, Default)]
struct Parts {
    /// By dimension and place: the weight, the worst and the second worst severity, and whose the worst is.
    cells: BTreeMap<(Dimension, Place), Cell>,
    /// By driver: the largest severity, and the part of its dimension that would go with it.
    drivers: BTreeMap<DriverKey, (f64, f64)>,
}

#[derive(Debug, Default)]
struct Cell {
    weight: f64,
    worst: f64,
    second: f64,
    whose: Option<DriverKey>,
}

impl Parts {
    fn offer(&mut self, weight: f64, place: Place, measured: Measured<'_>) {
        let Measured { dimension, rule, services, severity } = measured;
        if severity <= 0.0 {
            return;
        }
        let key = (dimension, rule, services.to_vec());
        let slot = self.drivers.entry(key.clone()).or_default();
        slot.0 = slot.0.max(severity);
        let cell = self.cells.entry((dimension, place)).or_default();
        cell.weight = weight;
        if cell.whose.as_ref() == Some(&key) {
            cell.worst = cell.worst.max(severity);
        } else if severity > cell.worst {
            cell.second = cell.worst;
            (cell.worst, cell.whose) = (severity, Some(key));
        } else {
            cell.second = cell.second.max(severity);
        }
    }

    /// What would go with each driver, of the dimensions that were observed.
    fn add_up(&mut self, values: &Values) {
        for ((dimension, _), cell) in &self.cells {
            let driver = cell.whose.as_ref().filter(|_| values.get(*dimension).is_some());
            if let Some(driver) = driver.and_then(|whose| self.drivers.get_mut(whose)) {
                driver.1 += cell.weight * (cell.worst - cell.second);
            }
        }
    }
}

/// What a score is called, where all of `interval` is called the same.
fn label(interval: Interval) -> Option<&'static str> {
    let name = |value: f64| match value {
        value if value < 25.0 => "modular",
        value if value < 50.0 => "coupled",
        value if value <= 75.0 => "tending to a distributed monolith",
        _ => "a distributed monolith",
    };
    (name(interval.low) == name(interval.high)).then(|| name(interval.low))
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn points(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
