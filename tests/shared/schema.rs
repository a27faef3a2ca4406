//! JSON Schema, as far as the schemas of this project use it.
#![expect(clippy::panic, reason = "a test's helpers")]

use serde_json::Value;

/// Whether a value is as a schema says, of which only these words are known.
pub fn valid(schema: &Value, value: &Value) -> bool {
    let rules = schema.as_object().unwrap();
    rules.iter().all(|(rule, says)| match rule.as_str() {
        "$schema" | "title" | "description" | "default" => true,
        "oneOf" => {
            let all = says.as_array().unwrap().iter();
            all.filter(|one| valid(one, value)).count() == 1
        }
        "type" => match says {
            Value::Array(types) => types.iter().any(|name| is(name, value)),
            name => is(name, value),
        },
        "const" => says == value,
        "enum" => says.as_array().unwrap().contains(value),
        "minimum" => value.as_f64().is_none_or(|v| says.as_f64().unwrap() <= v),
        "maximum" => value.as_f64().is_none_or(|v| v <= says.as_f64().unwrap()),
        "items" => value
            .as_array()
            .is_none_or(|all| all.iter().all(|item| valid(says, item))),
        "required" => {
            let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
            !value.is_object() || says.as_array().unwrap().iter().all(has)
        }
        "properties" => says
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, rule)| value.get(name).is_none_or(|part| valid(rule, part))),
        "additionalProperties" => {
            let known = |name: &String| rules["properties"].get(name).is_some();
            value.as_object().is_none_or(|all| all.keys().all(known))
        }
        other => panic!("this test does not know `{other}`"),
    })
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("this test does not know `{other}`"),
    }
}
