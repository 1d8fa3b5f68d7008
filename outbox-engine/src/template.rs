//! Messages made from templates.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use outbox_channel::{Event, SendError};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the template of `{field}` is not valid: {reason}")]
pub struct TemplateError {
    field: String,
    reason: String,
}

/// The templates of one route for one channel: a field of the message each.
///
/// A template sees `payload` and `event` (`id`, `type`, `key`, `headers`, `created_at`). A name
/// that does not exist is an error, not an empty string. The field `html` is escaped as HTML.
#[derive(Debug)]
pub struct MessageTemplate {
    environment: Environment<'static>,
    fields: Vec<String>,
}

impl MessageTemplate {
    /// A template is given up after so many instructions: a loop over a large payload ends.
    const FUEL: u64 = 1_000_000;

    /// Compiles the templates, field by field.
    ///
    /// # Errors
    /// When one is not valid, with its field.
    pub fn new(fields: BTreeMap<String, String>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(Self::FUEL));
        environment.set_auto_escape_callback(|field| match field {
            "html" => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        let names = fields.keys().cloned().collect();
        for (field, source) in fields {
            environment
                .add_template_owned(field.clone(), source)
                .map_err(|error| TemplateError {
                    field,
                    reason: error.to_string(),
                })?;
        }
        Ok(Self {
            environment,
            fields: names,
        })
    }

    /// The payload's own fields with the rendered ones laid over them.
    ///
    /// # Errors
    /// A permanent error with code `template` when a template fails on this event.
    pub fn render(&self, event: &Event) -> Result<Box<RawValue>, SendError> {
        let failed = |reason: String| SendError::permanent("template", reason);
        let payload: Value = serde_json::from_str(event.payload.get())
            .map_err(|_| failed("the payload cannot be read".to_owned()))?;
        let context = context! {
            payload => minijinja::Value::from(minijinja::value::Serde(&payload)),
            event => context! {
                id => event.id,
                type => event.event_type.as_str(),
                key => event.key.as_deref(),
                headers => minijinja::Value::from(minijinja::value::Serde(&event.headers)),
                created_at => event.created_at.to_rfc3339(),
            },
        };
        let mut message = match payload {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        for field in &self.fields {
            let text = self
                .environment
                .get_template(field)
                .and_then(|template| template.render(&context))
                .map_err(|error| {
                    failed(format!(
                        "the template of `{field}` fails: {}",
                        describe(&error)
                    ))
                })?;
            message.insert(field.clone(), Value::String(text));
        }
        serde_json::value::to_raw_value(&message)
            .map_err(|_| failed("the message cannot be written as JSON".to_owned()))
    }
}

/// The kind and place of an error, without what the payload held there.
fn describe(error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!("{} in line {line}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outbox_channel::Delivery;

    fn render(fields: &[(&str, &str)], payload: &str) -> Result<Value, SendError> {
        let fields = fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let template = MessageTemplate::new(fields).unwrap();
        let delivery = Delivery::builder("invoice.paid", payload).unwrap().build();
        let message = template.render(delivery.event())?;
        Ok(serde_json::from_str(message.get()).unwrap())
    }

    #[test]
    fn rendered_fields_lie_over_the_payloads_own() {
        let message = render(
            &[("subject", "Invoice {{ payload.number }} ({{ event.type }})")],
            r#"{"to": "a@example.org", "number": 7, "subject": "old"}"#,
        )
        .unwrap();
        assert_eq!(message["subject"], "Invoice 7 (invoice.paid)");
        assert_eq!(message["to"], "a@example.org");
    }

    #[test]
    fn html_is_escaped_and_text_is_not() {
        let fields = [
            ("html", "<b>{{ payload.x }}</b>"),
            ("text", "{{ payload.x }}"),
        ];
        let message = render(&fields, r#"{"x": "a<b"}"#).unwrap();
        assert_eq!(message["html"], "<b>a&lt;b</b>");
        assert_eq!(message["text"], "a<b");
    }

    #[test]
    fn a_missing_name_is_a_permanent_error() {
        let error = render(&[("subject", "{{ payload.nummer }}")], "{}").unwrap_err();
        assert_eq!(
            (error.class().as_str(), error.code()),
            ("permanent", "template")
        );
        assert!(error.message().contains("`subject`"), "{error}");
    }

    #[test]
    fn an_endless_template_ends() {
        let source =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert!(render(&[("text", source)], "{}").is_err());
    }

    #[test]
    fn a_template_that_is_not_valid_is_told_with_its_field() {
        let fields = BTreeMap::from([("subject".to_owned(), "{{ oops".to_owned())]);
        let error = MessageTemplate::new(fields).unwrap_err();
        assert!(error.to_string().contains("`subject`"), "{error}");
    }
}
