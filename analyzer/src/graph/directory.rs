//! Names as small numbers, within limits.
//!
//! A name that is known is found without allocating. What is beyond a limit gets the number of a name that stands for
//! the rest, which is always there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use couplet_telemetry::names::{MAX_ENDPOINT_BYTES, OTHER, UNLINKED, is_service_name};
use couplet_telemetry::report::Origin;

/// A service of a graph, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ServiceId(u32);

/// An endpoint of a graph, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndpointId(u32);

impl ServiceId {
    pub(super) fn position(self) -> usize {
        self.0 as usize
    }
}

impl EndpointId {
    pub(super) fn position(self) -> usize {
        self.0 as usize
    }
}

/// All names.
#[derive(Debug, Default)]
pub(super) struct Directory {
    services: Vec<ServiceEntry>,
    by_name: HashMap<Arc<str>, ServiceId>,
    endpoints: Vec<(ServiceId, Arc<str>)>,
    /// Endpoints that count against the limit: not those that stand for the rest.
    named_endpoints: usize,
    instances: usize,
    /// Whether a name was ever counted as one that stands for the rest.
    folded: bool,
}

#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) name: Arc<str>,
    pub(super) observed: bool,
    pub(super) instances: HashSet<Box<str>>,
    pub(super) versions: BTreeSet<String>,
    endpoints: HashMap<Arc<str>, EndpointId>,
}

/// Versions kept per service.
const VERSIONS: usize = 32;

impl Directory {
    /// The service of this name, or the one that stands for the rest.
    pub(super) fn service(&mut self, name: &str, limit: usize) -> ServiceId {
        if let Some(known) = self.by_name.get(name) {
            return *known;
        }
        let others = usize::from(self.by_name.contains_key(OTHER));
        if name == OTHER || is_service_name(name) && self.services.len() - others < limit {
            self.add_service(name)
        } else {
            self.folded = true;
            self.service(OTHER, limit)
        }
    }

    /// The endpoint of this name, or the one that stands for the rest of its service.
    pub(super) fn endpoint(&mut self, service: ServiceId, name: &str, limit: usize) -> EndpointId {
        if let Some(known) = self.services.get(service.position()).and_then(|entry| entry.endpoints.get(name)) {
            return *known;
        }
        let named = name != OTHER && name != UNLINKED;
        if named && (self.named_endpoints >= limit || name.len() > MAX_ENDPOINT_BYTES) {
            self.folded = true;
            return self.endpoint(service, OTHER, limit);
        }
        self.named_endpoints += usize::from(named);
        self.add_endpoint(service, name)
    }

    /// Whether every name that was asked for is here.
    pub(super) fn is_whole(&self) -> bool {
        !self.folded
    }

    /// Notes who reports for a service. False where instance or version did not fit.
    pub(super) fn note(&mut self, service: ServiceId, origin: &Origin, limit: usize) -> bool {
        let Some(entry) = self.services.get_mut(service.position()) else { return false };
        entry.observed = true;
        let mut fits = true;
        if !entry.instances.contains(origin.instance.as_str()) {
            if self.instances < limit {
                self.instances += 1;
                entry.instances.insert(origin.instance.as_str().into());
            } else {
                fits = false;
            }
        }
        if let Some(version) = &origin.version
            && !entry.versions.contains(version)
        {
            if entry.versions.len() < VERSIONS {
                entry.versions.insert(version.clone());
            } else {
                fits = false;
            }
        }
        fits
    }

    pub(super) fn services(&self) -> &[ServiceEntry] {
        &self.services
    }

    pub(super) fn endpoints(&self) -> &[(ServiceId, Arc<str>)] {
        &self.endpoints
    }

    /// The name of a service.
    pub(super) fn service_name(&self, service: ServiceId) -> &str {
        self.services.get(service.position()).map_or(OTHER, |entry| &entry.name)
    }

    /// The name of an endpoint.
    pub(super) fn endpoint_name(&self, endpoint: EndpointId) -> &str {
        self.endpoints.get(endpoint.position()).map_or(OTHER, |(_, name)| name)
    }

    /// Whose endpoint it is.
    pub(super) fn service_of(&self, endpoint: EndpointId) -> ServiceId {
        self.endpoints.get(endpoint.position()).map_or(ServiceId(u32::MAX), |(service, _)| *service)
    }

    fn add_service(&mut self, name: &str) -> ServiceId {
        let id = ServiceId(u32::try_from(self.services.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.services.push(ServiceEntry {
            name,
            observed: false,
            instances: HashSet::new(),
            versions: BTreeSet::new(),
            endpoints: HashMap::new(),
        });
        id
    }

    fn add_endpoint(&mut self, service: ServiceId, name: &str) -> EndpointId {
        let id = EndpointId(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = name.into();
        if let Some(entry) = self.services.get_mut(service.position()) {
            entry.endpoints.insert(Arc::clone(&name), id);
        }
        self.endpoints.push((service, name));
        id
    }
}
