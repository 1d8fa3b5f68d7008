//! Messages made from templates.

mod purse;

use minijinja::{AutoEscape, Environment, ErrorKind, Template, UndefinedBehavior, context};
use outbox_channel::{Event, SendError};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::error::Error;

use purse::{MOST, Page, TooMuch};

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
///
/// Whatever the payload, rendering ends, and takes a bounded amount of memory: all fields
/// together come to no more than 16 MiB. `namespace` is not there: it would let a loop pile up
/// text without anybody counting.
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
        purse::fit(&mut environment);
        environment.remove_global("namespace");
        environment.set_auto_escape_callback(|field| match field {
            "html" => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        let names = fields.keys().cloned().collect();
        for (field, source) in fields {
            let added = environment.add_template_owned(field.clone(), source);
            let added = added.and_then(|()| environment.get_template(&field));
            let reason = match added {
                Ok(template) if template.undeclared_variables(false).contains("namespace") => {
                    "there is no `namespace` here; for totals see the filter `sum`".to_owned()
                }
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            return Err(TemplateError { field, reason });
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
        let mut room = MOST;
        for field in &self.fields {
            let text = self
                .environment
                .get_template(field)
                .and_then(|template| fill(&template, &context, &mut room))
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

fn fill(
    template: &Template<'_, '_>,
    context: &minijinja::Value,
    room: &mut usize,
) -> Result<String, minijinja::Error> {
    let mut page = Page {
        text: Vec::new(),
        room,
    };
    template.render_captured_to(context, &mut page)?;
    String::from_utf8(page.text)
        .map_err(|_| minijinja::Error::new(ErrorKind::WriteFailure, "not text"))
}

/// The kind and place of an error, without what the payload held there.
fn describe(error: &minijinja::Error) -> String {
    let is_too_much = error.kind() == ErrorKind::WriteFailure || is_caused_by_size(error);
    let what = if is_too_much {
        TooMuch.to_string()
    } else {
        error.kind().to_string()
    };
    match error.line() {
        Some(line) => format!("{what} in line {line}"),
        None => what,
    }
}

fn is_caused_by_size(error: &(dyn Error + 'static)) -> bool {
    error.is::<TooMuch>() || error.source().is_some_and(is_caused_by_size)
}

#[cfg(test)]
mod tests;
