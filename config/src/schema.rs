//! The JSON Schemas of all files, for editors and for the documentation of every key.

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use crate::{analyzer::AnalyzerConfig, architecture::Architecture, proxy::ProxyConfig};

/// The JSON Schema (draft 2020-12) of a proxy's file.
pub fn proxy_schema() -> Value {
    let mut schema = schema::<ProxyConfig>();
    // The default of the one required key is only a blank to be filled in.
    schema.insert("required".to_owned(), json!(["service"]));
    if let Some(service) = schema.pointer_mut("/properties/service").and_then(Value::as_object_mut) {
        service.remove("default");
    }
    schema.to_value()
}

/// The JSON Schema (draft 2020-12) of an analyzer's file.
pub fn analyzer_schema() -> Value {
    schema::<AnalyzerConfig>().to_value()
}

/// The JSON Schema (draft 2020-12) of an `architecture.yaml`.
pub fn architecture_schema() -> Value {
    schema::<Architecture>().to_value()
}

fn schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(as_written));
    let generator: SchemaGenerator = settings.into_generator();
    generator.into_root_schema_for::<T>()
}

/// A number or truth value may also be written as a text: a variable, or a number with groups, as in `10_000`.
fn as_written(schema: &mut Schema) {
    let Some(members) = schema.as_object_mut() else { return };
    members.remove("format");
    let (names, pattern) = match members.get("type").and_then(Value::as_str) {
        Some("integer") => (json!(["integer", "string"]), r"^[0-9_]+$|\$\{"),
        Some("number") => (json!(["number", "string"]), r"\$\{"),
        Some("boolean") => (json!(["boolean", "string"]), r"\$\{"),
        _ => return,
    };
    members.insert("type".to_owned(), names);
    members.insert("pattern".to_owned(), json!(pattern));
}
