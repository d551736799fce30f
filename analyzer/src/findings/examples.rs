//! Which requests show what a finding says.
//!
//! Of a few handlings of every path the trace is known. A finding gets those of the paths on which it rests: of its chain,
//! from the end that is furthest in; else of its endpoints; else of its services. Which is most telling depends on the rule:
//! of failures one that failed, of many calls one that made many, else the slowest.

use std::collections::HashMap;
use std::sync::Arc;

use couplet_telemetry::example::{Example, Examples, Kind};

use super::finding::{ExampleRequest, Finding, Rule, Step};
use crate::graph::{PathIx, Snapshot};

/// Paths that are asked for one finding at most: of a service that is everywhere, the first ones say enough.
const PATHS: usize = 1_000;

/// Gives every finding its examples.
pub(super) fn give(findings: &mut [Finding], snapshot: &Snapshot) {
    if snapshot.examples().is_empty() {
        return;
    }
    let index = Index::of(snapshot);
    for finding in findings {
        finding.examples = index.examples(finding);
    }
}

/// Paths of which examples are known, by the endpoint at their end and by its service.
struct Index<'a> {
    snapshot: &'a Snapshot,
    endpoints: HashMap<(&'a str, &'a str), Vec<Known<'a>>>,
    services: HashMap<&'a str, Vec<Known<'a>>>,
}

type Known<'a> = (PathIx, &'a Arc<Examples>);

impl<'a> Index<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut index = Self { snapshot, endpoints: HashMap::new(), services: HashMap::new() };
        for (path, examples) in snapshot.examples() {
            let (service, endpoint) = index.names(*path);
            index.endpoints.entry((service, endpoint)).or_default().push((*path, examples));
            index.services.entry(service).or_default().push((*path, examples));
        }
        index
    }

    fn names(&self, path: PathIx) -> (&'a str, &'a str) {
        let snapshot = self.snapshot;
        let endpoint = &snapshot[snapshot[path].endpoint];
        (&*snapshot[endpoint.service].name, &*endpoint.name)
    }

    fn examples(&self, finding: &Finding) -> Vec<ExampleRequest> {
        let known = self.of_way(&finding.path);
        let known = if known.is_empty() { self.of_endpoints(&finding.endpoints) } else { known };
        let known = if known.is_empty() { self.of_services(&finding.services) } else { known };
        let mut shown: Vec<ExampleRequest> = Vec::new();
        for kind in telling(finding.rule) {
            let of_kind = known.iter().filter_map(|(path, examples)| Some((*path, *examples.get(kind)?)));
            let best = of_kind.reduce(|best, next| if better(kind, &best.1, &next.1) { best } else { next });
            let request = best.map(|(path, example)| self.request(path, kind, &example));
            shown.extend(request.filter(|request| shown.iter().all(|other| other.trace != request.trace)));
        }
        shown
    }

    /// Of the paths that lead along these steps, as far in as any is known: what is furthest in may report nothing.
    fn of_way(&self, steps: &[Step]) -> Vec<Known<'a>> {
        (1..=steps.len())
            .rev()
            .map(|end| self.along(steps.get(..end).unwrap_or_default()))
            .find(|known| !known.is_empty())
            .unwrap_or_default()
    }

    fn along(&self, steps: &[Step]) -> Vec<Known<'a>> {
        let Some(last) = steps.last() else { return Vec::new() };
        let ends = self.endpoints.get(&(last.service.as_str(), last.endpoint.as_str()));
        let leads = |(path, _): &&Known<'a>| {
            let mut at = Some(*path);
            steps.iter().rev().all(|step| {
                let here = at.map(|path| self.names(path));
                at = at.and_then(|path| self.snapshot[path].parent);
                here == Some((step.service.as_str(), step.endpoint.as_str()))
            })
        };
        ends.into_iter().flatten().take(PATHS).filter(leads).copied().collect()
    }

    /// Endpoints as findings name them: the service, a blank, the endpoint.
    fn of_endpoints(&self, labels: &[String]) -> Vec<Known<'a>> {
        let named = labels.iter().filter_map(|label| label.split_once(' '));
        named.filter_map(|name| self.endpoints.get(&name)).flatten().take(PATHS).copied().collect()
    }

    fn of_services(&self, services: &[String]) -> Vec<Known<'a>> {
        services.iter().filter_map(|name| self.services.get(name.as_str())).flatten().take(PATHS).copied().collect()
    }

    fn request(&self, path: PathIx, kind: Kind, example: &Example) -> ExampleRequest {
        ExampleRequest {
            trace: format!("{:032x}", example.trace.id),
            what: kind.as_str().to_owned(),
            endpoint: self.snapshot.label(self.snapshot[path].endpoint),
            at: example.trace.at as f64 / 1e9,
            seconds: example.duration as f64 / 1e9,
            outcome: example.outcome,
            calls: example.calls,
            sampled: example.trace.sampled,
        }
    }
}

/// Whether the first of two examples says more than the second.
fn better(kind: Kind, first: &Example, second: &Example) -> bool {
    let mut both = Examples::default();
    both.add(first);
    both.add(second);
    both.get(kind) == Some(first)
}

/// Which kinds of examples show what a rule is about, the most telling first.
fn telling(rule: Rule) -> [Kind; 3] {
    use Kind::{Busiest, Failed, Slowest};
    match rule {
        Rule::CA | Rule::TC | Rule::BR | Rule::SP | Rule::RT => [Failed, Slowest, Busiest],
        Rule::FO | Rule::NP | Rule::CH => [Busiest, Slowest, Failed],
        Rule::SC | Rule::CY | Rule::HB | Rule::TO | Rule::LV | Rule::FB | Rule::PR => [Slowest, Failed, Busiest],
    }
}

#[cfg(test)]
mod tests {
    use couplet_telemetry::example::Trace;
    use couplet_telemetry::outcome::Outcome;
    use couplet_telemetry::report::Report;

    use super::*;
    use crate::findings::findings;
    use crate::traffic::{chain, on, snapshot_of, traffic};

    /// Every handling of these reports has examples whose trace says where it was: the place of the path, and a kind.
    fn exemplified(mut reports: Vec<Report>) -> Vec<Report> {
        let mut n = 0;
        for path in reports.iter_mut().flat_map(|report| &mut report.paths) {
            n += 10;
            let mut add = |more: u128, duration, outcome, calls| {
                let trace = Trace { id: n + more, sampled: true, at: 2_000_000_000 };
                path.stats.examples.add(&Example { trace, duration, outcome, calls });
            };
            add(1, 90_000_000, Outcome::Ok, 1);
            add(2, 10_000_000, Outcome::ServerError, 1);
            add(3, 20_000_000, Outcome::Ok, 9);
        }
        reports
    }

    fn found(reports: &[Report], rule: Rule) -> Finding {
        let found = findings(&snapshot_of(reports), &Default::default(), &Default::default());
        found.into_iter().find(|finding| finding.rule == rule).unwrap()
    }

    #[test]
    fn a_chain_is_shown_by_a_request_that_went_all_the_way() {
        let deep = traffic().of(100, &chain(&["a", "b", "c", "d", "e"])).of(100, &on("e", "GET /"));
        let finding = found(&exemplified(deep.reports()), Rule::SC);
        let shown = &finding.examples;
        assert_eq!(shown.iter().map(|one| one.what.as_str()).collect::<Vec<_>>(), ["slowest", "failed", "busiest"]);
        assert!(shown.iter().all(|one| one.endpoint.starts_with("e ")), "{shown:?}");
        assert_eq!((shown[0].seconds, shown[0].at, shown[0].outcome), (0.09, 2.0, Outcome::Ok));
        assert_eq!(shown[0].trace.len(), 32);
        // Not the requests that came to it from outside.
        let direct = snapshot_of(&exemplified(traffic().of(100, &on("e", "GET /")).reports()));
        assert_eq!(direct.examples().len(), 1);
        let snapshot = snapshot_of(&exemplified(
            traffic().of(100, &chain(&["a", "b", "c", "d", "e"])).of(100, &on("e", "GET /")).reports(),
        ));
        let (path, _) = snapshot
            .examples()
            .iter()
            .find(|(_, examples)| format!("{:032x}", examples.get(Kind::Slowest).unwrap().trace.id) == shown[0].trace)
            .unwrap();
        assert_eq!(snapshot[*path].depth, 4);
    }

    #[test]
    fn what_is_about_many_calls_is_shown_by_a_request_that_made_many() {
        let loops = on("cart", "GET /cart").calls(12, on("catalog", "GET /product/{id}").takes(9));
        let finding = found(&exemplified(traffic().of(100, &loops).reports()), Rule::NP);
        assert_eq!((finding.examples[0].what.as_str(), finding.examples[0].calls), ("busiest", 9));
    }

    #[test]
    fn without_traces_there_are_no_examples_and_they_make_no_finding_another() {
        let reports = traffic().of(100, &chain(&["a", "b", "c", "d", "e"])).reports();
        let without = found(&reports, Rule::SC);
        assert_eq!(without.examples, []);
        let with = found(&exemplified(reports), Rule::SC);
        assert_eq!(Finding { examples: Vec::new(), ..with }, without);
    }

    #[test]
    fn beyond_the_limit_of_paths_examples_are_left_out_and_counted() {
        use crate::graph::{Graph, GraphLimits};
        let reports = exemplified(traffic().of(10, &chain(&["a", "b", "c"])).reports());
        let mut graph = Graph::new(GraphLimits { examples: 2, ..GraphLimits::default() });
        reports.iter().for_each(|report| graph.apply(report));
        let snapshot = graph.snapshot();
        assert_eq!(snapshot.examples().len(), 2);
        assert_eq!(snapshot.losses().get("graph_examples"), Some(&1));
    }
}
