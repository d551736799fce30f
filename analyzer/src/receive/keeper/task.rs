//! What is done beside the recorder, by a thread of its own.

use std::sync::Arc;
use std::thread::JoinHandle;

use couplet_telemetry::otlp::Bounds;
use couplet_telemetry::window::WindowLimits;

use crate::casebook::Busy;
use crate::findings::Finding;
use crate::graph::{Graph, GraphLimits};
use crate::judge::Judge;
use crate::priority;
use crate::slots::{Due, OpenSlot, Rollup, fold};

/// Something that takes long.
#[derive(Debug)]
pub(super) enum Task {
    /// Pack a slot that was sealed `at` a moment; it holds the reports up to the row `through`.
    Seal { slot: OpenSlot, at: u64, through: i64 },
    /// Fold slots into one.
    Fold(Due),
    /// Judge what these hold together.
    Judge { rollups: Vec<Arc<Rollup>>, judge: Judge },
}

/// What was made.
#[derive(Debug)]
pub(super) enum Done {
    /// A slot, packed.
    Sealed { rollups: Vec<Rollup>, through: i64 },
    /// A slot made of others, and how many rollups could not be read.
    Folded { rollups: Vec<Rollup>, due: Due, unreadable: u64 },
    /// Who was busy, and what is wrong.
    Judged { busy: Busy, findings: Vec<Finding> },
}

/// The one thing that is being done.
#[derive(Debug, Default)]
pub(super) enum Work {
    /// Nothing.
    #[default]
    Idle,
    /// A thread works.
    Running(JoinHandle<Done>),
    /// It is done, but could not be written yet.
    Waiting(Done),
}

impl Work {
    /// Begins a task. Where there is no thread to be had, it is done at once.
    pub(super) fn begin(task: Task, bounds: Bounds, limits: WindowLimits, graph: GraphLimits) -> Self {
        // The task is handed over through a slot of its own, so that it is still here where no thread takes it.
        let task = Arc::new(parking_lot::Mutex::new(Some(task)));
        let taken = Arc::clone(&task);
        let work = move || {
            priority::give_way();
            let task = taken.lock().take();
            task.map_or(Done::Sealed { rollups: Vec::new(), through: 0 }, |task| task.run(&bounds, limits, graph))
        };
        match std::thread::Builder::new().name("couplet-fold".to_owned()).spawn(work) {
            Ok(thread) => Work::Running(thread),
            Err(_) => {
                let task = task.lock().take();
                task.map_or(Work::Idle, |task| Work::Waiting(task.run(&bounds, limits, graph)))
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Work::Idle)
    }

    /// What is done by now; nothing is being done then.
    pub(super) fn result(&mut self) -> Option<Done> {
        match std::mem::take(self) {
            Work::Running(thread) if thread.is_finished() => {
                let done = thread.join();
                if done.is_err() {
                    tracing::error!(
                        "by a defect a slot could not be packed: the graph keeps what it held until a restart"
                    );
                }
                done.ok()
            }
            Work::Waiting(done) => Some(done),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl Task {
    fn run(self, bounds: &Bounds, limits: WindowLimits, graph: GraphLimits) -> Done {
        match self {
            Task::Seal { slot, at, through } => Done::Sealed { rollups: slot.seal(at), through },
            Task::Fold(due) => {
                let (rollups, unreadable) = fold(&due.rollups, due.tier, bounds, limits);
                Done::Folded { rollups, due, unreadable }
            }
            Task::Judge { rollups, judge } => {
                let mut whole = Graph::new(graph);
                for rollup in &rollups {
                    let _ = rollup.add_to(&mut whole, bounds); // what is here was read once before
                }
                // Judging takes room of its own: what the snapshot does not share is gone by then.
                let snapshot = whole.into_snapshot();
                let findings = judge.findings(&snapshot);
                Done::Judged { busy: Busy::of(&snapshot, judge.min_samples()), findings }
            }
        }
    }
}
