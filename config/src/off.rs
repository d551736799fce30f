//! Numbers that can be `off`.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::units;

#[expect(clippy::ref_option, reason = "the signature that serialize_with asks for")]
pub(crate) fn number_or_off<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_str(units::OFF),
    }
}

pub(crate) fn count_or_off_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "off" }] })
}
