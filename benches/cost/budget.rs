//! What requests may cost: a file beside this one, changed on purpose only.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::count::Scene;

/// Part of an instruction count that may be another one elsewhere.
const TOLERANCE: f64 = 0.03;
/// A budget that is so much larger than what is used hides what comes next.
const SLACK: f64 = 0.10;
/// System calls are whole; a timer of the runtime may fall between two requests.
const CALLS_TOLERANCE: f64 = 0.2;

/// What requests may cost whose calls are linked, by what they cost otherwise.
const LINKING: f64 = 1.05;

/// For each scene.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Budget(BTreeMap<String, Cost>);

/// Of one request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    /// None where they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system_calls: Option<f64>,
}

impl Budget {
    pub(crate) fn load() -> Result<Self> {
        let text = fs::read(file()).with_context(|| format!("cannot read {}", file().display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn save(&self) -> Result<()> {
        fs::write(file(), serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    pub(crate) fn set(&mut self, scene: &str, instructions: f64, system_calls: Option<f64>) {
        // Below a hundred there is nothing to budget.
        let instructions = ((instructions / 100.0).ceil() * 100.0) as u64;
        let system_calls = system_calls.map(|calls| (calls * 10.0).round() / 10.0);
        self.0.insert(scene.to_owned(), Cost { instructions, system_calls });
    }

    /// What of `used` does not keep to this budget.
    pub(crate) fn compare(&self, used: &Self) -> Vec<String> {
        let mut broken = Vec::new();
        let of = |scene: Scene| used.0.get(scene.name()).map(|cost| cost.instructions as f64);
        if let (Some(on), Some(off)) = (of(Scene::Linked), of(Scene::Unlinked))
            && on > off * LINKING
        {
            broken
                .push(format!("linking costs {:.3} times what a request costs without, more than {LINKING}", on / off));
        }
        for (scene, used) in &used.0 {
            let Some(budget) = self.0.get(scene) else {
                broken.push(format!("{scene} has no budget"));
                continue;
            };
            let ratio = used.instructions as f64 / budget.instructions as f64;
            if ratio > 1.0 + TOLERANCE {
                let (used, budget) = (used.instructions, budget.instructions);
                broken.push(format!("{scene}: {used} instructions for a request, {budget} are its budget"));
            } else if ratio < 1.0 - SLACK {
                let (used, budget) = (used.instructions, budget.instructions);
                broken.push(format!("{scene}: {used} instructions for a request, far below its budget of {budget}"));
            }
            if let (Some(used), Some(budget)) = (used.system_calls, budget.system_calls)
                && used > budget + CALLS_TOLERANCE
            {
                broken.push(format!("{scene}: {used} system calls for a request, {budget} are its budget"));
            }
        }
        broken
    }
}

/// One for each way of building: CI has a debug build anyway, and what it does not have would take it minutes.
fn file() -> PathBuf {
    let name = if cfg!(debug_assertions) { "debug.json" } else { "cost.json" };
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/cost/budget").join(name)
}
