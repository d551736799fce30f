//! Layers: how far below the entries a service stands.

use std::collections::BTreeMap;

use crate::coupling::digraph::Digraph;
use crate::view::document::Document;

/// The layer of each service, in the order of the document's services: 0 for those that nobody in the system calls,
/// else one below its lowest caller. Services that depend on one another in a circle share a layer.
pub(super) fn layers(document: &Document) -> Vec<usize> {
    let number: BTreeMap<&str, usize> =
        document.services.iter().enumerate().map(|(at, service)| (service.name.as_str(), at)).collect();
    let find = |name: &String| number.get(name.as_str()).copied();
    let edges: Vec<(usize, usize)> =
        document.edges.iter().filter_map(|edge| Some((find(&edge.source)?, find(&edge.destination)?))).collect();
    let n = document.services.len();
    let group = groups(n, &edges);

    // Longest way from the top over groups instead of services: without circles, every edge is taken once.
    let mut below: Vec<Vec<usize>> = vec![Vec::new(); n];
    let mut callers = vec![0usize; n];
    for (source, destination) in edges.iter().map(|(a, b)| (at(&group, *a), at(&group, *b))).filter(|(a, b)| a != b) {
        if let (Some(list), Some(count)) = (below.get_mut(source), callers.get_mut(destination)) {
            list.push(destination);
            *count += 1;
        }
    }
    let mut layer = vec![0usize; n];
    let mut open: Vec<usize> = (0..n).filter(|service| at(&callers, *service) == 0).collect();
    while let Some(source) = open.pop() {
        for destination in below.get(source).into_iter().flatten() {
            let deeper = at(&layer, source) + 1;
            if let (Some(own), Some(count)) = (layer.get_mut(*destination), callers.get_mut(*destination)) {
                *own = deeper.max(*own);
                *count -= 1;
                if *count == 0 {
                    open.push(*destination);
                }
            }
        }
    }
    group.iter().map(|group| at(&layer, *group)).collect()
}

/// For each service the first of those that it shares a circle with; itself where there is none.
fn groups(n: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..n).collect();
    for component in Digraph::new(n, edges.iter().map(|(a, b)| (*a, *b, 1))).components() {
        for member in &component {
            if let (Some(slot), Some(first)) = (group.get_mut(*member), component.first()) {
                *slot = *first;
            }
        }
    }
    group
}

fn at(list: &[usize], position: usize) -> usize {
    list.get(position).copied().unwrap_or(0)
}
