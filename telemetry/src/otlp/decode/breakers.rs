//! What a report says of breakers.

use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, number_data_point};

use super::{Attributes, Parts, words};
use crate::breaker::{BreakerCounts, BreakerReport};
use crate::names::is_service_name;

impl Parts {
    pub(super) fn fill_breaker(&mut self, point: &NumberDataPoint) -> Result<(), String> {
        let attributes = Attributes(&point.attributes);
        let word = |key: &str| {
            let word = attributes.required(key)?;
            let plain = word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if plain { Ok(word.to_owned()) } else { Err(format!("{key}: no word")) }
        };
        let (state, mode) = (word(words::BREAKER_STATE)?, word(words::BREAKER_MODE)?);
        let peak = match point.value {
            Some(number_data_point::Value::AsInt(n)) => u64::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let breaker = self.breaker(&attributes)?;
        (breaker.state, breaker.mode, breaker.peak) = (state, mode, peak);
        Ok(())
    }

    /// The breaker that the attributes name; the first time it is met it is made known.
    pub(super) fn breaker(&mut self, attributes: &Attributes<'_>) -> Result<&mut BreakerReport, String> {
        let to = attributes.required(words::PEER)?;
        if !is_service_name(to) {
            return Err(format!("{} is not a service name", words::PEER));
        }
        if self.breakers.len() >= self.bounds.calls && !self.breakers.contains_key(to) {
            return Err(format!("more than {} breakers in one report", self.bounds.calls));
        }
        Ok(self.breakers.entry(to.to_owned()).or_insert_with(|| BreakerReport {
            to: to.to_owned(),
            state: "closed".to_owned(),
            mode: "observe".to_owned(),
            peak: 0,
            counts: BreakerCounts::default(),
            transitions: Vec::new(),
        }))
    }
}
