//! The rows of a report come into being: with the durations, of which there is one for every path and every pair of path
//! and callee, be it empty.

use std::sync::Arc;

use super::attributes::{Attribute, Attributes};
use super::fill::Parts;
use super::metrics::{EXPONENTIAL, Metric};
use super::{Fault, POINT, words};
use crate::names::{MAX_ENDPOINT_BYTES, is_service_name};
use crate::report::{CallReport, CallStats, Callee, HandlingStats, PathDefinition, PathKind, PathReport};

/// A point that defines a row has so many bytes at least: for more than so many of them, no room is made at once.
const DEFINITION_BYTES: usize = 64;

impl<'a> Parts<'a> {
    /// Makes the rows known of which the points of a metric are the durations.
    pub(super) fn define(&mut self, metric: &Metric<'a>) -> Result<(), Fault> {
        if metric.kind != EXPONENTIAL {
            return Err(Fault::Report(format!("{} must be an exponential histogram", metric.name)));
        }
        let (mut points, mut bytes) = (0, 0);
        metric.points(|point| {
            (points, bytes) = (points + 1, bytes + point.len());
            Ok::<_, Fault>(())
        })?;
        let rows = points.min(bytes / DEFINITION_BYTES);
        if metric.name == words::SERVER_DURATION {
            self.paths.reserve(rows);
            metric.points(|point| self.define_path(point))
        } else {
            self.calls.reserve(rows);
            metric.points(|point| self.define_call(point))
        }
    }

    fn define_path(&mut self, point: &'a [u8]) -> Result<(), Fault> {
        self.numbers.exponential(point, &mut self.attributes)?;
        let first = self.attributes.bytes().first().copied().unwrap_or_default();
        let attributes = self.attributes.all()?;
        let path = Arc::new(definition(&attributes)?);
        let usual = attributes.0.first().is_some_and(|attribute| attribute.key == words::PATH.as_bytes());
        let duration = self.numbers.as_durations(words::SERVER_DURATION)?;
        let stats = HandlingStats { duration, examples: self.numbers.take_examples(), ..Default::default() };
        match self.paths.define(PathReport { path, stats }, [if usual { first } else { &[] }]) {
            true => Ok(()),
            false => Err(self.too_many_paths()),
        }
    }

    fn define_call(&mut self, point: &'a [u8]) -> Result<(), Fault> {
        self.numbers.exponential(point, &mut self.attributes)?;
        let duration = self.numbers.as_durations(words::CLIENT_DURATION)?;
        let stats = CallStats { duration, ..CallStats::default() };
        let key = self.attributes.bytes().first_chunk().copied();
        // A callee that is known by these bytes was read, and stood in its place.
        if let Some(key @ [path, service, endpoint]) = key
            && let Some(callee) = self.callees.get(&[service, endpoint])
            && self.attributes.bytes().len() == key.len()
        {
            let callee = Arc::clone(callee);
            let path = Attribute::read(path, POINT - 1)?;
            if path.key == words::PATH.as_bytes() {
                let path = Attributes(&[path]).path(words::PATH)?;
                return self.define_pair(CallReport { path, callee, stats }, key);
            }
        }
        let attributes = self.attributes.all()?;
        let (path, callee) = (attributes.path(words::PATH)?, Arc::new(callee(&attributes)?));
        let names = [words::PATH, words::PEER, words::PEER_ENDPOINT].map(str::as_bytes);
        let usual = attributes.0.iter().map(|attribute| attribute.key).eq(names);
        let key = key.filter(|_| usual);
        if let Some([_, service, endpoint]) = key {
            self.callees.insert([service, endpoint], Arc::clone(&callee));
        }
        self.define_pair(CallReport { path, callee, stats }, key.unwrap_or_default())
    }

    fn define_pair(&mut self, call: CallReport, key: [&'a [u8]; 3]) -> Result<(), Fault> {
        match self.calls.define(call, key) {
            true => Ok(()),
            false => Err(self.too_many_calls()),
        }
    }

    /// All rows are known.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        if !self.paths.settle() {
            return Err(self.too_many_paths());
        }
        if !self.calls.settle() {
            return Err(self.too_many_calls());
        }
        Ok(())
    }

    fn too_many_paths(&self) -> Fault {
        Fault::Report(format!("more than {} paths in one report", self.bounds.paths))
    }

    fn too_many_calls(&self) -> Fault {
        Fault::Report(format!("more than {} callees in one report", self.bounds.calls))
    }
}

fn definition(attributes: &Attributes<'_, '_>) -> Result<PathDefinition, String> {
    let id = attributes.path(words::PATH)?;
    let parent = attributes.text(words::PARENT).map(|_| attributes.path(words::PARENT)).transpose()?;
    let kind = attributes.required(words::KIND)?;
    let caller = attributes.text(words::CALLER);
    if caller.is_some_and(|caller| !is_service_name(caller)) {
        return Err(format!("path {id}: {} is not a service name", words::CALLER));
    }
    Ok(PathDefinition {
        id,
        parent,
        root: attributes.path(words::ROOT)?,
        caller: caller.map(str::to_owned),
        endpoint: endpoint(words::ENDPOINT, attributes.required(words::ENDPOINT)?)?.to_owned(),
        depth: attributes.int(words::DEPTH).and_then(|depth| u32::try_from(depth).ok()).unwrap_or(0),
        kind: PathKind::parse(kind).ok_or_else(|| format!("path {id}: {kind:?} is no kind of path"))?,
        evidence: attributes.evidence()?,
    })
}

pub(super) fn callee(attributes: &Attributes<'_, '_>) -> Result<Callee, String> {
    let service = attributes.required(words::PEER)?;
    if !is_service_name(service) {
        return Err(format!("{} is not a service name", words::PEER));
    }
    Ok(Callee::new(service, endpoint(words::PEER_ENDPOINT, attributes.required(words::PEER_ENDPOINT)?)?))
}

/// The value of this key as the name of an endpoint.
pub(super) fn endpoint<'a>(key: &str, name: &'a str) -> Result<&'a str, String> {
    if name.len() > MAX_ENDPOINT_BYTES || name.chars().any(char::is_control) {
        return Err(format!("{key} must have at most {MAX_ENDPOINT_BYTES} bytes and no control characters"));
    }
    Ok(name)
}
