-- The payload and headers of one event, in full, if together they are no more than $2 bytes of
-- text; what is more than that is not sent. $1 the event.
SELECT length.bytes AS "bytes!",
       CASE WHEN length.bytes <= $2 THEN text.payload END AS "payload: Json<Box<RawValue>>",
       CASE WHEN length.bytes <= $2 THEN text.headers END AS "headers: Json<Box<RawValue>>"
FROM outbox_events e
-- Written as text once, and measured: OFFSET keeps the planner from doing that again and again.
CROSS JOIN LATERAL (
    SELECT e.payload::text AS payload, e.headers::text AS headers OFFSET 0
) AS text
CROSS JOIN LATERAL (
    SELECT octet_length(text.payload)::bigint + octet_length(text.headers) AS bytes
) AS length
WHERE e.id = $1
