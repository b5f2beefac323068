//! Pure: what did filters before ours find out, and what did the operator write to the route?

use std::collections::HashMap;

use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

use crate::authz::request::PROPERTIES;
use crate::proto::envoy::ProtoKind;
use crate::proto::envoy::ProtoStruct;
use crate::proto::envoy::ProtoValue;

/// Metadata by filter. `extensions` are the route's `context_extensions`: custom properties, which win over a filter's of the same key.
pub(super) fn of(
    filters: HashMap<String, ProtoStruct>,
    extensions: HashMap<String, String>,
) -> Map<String, Value> {
    let mut metadata: Map<String, Value> =
        filters.into_iter().map(|(filter, found)| (filter, Value::Object(object(found)))).collect();
    if !extensions.is_empty() {
        let properties = metadata.entry(PROPERTIES).or_insert_with(|| Value::Object(Map::new()));
        if let Some(properties) = properties.as_object_mut() {
            properties.extend(extensions.into_iter().map(|(key, value)| (key, Value::String(value))));
        }
    }
    metadata
}

/// How deep it may be is bounded by the reader of the message.
fn object(found: ProtoStruct) -> Map<String, Value> {
    found.fields.into_iter().map(|(key, found)| (key, value(found))).collect()
}

fn value(found: ProtoValue) -> Value {
    match found.kind {
        None | Some(ProtoKind::NullValue(_)) => Value::Null,
        Some(ProtoKind::NumberValue(number)) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Some(ProtoKind::StringValue(text)) => Value::String(text),
        Some(ProtoKind::BoolValue(is)) => Value::Bool(is),
        Some(ProtoKind::StructValue(found)) => Value::Object(object(found)),
        Some(ProtoKind::ListValue(list)) => list.values.into_iter().map(value).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &str) -> ProtoValue {
        ProtoValue { kind: Some(ProtoKind::StringValue(value.to_owned())) }
    }

    fn filters(filter: &str, key: &str, value: ProtoValue) -> HashMap<String, ProtoStruct> {
        let fields = HashMap::from([(key.to_owned(), value)]);
        HashMap::from([(filter.to_owned(), ProtoStruct { fields })])
    }

    #[test]
    fn what_the_route_says_is_a_property_and_wins() {
        let extensions = || HashMap::from([("tier".to_owned(), "gold".to_owned())]);
        let expected = json!({PROPERTIES: {"tier": "gold"}});
        assert_eq!(Value::Object(of(HashMap::new(), extensions())), expected);
        assert_eq!(Value::Object(of(filters(PROPERTIES, "tier", text("tin")), extensions())), expected);
        let other = json!({PROPERTIES: {"a": "b", "tier": "gold"}});
        assert_eq!(Value::Object(of(filters(PROPERTIES, "a", text("b")), extensions())), other);
        assert_eq!(of(HashMap::new(), HashMap::new()), Map::new());
    }

    #[test]
    fn each_kind_of_value_keeps_its_kind() {
        let number = ProtoValue { kind: Some(ProtoKind::NumberValue(5.0)) };
        let found = of(filters("f", "k", number), HashMap::new());
        assert_eq!(found.get("f"), Some(&json!({"k": 5.0})));
        let odd = ProtoValue { kind: Some(ProtoKind::NumberValue(f64::NAN)) };
        assert_eq!(of(filters("f", "k", odd), HashMap::new()).get("f"), Some(&json!({"k": null})));
    }
}
