//! What a report says of breakers.

use std::collections::BTreeMap;

use super::attributes::Attributes;
use super::words;
use crate::breaker::{BreakerCounts, BreakerReport};
use crate::names::is_service_name;

/// Breakers by destination and class of calls.
pub(super) type Known = BTreeMap<(String, Option<String>), BreakerReport>;

/// Takes in where a breaker stands.
pub(super) fn fill(
    known: &mut Known,
    attributes: &Attributes<'_, '_>,
    peak: Option<i64>,
    limit: usize,
) -> Result<(), String> {
    let word = |key: &str| {
        let word = attributes.required(key)?;
        let plain = word.len() <= 40 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if plain { Ok(word.to_owned()) } else { Err(format!("{key}: no word")) }
    };
    let (state, mode) = (word(words::BREAKER_STATE)?, word(words::BREAKER_MODE)?);
    let peak = peak.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let breaker = named(known, attributes, limit)?;
    (breaker.state, breaker.mode, breaker.peak) = (state, mode, peak);
    Ok(())
}

/// The breaker that the attributes name; the first time it is met it is made known.
pub(super) fn named<'s>(
    known: &'s mut Known,
    attributes: &Attributes<'_, '_>,
    limit: usize,
) -> Result<&'s mut BreakerReport, String> {
    let to = attributes.required(words::PEER)?;
    if !is_service_name(to) {
        return Err(format!("{} is not a service name", words::PEER));
    }
    let class = attributes.text(words::BREAKER_CLASS);
    if class.is_some_and(|class| !is_service_name(class)) {
        return Err(format!("{} is not a name", words::BREAKER_CLASS));
    }
    let key = (to.to_owned(), class.map(str::to_owned));
    if known.len() >= limit && !known.contains_key(&key) {
        return Err(format!("more than {limit} breakers in one report"));
    }
    Ok(known.entry(key).or_insert_with_key(|(to, class)| BreakerReport {
        to: to.clone(),
        class: class.clone(),
        state: "closed".to_owned(),
        mode: "observe".to_owned(),
        peak: 0,
        counts: BreakerCounts::default(),
        transitions: Vec::new(),
    }))
}
