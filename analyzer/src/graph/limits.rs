//! What a graph holds at most, and what that cost.

use couplet_config::AnalyzerLimits;

/// What a graph holds at most. What is beyond is counted under a name that stands for the rest; no request is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphLimits {
    /// Services; what is beyond becomes one service `(other)`.
    pub services: usize,
    /// Endpoints over all services; what is beyond becomes one endpoint `(other)` per service.
    pub endpoints: usize,
    /// Pairs of endpoints that call one another; what is beyond is counted per pair of services.
    pub edges: usize,
    /// Paths; what is beyond is counted on one overflow path per service.
    pub paths: usize,
    /// Instances of proxies, over all services; what is beyond is not told apart.
    pub instances: usize,
    /// Paths of which example requests are kept.
    pub examples: usize,
}

impl From<&AnalyzerLimits> for GraphLimits {
    fn from(limits: &AnalyzerLimits) -> Self {
        Self {
            services: limits.services,
            endpoints: limits.endpoints,
            edges: limits.edges,
            paths: limits.paths,
            instances: limits.proxies,
            examples: limits.examples,
        }
    }
}

impl Default for GraphLimits {
    fn default() -> Self {
        Self::from(&AnalyzerLimits::default())
    }
}

/// What a limit of the graph, or a report that contradicts itself, cost. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GraphLoss {
    /// Handlings and calls whose service was counted as `(other)`.
    Services,
    /// Handlings and calls whose endpoint was counted as `(other)`.
    Endpoints,
    /// Calls that were counted per pair of services only.
    Edges,
    /// Handlings and calls that were counted on an overflow path.
    Paths,
    /// Handlings of a path that another report had defined otherwise; counted on an overflow path.
    Conflicts,
    /// Reports of instances beyond the limit, or of versions beyond what is kept per service.
    Instances,
    /// Paths whose parents form a loop, which was cut.
    Loops,
    /// Times that what an endpoint was found to call by timing found no room.
    Expected,
    /// Times that examples of a path found no room.
    Examples,
}

impl GraphLoss {
    /// All of them.
    pub const ALL: [GraphLoss; 9] = [
        GraphLoss::Services,
        GraphLoss::Endpoints,
        GraphLoss::Edges,
        GraphLoss::Paths,
        GraphLoss::Conflicts,
        GraphLoss::Instances,
        GraphLoss::Loops,
        GraphLoss::Expected,
        GraphLoss::Examples,
    ];

    /// The word for labels and documents. It begins with `graph_`, which keeps it apart from what proxies lose.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            GraphLoss::Services => "graph_services",
            GraphLoss::Endpoints => "graph_endpoints",
            GraphLoss::Edges => "graph_edges",
            GraphLoss::Paths => "graph_paths",
            GraphLoss::Conflicts => "graph_conflicts",
            GraphLoss::Instances => "graph_instances",
            GraphLoss::Loops => "graph_loops",
            GraphLoss::Expected => "graph_expected",
            GraphLoss::Examples => "graph_examples",
        }
    }
}
