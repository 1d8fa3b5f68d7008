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
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
    assert!(render(&[("text", source)], "{}").is_err());
}

/// Numbers and text of the payload in every place where they make much out of little.
#[test]
fn no_payload_makes_a_template_take_more_than_it_may() {
    let payload = serde_json::json!({
        "n": 1_000_000_000_000_u64, "some": 90_000_000, "lines": "a\n".repeat(10_000),
        "text": "x".repeat(100_000), "list": vec!["x"; 10_000],
        "deep": (0..100).fold(serde_json::json!(vec![1; 2_000]), |deep, _| serde_json::json!([deep])),
    });
    for source in [
        "{{ payload.lines | indent(payload.n) }}",
        "{{ payload.lines | indent(width=payload.some) }}",
        "{{ 'a' | indent(payload.n, true) }}",
        "{{ ['a'] | map('indent', payload.n) | list }}",
        "{{ payload.text | replace('x', payload.text) }}",
        "{{ payload.text | replace('', payload.text) }}",
        "{{ payload.list | join(payload.text) }}",
        "{{ payload.list | join(d=payload.text) }}",
        "{{ ([payload.text] * payload.some) | join }}",
        "{{ '%*d' | format(payload.n, 1) }}",
        "{{ '%1000000000000d' | format(1) }}",
        "{{ '%.99999999f' | format(1.5) }}",
        "{{ ('%' ~ payload.n ~ 's') | format('a') }}",
        "{{ payload.list | batch(payload.n, 'x') }}",
        "{{ payload.list | slice(payload.n) }}",
        "{{ payload.list | tojson(indent=payload.n) }}",
        "{{ payload.deep | tojson(payload.some) }}",
        "{{ range(payload.n) }}",
        "{{ (payload.list * 10000) | sort }}",
        "{{ (payload.list * 10000) | list | length }}",
        "{{ payload.text * payload.n }}",
        "{{ payload.list * 10000 }}",
        "{{ 'x' * payload.some }}",
        "{% for a in payload.list %}{{ payload.text }}{% endfor %}",
        "{% set all %}{% for a in payload.list %}{{ payload.text }}{% endfor %}{% endset %}",
        "{% macro m() %}{% for a in payload.list %}{{ payload.text }}{% endfor %}{% endmacro %}\
         {% if m() %}{% endif %}",
        "{% for a in payload.list %}{{ 'a' | indent(100000) }}{% endfor %}",
    ] {
        let error = render(&[("text", source)], &payload.to_string()).unwrap_err();
        assert_eq!(error.code(), "template", "{source}");
    }
}

#[test]
fn all_fields_together_have_a_bound_and_the_error_tells_it() {
    let payload = serde_json::json!({"half": "x".repeat(MOST / 2)}).to_string();
    let half = "{{ payload.half }}";
    assert!(render(&[("text", half), ("html", half)], &payload).is_ok());
    let error = render(
        &[("text", half), ("html", half), ("subject", "x")],
        &payload,
    );
    let error = error.unwrap_err();
    let told = "the template of `text` fails: it comes to more than 16 MiB";
    assert!(error.message().starts_with(told), "{error}");
}

#[test]
fn what_takes_little_is_as_it_always_was() {
    let payload = r#"{"no": 7, "big": 99999999999, "price": 3.5, "rows": [{"n": "a"}, {"n": "b"}],
                      "note": "one\ntwo", "empty": []}"#;
    for (source, expected) in [
        (
            "{{ '%05d: %.2f' | format(payload.no, payload.price) }}",
            "00007: 3.50",
        ),
        (
            "{{ '%s %s%%' | format(payload.big, 'x') }}",
            "99999999999 x%",
        ),
        ("{{ payload.note | indent(2, true) }}", "  one\n  two"),
        ("{{ payload.note | replace('one', 'two') }}", "two\ntwo"),
        (
            "{{ payload.rows | map(attribute='n') | join(', ') }}",
            "a, b",
        ),
        ("{{ payload.rows | join('-', attribute='n') }}", "a-b"),
        ("{{ payload.rows | batch(3, 'x') | list | length }}", "1"),
        ("{{ payload.rows | tojson }}", r#"[{"n": "a"}, {"n": "b"}]"#),
        ("{{ payload.empty | tojson(indent=4) }}", "[]"),
        (
            "{{ '-' * 3 }}{{ [1, 2] * 2 }}{{ payload.no ~ 'x' }}",
            "---[1, 2, 1, 2]7x",
        ),
        ("{% for i in range(3) %}{{ i }}{% endfor %}", "012"),
        ("{% set x %}<{{ payload.no }}>{% endset %}{{ x }}", "<7>"),
    ] {
        let message = render(&[("text", source)], payload).unwrap();
        assert_eq!(message["text"], expected, "{source}");
    }
}

#[test]
fn a_namespace_is_refused_before_it_can_pile_up() {
    let source = "{% set n = namespace(x='x') %}{% for i in range(60) %}\
                  {% set n.x = n.x ~ n.x %}{% endfor %}";
    let fields = BTreeMap::from([("text".to_owned(), source.to_owned())]);
    let error = MessageTemplate::new(fields).unwrap_err().to_string();
    assert!(
        error.contains("`text`") && error.contains("`namespace`"),
        "{error}"
    );
}

#[test]
fn a_template_that_is_not_valid_is_told_with_its_field() {
    let fields = BTreeMap::from([("subject".to_owned(), "{{ oops".to_owned())]);
    let error = MessageTemplate::new(fields).unwrap_err();
    assert!(error.to_string().contains("`subject`"), "{error}");
}
